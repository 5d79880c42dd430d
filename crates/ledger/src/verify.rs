//! The auditor: checks on a live database that the books keep their invariants (docs/LEDGER.md lists them), in one
//! consistent reading, and names the first row that offends.

use std::{collections::BTreeMap, time::Duration};

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, IsolationLevel, QueryResult, Statement, TransactionOptions,
    TransactionTrait, Value,
};
use serde::Serialize;
use store::{Backend, Database, StoreError};

use crate::{
    chart::{Account, LotKind},
    items::BudgetKey,
};

/// One invariant and what became of its check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The invariant's number, as in docs/LEDGER.md.
    pub invariant: &'static str,
    /// What was checked.
    pub statement: &'static str,
    /// How many rows were looked at.
    pub rows: u64,
    /// The first offending row, if there is one.
    pub offender: Option<String>,
}

impl Check {
    const fn new(invariant: &'static str, statement: &'static str) -> Self {
        Self {
            invariant,
            statement,
            rows: 0,
            offender: None,
        }
    }

    fn offend(&mut self, offender: impl FnOnce() -> String) {
        if self.offender.is_none() {
            self.offender = Some(offender());
        }
    }
}

/// What an audit found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Every check, in order.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether no row offends.
    pub fn is_clean(&self) -> bool {
        self.checks.iter().all(|check| check.offender.is_none())
    }
}

/// Rows read at a time.
const PAGE: i64 = 1_000;

struct Reader {
    tx: DatabaseTransaction,
    backend: Backend,
}

impl Reader {
    async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
        let statement = Statement::from_sql_and_values(self.tx.get_database_backend(), sql, values);
        Ok(self.tx.query_all_raw(statement).await?)
    }
}

/// Checks the invariants I1 to I6.
///
/// # Errors
/// When the database cannot be read. An offending row is not an error but part of the report.
pub async fn verify(database: &Database, max_request_time: Duration) -> Result<Report, StoreError> {
    let options = TransactionOptions {
        isolation_level: (database.backend() == Backend::Postgres).then_some(IsolationLevel::RepeatableRead),
        access_mode: (database.backend() == Backend::Postgres).then_some(AccessMode::ReadOnly),
        sqlite_transaction_mode: None,
    };
    let tx = database.readers().begin_with_options(options).await?;
    let reader = Reader {
        tx,
        backend: database.backend(),
    };
    if reader.backend == Backend::Postgres {
        // an audit of large books takes as long as it takes
        reader.tx.execute_unprepared("SET LOCAL statement_timeout = 0").await?;
    }
    let checks = vec![
        transactions_balance(&reader).await?,
        lots_follow_from_entries(&reader).await?,
        available_follows_from_lots(&reader).await?,
        held_follows_from_holds(&reader).await?,
        budgets_follow_from_holds(&reader).await?,
        charges_stay_within_holds(&reader).await?,
        requests_end_once(&reader).await?,
        charges_match_entries(&reader).await?,
        provider_costs_match_entries(&reader).await?,
        holds_are_young(&reader, max_request_time).await?,
    ];
    reader.tx.rollback().await?;
    Ok(Report { checks })
}

async fn transactions_balance(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I1", "the entries of every transaction sum to zero");
    let count = reader.rows("SELECT COUNT(*) AS n FROM tx", vec![]).await?;
    check.rows = count_of(&count)?;
    let sql = "SELECT t.id FROM tx t LEFT JOIN entry e ON e.tx_id = t.id GROUP BY t.id \
               HAVING COALESCE(SUM(e.amount), 1) <> 0 LIMIT 1";
    if let Some(row) = reader.rows(sql, vec![]).await?.first() {
        let id: uuid::Uuid = row.try_get("", "id")?;
        check.offend(|| format!("transaction {id} does not balance or has no entries"));
    }
    Ok(check)
}

