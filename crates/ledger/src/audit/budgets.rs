//! Budgets have a key of two columns and are named in a text of each hold: compared here, in memory of the open holds.

use std::{collections::BTreeMap, time::Instant};

use domain::clock::UnixMs;
use sea_orm::QueryResult;
use store::StoreError;

use super::{Check, reader::Reader};
use crate::items::BudgetKey;

/// Rows read at a time.
const PAGE: i64 = 1_000;

/// Compares every budget with the open holds that name it.
pub async fn follow_from_holds(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I3",
        "what a budget has held is the sum of its open holds, and it is within its limit",
    );
    let mut held = held_in_budgets(reader).await?;
    let sql = "SELECT scope, period_start_ms, limit_amount, used, held FROM budget \
               WHERE (scope, period_start_ms) > ($1, $2) ORDER BY scope, period_start_ms LIMIT $3";
    let (mut scope, mut period) = (uuid::Uuid::nil(), i64::MIN);
    loop {
        let since = Instant::now();
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
        reader.rest("budget", check.rows, since).await;
    }
    if let Some(key) = held.keys().next() {
        check.offend(|| format!("budget {key:?} is named by a hold and has no row"));
    }
    Ok(check)
}

/// Open holds are few: as many as there are requests in flight.
async fn held_in_budgets(reader: &Reader<'_>) -> Result<BTreeMap<BudgetKey, i128>, StoreError> {
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

fn number(row: &QueryResult, column: &str) -> Result<i128, StoreError> {
    let nanos: i64 = row.try_get("", column)?;
    Ok(i128::from(nanos))
}
