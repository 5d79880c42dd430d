//! PURE: whether a record may be replayed on what the database says. A tenant's history is followed version by version;
//! what does not follow is never applied.

use super::record::{Fork, Part, Standing};

/// Where a tenant's account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its version.
    pub version: i64,
    /// Its balance.
    pub standing: Standing,
}

/// What to do with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Apply,
    /// It is in the database, or belongs to a history that was declared lost.
    Known,
    /// These versions are missing before it.
    Missing {
        /// The first missing version.
        from: i64,
        /// The last missing version.
        to: i64,
    },
    /// The account has the version before it and another balance than then: it went on after the restore.
    OtherHistory,
}

/// Compares a part with where its tenant stands; `None`: there is no account.
pub fn judge(position: Option<&Position>, part: &Part) -> Verdict {
    let at = position.map_or(-1, |position| position.version);
    if part.is_step {
        return match part.version.cmp(&(at + 1)) {
            std::cmp::Ordering::Less => Verdict::Known,
            std::cmp::Ordering::Greater => Verdict::Missing {
                from: at + 1,
                to: part.version - 1,
            },
            std::cmp::Ordering::Equal if position.is_none_or(|position| position.standing == part.was) => {
                Verdict::Apply
            }
            std::cmp::Ordering::Equal => Verdict::OtherHistory,
        };
    }
    match part.version.cmp(&at) {
        std::cmp::Ordering::Less => Verdict::Known,
        // it leaves the balance alone and may be there already: what it inserts is inserted once
        std::cmp::Ordering::Equal => Verdict::Apply,
        std::cmp::Ordering::Greater => Verdict::Missing {
            from: at + 1,
            to: part.version,
        },
    }
}

/// The forks of one tenant.
#[derive(Debug, Clone, Default)]
pub struct Forks(Vec<Fork>);

impl Forks {
    /// One more.
    pub fn add(&mut self, fork: Fork) {
        self.0.push(fork);
    }

    /// Whether a version was declared lost.
    pub fn is_lost(&self, version: i64) -> bool {
        self.0.iter().any(|fork| fork.from < version && version < fork.to)
    }

    /// Where the history goes on that stands at a version; of several the latest.
    pub fn next(&self, version: i64) -> Option<i64> {
        self.0
            .iter()
            .filter(|fork| fork.from == version)
            .map(|fork| fork.to)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(version: i64, is_step: bool) -> Part {
        Part {
            version,
            is_step,
            ..Part::default()
        }
    }

    fn at(version: i64, available: i64) -> Position {
        let standing = Standing {
            available,
            ..Standing::default()
        };
        Position { version, standing }
    }

    #[test]
    fn a_step_follows_its_version_and_its_balance() {
        let here = at(4, 0);
        assert_eq!(judge(Some(&here), &part(4, true)), Verdict::Known);
        assert_eq!(judge(Some(&here), &part(5, true)), Verdict::Apply);
        assert_eq!(judge(Some(&here), &part(6, true)), Verdict::Missing { from: 5, to: 5 });
        assert_eq!(judge(Some(&here), &part(9, true)), Verdict::Missing { from: 5, to: 8 });
        assert_eq!(judge(Some(&at(4, 7)), &part(5, true)), Verdict::OtherHistory);
    }

    #[test]
    fn an_account_begins_with_version_zero() {
        assert_eq!(judge(None, &part(0, true)), Verdict::Apply);
        assert_eq!(judge(None, &part(1, true)), Verdict::Missing { from: 0, to: 0 });
        assert_eq!(judge(None, &part(-1, false)), Verdict::Apply);
        assert_eq!(judge(Some(&at(0, 0)), &part(-1, false)), Verdict::Known);
    }

    #[test]
    fn what_stands_beside_needs_its_version() {
        let here = at(4, 0);
        assert_eq!(judge(Some(&here), &part(3, false)), Verdict::Known);
        assert_eq!(judge(Some(&here), &part(4, false)), Verdict::Apply);
        assert_eq!(judge(Some(&here), &part(6, false)), Verdict::Missing { from: 5, to: 6 });
    }

    #[test]
    fn what_was_declared_lost_stays_lost_even_if_it_is_found() {
        let mut forks = Forks::default();
        forks.add(Fork {
            tenant: uuid::Uuid::nil(),
            from: 5,
            to: 1_000_005,
        });
        assert!(!forks.is_lost(5) && forks.is_lost(6) && forks.is_lost(900) && !forks.is_lost(1_000_006));
        assert_eq!((forks.next(5), forks.next(6)), (Some(1_000_005), None));
        forks.add(Fork {
            tenant: uuid::Uuid::nil(),
            from: 5,
            to: 2_000_005,
        });
        assert_eq!(forks.next(5), Some(2_000_005));
        assert!(forks.is_lost(1_000_007), "the first new history was given up too");
    }
}
