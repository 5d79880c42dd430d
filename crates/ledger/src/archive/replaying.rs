//! `truerelay ledger replay`: the archives of all nodes are brought into a database that was restored from a backup.
//!
//! Every transaction of a replay is whole in itself and can be done again, so that one which is interrupted is simply
//! begun anew.

use std::path::PathBuf;

use domain::NodeId;
use serde_json::json;
use store::{
    Database, StoreError, Tx,
    audit::{self, Actor},
};
use transparency_log::{LogError, Restored, begin_anew_after};
use uuid::Uuid;

use super::{
    batches::Batches,
    declaring, gate, logging,
    losses::{Loss, Losses},
    rules::Declarations,
    sorting::Sorted,
    sources::Sources,
    tables,
    tenants::{Counts, Tenants},
};
use crate::{LedgerError, sql_store::BatchRider};

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayOrder {
    /// Segments, or folders with segments.
    pub archives: Vec<PathBuf>,
    /// Folders with copies of the transparency log, of all nodes.
    pub log_copies: Vec<PathBuf>,
    /// Why what is missing is given up, if it is.
    pub declare_lost: Option<String>,
    /// This node, and the folder of its own archive: a declaration is archived there.
    pub node: NodeId,
    /// See `node`.
    pub own_folder: PathBuf,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayProgress {
    /// So many segments are being gone through.
    Reading(usize),
    /// Tenants' histories.
    Tenants(Counts),
    /// So many batches.
    Batches(u64),
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Everything that was archived is in the database.
    Complete,
    /// Something is missing: the gate stays closed.
    Incomplete,
    /// Something is missing and was declared lost.
    DeclaredLost,
}

/// What a replay did.
#[derive(Debug, Clone)]
pub struct ReplayReport {
    /// How it ended.
    pub outcome: ReplayOutcome,
    /// Segments that were read.
    pub segments: usize,
    /// What came of tenants' histories.
    pub parts: Counts,
    /// Batches that the database did not have.
    pub batches: u64,
    /// What is missing.
    pub losses: Losses,
    /// What became of the transparency log.
    pub log: Restored,
}

/// Replays archives. The gate is closed meanwhile, and opened when nothing is missing or the rest is declared lost.
///
/// # Errors
/// What the database or a disk says; do it again then.
pub async fn replay(
    database: &Database,
    rider: &dyn BatchRider,
    order: &ReplayOrder,
    mut tell: impl FnMut(ReplayProgress),
) -> Result<ReplayReport, LedgerError> {
    let mut sources = Sources::find(&order.archives).map_err(LedgerError::Archive)?;
    close_gate(database).await?;
    // first: what is brought back names the batches of the log that it was in
    let log = restore_log(database, &order.log_copies).await?;
    tell(ReplayProgress::Reading(sources.len()));
    let mut losses = Losses::default();
    let mut sorted = sources.index(&mut losses).map_err(LedgerError::Archive)?;
    note_missing_archives(database, &sources, &mut losses).await?;
    let (parts, declared) =
        replay_tenants(database, rider, (&mut sources, &mut sorted), &mut losses, &mut tell).await?;
    let declares_lost = order.declare_lost.is_some();
    let mut batches = Batches::new(database, &mut losses, declared, declares_lost);
    while batches.replay_some(&mut sources, &mut sorted).await? {
        tell(ReplayProgress::Batches(batches.applied));
    }
    let batches = batches.applied;
    let (outcome, anew) = finish(database, order, &sources, &losses).await?;
    let log = anew.map_or(log, |reason| Restored::NewLog { reason });
    Ok(ReplayReport {
        outcome,
        segments: sources.len(),
        parts,
        batches,
        losses,
        log,
    })
}

async fn restore_log(database: &Database, copies: &[PathBuf]) -> Result<Restored, LedgerError> {
    transparency_log::restore(database, copies)
        .await
        .map_err(|error| match error {
            LogError::Store(error) => LedgerError::Store(error),
            LogError::Copies(error) => LedgerError::Archive(error),
            LogError::KeyRetired(key) => LedgerError::Store(StoreError::Contradiction(key)),
        })
}

async fn close_gate(database: &Database) -> Result<(), LedgerError> {
    let tx = database.begin().await?;
    gate::close(&tx, "a replay of archives was begun and has not ended").await?;
    Ok(tx.commit().await?)
}

async fn replay_tenants(
    database: &Database,
    rider: &dyn BatchRider,
    (sources, sorted): (&mut Sources, &mut Sorted),
    losses: &mut Losses,
    tell: &mut impl FnMut(ReplayProgress),
) -> Result<(Counts, Declarations), LedgerError> {
    let mut tenants = Tenants::new(database, rider, losses, sources.declarations.clone());
    while tenants.replay_some(sources, sorted).await? {
        tell(ReplayProgress::Tenants(tenants.counts));
    }
    Ok((tenants.counts, tenants.declared))
}

/// Nodes that wrote within an hour of the newest commit that the database knows had work under way when the backup was
/// made; what they did afterwards is in their archives.
async fn note_missing_archives(database: &Database, sources: &Sources, losses: &mut Losses) -> Result<(), LedgerError> {
    let tx = database.begin().await?;
    let sql = "SELECT DISTINCT n.id FROM node n WHERE n.batch_no > 0 AND n.retired_at_ms IS NULL AND \
               n.last_commit_at_ms > (SELECT MAX(m.last_commit_at_ms) - 3600000 FROM node m) ORDER BY n.id";
    let authors = sources.authors();
    for row in tx.query(sql, vec![]).await? {
        let node: Uuid = row.try_get("", "id").map_err(store::StoreError::from)?;
        if !authors.iter().any(|(author, _)| *author == node) {
            losses.add(Loss::NoArchive {
                node: NodeId::from_uuid(node),
            });
        }
    }
    Ok(tx.rollback().await?)
}

/// Answers why another log began, if one did.
async fn finish(
    database: &Database,
    order: &ReplayOrder,
    sources: &Sources,
    losses: &Losses,
) -> Result<(ReplayOutcome, Option<String>), LedgerError> {
    let mut anew = None;
    if order.declare_lost.is_some() || losses.is_empty() {
        // no archive and no copy is looked for any more
        if let Some(span) = logging::log_again(database).await? {
            anew = begin_anew_after(database, span).await?;
        }
    }
    let outcome = open_gate(database, order, sources, losses).await?;
    Ok((outcome, anew))
}

async fn open_gate(
    database: &Database,
    order: &ReplayOrder,
    sources: &Sources,
    losses: &Losses,
) -> Result<ReplayOutcome, LedgerError> {
    match &order.declare_lost {
        None if !losses.is_empty() => Ok(ReplayOutcome::Incomplete),
        Some(reason) if !losses.is_empty() || sources.len() == 0 => {
            declaring::declare_lost(database, order, losses, (sources.newest_line, reason)).await?;
            Ok(ReplayOutcome::DeclaredLost)
        }
        _ => {
            let tx = database.begin().await?;
            note_boots(&tx, sources).await?;
            let line = gate::line(&tx).await?.max(sources.newest_line);
            let reason = "everything that was archived is in the database";
            gate::open(&tx, gate::Opening::Replayed, line, reason).await?;
            let after = json!({ "segments": sources.len() });
            let actor = Actor::system("ledger-replay");
            audit::record(&tx, &actor, "ledger.replay", "ledger", None, Some(&after)).await?;
            tx.commit().await?;
            Ok(ReplayOutcome::Complete)
        }
    }
}

/// Boots that wrote no batch are known from now on too.
async fn note_boots(tx: &Tx, sources: &Sources) -> Result<(), LedgerError> {
    let now = tx.now().await?;
    for (node, boot) in sources.authors() {
        if tables::last_batch(tx, node, boot).await?.is_none() {
            tables::note_boot(tx, node, boot, 0, now.0).await?;
        }
    }
    Ok(())
}
