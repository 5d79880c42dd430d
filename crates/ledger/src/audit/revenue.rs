//! What charges say and what was posted for them, summed over whole tables.

use std::time::Instant;

use store::StoreError;

use super::{Check, reader::Reader};
use crate::corrections::TRANSACTION_KINDS;

/// Compares what each usage transaction posted as revenue with the charges that name it.
pub async fn charges_match_entries(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I5",
        "the charges of every usage transaction are what it posted as revenue",
    );
    check.rows = count(reader, "SELECT COUNT(*) AS n FROM tx WHERE kind = 'usage'").await?;
    let since = Instant::now();
    // One pass over each table, because charges are not kept by transaction; what the database cannot sum in its own
    // bounded memory it puts on disk. Charges are positive here, revenue is posted as a credit and so negative. What
    // corrections take back of it is compared with the charges one by one, elsewhere.
    let sql = format!(
        "SELECT v.tx_id AS id FROM (\
         SELECT tx_id, amount + overrun AS amount FROM charge WHERE tx_id IS NOT NULL UNION ALL \
         SELECT tx_id, amount FROM entry WHERE account = 'revenue_usage' UNION ALL \
         SELECT e.tx_id, -e.amount AS amount FROM tx t JOIN entry e ON e.tx_id = t.id \
         WHERE t.kind IN {TRANSACTION_KINDS} AND e.account = 'revenue_usage') v \
         GROUP BY v.tx_id HAVING SUM(v.amount) <> 0 LIMIT 1"
    );
    if let Some(row) = reader.rows(&sql, vec![]).await?.first() {
        let id: uuid::Uuid = row.try_get("", "id")?;
        check.offend(|| format!("usage transaction {id} posts other revenue than its charges"));
    }
    reader.rest("entry", check.rows, since).await;
    Ok(check)
}

/// Compares the sums of providers' costs.
pub async fn provider_costs_match_entries(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new("I5", "what the charges say about providers' costs is what was posted");
    check.rows = count(reader, "SELECT COUNT(*) AS n FROM charge").await?;
    let since = Instant::now();
    // costs that came after their request was closed or refused are posted beside the charges, by other kinds
    let sql = "SELECT (SELECT CAST(COALESCE(SUM(provider_cost), 0) AS TEXT) FROM charge) AS cost, \
         (SELECT CAST(COALESCE(SUM(unbilled), 0) AS TEXT) FROM charge) AS unbilled, \
         (SELECT CAST(COALESCE(SUM(amount), 0) AS TEXT) FROM entry WHERE account LIKE 'provider_cost:%') AS posted_cost, \
         (SELECT CAST(COALESCE(SUM(e.amount), 0) AS TEXT) FROM entry e JOIN tx t ON t.id = e.tx_id \
          WHERE e.account IN ('operator_loss:unbilled', 'operator_loss:node') AND t.kind = 'operator_cost') AS posted_unbilled";
    if let Some(row) = reader.rows(sql, vec![]).await?.first() {
        for (column, posted) in [("cost", "posted_cost"), ("unbilled", "posted_unbilled")] {
            let (charged, posted): (String, String) = (row.try_get("", column)?, row.try_get("", posted)?);
            if charged != posted {
                check.offend(|| format!("the charges' {column} is {charged}, the entries say {posted}"));
            }
        }
    }
    reader.rest("entry", check.rows, since).await;
    Ok(check)
}

async fn count(reader: &Reader<'_>, sql: &str) -> Result<u64, StoreError> {
    Ok(u64::try_from(reader.number(sql, vec![]).await?).unwrap_or(0))
}
