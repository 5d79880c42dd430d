//! Audit rows: who did what to which object, written in the same transaction as the change. Insert-only.

use domain::clock::UnixMs;
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};
use serde::Serialize;

use crate::{Backend, StoreError, Tx};

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// An operator, by token id.
    pub fn operator(id: domain::OperatorTokenId) -> Self {
        Self(format!("operator:{id}"))
    }

    /// The product itself, by the name of the job or command.
    pub fn system(job: &str) -> Self {
        Self(format!("system:{job}"))
    }

    /// As stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One audit row as read back.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRow {
    /// Counts up; also the paging cursor.
    pub seq: i64,
    /// When.
    pub at: UnixMs,
    /// Who.
    pub actor: String,
    /// What, as `object.verb`.
    pub action: String,
    /// The object's id.
    pub subject: String,
    /// The object before, if it existed.
    pub before: Option<serde_json::Value>,
    /// The object after, if it still exists.
    pub after: Option<serde_json::Value>,
}

/// Writes one row. `before` and `after` must hold no secret.
///
/// # Errors
/// What the database says.
pub async fn record(
    tx: &Tx,
    actor: &Actor,
    action: &str,
    subject: &str,
    before: Option<&serde_json::Value>,
    after: Option<&serde_json::Value>,
) -> Result<(), StoreError> {
    let now = tx.now().await?;
    tx.execute(
        "INSERT INTO audit (at_ms, actor, action, subject, before_json, after_json) VALUES ($1, $2, $3, $4, $5, $6)",
        vec![
            now.0.into(),
            actor.as_str().into(),
            action.into(),
            subject.into(),
            before.map(ToString::to_string).into(),
            after.map(ToString::to_string).into(),
        ],
    )
    .await?;
    Ok(())
}

/// A page of rows, newest first, older than `before_seq` when given.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &DatabaseConnection,
    backend: Backend,
    before_seq: Option<i64>,
    limit: u64,
) -> Result<Vec<AuditRow>, StoreError> {
    let statement = Statement::from_sql_and_values(
        backend.dialect(),
        "SELECT seq, at_ms, actor, action, subject, before_json, after_json FROM audit \
         WHERE seq < $1 ORDER BY seq DESC LIMIT $2",
        [
            before_seq.unwrap_or(i64::MAX).into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ],
    );
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(read_row).collect()
}

/// What was done with an object since an instant, oldest first, by one action.
///
/// # Errors
/// What the database says.
pub async fn since(tx: &Tx, action: &str, subject: &str, at: UnixMs) -> Result<Vec<AuditRow>, StoreError> {
    let rows = tx
        .query(
            "SELECT seq, at_ms, actor, action, subject, before_json, after_json FROM audit \
             WHERE action = $1 AND subject = $2 AND at_ms >= $3 ORDER BY seq",
            vec![action.into(), subject.into(), at.0.into()],
        )
        .await?;
    rows.iter().map(read_row).collect()
}

fn read_row(row: &QueryResult) -> Result<AuditRow, StoreError> {
    let json = |column: &str| -> Result<Option<serde_json::Value>, StoreError> {
        let text: Option<String> = row.try_get("", column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|_| StoreError::damaged("audit row")))
            .transpose()
    };
    Ok(AuditRow {
        seq: row.try_get("", "seq")?,
        at: UnixMs(row.try_get("", "at_ms")?),
        actor: row.try_get("", "actor")?,
        action: row.try_get("", "action")?,
        subject: row.try_get("", "subject")?,
        before: json("before_json")?,
        after: json("after_json")?,
    })
}
