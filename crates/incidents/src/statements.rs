//! What providers billed, as operators enter it, to be compared with what the ledger booked (`billing_drift` in docs/incidents.md).

use domain::{Amount, IncidentId, StatementId, clock::UnixMs};
use sea_orm::{ConnectionTrait, QueryResult};
use serde_json::json;
use store::{Tx, audit, audit::Actor};

use crate::{IncidentError, reading::rows};

const LONGEST_PERIOD_MS: i64 = 366 * 86_400_000;

/// A provider's bill.
#[derive(Debug, Clone)]
pub struct NewStatement {
    /// The provider's slug.
    pub provider: String,
    /// The first instant inside.
    pub from: UnixMs,
    /// The first instant outside again; not in the future.
    pub to: UnixMs,
    /// What it billed, without taxes.
    pub billed: Amount,
    /// For people.
    pub note: String,
}

/// A bill, and what came of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementView {
    /// The statement.
    pub id: StatementId,
    /// The provider's slug.
    pub provider: String,
    /// The first instant inside.
    pub from: UnixMs,
    /// The first instant outside again.
    pub to: UnixMs,
    /// What it billed.
    pub billed: Amount,
    /// For people.
    pub note: String,
    /// When it was entered.
    pub entered_at: UnixMs,
    /// When it was compared; the rule does that soon.
    pub checked_at: Option<UnixMs>,
    /// What was booked.
    pub booked: Option<Amount>,
    /// The incident, where the two differ by more than they may.
    pub incident: Option<IncidentId>,
}

/// Enters a bill. The rule compares it in a moment.
///
/// # Errors
/// [`IncidentError::Invalid`].
pub async fn enter_statement(tx: &Tx, actor: &Actor, new: &NewStatement) -> Result<StatementId, IncidentError> {
    let now = tx.now().await?;
    let invalid = |field, problem| Err(IncidentError::Invalid { field, problem });
    if new.from >= new.to || new.to.0.saturating_sub(new.from.0) > LONGEST_PERIOD_MS {
        return invalid("to", "write an instant after `from`, at most 366 days later");
    }
    if new.to > now {
        return invalid("to", "write an instant that has passed: the rest is not booked yet");
    }
    if new.billed.is_negative() {
        return invalid("billed_usd", "write an amount that is not negative");
    }
    if new.note.chars().count() > 500 || new.note.chars().any(char::is_control) {
        return invalid("note", "write at most 500 characters without line breaks");
    }
    let id = StatementId::generate();
    tx.execute(
        "INSERT INTO provider_statement (id, provider, from_ms, to_ms, billed, note, entered_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        vec![
            id.as_uuid().into(),
            new.provider.clone().into(),
            new.from.0.into(),
            new.to.0.into(),
            new.billed.nanos().into(),
            new.note.clone().into(),
            now.0.into(),
        ],
    )
    .await?;
    let after = json!({
        "provider": new.provider, "from": new.from.to_rfc3339(), "to": new.to.to_rfc3339(),
        "billed_usd": new.billed, "note": new.note,
    });
    audit::record(
        tx,
        actor,
        "provider_statement.enter",
        &id.to_string(),
        None,
        Some(&after),
    )
    .await?;
    Ok(id)
}

const COLUMNS: &str = "SELECT id, provider, from_ms, to_ms, billed, note, entered_at_ms, checked_at_ms, booked, incident_id \
     FROM provider_statement";

/// Statements, the last entered first.
///
/// # Errors
/// What the database says.
pub async fn list_statements(
    connection: &impl ConnectionTrait,
    before: Option<StatementId>,
    limit: u32,
) -> Result<Vec<StatementView>, IncidentError> {
    let (condition, values) = match before {
        Some(before) => ("WHERE id < $1", vec![before.as_uuid().into()]),
        None => ("", vec![]),
    };
    let sql = format!("{COLUMNS} {condition} ORDER BY id DESC LIMIT {limit}");
    rows(connection, sql, values).await?.iter().map(read).collect()
}

/// The first statement behind another that waits for its comparison.
pub(crate) async fn next_unchecked(
    connection: &impl ConnectionTrait,
    after: Option<StatementId>,
) -> Result<Option<StatementView>, IncidentError> {
    let sql = format!("{COLUMNS} WHERE checked_at_ms IS NULL AND id > $1 ORDER BY id LIMIT 1");
    let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
    rows(connection, sql, vec![after.into()])
        .await?
        .first()
        .map(read)
        .transpose()
}

/// Writes what came of the comparison, once.
pub(crate) async fn note_checked(
    tx: &Tx,
    id: StatementId,
    booked: Amount,
    incident: Option<IncidentId>,
) -> Result<(), IncidentError> {
    let now = tx.now().await?;
    tx.execute(
        "UPDATE provider_statement SET checked_at_ms = $2, booked = $3, incident_id = $4 \
         WHERE id = $1 AND checked_at_ms IS NULL",
        vec![
            id.as_uuid().into(),
            now.0.into(),
            booked.nanos().into(),
            incident.map(|id| id.as_uuid()).into(),
        ],
    )
    .await?;
    Ok(())
}

fn read(row: &QueryResult) -> Result<StatementView, IncidentError> {
    Ok(StatementView {
        id: StatementId::from_uuid(row.try_get("", "id")?),
        provider: row.try_get("", "provider")?,
        from: UnixMs(row.try_get("", "from_ms")?),
        to: UnixMs(row.try_get("", "to_ms")?),
        billed: Amount::from_nanos(row.try_get("", "billed")?),
        note: row.try_get("", "note")?,
        entered_at: UnixMs(row.try_get("", "entered_at_ms")?),
        checked_at: row.try_get::<Option<i64>>("", "checked_at_ms")?.map(UnixMs),
        booked: row.try_get::<Option<i64>>("", "booked")?.map(Amount::from_nanos),
        incident: row
            .try_get::<Option<uuid::Uuid>>("", "incident_id")?
            .map(IncidentId::from_uuid),
    })
}
