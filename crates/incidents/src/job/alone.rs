//! One node at a time: a lock in the database, held by a transaction that does nothing else.

use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, TransactionTrait};
use store::{Backend, Database};

use crate::IncidentError;

/// What one node at a time does. Each has an advisory lock.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// Looking at requests.
    Requests,
    /// Comparing statements.
    Statements,
}

impl Task {
    const fn lock(self) -> i64 {
        match self {
            Self::Requests => 0x0074_7275_6569,
            Self::Statements => 0x0074_7275_656a,
        }
    }
}

/// The turn of this node. Dropped, it is over too.
pub struct Turn(Option<DatabaseTransaction>);

impl Turn {
    pub async fn end(self) -> Result<(), IncidentError> {
        match self.0 {
            Some(tx) => Ok(tx.rollback().await?),
            None => Ok(()),
        }
    }
}

/// Takes the turn; `None` while another node has it. On SQLite there is one process.
pub async fn take_turn(database: &Database, task: Task) -> Result<Option<Turn>, IncidentError> {
    if database.backend() == Backend::Sqlite {
        return Ok(Some(Turn(None)));
    }
    let tx = database.readers().begin().await?;
    tx.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = '10min'")
        .await?;
    let sql = "SELECT pg_try_advisory_xact_lock($1) AS taken";
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, vec![task.lock().into()]);
    let row = tx.query_one_raw(statement).await?;
    let taken = row.map_or(Ok(false), |row| row.try_get("", "taken"))?;
    Ok(taken.then_some(Turn(Some(tx))))
}
