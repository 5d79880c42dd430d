//! What every write of this crate leaves behind: its audit row and its change notice.

use serde::Serialize;
use store::{
    StoreError, Tx,
    audit::{self, Actor},
    changes::{self, Topic},
};

/// A write that is to be remembered. The records must hold no secret.
pub(crate) struct Write<'a, T> {
    pub topic: Topic,
    pub action: &'a str,
    pub subject: String,
    pub before: Option<&'a T>,
    pub after: &'a T,
}

impl<T: Serialize> Write<'_, T> {
    pub(crate) async fn leave_trail(self, tx: &Tx, actor: &Actor) -> Result<(), StoreError> {
        let before = self.before.map(to_json).transpose()?;
        let after = to_json(self.after)?;
        audit::record(tx, actor, self.action, &self.subject, before.as_ref(), Some(&after)).await?;
        changes::notify(tx, self.topic).await
    }
}

fn to_json<T: Serialize>(record: &T) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(record).map_err(|_| StoreError::damaged("a record that cannot be written as JSON"))
}
