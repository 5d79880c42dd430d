//! The record of a tenant.

use domain::{TenantId, clock::UnixMs};
use serde::Serialize;
use store::StoreError;

use crate::{Budget, entities::tenant};

/// A customer organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, for people.
    pub name: String,
    /// Its tier, whose multiplier applies to every charge.
    pub tier: String,
    /// Whether its keys may be used.
    pub enabled: bool,
    /// What all of its keys together may spend; `None` for whatever credit it has.
    pub budget: Option<Budget>,
    /// When it was created.
    pub created_at: UnixMs,
}

impl TryFrom<tenant::Model> for Tenant {
    type Error = StoreError;

    fn try_from(row: tenant::Model) -> Result<Self, StoreError> {
        let id = TenantId::from_uuid(row.id);
        let budget = Budget::from_columns(row.budget_limit, row.budget_period.as_deref())
            .ok_or_else(|| StoreError::damaged(format!("budget of {id}")))?;
        Ok(Self {
            id,
            name: row.name,
            tier: row.tier,
            enabled: row.enabled,
            budget,
            created_at: UnixMs(row.created_at_ms),
        })
    }
}
