//! The chart of accounts. A debit is a positive entry, a credit a negative one; every transaction sums to zero.

use std::fmt;

use domain::{LotId, TenantId};
use serde::{Deserialize, Serialize};

/// What kind of credit a lot is. Promotional credit is spent first and never refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LotKind {
    /// Bought.
    Paid,
    /// Given.
    Promo,
}

impl LotKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Promo => "promo",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Paid, Self::Promo].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Why the operator bears a cost that no customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The request cost more than its hold.
    Overrun,
    /// A charge arrived after the request had been closed.
    Late,
    /// The provider may bill what no customer is charged for.
    Unbilled,
    /// The provider may bill what a node had under way when it died.
    Node,
    /// What a provider bills for requests of which a restore from backup brought nothing back.
    Restore,
}

impl Loss {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Late => "late",
            Self::Unbilled => "unbilled",
            Self::Node => "node",
            Self::Restore => "restore",
        }
    }
}

/// An account of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Asset: money that came in from outside, by bank or by hand.
    Bank,
    /// Asset: what a tenant owes.
    CustomerDebt(TenantId),
    /// Liability: unspent credit of one lot.
    Credit(LotKind, TenantId, LotId),
    /// Liability: credit of one lot that must not be used for now.
    CreditSuspended(TenantId, LotId),
    /// Liability: what is to be paid back to a tenant.
    RefundsPayable(TenantId),
    /// Liability: what is owed to a provider, by slug.
    ProviderPayable(String),
    /// Income: what customers paid for requests.
    RevenueUsage,
    /// Income: paid credit that expired unspent.
    Breakage,
    /// Expense: what requests cost at the provider, by slug.
    ProviderCost(String),
    /// Expense: promotional credit given.
    PromoExpense,
    /// Expense: credit given to make up for something.
    Goodwill,
    /// Expense: costs that no customer pays.
    OperatorLoss(Loss),
}

impl Account {
    /// The lot of an account of a tenant's credit, by its name; `None` for any other account.
    pub(crate) fn lot_of(name: &str) -> Option<(LotKind, LotId)> {
        let (kind, rest) = name.strip_prefix("credit_")?.split_once(':')?;
        let (_, lot) = rest.split_once(':')?;
        Some((LotKind::parse(kind)?, lot.parse().ok()?))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bank => f.write_str("bank"),
            Self::CustomerDebt(tenant) => write!(f, "customer_debt:{tenant}"),
            Self::Credit(kind, tenant, lot) => write!(f, "credit_{}:{tenant}:{lot}", kind.as_str()),
            Self::CreditSuspended(tenant, lot) => write!(f, "credit_suspended:{tenant}:{lot}"),
            Self::RefundsPayable(tenant) => write!(f, "refunds_payable:{tenant}"),
            Self::ProviderPayable(provider) => write!(f, "provider_payable:{provider}"),
            Self::RevenueUsage => f.write_str("revenue_usage"),
            Self::Breakage => f.write_str("breakage"),
            Self::ProviderCost(provider) => write!(f, "provider_cost:{provider}"),
            Self::PromoExpense => f.write_str("promo_expense"),
            Self::Goodwill => f.write_str("goodwill"),
            Self::OperatorLoss(loss) => write!(f, "operator_loss:{}", loss.as_str()),
        }
    }
}
