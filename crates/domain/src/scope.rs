//! Proof that an authenticated tenant stands behind a call. Every query on tenant data asks for one.

use crate::TenantId;

/// The tenant on whose behalf a call runs. Made by authentication only; a query that takes it cannot be asked
/// for another tenant's rows by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantScope {
    tenant: TenantId,
}

impl TenantScope {
    /// For code that has just authenticated the tenant (a verified virtual key), and for nobody else.
    pub const fn authenticated(tenant: TenantId) -> Self {
        Self { tenant }
    }

    /// The tenant that was authenticated.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }
}