async fn lots_follow_from_entries(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I2", "what is left of every lot is the sum of its entries");
    let mut after = uuid::Uuid::nil();
    loop {
        let sql = "SELECT id, tenant_id, kind, remaining FROM lot WHERE id > $1 ORDER BY id LIMIT $2";
        let page = reader.rows(sql, vec![after.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { return Ok(check) };
        after = last.try_get("", "id")?;
        for row in &page {
            check.rows += 1;
            let lot = LotId::from_uuid(row.try_get("", "id")?);
            let tenant = TenantId::from_uuid(row.try_get("", "tenant_id")?);
            let kind: String = row.try_get("", "kind")?;
            let kind = LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?;
            let remaining: i64 = row.try_get("", "remaining")?;
            let posted = posted_on(reader, &Account::Credit(kind, tenant, lot)).await?;
            if posted != -i128::from(remaining) {
                check.offend(|| format!("lot {lot} of {tenant}: {remaining} left, entries say {}", -posted));
            }
        }
    }
}

async fn posted_on(reader: &Reader, account: &Account) -> Result<i128, StoreError> {
    let sql = match reader.backend {
        Backend::Postgres => "SELECT COALESCE(SUM(amount), 0)::BIGINT AS total FROM entry WHERE account = $1",
        Backend::Sqlite => "SELECT COALESCE(SUM(amount), 0) AS total FROM entry WHERE account = $1",
    };
    let rows = reader.rows(sql, vec![account.to_string().into()]).await?;
    let total: i64 = rows.first().map_or(Ok(0), |row| row.try_get("", "total"))?;
    Ok(i128::from(total))
}

async fn available_follows_from_lots(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I2", "available credit is the lots less what is held");
    let cast = cast(reader.backend);
    let sql = format!(
        "SELECT a.tenant_id, a.available, a.held, \
         (SELECT COALESCE(SUM(l.remaining), 0){cast} FROM lot l WHERE l.tenant_id = a.tenant_id) AS lots \
         FROM acct a WHERE a.tenant_id > $1 ORDER BY a.tenant_id LIMIT $2"
    );
    let mut after = uuid::Uuid::nil();
    loop {
        let page = reader.rows(&sql, vec![after.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { return Ok(check) };
        after = last.try_get("", "tenant_id")?;
        for row in &page {
            check.rows += 1;
            let tenant = TenantId::from_uuid(row.try_get("", "tenant_id")?);
            let (available, held) = (number(row, "available")?, number(row, "held")?);
            let lots = number(row, "lots")?;
            if available < 0 || held < 0 || available + held != lots {
                check.offend(|| format!("{tenant}: available {available} + held {held} is not the lots' {lots}"));
            }
        }
    }
}

async fn held_follows_from_holds(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I3", "what a tenant has held is the sum of its open holds");
    let cast = cast(reader.backend);
    let sql = format!(
        "SELECT a.tenant_id, a.held, \
         (SELECT COALESCE(SUM(h.amount), 0){cast} FROM hold h WHERE h.tenant_id = a.tenant_id) AS holds \
         FROM acct a WHERE a.tenant_id > $1 ORDER BY a.tenant_id LIMIT $2"
    );
    let mut after = uuid::Uuid::nil();
    loop {
        let page = reader.rows(&sql, vec![after.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { return Ok(check) };
        after = last.try_get("", "tenant_id")?;
        for row in &page {
            check.rows += 1;
            let tenant = TenantId::from_uuid(row.try_get("", "tenant_id")?);
            let (held, holds) = (number(row, "held")?, number(row, "holds")?);
            if held != holds {
                check.offend(|| format!("{tenant}: held {held}, open holds {holds}"));
            }
        }
    }
}

async fn budgets_follow_from_holds(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I3",
        "what a budget has held is the sum of its open holds, and it is within its limit",
    );
    let mut held = held_in_budgets(reader).await?;
    let sql = "SELECT scope, period_start_ms, limit_amount, used, held FROM budget \
               WHERE (scope, period_start_ms) > ($1, $2) ORDER BY scope, period_start_ms LIMIT $3";
    let (mut scope, mut period) = (uuid::Uuid::nil(), i64::MIN);
    loop {
        let page = reader.rows(sql, vec![scope.into(), period.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { break };
        (scope, period) = (last.try_get("", "scope")?, last.try_get("", "period_start_ms")?);
        for row in &page {
            check.rows += 1;
            let key = BudgetKey {
                scope: row.try_get("", "scope")?,
                period_start: UnixMs(row.try_get("", "period_start_ms")?),
            };
            let (limit, used, row_held) = (number(row, "limit_amount")?, number(row, "used")?, number(row, "held")?);
            let holds = held.remove(&key).unwrap_or(0);
            if row_held != holds || used + row_held > limit {
                check.offend(|| format!("budget {key:?}: used {used}, held {row_held} (holds {holds}), limit {limit}"));
            }
        }
    }
    if let Some(key) = held.keys().next() {
        check.offend(|| format!("budget {key:?} is named by a hold and has no row"));
    }
    Ok(check)
}

/// Open holds are few: as many as there are requests in flight.
async fn held_in_budgets(reader: &Reader) -> Result<BTreeMap<BudgetKey, i128>, StoreError> {
    let mut held = BTreeMap::new();
    let sql = "SELECT request_id, amount, budgets_json FROM hold WHERE request_id > $1 AND budgets_json <> '[]' \
               ORDER BY request_id LIMIT $2";
    let mut after = uuid::Uuid::nil();
    loop {
        let page = reader.rows(sql, vec![after.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { return Ok(held) };
        after = last.try_get("", "request_id")?;
        for row in &page {
            let text: String = row.try_get("", "budgets_json")?;
            let keys: Vec<BudgetKey> =
                serde_json::from_str(&text).map_err(|_| StoreError::damaged("hold.budgets_json"))?;
            let amount = number(row, "amount")?;
            for key in keys {
                *held.entry(key).or_default() += amount;
            }
        }
    }
}

async fn charges_stay_within_holds(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I4", "no charge is above its hold, and nothing is charged for a void");
    let count = reader.rows("SELECT COUNT(*) AS n FROM charge", vec![]).await?;
    check.rows = count_of(&count)?;
    let sql = "SELECT request_id FROM charge WHERE amount > held OR amount < 0 \
               OR (state <> 'settled' AND (amount <> 0 OR overrun <> 0)) LIMIT 1";
    name_request(
        &mut check,
        &reader.rows(sql, vec![]).await?,
        "is charged more than it may be",
    )?;
    Ok(check)
}

async fn requests_end_once(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I5", "no request is both open and closed");
    let count = reader.rows("SELECT COUNT(*) AS n FROM hold", vec![]).await?;
    check.rows = count_of(&count)?;
    let sql = "SELECT h.request_id FROM hold h JOIN charge c ON c.request_id = h.request_id LIMIT 1";
    name_request(&mut check, &reader.rows(sql, vec![]).await?, "has a hold and a charge")?;
    Ok(check)
}

async fn charges_match_entries(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I5",
        "the charges of every usage transaction are what it posted as revenue",
    );
    let count = reader
        .rows("SELECT COUNT(*) AS n FROM tx WHERE kind = 'usage'", vec![])
        .await?;
    check.rows = count_of(&count)?;
    // one pass over each table: charges are positive here, revenue is posted as a credit and so negative
    let sql = "SELECT v.tx_id AS id FROM (\
               SELECT tx_id, amount + overrun AS amount FROM charge WHERE tx_id IS NOT NULL UNION ALL \
               SELECT tx_id, amount FROM entry WHERE account = 'revenue_usage') v \
               GROUP BY v.tx_id HAVING SUM(v.amount) <> 0 LIMIT 1";
    if let Some(row) = reader.rows(sql, vec![]).await?.first() {
        let id: uuid::Uuid = row.try_get("", "id")?;
        check.offend(|| format!("usage transaction {id} posts other revenue than its charges"));
    }
    let sql = "SELECT c.request_id FROM charge c LEFT JOIN tx t ON t.id = c.tx_id \
               WHERE (c.amount + c.overrun > 0) AND t.id IS NULL LIMIT 1";
    name_request(
        &mut check,
        &reader.rows(sql, vec![]).await?,
        "is charged without a transaction",
    )?;
    Ok(check)
}

async fn provider_costs_match_entries(reader: &Reader) -> Result<Check, StoreError> {
    let mut check = Check::new("I5", "what the charges say about providers' costs is what was posted");
    let count = reader.rows("SELECT COUNT(*) AS n FROM charge", vec![]).await?;
    check.rows = count_of(&count)?;
    let cast = cast(reader.backend);
    // costs that came after their request was closed or refused are posted beside the charges, by other kinds
    let sql = format!(
        "SELECT (SELECT COALESCE(SUM(provider_cost), 0){cast} FROM charge) AS cost, \
         (SELECT COALESCE(SUM(unbilled), 0){cast} FROM charge) AS unbilled, \
         (SELECT COALESCE(SUM(amount), 0){cast} FROM entry WHERE account LIKE 'provider_cost:%') AS posted_cost, \
         (SELECT COALESCE(SUM(e.amount), 0){cast} FROM entry e JOIN tx t ON t.id = e.tx_id \
          WHERE e.account IN ('operator_loss:unbilled', 'operator_loss:node') AND t.kind = 'operator_cost') AS posted_unbilled"
    );
    if let Some(row) = reader.rows(&sql, vec![]).await?.first() {
        for (column, posted) in [("cost", "posted_cost"), ("unbilled", "posted_unbilled")] {
            let (charged, posted) = (number(row, column)?, number(row, posted)?);
            if charged != posted {
                check.offend(|| format!("the charges' {column} is {charged}, the entries say {posted}"));
            }
        }
    }
    Ok(check)
}

async fn holds_are_young(reader: &Reader, max_request_time: Duration) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I6",
        "no hold is older than a request may be, with a grace of two minutes",
    );
    let now = match reader.backend {
        Backend::Postgres => "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT",
        Backend::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    };
    let oldest_ms = i64::try_from((max_request_time + Duration::from_secs(120)).as_millis()).unwrap_or(i64::MAX);
    let count = reader.rows("SELECT COUNT(*) AS n FROM hold", vec![]).await?;
    check.rows = count_of(&count)?;
    let sql = format!("SELECT request_id FROM hold WHERE created_at_ms < {now} - $1 LIMIT 1");
    name_request(
        &mut check,
        &reader.rows(&sql, vec![oldest_ms.into()]).await?,
        "is held for too long",
    )?;
    Ok(check)
}

fn name_request(check: &mut Check, rows: &[QueryResult], what: &str) -> Result<(), StoreError> {
    if let Some(row) = rows.first() {
        let id = domain::RequestId::from_uuid(row.try_get("", "request_id")?);
        check.offend(|| format!("{id} {what}"));
    }
    Ok(())
}

const fn cast(backend: Backend) -> &'static str {
    // PostgreSQL sums BIGINT to NUMERIC
    match backend {
        Backend::Postgres => "::BIGINT",
        Backend::Sqlite => "",
    }
}

fn count_of(rows: &[QueryResult]) -> Result<u64, StoreError> {
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get("", "n"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn number(row: &QueryResult, column: &str) -> Result<i128, StoreError> {
    let nanos: i64 = row.try_get("", column)?;
    Ok(i128::from(Amount::from_nanos(nanos).nanos()))
}
