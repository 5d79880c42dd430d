//! PURE: in which order the offers of a model are tried. Lower priority numbers first; within one priority by
//! weight, drawn anew for each request.

use smallvec::SmallVec;

/// What routing looks at.
pub trait Weighted {
    /// Lower is tried first.
    fn priority(&self) -> i64;
    /// The share among offers of the same priority; 0 only when nothing else is left.
    fn weight(&self) -> u64;
}

/// The offers in the order in which they are to be tried. `draw(n)` answers a number below `n`.
pub fn order<T: Weighted + Clone>(offers: &[T], mut draw: impl FnMut(u64) -> u64) -> SmallVec<[T; 4]> {
    let mut left: SmallVec<[T; 4]> = offers.iter().cloned().collect();
    let mut ordered = SmallVec::with_capacity(left.len());
    while let Some(priority) = left.iter().map(Weighted::priority).min() {
        let first: SmallVec<[usize; 4]> = left
            .iter()
            .enumerate()
            .filter_map(|(index, offer)| (offer.priority() == priority).then_some(index))
            .collect();
        let chosen = match first.as_slice() {
            [only] => *only,
            several => pick(&left, several, &mut draw),
        };
        ordered.push(left.remove(chosen));
    }
    ordered
}

fn pick<T: Weighted>(offers: &[T], among: &[usize], draw: &mut impl FnMut(u64) -> u64) -> usize {
    let weight = |index: &usize| offers.get(*index).map_or(0, Weighted::weight);
    let total: u64 = among.iter().map(weight).fold(0, u64::saturating_add);
    let first = among.first().copied().unwrap_or(0);
    if total == 0 {
        return first;
    }
    let mut drawn = draw(total);
    for index in among {
        let share = weight(index);
        if drawn < share {
            return *index;
        }
        drawn -= share;
    }
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Offer(i64, u64, usize);

    impl Weighted for Offer {
        fn priority(&self) -> i64 {
            self.0
        }
        fn weight(&self) -> u64 {
            self.1
        }
    }

    proptest! {
        #[test]
        fn every_offer_is_tried_once_and_priorities_never_go_back(
            offers in prop::collection::vec((0_i64..4, 0_u64..5), 0..8),
            seed in any::<u64>(),
        ) {
            let offers: Vec<Offer> = offers.into_iter().enumerate().map(|(i, (p, w))| Offer(p, w, i)).collect();
            let mut state = seed;
            let ordered = order(&offers, |n| { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (state >> 33) % n });
            prop_assert!(ordered.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            let mut seen: Vec<usize> = ordered.iter().map(|offer| offer.2).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..offers.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn weights_share_the_first_place() {
        let offers = [Offer(0, 1, 0), Offer(0, 3, 1)];
        let first: Vec<usize> = (0..4).map(|drawn| order(&offers, |_| drawn)[0].2).collect();
        assert_eq!(first, [0, 1, 1, 1]);
    }

    #[test]
    fn no_weight_comes_last() {
        let offers = [Offer(0, 0, 0), Offer(0, 5, 1)];
        for drawn in 0..5 {
            assert_eq!(order(&offers, |_| drawn)[0].2, 1);
        }
    }
}
