//! What a transaction puts into the transparency log: a leaf for each request that it closes and each transaction that it
//! posts. The statements are made here from what is about to be written, and by the audit from what was.

use std::collections::BTreeMap;

use domain::{RequestId, TenantId, clock::UnixMs};
use sea_orm::QueryResult;
use store::StoreError;
use transparency::{LeafKind, RequestStatement, TransactionStatement};
use transparency_log::BatchDraft;
use uuid::Uuid;

use crate::{items::ChargeRow, rules::BatchName};

/// Records of the request log as they are stored, by request.
pub type RecordTexts<'a> = BTreeMap<RequestId, &'a str>;

/// The batch of the log that a batch of the writer makes.
pub fn log_batch(name: &BatchName) -> Uuid {
    transparency_log::writer_batch(name.node, name.boot, name.number)
}

/// What the log states about the end of a request: what is the customer's, and nothing of what is the operator's.
pub fn request_statement(row: &ChargeRow, closed_at: UnixMs, record: Option<&str>) -> String {
    RequestStatement {
        request: row.request,
        tenant: row.tenant,
        key: row.key,
        state: row.state.as_str(),
        reason: row.reason.as_str(),
        held: row.held.nanos(),
        amount: row.amount.nanos(),
        price_version: row.price_version,
        transaction: row.transaction,
        closed_at_ms: closed_at.0,
        record,
    }
    .to_text()
}

/// Adds the ends of requests.
pub fn add_requests<'a>(
    draft: &mut BatchDraft,
    charged: impl IntoIterator<Item = &'a ChargeRow>,
    records: &RecordTexts<'_>,
    now: UnixMs,
) {
    for row in charged {
        let statement = request_statement(row, now, records.get(&row.request).copied());
        draft.push(LeafKind::Request, row.request.as_uuid(), &statement);
    }
}

/// A transaction that is about to be written.
pub struct Posted<'a> {
    pub id: Uuid,
    pub kind: &'a str,
    pub tenant: Option<TenantId>,
    pub reference: &'a str,
    pub actor: &'a str,
    pub at: UnixMs,
}

/// The header of a transaction as it is stored.
pub struct PostedRow {
    pub id: Uuid,
    kind: String,
    tenant: Option<Uuid>,
    reference: String,
    actor: String,
    pub at: UnixMs,
}

impl PostedRow {
    /// From a row of `tx`.
    ///
    /// # Errors
    /// [`StoreError`] when a column is missing or of another kind.
    pub fn read(row: &QueryResult) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.try_get("", "id")?,
            kind: row.try_get("", "kind")?,
            tenant: row.try_get("", "tenant_id")?,
            reference: row.try_get("", "reference")?,
            actor: row.try_get("", "actor")?,
            at: UnixMs(row.try_get("", "at_ms")?),
        })
    }

    /// What the log states about it.
    pub fn statement(&self, entries: &[(String, i64)]) -> String {
        let posted = Posted {
            id: self.id,
            kind: &self.kind,
            tenant: self.tenant.map(TenantId::from_uuid),
            reference: &self.reference,
            actor: &self.actor,
            at: self.at,
        };
        let entries = entries.iter().map(|(account, amount)| (account.as_str(), *amount));
        transaction_statement(&posted, entries)
    }
}

/// Adds a transaction.
pub fn add_transaction<'a>(draft: &mut BatchDraft, posted: &Posted<'_>, entries: impl Iterator<Item = (&'a str, i64)>) {
    draft.push(
        LeafKind::Transaction,
        posted.id,
        &transaction_statement(posted, entries),
    );
}

/// What the log states about a transaction.
fn transaction_statement<'a>(posted: &Posted<'_>, entries: impl Iterator<Item = (&'a str, i64)>) -> String {
    TransactionStatement {
        id: posted.id,
        kind: posted.kind,
        tenant: posted.tenant,
        reference: posted.reference,
        actor: posted.actor,
        at_ms: posted.at.0,
        entries,
    }
    .into_text()
}
