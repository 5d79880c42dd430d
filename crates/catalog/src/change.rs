//! What every write has in common: its turn, its notice and its audit row.

use serde::Serialize;
use store::{Tx, audit::Actor, changes, changes::Topic};

use crate::CatalogError;

/// Announces the change and takes the turn: the notice's row stays locked until the transaction ends, so catalog
/// changes come one after the other and whatever a write checks before it writes still holds when it commits.
pub(crate) async fn take_turn(tx: &Tx) -> Result<(), CatalogError> {
    Ok(changes::notify(tx, Topic::Catalog).await?)
}

/// Writes the audit row of a change. Views hold no secret, so neither does the row.
pub(crate) async fn record<View: Serialize>(
    tx: &Tx,
    actor: &Actor,
    action: &str,
    subject: &str,
    before: Option<&View>,
    after: Option<&View>,
) -> Result<(), CatalogError> {
    let json = |view: Option<&View>| -> Result<Option<serde_json::Value>, CatalogError> {
        view.map(serde_json::to_value)
            .transpose()
            .map_err(|_| CatalogError::damaged(format!("audit row of {action}")))
    };
    let (before, after) = (json(before)?, json(after)?);
    Ok(store::audit::record(tx, actor, action, subject, before.as_ref(), after.as_ref()).await?)
}
