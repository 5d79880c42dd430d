//! Budgets on the request path: which ones a request must fit in, and what they leave as far as this node remembers.
//!
//! The ledger enforces them; what is remembered here only chooses how carefully a request is planned.

use std::time::Duration;

use accounts::{Budget, Caller, period_start};
use domain::{Amount, clock::UnixMs};
use ledger::{BudgetClaim, BudgetKey, reading};
use moka::sync::Cache;
use smallvec::SmallVec;
use store::{Database, StoreError};
use uuid::Uuid;

/// The budgets that a hold must fit in: the key's, its tenant's, both or none.
pub type Claims = SmallVec<[BudgetClaim; 2]>;

/// A reading that is older says nothing: other nodes spend too.
const MAX_AGE: Duration = Duration::from_secs(1);
const MAX_BUDGETS: u64 = 100_000;

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetScope {
    /// The virtual key's own.
    Key,
    /// The tenant's, which all of its keys share.
    Tenant,
}

impl BudgetScope {
    /// The stable name, as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tenant => "tenant",
        }
    }

    /// Whose budget the ledger means by a scope of the caller's claims.
    pub fn of(scope: Uuid, caller: &Caller) -> Self {
        if scope == caller.key.as_uuid() {
            Self::Key
        } else {
            Self::Tenant
        }
    }
}

/// The budgets that the caller's requests must fit in now.
pub fn claims(caller: &Caller, now: UnixMs) -> Claims {
    key_claim(caller, now)
        .into_iter()
        .chain(tenant_claim(caller, now))
        .collect()
}

/// The key's own budget in its period, if it has one.
pub fn key_claim(caller: &Caller, now: UnixMs) -> Option<BudgetClaim> {
    let budget = caller.limits.budget?;
    Some(claim(caller.key.as_uuid(), budget, now))
}

/// The tenant's budget in its period, if it has one.
pub fn tenant_claim(caller: &Caller, now: UnixMs) -> Option<BudgetClaim> {
    let budget = caller.tenant_budget?;
    Some(claim(caller.scope.tenant().as_uuid(), budget, now))
}

fn claim(scope: Uuid, budget: Budget, now: UnixMs) -> BudgetClaim {
    BudgetClaim {
        key: BudgetKey {
            scope,
            period_start: period_start(budget.period, now),
        },
        limit: budget.limit,
    }
}

/// What was used and held in budgets when this node last read them. Bounded: it forgets rather than grow.
pub struct BudgetView {
    taken: Cache<BudgetKey, Amount>,
}

impl Default for BudgetView {
    fn default() -> Self {
        let taken = Cache::builder().max_capacity(MAX_BUDGETS).time_to_live(MAX_AGE);
        Self { taken: taken.build() }
    }
}

impl BudgetView {
    /// What the tightest of the budgets leaves, as of the last reading; `None` when one of them is not known. Without
    /// budgets, the largest amount.
    pub fn hint(&self, claims: &[BudgetClaim]) -> Option<Amount> {
        claims.iter().try_fold(Amount::MAX, |least, claim| {
            let taken = self.taken.get(&claim.key)?;
            Some(least.min(claim.limit.less(taken)))
        })
    }

    /// What the tightest of the budgets leaves, read from the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(&self, database: &Database, claims: &[BudgetClaim]) -> Result<Amount, StoreError> {
        let keys: SmallVec<[BudgetKey; 2]> = claims.iter().map(|claim| claim.key).collect();
        let states = reading::budgets(database.readers(), &keys).await?;
        let mut least = Amount::MAX;
        for claim in claims {
            let state = states.get(&claim.key).copied().unwrap_or_default();
            let taken = state.used.checked_add(state.held).unwrap_or(Amount::MAX);
            self.taken.insert(claim.key, taken);
            least = least.min(claim.limit.less(taken));
        }
        Ok(least)
    }
}

#[cfg(test)]
mod tests {
    use accounts::{BudgetPeriod, KeyLimits};
    use domain::{KeyId, TenantId, scope::TenantScope};

    use super::*;

    fn caller(own: Option<i64>, shared: Option<i64>) -> Caller {
        let budget = |limit: i64, period| Budget {
            limit: Amount::from_nanos(limit),
            period,
        };
        Caller {
            scope: TenantScope::authenticated(TenantId::generate()),
            key: KeyId::generate(),
            key_name: "ci".to_owned(),
            key_last4: "abcd".to_owned(),
            tenant_name: "Acme".to_owned(),
            tier: "default".to_owned(),
            expires_at: None,
            limits: KeyLimits {
                budget: own.map(|limit| budget(limit, BudgetPeriod::Day)),
                ..KeyLimits::default()
            },
            tenant_budget: shared.map(|limit| budget(limit, BudgetPeriod::Total)),
        }
    }

    #[test]
    fn a_request_claims_the_budgets_of_its_key_and_its_tenant_each_in_its_own_period() {
        let now = UnixMs::from_rfc3339("2026-11-21T11:54:33Z").unwrap();
        for (own, shared) in [(None, None), (Some(5), None), (None, Some(7)), (Some(5), Some(7))] {
            let caller = caller(own, shared);
            let claims = claims(&caller, now);
            let found: Vec<_> = claims
                .iter()
                .map(|claim| (BudgetScope::of(claim.key.scope, &caller), claim.limit.nanos()))
                .collect();
            let expected = own.map(|limit| (BudgetScope::Key, limit)).into_iter();
            let expected = expected.chain(shared.map(|limit| (BudgetScope::Tenant, limit)));
            assert_eq!(found, expected.collect::<Vec<_>>());
            for claim in claims {
                let start = match BudgetScope::of(claim.key.scope, &caller) {
                    BudgetScope::Key => "2026-11-21T00:00:00Z",
                    BudgetScope::Tenant => "1970-01-01T00:00:00Z",
                };
                assert_eq!(claim.key.period_start.to_rfc3339(), start);
            }
        }
    }

    #[test]
    fn a_hint_is_the_least_that_is_left_and_needs_all_of_them() {
        let caller = caller(Some(100), Some(1_000));
        let (view, claims) = (BudgetView::default(), claims(&caller, UnixMs(0)));
        assert_eq!(view.hint(&[]), Some(Amount::MAX));
        assert_eq!(view.hint(&claims), None);
        view.taken.insert(claims[0].key, Amount::from_nanos(30));
        assert_eq!(view.hint(&claims), None);
        view.taken.insert(claims[1].key, Amount::from_nanos(960));
        assert_eq!(view.hint(&claims), Some(Amount::from_nanos(40)));
        assert_eq!(view.hint(&claims[..1]), Some(Amount::from_nanos(70)));
        // a limit that was lowered below what is taken leaves nothing
        view.taken.insert(claims[1].key, Amount::from_nanos(1_001));
        assert_eq!(view.hint(&claims), Some(Amount::ZERO));
    }
}
