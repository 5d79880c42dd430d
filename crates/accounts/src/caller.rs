//! What the request path knows of a virtual key: whether it may be used now, and for what. Pure.

use std::sync::Arc;

use domain::{KeyId, clock::UnixMs, scope::TenantScope};

use crate::Budget;

/// A virtual key that exists, in whatever state. Only [`KnownKey::admit`] makes a [`Caller`] of it.
#[derive(Debug, Clone)]
pub struct KnownKey {
    caller: Arc<Caller>,
    standing: Standing,
}

/// What decides the state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub tenant_enabled: bool,
    pub enabled: bool,
    pub revoked: bool,
}

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It may.
    Active,
    /// Switched off; it can be switched on again.
    Disabled,
    /// Taken back for good.
    Revoked,
    /// Past the instant that was set at its creation or later.
    Expired,
    /// Its tenant is switched off.
    TenantDisabled,
}

/// An authenticated caller of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Proof of whose call it is.
    pub scope: TenantScope,
    /// With which key.
    pub key: KeyId,
    /// The name that the tenant gave the key.
    pub key_name: String,
    /// The last four characters of the key.
    pub key_last4: String,
    /// The tenant's name.
    pub tenant_name: String,
    /// The tenant's tier, whose multiplier applies to every charge.
    pub tier: String,
    /// When the key stops working.
    pub expires_at: Option<UnixMs>,
    /// What the key may do.
    pub limits: KeyLimits,
    /// What the tenant may spend with all its keys; `None` for whatever credit it has.
    pub tenant_budget: Option<Budget>,
}

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Model ids and aliases that it may use; `None` for all.
    pub allowed_models: Option<Vec<String>>,
    /// Requests per minute, at least 1; `None` for no limit.
    pub requests_per_minute: Option<u32>,
    /// What it may spend; `None` for whatever credit the tenant has.
    pub budget: Option<Budget>,
}

impl KnownKey {
    pub(crate) const fn new(caller: Arc<Caller>, standing: Standing) -> Self {
        Self { caller, standing }
    }

    /// The state at the given instant. What is final comes first, then what is wider.
    pub fn state(&self, now: UnixMs) -> KeyState {
        let expired = self.caller.expires_at.is_some_and(|expiry| expiry <= now);
        match self.standing {
            Standing { revoked: true, .. } => KeyState::Revoked,
            Standing {
                tenant_enabled: false, ..
            } => KeyState::TenantDisabled,
            Standing { enabled: false, .. } => KeyState::Disabled,
            _ if expired => KeyState::Expired,
            _ => KeyState::Active,
        }
    }

    /// The caller, if the key may be used at the given instant.
    ///
    /// # Errors
    /// The state that forbids it; never [`KeyState::Active`].
    pub fn admit(&self, now: UnixMs) -> Result<Arc<Caller>, KeyState> {
        match self.state(now) {
            KeyState::Active => Ok(Arc::clone(&self.caller)),
            state => Err(state),
        }
    }
}

impl KeyState {
    /// The stable name, as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::TenantDisabled => "tenant_disabled",
        }
    }
}

impl Caller {
    /// Whether the key may use a model, which the allow-list may name by its id or by any of its aliases.
    pub fn may_use<A: AsRef<str>>(&self, model_id: &str, aliases: impl IntoIterator<Item = A>) -> bool {
        let Some(allowed) = &self.limits.allowed_models else {
            return true;
        };
        let lists = |name: &str| allowed.iter().any(|entry| entry == name);
        lists(model_id) || aliases.into_iter().any(|alias| lists(alias.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use domain::TenantId;

    use super::*;

    fn key(standing: Standing, expires_at: Option<UnixMs>, allowed_models: Option<Vec<String>>) -> KnownKey {
        let caller = Caller {
            scope: TenantScope::authenticated(TenantId::generate()),
            key: KeyId::generate(),
            key_name: "ci".to_owned(),
            key_last4: "abcd".to_owned(),
            tenant_name: "Acme".to_owned(),
            tier: "default".to_owned(),
            expires_at,
            limits: KeyLimits {
                allowed_models,
                ..KeyLimits::default()
            },
            tenant_budget: None,
        };
        KnownKey::new(Arc::new(caller), standing)
    }

    const GOOD: Standing = Standing {
        tenant_enabled: true,
        enabled: true,
        revoked: false,
    };

    #[test]
    fn only_an_active_key_makes_a_caller() {
        let now = UnixMs(1_000);
        let cases = [
            (GOOD, None, KeyState::Active),
            (GOOD, Some(UnixMs(1_001)), KeyState::Active),
            (GOOD, Some(UnixMs(1_000)), KeyState::Expired),
            (Standing { enabled: false, ..GOOD }, None, KeyState::Disabled),
            (
                Standing {
                    tenant_enabled: false,
                    ..GOOD
                },
                None,
                KeyState::TenantDisabled,
            ),
            (Standing { revoked: true, ..GOOD }, None, KeyState::Revoked),
            (
                Standing {
                    revoked: true,
                    enabled: false,
                    tenant_enabled: false,
                },
                Some(now),
                KeyState::Revoked,
            ),
            (
                Standing {
                    enabled: false,
                    tenant_enabled: false,
                    revoked: false,
                },
                None,
                KeyState::TenantDisabled,
            ),
            (Standing { enabled: false, ..GOOD }, Some(now), KeyState::Disabled),
        ];
        for (standing, expires_at, expected) in cases {
            let key = key(standing, expires_at, None);
            assert_eq!(key.state(now), expected);
            assert_eq!(key.admit(now).err(), (expected != KeyState::Active).then_some(expected));
        }
    }

    #[test]
    fn the_allow_list_knows_ids_and_aliases() {
        let now = UnixMs(0);
        let open = key(GOOD, None, None).admit(now).unwrap();
        assert!(open.may_use("openai/gpt-4o", ["gpt-4o"]));
        let listed = key(GOOD, None, Some(vec!["openai/gpt-4o".to_owned(), "sonnet".to_owned()]))
            .admit(now)
            .unwrap();
        assert!(listed.may_use("openai/gpt-4o", ["gpt-4o"]));
        assert!(listed.may_use("anthropic/claude-sonnet", ["claude-sonnet", "sonnet"]));
        assert!(!listed.may_use("openai/gpt-4o-mini", ["gpt-4o-mini"]));
        assert!(!listed.may_use("openai/gpt-4", [] as [&str; 0]));
    }
}
