//! What a node does by the clock: follow changes made elsewhere, keep the ledger's time, close abandoned holds,
//! withdraw what has expired, audit the books, look for incidents.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use store::{
    StoreError,
    changes::{Topic, Versions, read_versions},
};
use tokio::{runtime::Handle, time::MissedTickBehavior};

use crate::{
    config::{Config, LedgerSection},
    evidence::Books,
    first_answer::first_answer,
    wiring::Node,
};

const POLL_EVERY: Duration = Duration::from_millis(500);
const LONGEST_POLL: Duration = Duration::from_secs(5);
const FIRST_AUDIT_AFTER: Duration = Duration::from_secs(60);
const METRICS_UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// When a statement could not be compared: its sum may have taken all the time that it may take.
const COMPARE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Starts everything that runs by the clock. It ends with the runtime.
pub fn start(node: &Node, config: &Config, metrics: PrometheusHandle, runtime: &Handle) {
    let LedgerSection {
        close_abandoned_holds_every_s,
        audit_every_s,
        ..
    } = config.ledger;
    runtime.spawn(follow_changes(node.clone()));
    runtime.spawn(keep_books(
        node.clone(),
        Duration::from_secs(close_abandoned_holds_every_s),
    ));
    if audit_every_s > 0 {
        let longest = config.relay.total_timeout();
        runtime.spawn(audit_books(node.clone(), Duration::from_secs(audit_every_s), longest));
    }
    let rules = config.incidents.rules(config.relay.total_timeout());
    let period = Duration::from_secs(config.incidents.check_every_s);
    runtime.spawn(look_for_incidents(node.clone(), rules, period));
    runtime.spawn(compare_statements(node.clone(), rules, period));
    runtime.spawn(async move {
        let mut ticks = every(METRICS_UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    });
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    // after a pause of the machine one round is enough
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Compares the version of each topic with the one that was acted on. Whatever a node missed, it sees at the next poll.
async fn follow_changes(node: Node) {
    let mut ticks = every(POLL_EVERY);
    let mut followed = Versions::default();
    let mut was_answered = true;
    loop {
        ticks.tick().await;
        match poll(&node, &mut followed).await {
            Ok(catalog) => {
                node.readiness.note_database_answer();
                if catalog == Catalog::Followed {
                    node.readiness.note_catalog_followed();
                }
                was_answered = true;
            }
            Err(error) => {
                // said once per outage
                if was_answered {
                    tracing::error!(%error, "changes cannot be read from the database");
                }
                was_answered = false;
            }
        }
    }
}

/// What a poll has done about the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Catalog {
    /// This node holds every change.
    Followed,
    /// It has changed and cannot be read.
    Unreadable,
}

async fn poll(node: &Node, followed: &mut Versions) -> Result<Catalog, StoreError> {
    let ask = || {
        let node = node.clone();
        async move {
            // before the notices: whatever was committed until then is in them
            let asked_at = node.ledger.clock().now();
            let versions = read_versions(node.database.readers(), node.database.backend()).await?;
            Ok((asked_at, versions))
        }
    };
    let (asked_at, current) = first_answer(LONGEST_POLL, ask).await?;
    let moved = |topic| current.of(topic) != followed.of(topic);
    if moved(Topic::Keys) {
        node.callers.invalidate_all();
    }
    if moved(Topic::Operators) {
        node.operators.invalidate_all();
    }
    if moved(Topic::Catalog)
        && let Err(error) = node.catalog.refresh().await
    {
        // the version is not taken as seen, so the next poll tries again; the old catalog stays, and is not confirmed: in a
        // few seconds it prices no request any more
        tracing::error!(%error, "the catalog has changed and cannot be read; the node will stop to take requests");
        return Ok(Catalog::Unreadable);
    }
    *followed = current;
    node.catalog.confirm(asked_at);
    Ok(Catalog::Followed)
}

async fn keep_books(node: Node, period: Duration) {
    let mut ticks = every(period);
    loop {
        ticks.tick().await;
        if let Err(error) = node.ledger.set_clock().await {
            tracing::warn!(%error, "the ledger's clock cannot be set");
        }
        if let Err(error) = node.ledger.close_abandoned_holds().await {
            tracing::warn!(%error, "abandoned holds cannot be closed");
        }
        if let Err(error) = ledger::movements::expire_lots(&node.database, &node.archive).await {
            tracing::warn!(%error, "credit that has expired cannot be withdrawn");
        }
    }
}

/// Audits by the clock, and soon after the start, when what a crash has left behind has been closed.
async fn audit_books(node: Node, period: Duration, max_request_time: Duration) {
    tokio::time::sleep(period.min(FIRST_AUDIT_AFTER)).await;
    let mut ticks = every(period);
    loop {
        ticks.tick().await;
        match ledger::audit::run_scheduled(&node.database, max_request_time).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!("another node audits the books"),
            Err(error) => tracing::warn!(%error, "the books cannot be audited"),
        }
    }
}

/// Lets what providers billed be compared with the books.
async fn compare_statements(node: Node, rules: incidents::Rules, period: Duration) {
    let books = books(&node);
    let mut ticks = every(period);
    loop {
        ticks.tick().await;
        match incidents::compare_statements(&node.database, &books, &rules).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(COMPARE_AGAIN_AFTER).await,
            Err(error) => tracing::warn!(%error, "provider statements cannot be compared"),
        }
    }
}

fn books(node: &Node) -> Books {
    Books {
        database: node.database.clone(),
        catalog: Arc::clone(&node.catalog),
    }
}

/// Lets the rules of incidents look at what has happened.
async fn look_for_incidents(node: Node, rules: incidents::Rules, period: Duration) {
    let books = books(&node);
    let mut ticks = every(period);
    let mut scan = incidents::Scan::default();
    loop {
        ticks.tick().await;
        if let Err(error) = incidents::run_round(&node.database, &books, &rules, &mut scan).await {
            tracing::warn!(%error, "incidents cannot be looked for");
        }
    }
}
