//! PURE: whether a record may be replayed on what the database says. A tenant's history is followed version by version;
//! what does not follow is never applied.

use std::collections::BTreeMap;

use uuid::Uuid;

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
pub fn judge(position: Option<&Position>, part: &Part<'_>) -> Verdict {
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
    if part.version <= at {
        // it leaves the balance alone, so nobody can tell whether it is there: what it inserts is inserted once
        return Verdict::Apply;
    }
    Verdict::Missing {
        from: at + 1,
        to: part.version,
    }
}

/// The forks of one tenant, with the declarations that made them.
#[derive(Debug, Clone, Default)]
pub struct Forks(Vec<(Uuid, Fork)>);

impl Forks {
    /// One more, made by the declaration of this name.
    pub fn add(&mut self, declaration: Uuid, fork: Fork) {
        self.0.push((declaration, fork));
    }

    /// Whether a version was declared lost.
    pub fn is_lost(&self, version: i64) -> bool {
        self.0.iter().any(|(_, fork)| fork.from < version && version < fork.to)
    }

    /// Where the history goes on that stands at a version; of several the latest.
    pub fn next(&self, version: i64) -> Option<i64> {
        let here = self
            .0
            .iter()
            .filter(|(_, fork)| fork.from == version && fork.to > version);
        here.map(|(_, fork)| fork.to).max()
    }

    /// The last version before a fork that still counts: the account has had it.
    pub fn reached(&self) -> Option<i64> {
        let forks = self.0.iter().map(|(_, fork)| fork.from);
        forks.filter(|version| !self.is_lost(*version)).max()
    }

    fn knows(&self, declaration: Uuid) -> bool {
        self.0.iter().any(|(known, _)| *known == declaration)
    }
}

/// All declarations that the archives tell of. Each has made a fork of every account that was there.
#[derive(Debug, Clone, Default)]
pub struct Declarations {
    /// The line of history that each has ended.
    pub ended: BTreeMap<Uuid, i64>,
    /// The forks of tenants that have any: none, unless something was declared lost before.
    pub forks: BTreeMap<Uuid, Forks>,
}

impl Declarations {
    /// Whether a version of a tenant that was written in a line of history was declared lost: it lies behind a fork, or
    /// there was no such account when a later line began.
    pub fn is_lost(&self, tenant: Uuid, version: i64, line: i64) -> bool {
        let forks = self.forks.get(&tenant);
        let later = self.ended.iter().filter(|(_, ended)| **ended >= line);
        forks.is_some_and(|forks| forks.is_lost(version))
            || later
                .map(|(declaration, _)| *declaration)
                .any(|declaration| forks.is_none_or(|forks| !forks.knows(declaration)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(version: i64, is_step: bool) -> Part<'static> {
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
        assert_eq!(judge(Some(&at(0, 0)), &part(-1, false)), Verdict::Apply);
    }

    #[test]
    fn what_stands_beside_needs_its_version() {
        let here = at(4, 0);
        assert_eq!(judge(Some(&here), &part(3, false)), Verdict::Apply);
        assert_eq!(judge(Some(&here), &part(4, false)), Verdict::Apply);
        assert_eq!(judge(Some(&here), &part(6, false)), Verdict::Missing { from: 5, to: 6 });
    }

    #[test]
    fn what_was_declared_lost_stays_lost_even_if_it_is_found() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (tenant, other) = (Uuid::from_u128(3), Uuid::from_u128(4));
        let fork = |to| Fork { tenant, from: 5, to };
        let mut known = Declarations::default();
        assert!(!known.is_lost(tenant, 6, 0));
        known.ended.insert(first, 0);
        let forks = known.forks.entry(tenant).or_default();
        forks.add(first, fork(1_000_005));
        assert_eq!((forks.next(5), forks.next(6)), (Some(1_000_005), None));
        assert_eq!(forks.reached(), Some(5));
        let lost = |known: &Declarations, version, line| known.is_lost(tenant, version, line);
        assert!(!lost(&known, 5, 0) && lost(&known, 6, 0) && lost(&known, 900, 0) && !lost(&known, 1_000_006, 7));
        assert!(known.is_lost(other, 0, 0), "it had no account when the line ended");
        assert!(!known.is_lost(other, 0, 7), "it was opened in the new line");
        known.ended.insert(second, 0);
        let forks = known.forks.entry(tenant).or_default();
        forks.add(second, fork(2_000_005));
        assert_eq!(forks.next(5), Some(2_000_005));
        assert!(lost(&known, 1_000_007, 7), "the first new history was given up too");
    }
}
