//! Change notices: a version per topic, raised in the transaction of the change, polled by every node.
//!
//! The row of a topic is locked until the change commits, so changes of one topic are seen in order and none is
//! missed. A cache that compares the version can never miss a change, only see it one poll later.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::{Backend, StoreError, Tx};

/// What a node may keep in memory and must refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Providers, pools, credentials, models, offers, prices.
    Catalog,
    /// Tenants and virtual keys.
    Keys,
    /// Operator tokens.
    Operators,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 3] = [Self::Catalog, Self::Keys, Self::Operators];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Keys => "keys",
            Self::Operators => "operators",
        }
    }
}

/// The version of each topic at one moment; a topic that never changed has version 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions(BTreeMap<Topic, i64>);

impl Versions {
    /// The version of one topic.
    pub fn of(&self, topic: Topic) -> i64 {
        self.0.get(&topic).copied().unwrap_or(0)
    }
}

/// Tells every node that something under the topic has changed, when the transaction commits.
///
/// # Errors
/// What the database says.
pub async fn notify(tx: &Tx, topic: Topic) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO change_topic (topic, version) VALUES ($1, 1) \
         ON CONFLICT (topic) DO UPDATE SET version = change_topic.version + 1",
        vec![topic.as_str().into()],
    )
    .await?;
    Ok(())
}

/// Reads the versions of all topics.
///
/// # Errors
/// What the database says.
pub async fn read_versions(connection: &DatabaseConnection, backend: Backend) -> Result<Versions, StoreError> {
    let statement = Statement::from_string(backend.dialect(), "SELECT topic, version FROM change_topic");
    let mut versions = Versions::default();
    for row in connection.query_all_raw(statement).await? {
        let name: String = row.try_get("", "topic")?;
        if let Some(topic) = Topic::ALL.into_iter().find(|topic| topic.as_str() == name) {
            versions.0.insert(topic, row.try_get("", "version")?);
        }
    }
    Ok(versions)
}
