//! PURE: a value that changes with the versions of the price book.
//!
//! A *step* is the place of a version in the order in which versions take effect, which is not that of their numbers.

/// The values of one subject, by the step that set them, rising.
#[derive(Debug, Clone)]
pub(crate) struct Timeline<T> {
    points: Vec<(usize, T)>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self { points: Vec::new() }
    }
}

impl<T> Timeline<T> {
    /// Adds what a step set. Steps must come in rising order.
    pub fn push(&mut self, step: usize, value: T) {
        debug_assert!(self.points.last().is_none_or(|(last, _)| *last < step));
        self.points.push((step, value));
    }

    /// The place of the value in force at a step; `None` before the first.
    pub fn place_at(&self, step: usize) -> Option<usize> {
        self.points.partition_point(|(since, _)| *since <= step).checked_sub(1)
    }

    /// The value at a place.
    pub fn value(&self, place: usize) -> Option<&T> {
        self.points.get(place).map(|(_, value)| value)
    }

    /// The value in force at a step.
    pub fn at(&self, step: usize) -> Option<&T> {
        self.value(self.place_at(step)?)
    }

    /// The steps that set something.
    pub fn steps(&self) -> impl Iterator<Item = usize> + '_ {
        self.points.iter().map(|(step, _)| *step)
    }
}

impl<T: PartialEq> Timeline<T> {
    /// Adds what a step set, unless it is what was in force already.
    pub fn push_change(&mut self, step: usize, value: T) {
        if self.points.last().is_none_or(|(_, last)| *last != value) {
            self.push(step, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_newest_value_up_to_a_step() {
        let mut timeline = Timeline::default();
        timeline.push(3, "a");
        timeline.push_change(4, "a");
        timeline.push_change(7, "b");
        let at = |step| timeline.at(step).copied();
        assert_eq!(
            [at(2), at(3), at(6), at(7), at(100)],
            [None, Some("a"), Some("a"), Some("b"), Some("b")]
        );
        assert_eq!(timeline.steps().collect::<Vec<_>>(), [3, 7]);
        assert_eq!(timeline.place_at(6), timeline.place_at(3));
    }
}
