//! What may be set on tenants and keys, and the bounds within which. Pure: parsed here once, trusted afterwards.

use domain::{Amount, clock::UnixMs};

use crate::{AccountsError, Budget, KeyLimits};

/// The tier of a tenant for which none was named.
pub(crate) const DEFAULT_TIER: &str = "default";

const MAX_NAME_CHARS: usize = 120;
const MAX_TIER_LEN: usize = 64;
const MAX_ALLOWED_MODELS: usize = 500;
const MAX_MODEL_NAME_LEN: usize = 200;
const MAX_REQUESTS_PER_MINUTE: u32 = 1_000_000;

/// A tenant to be created.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// A name for people, 1 to 120 characters.
    pub name: String,
    /// The tier, 1 to 64 of `a-z`, `0-9`, `-`, `_`; `default` when absent.
    pub tier: Option<String>,
    /// What all of its keys together may spend; whatever credit it has when absent.
    pub budget: Option<Budget>,
}

/// A change of a tenant. The outer `None` leaves a setting as it is, the inner `None` removes it.
#[derive(Debug, Clone, Default)]
pub struct TenantUpdate {
    /// Another name.
    pub name: Option<String>,
    /// Another tier.
    pub tier: Option<String>,
    /// Switches the tenant, and with it all of its keys, on or off.
    pub enabled: Option<bool>,
    /// Another budget.
    pub budget: Option<Option<Budget>>,
}

/// What can be set on a virtual key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySettings {
    /// A name for people, 1 to 120 characters.
    pub name: String,
    /// When it stops working; `None` for never.
    pub expires_at: Option<UnixMs>,
    /// What it may do.
    pub limits: KeyLimits,
}

/// A change of a virtual key. The outer `None` leaves a setting as it is, the inner `None` removes it.
#[derive(Debug, Clone, Default)]
pub struct KeyUpdate {
    /// Another name.
    pub name: Option<String>,
    /// Switches the key on or off.
    pub enabled: Option<bool>,
    /// Another expiry.
    pub expires_at: Option<Option<UnixMs>>,
    /// Another allow-list.
    pub allowed_models: Option<Option<Vec<String>>>,
    /// Another request limit.
    pub requests_per_minute: Option<Option<u32>>,
    /// Another budget.
    pub budget: Option<Option<Budget>>,
}

impl KeyUpdate {
    /// The settings after the change.
    pub(crate) fn applied_to(self, current: KeySettings) -> KeySettings {
        KeySettings {
            name: self.name.unwrap_or(current.name),
            expires_at: self.expires_at.unwrap_or(current.expires_at),
            limits: KeyLimits {
                allowed_models: self.allowed_models.unwrap_or(current.limits.allowed_models),
                requests_per_minute: self.requests_per_minute.unwrap_or(current.limits.requests_per_minute),
                budget: self.budget.unwrap_or(current.limits.budget),
            },
        }
    }
}

impl KeySettings {
    /// The same settings, trimmed and within their bounds.
    pub(crate) fn validated(mut self) -> Result<Self, AccountsError> {
        self.name = valid_name(&self.name)?;
        if self.expires_at.is_some_and(|expiry| expiry.0 <= 0) {
            return Err(AccountsError::invalid("expires_at", "must be an instant after 1970"));
        }
        if let Some(models) = &self.limits.allowed_models {
            check_allowed_models(models)?;
        }
        let rate = self.limits.requests_per_minute;
        if rate.is_some_and(|rate| !(1..=MAX_REQUESTS_PER_MINUTE).contains(&rate)) {
            let problem = format!("must be from 1 to {MAX_REQUESTS_PER_MINUTE}, or absent for no limit");
            return Err(AccountsError::invalid("requests_per_minute", problem));
        }
        self.limits.budget = valid_budget(self.limits.budget)?;
        Ok(self)
    }
}

/// A name for people, trimmed: 1 to 120 characters, none of them a control character.
pub(crate) fn valid_name(name: &str) -> Result<String, AccountsError> {
    let name = name.trim();
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let problem = format!("must have 1 to {MAX_NAME_CHARS} characters, none of them a control character");
        return Err(AccountsError::invalid("name", problem));
    }
    Ok(name.to_owned())
}

/// A budget that lets something through.
pub(crate) fn valid_budget(budget: Option<Budget>) -> Result<Option<Budget>, AccountsError> {
    if budget.is_some_and(|budget| budget.limit <= Amount::ZERO) {
        let problem = "the limit must be more than zero; disable the key or the tenant to stop it, leave the budget \
                       out for no limit";
        return Err(AccountsError::invalid("budget", problem));
    }
    Ok(budget)
}

