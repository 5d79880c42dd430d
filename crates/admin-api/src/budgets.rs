//! Budgets of tenants and of keys: how they are given, and how they are shown with what is used of them.

use std::collections::BTreeMap;

use accounts::period_start;
use domain::clock::UnixMs;
use ledger::{BudgetKey, reading, rules};
use serde::{Deserialize, Serialize};
use store::{Database, Tx};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::Answer,
    wire::{Instant, Usd, wire_enum},
};

wire_enum! {
    /// When the count of a budget starts again, in UTC.
    BudgetPeriod = accounts::BudgetPeriod {
        /// At midnight.
        Day,
        /// At midnight before Monday.
        Week,
        /// At midnight before the first of the month.
        Month,
        /// Never.
        Total,
    }
}

/// How much may be spent within each period.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewBudget)]
pub(crate) struct BudgetInput {
    /// The most that is spent and held within one period; more than zero.
    limit_usd: Usd,
    period: BudgetPeriod,
}

impl From<BudgetInput> for accounts::Budget {
    fn from(budget: BudgetInput) -> Self {
        Self {
            limit: budget.limit_usd.0,
            period: budget.period.into(),
        }
    }
}

/// How much may be spent within each period, and how much of it is in the current one.
#[derive(Serialize, ToSchema)]
pub(crate) struct Budget {
    /// The most that is spent and held within one period.
    limit_usd: Usd,
    period: BudgetPeriod,
    /// What was charged in this period.
    used_usd: Usd,
    /// What requests under way have reserved.
    held_usd: Usd,
    /// When this period began; `null` for a budget that never starts again.
    #[schema(required)]
    period_started_at: Option<Instant>,
}

/// Whose budgets are to be shown: the id of a tenant or a key, and the budget if it has one.
pub(crate) type Scope = (Uuid, Option<accounts::Budget>);

/// What the ledger knows of budgets, at one instant.
pub(crate) struct BudgetStates {
    now: UnixMs,
    states: BTreeMap<BudgetKey, rules::Budget>,
}

impl BudgetStates {
    /// For those who have no budget: what it knows is never asked for.
    const NONE: Self = Self {
        now: UnixMs(0),
        states: BTreeMap::new(),
    };

    /// Reads what is used of budgets now.
    pub(crate) async fn read(database: &Database, scopes: impl IntoIterator<Item = Scope>) -> Answer<Self> {
        let budgets = with_budget(scopes);
        if budgets.is_empty() {
            return Ok(Self::NONE);
        }
        let now = database.now().await?;
        let states = reading::budgets(database.readers(), &keys_of(&budgets, now)).await?;
        Ok(Self { now, states })
    }

    /// As [`BudgetStates::read`], in the transaction of a write whose answer shows them: what is done is not answered
    /// with a failure to read.
    pub(crate) async fn read_in(tx: &Tx, scopes: impl IntoIterator<Item = Scope>) -> Answer<Self> {
        let budgets = with_budget(scopes);
        if budgets.is_empty() {
            return Ok(Self::NONE);
        }
        let now = tx.now().await?;
        let states = reading::budgets(tx.connection(), &keys_of(&budgets, now)).await?;
        Ok(Self { now, states })
    }

    /// The budget of a tenant or a key, with what is used of it.
    pub(crate) fn show(&self, (scope, budget): Scope) -> Option<Budget> {
        let budget = budget?;
        let key = key_of(scope, budget, self.now);
        let state = self.states.get(&key).copied().unwrap_or_default();
        Some(Budget {
            limit_usd: Usd(budget.limit),
            period: budget.period.into(),
            used_usd: Usd(state.used),
            held_usd: Usd(state.held),
            period_started_at: (key.period_start.0 > 0).then_some(Instant(key.period_start)),
        })
    }
}

fn with_budget(scopes: impl IntoIterator<Item = Scope>) -> Vec<(Uuid, accounts::Budget)> {
    let scopes = scopes.into_iter();
    scopes.filter_map(|(scope, budget)| Some((scope, budget?))).collect()
}

fn keys_of(budgets: &[(Uuid, accounts::Budget)], now: UnixMs) -> Vec<BudgetKey> {
    budgets
        .iter()
        .map(|(scope, budget)| key_of(*scope, *budget, now))
        .collect()
}

fn key_of(scope: Uuid, budget: accounts::Budget, now: UnixMs) -> BudgetKey {
    BudgetKey {
        scope,
        period_start: period_start(budget.period, now),
    }
}
