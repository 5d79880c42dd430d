//! The record of a virtual key, without its secret, and its way to and from the table.

use domain::{KeyId, TenantId, clock::UnixMs};
use sea_orm::ActiveValue::Set;
use serde::Serialize;
use store::StoreError;

use crate::{Budget, KeyLimits, KeySettings, caller::Standing, entities::virtual_key};

/// A virtual key as it is shown after its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualKey {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, for people.
    pub name: String,
    /// The last four characters of the secret.
    pub last4: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixMs>,
    /// When it stops working, if ever.
    pub expires_at: Option<UnixMs>,
    /// Model ids and aliases that it may use; `None` for all.
    pub allowed_models: Option<Vec<String>>,
    /// Requests per minute; `None` for no limit.
    pub requests_per_minute: Option<u32>,
    /// What it may spend; `None` for whatever credit the tenant has.
    pub budget: Option<Budget>,
    /// When it was created.
    pub created_at: UnixMs,
}

impl VirtualKey {
    pub(crate) fn settings(&self) -> KeySettings {
        KeySettings {
            name: self.name.clone(),
            expires_at: self.expires_at,
            limits: self.limits(),
        }
    }

    /// What the key may do.
    pub fn limits(&self) -> KeyLimits {
        KeyLimits {
            allowed_models: self.allowed_models.clone(),
            requests_per_minute: self.requests_per_minute,
            budget: self.budget,
        }
    }

    pub(crate) const fn standing(&self, tenant_enabled: bool) -> Standing {
        Standing {
            tenant_enabled,
            enabled: self.enabled,
            revoked: self.revoked_at.is_some(),
        }
    }
}

impl TryFrom<virtual_key::Model> for VirtualKey {
    type Error = StoreError;

    fn try_from(row: virtual_key::Model) -> Result<Self, StoreError> {
        let id = KeyId::from_uuid(row.id);
        let damaged = |column: &str| StoreError::damaged(format!("{column} of {id}"));
        let allowed_models = row
            .allowed_models_json
            .map(|text| serde_json::from_str(&text).map_err(|_| damaged("allowed_models_json")))
            .transpose()?;
        let requests_per_minute = row
            .requests_per_minute
            .map(|rate| u32::try_from(rate).map_err(|_| damaged("requests_per_minute")))
            .transpose()?;
        let budget =
            Budget::from_columns(row.budget_limit, row.budget_period.as_deref()).ok_or_else(|| damaged("budget"))?;
        Ok(Self {
            id,
            tenant: TenantId::from_uuid(row.tenant_id),
            name: row.name,
            last4: row.last4,
            enabled: row.enabled,
            revoked_at: row.revoked_at_ms.map(UnixMs),
            expires_at: row.expires_at_ms.map(UnixMs),
            allowed_models,
            requests_per_minute,
            budget,
            created_at: UnixMs(row.created_at_ms),
        })
    }
}

/// Puts settings into the columns of a row that is being written.
pub(crate) fn write_settings(row: &mut virtual_key::ActiveModel, settings: &KeySettings) {
    let limits = &settings.limits;
    let models = limits
        .allowed_models
        .as_ref()
        .map(|models| serde_json::Value::from(models.clone()).to_string());
    row.name = Set(settings.name.clone());
    row.expires_at_ms = Set(settings.expires_at.map(|at| at.0));
    row.allowed_models_json = Set(models);
    row.requests_per_minute = Set(limits.requests_per_minute.map(i64::from));
    row.budget_limit = Set(limits.budget.map(|budget| budget.limit.nanos()));
    row.budget_period = Set(limits.budget.map(|budget| budget.period.as_str().to_owned()));
}
