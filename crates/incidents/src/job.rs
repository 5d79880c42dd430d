//! What the rules see and do, by the clock, on one node at a time.
//!
//! Everything is found in durable rows and done in small transactions that may be done again, so a node that dies on the way
//! leaves nothing behind that the next round does not take up. A round reads pages, and a bounded number of them.

mod alone;
mod outages;
mod statements;
mod substitutions;

use std::time::Duration;

use domain::{Amount, IncidentId, clock::UnixMs};
use metrics::gauge;
use store::{Database, audit::Actor};

use crate::{Evidence, IncidentError, Rules, reading, requests, requests::Link};

/// Rows in one reading and in one transaction.
const PAGE: u32 = 500;
/// How far back the first round of a node goes, whatever was not seen while none ran.
const FIRST_LOOKBACK: Duration = Duration::from_secs(30 * 86_400);

/// One round of all rules, unless another node is at it. `is_first` is for the first of a process. Answers whether it ran.
///
/// # Errors
/// What the database says; what was done until then stays.
pub async fn run_round(
    database: &Database,
    evidence: &dyn Evidence,
    rules: &Rules,
    is_first: bool,
) -> Result<bool, IncidentError> {
    gauge!("truerelay_incidents_open").set(f64::from(reading::count_open(database.readers()).await?));
    let Some(turn) = alone::take_turn(database).await? else {
        return Ok(false);
    };
    let round = Round {
        database,
        evidence,
        rules,
        actor: Actor::system("incidents"),
        now: database.now().await?,
    };
    let lookback = if is_first {
        FIRST_LOOKBACK
    } else {
        rules.substitution.window + rules.longest_request
    };
    round.see_substitutions(lookback).await?;
    round.see_outages().await?;
    round.see_statements().await?;
    turn.end().await?;
    Ok(true)
}

/// What a round works with.
struct Round<'a> {
    database: &'a Database,
    evidence: &'a dyn Evidence,
    rules: &'a Rules,
    actor: Actor,
    now: UnixMs,
}

impl Round<'_> {
    fn ago(&self, time: Duration) -> UnixMs {
        self.now.plus_ms(-i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    /// Links requests with an incident, with what each was charged.
    async fn link(&self, incident: IncidentId, mut links: Vec<Link>) -> Result<(), IncidentError> {
        for page in links.chunks_mut(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            let ids: Vec<_> = page.iter().map(|link| link.request).collect();
            let charged = self.evidence.charged(&ids).await?;
            for link in page.iter_mut() {
                link.charged = charged.get(&link.request).copied().unwrap_or(Amount::ZERO);
            }
            let tx = self.database.begin().await?;
            requests::attach(&tx, incident, page).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
