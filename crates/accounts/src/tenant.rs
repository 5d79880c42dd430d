//! The record of a tenant.

use domain::{TenantId, clock::UnixMs};
use serde::Serialize;

use crate::entities::tenant;

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
    /// When it was created.
    pub created_at: UnixMs,
}

impl From<tenant::Model> for Tenant {
    fn from(row: tenant::Model) -> Self {
        Self {
            id: TenantId::from_uuid(row.id),
            name: row.name,
            tier: row.tier,
            enabled: row.enabled,
            created_at: UnixMs(row.created_at_ms),
        }
    }
}
