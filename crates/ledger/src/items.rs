//! What the writer is asked to do: place a hold, close a request.

pub use domain::request::BudgetKey;
use domain::{
    Amount, KeyId, RequestId, TenantId,
    pricing::Charge,
    request::{Reason, RequestRecord},
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

/// A budget that a hold must fit in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetClaim {
    /// The row.
    pub key: BudgetKey,
    /// The most that may be used in the period.
    pub limit: Amount,
}

/// Credit to reserve for the worst case of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// The request; at most one hold and one charge exist for it.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// The quote: an upper bound of the charge.
    pub amount: Amount,
    /// Budgets that must have room too, all or none.
    pub budgets: SmallVec<[BudgetClaim; 2]>,
    /// The price-book version that the request is charged by.
    pub price_version: i64,
    /// The provider that will most likely answer.
    pub provider: String,
    /// What the provider may bill at most: booked as the operator's loss when this node dies.
    pub provider_estimate: Amount,
}

/// An open hold, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHold {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// What is reserved.
    pub amount: Amount,
    /// The budget rows in which it is reserved too.
    pub budgets: SmallVec<[BudgetKey; 2]>,
    /// The price-book version.
    pub price_version: i64,
    /// The provider that was most likely used.
    pub provider: String,
    /// What the provider may bill at most.
    pub provider_estimate: Amount,
}

/// An open hold that nobody will end any more, with how far its answer had come.
#[derive(Debug, Clone, PartialEq)]
pub struct AbandonedHold {
    /// The hold.
    pub hold: OpenHold,
    /// The last progress that was written; `None` before any output.
    pub progress: Option<Progress>,
}

/// A cost at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCost {
    /// The provider's slug.
    pub provider: String,
    /// How much, at list price.
    pub amount: Amount,
}

/// How far an answer has come: what recovery settles if its node dies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// The charge and the provider's cost so far, cumulative.
    pub so_far: Settled,
    /// What the request log would say if the answer ended here.
    pub record: Option<Box<RequestRecord>>,
    /// Why the customer pays nothing whatever has come: the request is free by rule already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_by: Option<Reason>,
}

impl Progress {
    /// Progress replaces what has come less far; what is free by rule stays so.
    pub(crate) fn rank(&self) -> i64 {
        match self.free_by {
            Some(_) => i64::MAX,
            None => self.so_far.amount().nanos(),
        }
    }
}

/// The end of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// Why, by the refund rules.
    pub reason: Reason,
    /// What to post.
    pub end: End,
    /// Costs that the operator bears: attempts that lost, answers that came to nothing.
    pub unbilled: Vec<ProviderCost>,
    /// For the request log.
    pub record: Option<Box<RequestRecord>>,
}

/// How a hold ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The customer pays.
    Settle(Settled),
    /// The customer pays nothing.
    Void,
}

/// A charge, as the ledger posts it. Only made from a [`Charge`], which only the pricing rules make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    amount: Amount,
    provider_cost: ProviderCost,
    /// `None` in what earlier releases have stored: then it is the hold's.
    #[serde(default)]
    price_version: Option<i64>,
}

impl Settled {
    /// From the pricing rules' charge and the provider that earned it.
    pub fn new(charge: &Charge, provider: String) -> Self {
        Self {
            amount: charge.amount(),
            provider_cost: ProviderCost {
                provider,
                amount: charge.provider_cost(),
            },
            price_version: Some(charge.version()),
        }
    }

    /// The version of the price book that was applied: around a price change not always the one that was in force.
    pub const fn price_version(&self) -> Option<i64> {
        self.price_version
    }

    /// What the customer is to pay, before it is cut to the hold.
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// What the provider bills.
    pub const fn provider_cost(&self) -> &ProviderCost {
        &self.provider_cost
    }
}

/// Why a hold was not placed. Nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The tenant's available credit is less than the hold.
    InsufficientCredit {
        /// What is available.
        available: Amount,
    },
    /// The tenant owes money; incoming credit pays that first.
    Debt {
        /// How much is owed.
        debt: Amount,
    },
    /// A budget has less room than the hold.
    BudgetExceeded {
        /// Whose budget: of several that refuse, the one with the least room.
        scope: Uuid,
        /// What is left in it.
        left: Amount,
    },
}

impl Refusal {
    /// The reason code on the charge row.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::InsufficientCredit { .. } | Self::Debt { .. } => Reason::InsufficientCredit,
            Self::BudgetExceeded { .. } => Reason::BudgetExceeded,
        }
    }
}

/// The state in which a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeState {
    /// Charged.
    Settled,
    /// Nothing charged.
    Voided,
    /// Never sent.
    Refused,
}

impl ChargeState {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Voided => "voided",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Settled, Self::Voided, Self::Refused]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// The terminal row of a request. Written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRow {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// How it ended.
    pub state: ChargeState,
    /// Why.
    pub reason: Reason,
    /// What had been reserved.
    pub held: Amount,
    /// What the customer paid; never above `held`.
    pub amount: Amount,
    /// What the request cost beyond its hold; the operator's.
    pub overrun: Amount,
    /// What the provider bills for the winning attempt, at list price.
    pub provider_cost: Amount,
    /// What the operator bears beside it.
    pub unbilled: Amount,
    /// The price-book version.
    pub price_version: i64,
    /// The ledger transaction that moved the credit.
    pub transaction: Option<Uuid>,
}
