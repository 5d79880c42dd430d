//! What budgets have used and hold.

use std::collections::BTreeMap;

use domain::clock::UnixMs;
use sea_orm::{ConnectionTrait, Value};
use store::StoreError;

use super::{amount, rows};
use crate::{items::BudgetKey, rules::Budget};

/// The state of budgets in their periods. One in whose period nothing was held yet is left out: nothing is used.
///
/// # Errors
/// What the database says.
pub async fn budgets(
    connection: &impl ConnectionTrait,
    keys: &[BudgetKey],
) -> Result<BTreeMap<BudgetKey, Budget>, StoreError> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let places: Vec<String> = (0..keys.len())
        .map(|index| format!("(scope = ${} AND period_start_ms = ${})", 2 * index + 1, 2 * index + 2))
        .collect();
    let sql = format!(
        "SELECT scope, period_start_ms, limit_amount, used, held FROM budget WHERE {}",
        places.join(" OR ")
    );
    let values: Vec<Value> = keys
        .iter()
        .flat_map(|key| [key.scope.into(), key.period_start.0.into()])
        .collect();
    rows(connection, sql, values)
        .await?
        .iter()
        .map(|row| {
            let key = BudgetKey {
                scope: row.try_get("", "scope")?,
                period_start: UnixMs(row.try_get("", "period_start_ms")?),
            };
            let state = Budget {
                limit: amount(row, "limit_amount")?,
                used: amount(row, "used")?,
                held: amount(row, "held")?,
            };
            Ok((key, state))
        })
        .collect()
}
