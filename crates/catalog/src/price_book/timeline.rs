//! PURE: a value that changes with the versions of the price book.

/// The values of one subject, by the version that set them, rising.
#[derive(Debug, Clone)]
pub(crate) struct Timeline<T> {
    points: Vec<(i64, T)>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self { points: Vec::new() }
    }
}

impl<T> Timeline<T> {
    /// Adds what a version set. Versions must come in rising order.
    pub fn push(&mut self, version: i64, value: T) {
        debug_assert!(self.points.last().is_none_or(|(last, _)| *last < version));
        self.points.push((version, value));
    }

    /// The place of the value in force at a version; `None` before the first.
    pub fn place_at(&self, version: i64) -> Option<usize> {
        self.points
            .partition_point(|(since, _)| *since <= version)
            .checked_sub(1)
    }

    /// The value at a place.
    pub fn value(&self, place: usize) -> Option<&T> {
        self.points.get(place).map(|(_, value)| value)
    }

    /// The value in force at a version.
    pub fn at(&self, version: i64) -> Option<&T> {
        self.value(self.place_at(version)?)
    }

    /// The versions that set something.
    pub fn versions(&self) -> impl Iterator<Item = i64> + '_ {
        self.points.iter().map(|(version, _)| *version)
    }
}

impl<T: PartialEq> Timeline<T> {
    /// Adds what a version set, unless it is what was in force already.
    pub fn push_change(&mut self, version: i64, value: T) {
        if self.points.last().is_none_or(|(_, last)| *last != value) {
            self.push(version, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_newest_value_up_to_a_version() {
        let mut timeline = Timeline::default();
        timeline.push(3, "a");
        timeline.push_change(4, "a");
        timeline.push_change(7, "b");
        let at = |version| timeline.at(version).copied();
        assert_eq!(
            [at(2), at(3), at(6), at(7), at(100)],
            [None, Some("a"), Some("a"), Some("b"), Some("b")]
        );
        assert_eq!(timeline.versions().collect::<Vec<_>>(), [3, 7]);
        assert_eq!(timeline.place_at(6), timeline.place_at(3));
    }
}
