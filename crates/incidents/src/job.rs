//! What the rules see and do, by the clock, on one node at a time.
//!
//! Everything is found in durable rows and done in small transactions that may be done again, so a node that dies on the way
//! leaves nothing behind that the next round does not take up. A round reads pages, and a bounded number of them.

mod alone;
mod logs;
mod outages;
mod statements;
mod substitutions;

pub use substitutions::Scan;

use std::time::Duration;

use domain::{Amount, IncidentId, clock::UnixMs};
use metrics::gauge;
use store::{Database, audit::Actor};

use alone::Task;

use crate::{Evidence, IncidentError, Rules, reading, requests, requests::Link};

/// Rows in one reading and in one transaction.
const PAGE: u32 = 500;

/// One round of the rules about requests and the transparency log, unless another node is at it: each runs whatever becomes of
/// the others, and what was done before a rule failed stays. `scan` is the process's own, of all its rounds: how far it has
/// looked for substitutions.
///
/// # Errors
/// What the database says before the rules begin and behind them. What a rule fails by is logged.
pub async fn run_round(
    database: &Database,
    evidence: &dyn Evidence,
    rules: &Rules,
    scan: &mut Scan,
) -> Result<(), IncidentError> {
    gauge!("truerelay_incidents_open").set(f64::from(reading::count_open(database.readers()).await?));
    let Some(turn) = alone::take_turn(database, Task::Requests).await? else {
        return Ok(());
    };
    let round = Round::begin(database, evidence, rules).await?;
    told("substitutions", round.see_substitutions(scan).await);
    told("outages", round.see_outages().await);
    told("logs", round.see_logs().await);
    turn.end().await
}

/// Compares the statements that wait for it, unless another node is at it. It is apart from the other rules because each
/// statement sums up a period, which takes as long as it takes. Answers whether none of them failed.
///
/// # Errors
/// What the database says before and behind them. What a statement fails by is logged.
pub async fn compare_statements(
    database: &Database,
    evidence: &dyn Evidence,
    rules: &Rules,
) -> Result<bool, IncidentError> {
    let Some(turn) = alone::take_turn(database, Task::Statements).await? else {
        return Ok(true);
    };
    let round = Round::begin(database, evidence, rules).await?;
    let compared = round.see_statements().await;
    turn.end().await?;
    compared
}

/// Logs why a rule has failed.
fn told(rule: &'static str, seen: Result<(), IncidentError>) {
    if let Err(error) = seen {
        tracing::warn!(rule, %error, "a rule of incidents has failed");
    }
}

/// What a round works with.
struct Round<'a> {
    database: &'a Database,
    evidence: &'a dyn Evidence,
    rules: &'a Rules,
    actor: Actor,
    now: UnixMs,
}

impl<'a> Round<'a> {
    async fn begin(
        database: &'a Database,
        evidence: &'a dyn Evidence,
        rules: &'a Rules,
    ) -> Result<Self, IncidentError> {
        Ok(Self {
            database,
            evidence,
            rules,
            actor: Actor::system("incidents"),
            now: database.now().await?,
        })
    }

    fn ago(&self, time: Duration) -> UnixMs {
        self.now.plus_ms(-i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    /// Links requests with an incident that are not linked yet, with what each was charged.
    async fn link(&self, incident: IncidentId, links: &[Link]) -> Result<(), IncidentError> {
        for page in links.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            let known = requests::linked_already(self.database.readers(), incident, page).await?;
            let mut new: Vec<Link> = page.to_vec();
            new.retain(|link| !known.contains(&link.request));
            if new.is_empty() {
                continue;
            }
            let ids: Vec<_> = new.iter().map(|link| link.request).collect();
            let charged = self.evidence.charged(&ids).await?;
            for link in &mut new {
                link.charged = charged.get(&link.request).copied().unwrap_or(Amount::ZERO);
            }
            let tx = self.database.begin().await?;
            requests::attach(&tx, incident, &new).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
