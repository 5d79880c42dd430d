//! Replaying tenants: each one's history version by version, many in one transaction of bounded size.

use std::collections::BTreeMap;

use domain::{Amount, TenantId};
use store::{Database, Tx};
use uuid::Uuid;

use super::{
    fold::{Author, Fold},
    losses::{Behind, Loss, Losses},
    record::{Fork, Part, Record},
    rules::{Declarations, Forks, Position, Verdict, judge},
    sorting::Sorted,
    sources::Sources,
    tables,
};
use crate::{
    LedgerError,
    sql_store::{BatchRider, restore_records},
};

/// Parts in one transaction.
const MOST_PARTS: usize = 500;
/// About how many bytes in one transaction.
const MOST_BYTES: usize = 4 << 20;

enum Step {
    /// All forks of a tenant, before its first part.
    Forks(Uuid, Forks),
    /// A part, who wrote it, and in which line of history.
    Part(Box<Part<'static>>, Author, i64),
    /// The tenant has no more parts.
    Leave(Uuid),
}

impl Step {
    fn tenant(&self) -> Uuid {
        match self {
            Self::Forks(tenant, _) | Self::Leave(tenant) => *tenant,
            Self::Part(part, ..) => part.tenant,
        }
    }
}

/// What came of the parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// They are in the database now, and were not before.
    pub applied: u64,
    /// They were there, or declared lost before.
    pub known: u64,
    /// Something is missing before them.
    pub behind: u64,
}

/// The tenant that is being followed.
struct Followed {
    tenant: Uuid,
    forks: Forks,
    /// Why it cannot be followed any further.
    stopped: Option<Loss>,
    behind: Behind,
}

/// Follows tenants one after the other.
pub struct Tenants<'a> {
    pub database: &'a Database,
    pub rider: &'a dyn BatchRider,
    pub losses: &'a mut Losses,
    pub counts: Counts,
    /// What was declared lost before.
    pub declared: Declarations,
    followed: Option<Followed>,
}

impl<'a> Tenants<'a> {
    /// Nothing was replayed yet. These are the declarations that the archives tell of.
    pub const fn new(
        database: &'a Database,
        rider: &'a dyn BatchRider,
        losses: &'a mut Losses,
        ended: BTreeMap<Uuid, i64>,
    ) -> Self {
        let counts = Counts {
            applied: 0,
            known: 0,
            behind: 0,
        };
        Self {
            database,
            rider,
            losses,
            counts,
            declared: Declarations {
                ended,
                forks: BTreeMap::new(),
            },
            followed: None,
        }
    }

    /// Replays one transaction's worth. `false` when there are no more tenants.
    ///
    /// # Errors
    /// What the database or a disk says.
    pub async fn replay_some(&mut self, sources: &mut Sources, sorted: &mut Sorted) -> Result<bool, LedgerError> {
        let steps = gather(sources, sorted).map_err(LedgerError::Archive)?;
        if steps.is_empty() {
            self.leave();
            return Ok(false);
        }
        let tx = self.database.begin().await?;
        let fold = self.fold(&tx, steps).await?;
        tables::write(&tx, &fold).await?;
        if !fold.records.is_empty() {
            restore_records(self.rider, &tx, &fold.records).await?;
        }
        tx.commit().await?;
        self.counts.applied += fold.steps;
        Ok(true)
    }

    async fn fold(&mut self, tx: &Tx, steps: Vec<Step>) -> Result<Fold, LedgerError> {
        let mut tenants: Vec<Uuid> = steps.iter().map(Step::tenant).collect();
        tenants.dedup();
        let mut positions = tables::positions(tx, tenants.into_iter()).await?;
        let mut fold = Fold::default();
        for step in steps {
            let tenant = step.tenant();
            let mut position = positions.get(&tenant).copied();
            match step {
                Step::Forks(_, forks) => {
                    self.follow(tenant).begin(forks.clone(), position);
                    self.declared.forks.insert(tenant, forks);
                }
                Step::Leave(_) => self.follow(tenant).end(&mut position, &mut fold),
                Step::Part(part, _, line) if self.declared.is_lost(tenant, part.version, line) => {
                    self.counts.known += 1;
                }
                Step::Part(part, author, _) => {
                    let counts = self.follow(tenant).take(part, author, &mut position, &mut fold);
                    self.counts.known += counts.known;
                    self.counts.behind += counts.behind;
                }
            }
            positions.extend(position.map(|position| (tenant, position)));
        }
        Ok(fold)
    }

    fn follow(&mut self, tenant: Uuid) -> &mut Followed {
        if self.followed.as_ref().is_none_or(|followed| followed.tenant != tenant) {
            self.leave();
        }
        self.followed.get_or_insert_with(|| Followed {
            tenant,
            forks: Forks::default(),
            stopped: None,
            behind: Behind::default(),
        })
    }

