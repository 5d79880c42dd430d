//! Which offers were ever for sale. The public price list shows no others: a price may be prepared for a launch.

use store::Tx;

use crate::CatalogError;

/// Notes the offers that are for sale now and never were before. Whatever enables something calls it.
pub(crate) async fn note_first_sales(tx: &Tx) -> Result<(), CatalogError> {
    let now = tx.now().await?;
    let sql = "INSERT INTO offer_first_sale (offer_id, at_ms) SELECT o.id, CAST($1 AS BIGINT) FROM offer AS o \
         JOIN model AS m ON m.id = o.model_id JOIN pool AS p ON p.id = o.pool_id \
         JOIN provider AS v ON v.id = p.provider_id \
         WHERE o.enabled AND m.enabled AND p.enabled AND v.enabled \
         AND NOT EXISTS (SELECT 1 FROM offer_first_sale AS f WHERE f.offer_id = o.id)";
    tx.execute(sql, vec![now.0.into()]).await?;
    Ok(())
}
