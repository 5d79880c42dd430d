//! Rows of the log's small tables as they are read.

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use store::StoreError;
use transparency::{Hash, Head, SignedHead};
use uuid::Uuid;

/// One log. Another begins only after a loss; the one with the highest number is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// 1, 2, ...
    pub no: i64,
    /// Its name in heads.
    pub id: Uuid,
    /// When it began.
    pub created_at_ms: i64,
    /// Why it began.
    pub reason: String,
}

/// A head with its signature, once it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// The log's number.
    pub log_no: i64,
    /// The head.
    pub head: Head,
    /// The key's name and the signature.
    pub signature: Option<(String, Vec<u8>)>,
}

impl HeadRow {
    /// As it is published; `None` before it is signed.
    pub fn published(&self) -> Option<SignedHead> {
        let (key, signature) = self.signature.as_ref()?;
        Some(SignedHead {
            head: self.head,
            key: key.clone(),
            signature: hex::encode(signature),
        })
    }
}

/// How heads are selected; what follows is `WHERE` or more joins.
pub const HEADS: &str = "SELECT h.log_no, l.id AS log_id, h.size, h.root, h.at_ms, s.key_id, s.signature FROM log_head h \
     JOIN log l ON l.no = h.log_no LEFT JOIN log_signature s ON s.log_no = h.log_no AND s.size = h.size";

/// Runs a query on any connection.
pub async fn query(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, StoreError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_all_raw(statement).await?)
}

/// Heads, by the rest of [`HEADS`].
pub async fn heads(
    connection: &impl ConnectionTrait,
    rest: &str,
    values: Vec<Value>,
) -> Result<Vec<HeadRow>, StoreError> {
    let rows = query(connection, format!("{HEADS} {rest}"), values).await?;
    rows.iter().map(read_head).collect()
}

fn read_head(row: &QueryResult) -> Result<HeadRow, StoreError> {
    let key: Option<String> = row.try_get("", "key_id")?;
    let signature: Option<Vec<u8>> = row.try_get("", "signature")?;
    Ok(HeadRow {
        log_no: row.try_get("", "log_no")?,
        head: Head {
            log: row.try_get("", "log_id")?,
            size: unsigned(row.try_get("", "size")?)?,
            root: hash(row, "root")?,
            at_ms: row.try_get("", "at_ms")?,
        },
        signature: key.zip(signature),
    })
}

/// All logs, the one in use last.
pub async fn logs(connection: &impl ConnectionTrait) -> Result<Vec<LogRow>, StoreError> {
    let rows = query(
        connection,
        "SELECT no, id, created_at_ms, reason FROM log ORDER BY no",
        vec![],
    )
    .await?;
    rows.iter()
        .map(|row| {
            Ok(LogRow {
                no: row.try_get("", "no")?,
                id: row.try_get("", "id")?,
                created_at_ms: row.try_get("", "created_at_ms")?,
                reason: row.try_get("", "reason")?,
            })
        })
        .collect()
}

/// A hash in a row.
pub fn hash(row: &QueryResult, column: &str) -> Result<Hash, StoreError> {
    let bytes: Vec<u8> = row.try_get("", column)?;
    Hash::from_slice(&bytes).ok_or_else(|| StoreError::damaged("a hash of the log"))
}

/// A count as it is stored.
pub fn signed(count: u64) -> Result<i64, StoreError> {
    i64::try_from(count).map_err(|_| StoreError::damaged("a size of the log"))
}

/// A count as it was stored.
pub fn unsigned(count: i64) -> Result<u64, StoreError> {
    u64::try_from(count).map_err(|_| StoreError::damaged("a size of the log"))
}