/// The name of a tier.
pub(crate) fn valid_tier(tier: &str) -> Result<String, AccountsError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !(1..=MAX_TIER_LEN).contains(&tier.len()) || !tier.bytes().all(allowed) {
        return Err(AccountsError::invalid(
            "tier",
            "must have 1 to 64 characters of a-z, 0-9, `-`, `_`",
        ));
    }
    Ok(tier.to_owned())
}

fn check_allowed_models(models: &[String]) -> Result<(), AccountsError> {
    let invalid = |problem: String| Err(AccountsError::invalid("allowed_models", problem));
    // an empty list could be meant as "all" or as "none": ask rather than guess
    if !(1..=MAX_ALLOWED_MODELS).contains(&models.len()) {
        return invalid(format!(
            "must list 1 to {MAX_ALLOWED_MODELS} models, or be absent for all models"
        ));
    }
    let acceptable = |name: &String| {
        (1..=MAX_MODEL_NAME_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !models.iter().all(acceptable) {
        return invalid(format!(
            "each entry must be a model id or alias of 1 to {MAX_MODEL_NAME_LEN} printable ASCII characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BudgetPeriod;

    fn named(limits: KeyLimits) -> KeySettings {
        KeySettings {
            name: "ci".to_owned(),
            expires_at: None,
            limits,
        }
    }

    fn field_of(result: Result<KeySettings, AccountsError>) -> Option<&'static str> {
        match result {
            Err(AccountsError::Invalid { field, .. }) => Some(field),
            _ => None,
        }
    }

    #[test]
    fn bounds_are_kept() {
        let with = |change: fn(&mut KeySettings)| {
            let mut settings = named(KeyLimits::default());
            change(&mut settings);
            field_of(settings.validated())
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|s| s.name = "  ".to_owned()), Some("name"));
        assert_eq!(with(|s| s.name = "a\u{0}b".to_owned()), Some("name"));
        assert_eq!(with(|s| s.name = "x".repeat(121)), Some("name"));
        assert_eq!(with(|s| s.expires_at = Some(UnixMs(0))), Some("expires_at"));
        assert_eq!(with(|s| s.limits.allowed_models = Some(vec![])), Some("allowed_models"));
        assert_eq!(
            with(|s| s.limits.allowed_models = Some(vec!["a b".to_owned()])),
            Some("allowed_models")
        );
        assert_eq!(
            with(|s| s.limits.allowed_models = Some(vec!["openai/gpt-4o".to_owned()])),
            None
        );
        assert_eq!(
            with(|s| s.limits.requests_per_minute = Some(0)),
            Some("requests_per_minute")
        );
        assert_eq!(
            with(|s| s.limits.requests_per_minute = Some(1_000_001)),
            Some("requests_per_minute")
        );
        let budget = |limit| {
            Some(Budget {
                limit,
                period: BudgetPeriod::Day,
            })
        };
        let refused = named(KeyLimits {
            budget: budget(Amount::ZERO),
            ..KeyLimits::default()
        });
        assert_eq!(field_of(refused.validated()), Some("budget"));
        assert!(
            named(KeyLimits {
                budget: budget(Amount::from_nanos(1)),
                ..KeyLimits::default()
            })
            .validated()
            .is_ok()
        );
    }

    #[test]
    fn tiers_and_names_are_spelled_plainly() {
        assert_eq!(valid_name("  Acme GmbH ").unwrap(), "Acme GmbH");
        assert_eq!(valid_tier("gold-2").unwrap(), "gold-2");
        for bad in ["", "Gold", "a b", "ü"] {
            assert!(valid_tier(bad).is_err());
        }
    }

    #[test]
    fn an_update_changes_what_it_names_only() {
        let limits = KeyLimits {
            requests_per_minute: Some(10),
            ..KeyLimits::default()
        };
        let current = KeySettings {
            expires_at: Some(UnixMs(5)),
            ..named(limits)
        };
        assert_eq!(KeyUpdate::default().applied_to(current.clone()), current);
        let update = KeyUpdate {
            expires_at: Some(None),
            name: Some("cd".to_owned()),
            ..KeyUpdate::default()
        };
        let changed = update.applied_to(current);
        assert_eq!((changed.name.as_str(), changed.expires_at), ("cd", None));
        assert_eq!(changed.limits.requests_per_minute, Some(10));
    }
}