    fn leave(&mut self) {
        let Some(followed) = self.followed.take() else { return };
        let Some(mut loss) = followed.stopped else { return };
        if let Loss::Versions { behind, .. } | Loss::OtherHistory { behind, .. } = &mut loss {
            *behind = followed.behind;
        }
        self.losses.add(loss);
    }
}

impl Followed {
    fn begin(&mut self, forks: Forks, position: Option<Position>) {
        if let Some(position) = position.filter(|position| forks.is_lost(position.version)) {
            self.stop_at_other_history(position.version);
        }
        self.forks = forks;
    }

    fn stop_at_other_history(&mut self, version: i64) {
        let tenant = TenantId::from_uuid(self.tenant);
        let behind = Behind::default();
        self.stopped = Some(Loss::OtherHistory {
            tenant,
            version,
            behind,
        });
    }

    /// Goes on where the history goes on after something was declared lost.
    fn jump(&self, position: &mut Option<Position>, fold: &mut Fold) {
        let Some(position) = position.as_mut().filter(|_| self.stopped.is_none()) else {
            return;
        };
        while let Some(version) = self.forks.next(position.version) {
            position.version = version;
            fold.jump(self.tenant, *position);
        }
    }

    /// There are no more parts. Whatever was before a fork must have been among them.
    fn end(&mut self, position: &mut Option<Position>, fold: &mut Fold) {
        self.jump(position, fold);
        let at = position.map_or(-1, |position| position.version);
        if let Some(to) = self.forks.reached().filter(|to| *to > at && self.stopped.is_none()) {
            self.stop_at_gap(at + 1, to);
        }
    }

    fn stop_at_gap(&mut self, from: i64, to: i64) {
        self.stopped = Some(Loss::Versions {
            tenant: TenantId::from_uuid(self.tenant),
            from,
            to,
            behind: Behind::default(),
        });
    }

    fn take(
        &mut self,
        part: Box<Part<'static>>,
        author: Author,
        position: &mut Option<Position>,
        fold: &mut Fold,
    ) -> Counts {
        let known = Counts {
            known: 1,
            ..Counts::default()
        };
        // what stands beside the last version before a fork is still part of it
        if position.is_some_and(|position| position.version < part.version) {
            self.jump(position, fold);
        }
        if self.stopped.is_none() {
            match judge(position.as_ref(), &part) {
                Verdict::Known => return known,
                Verdict::Apply => {
                    if part.is_step {
                        *position = Some(Position {
                            version: part.version,
                            standing: part.now,
                        });
                    }
                    fold.add(*part, author);
                    return Counts::default();
                }
                Verdict::Missing { from, to } => self.stop_at_gap(from, to),
                Verdict::OtherHistory => self.stop_at_other_history(part.version),
            }
        }
        add_behind(&mut self.behind, &part);
        Counts {
            behind: 1,
            ..Counts::default()
        }
    }
}

fn add_behind(behind: &mut Behind, part: &Part<'_>) {
    let plus = |sum: Amount, nanos: i64| sum.checked_add(Amount::from_nanos(nanos)).unwrap_or(Amount::MAX);
    behind.parts += 1;
    for charge in &part.charges {
        behind.requests += 1;
        behind.charged = plus(behind.charged, charge.amount);
    }
    for lot in &part.granted {
        behind.granted = plus(behind.granted, lot.granted);
    }
}

fn gather(sources: &mut Sources, sorted: &mut Sorted) -> std::io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut bytes = 0;
    while steps.len() < MOST_PARTS && bytes < MOST_BYTES && sorted.peek().is_some_and(|entry| !entry.is_of_boot) {
        let Some(entry) = sorted.next()? else { break };
        bytes += entry.place().bytes as usize;
        match sources.read(&entry)? {
            Record::Fork(fork) => steps.push(Step::Forks(
                fork.tenant,
                all_forks((entry.boot, fork), sources, sorted)?,
            )),
            Record::Part(part) => steps.push(Step::Part(part, sources.author(&entry), sources.line(&entry))),
            _ => {}
        }
        let goes_on = sorted
            .peek()
            .is_some_and(|next| !next.is_of_boot && next.subject == entry.subject);
        if !goes_on {
            steps.push(Step::Leave(entry.subject));
        }
    }
    Ok(steps)
}

fn all_forks((declaration, first): (Uuid, Fork), sources: &mut Sources, sorted: &mut Sorted) -> std::io::Result<Forks> {
    let mut forks = Forks::default();
    forks.add(declaration, first);
    while sorted.peek().is_some_and(|entry| entry.is_fork_of(first.tenant)) {
        let Some(entry) = sorted.next()? else { break };
        if let Record::Fork(fork) = sources.read(&entry)? {
            forks.add(entry.boot, fork);
        }
    }
    Ok(forks)
}
