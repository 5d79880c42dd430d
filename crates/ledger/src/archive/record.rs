//! What stands in an archive: rows as they were after a commit, cut by tenant, so that each tenant's history can be
//! followed by the version of its account.
//!
//! The form is compact and positional (postcard): nothing may be added to these types without a new [`FORMAT`]. What is
//! the request log's stays the text that the database keeps, and follows the request log's own rules.

use std::borrow::Cow;

use domain::{LotId, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    chart::{Account, LotKind},
    claims::Claim,
};

/// The form of everything behind a header.
pub const FORMAT: u8 = 1;

/// One record. Written from what it borrows, read as what it owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// Opens a segment.
    Header(Header),
    /// What a batch or a movement did to one tenant.
    Part(Box<Part<'a>>),
    /// A batch was committed. It comes last and seals the parts of its tenants, which stand before it: without it they
    /// are the torn end of a segment.
    Batch(BatchRecord<'a>),
    /// What was missing was declared lost, which began this line of history; the forks of all accounts follow.
    Declaration(i64),
    /// Everything behind a version of a tenant was declared lost.
    Fork(Fork),
    /// Transactions of the operator beside any batch.
    Operator(Vec<TransactionRow>),
}

/// Whose segment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// See [`FORMAT`].
    pub format: u8,
    /// The node.
    pub node: Uuid,
    /// The boot of the node.
    pub boot: Uuid,
    /// The line of history: it changes whenever something was declared lost.
    pub line: i64,
}

/// A batch of the segment's boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord<'a> {
    /// Counts from 1 in a boot, without a gap.
    pub number: i64,
    /// The database's clock at the commit.
    pub at_ms: i64,
    /// The entries of the batch's transaction between the operator and its providers; none: there was none.
    pub operator: Vec<(String, i64)>,
    /// Whose requests its debits come from.
    pub shares: Vec<Share<'a>>,
    /// Costs that came too late, each a transaction of its own.
    pub late: Vec<TransactionRow>,
}

/// What one tenant's requests contributed to a batch's operator transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share<'a> {
    /// The tenant.
    pub tenant: Uuid,
    /// The version of its account after the batch.
    pub version: i64,
    /// Debits.
    pub costs: Vec<(AccountName<'a>, i64)>,
}

/// An account of a tenant's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountName<'a> {
    /// Credit of one of the tenant's lots.
    Credit(LotKind, Uuid),
    /// Income.
    RevenueUsage,
    /// Cost of requests at a provider.
    ProviderCost(Cow<'a, str>),
    /// Any other, as stored.
    Other(Cow<'a, str>),
}

impl<'a> AccountName<'a> {
    /// Of an account that belongs to the tenant, if it belongs to any.
    pub fn of(account: &'a Account) -> Self {
        match account {
            Account::Credit(kind, _, lot) => Self::Credit(*kind, lot.as_uuid()),
            Account::RevenueUsage => Self::RevenueUsage,
            Account::ProviderCost(provider) => Self::ProviderCost(Cow::Borrowed(provider)),
            other => Self::Other(Cow::Owned(other.to_string())),
        }
    }

    /// As stored.
    pub fn into_text(self, tenant: Uuid) -> String {
        match self {
            Self::Credit(kind, lot) => {
                Account::Credit(kind, TenantId::from_uuid(tenant), LotId::from_uuid(lot)).to_string()
            }
            Self::RevenueUsage => Account::RevenueUsage.to_string(),
            Self::ProviderCost(provider) => Account::ProviderCost(provider.into_owned()).to_string(),
            Self::Other(name) => name.into_owned(),
        }
    }
}

/// The rows of one tenant after a commit, as far as the commit touched them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part<'a> {
    /// The tenant.
    pub tenant: Uuid,
    /// The version of its account afterwards; below zero for a tenant without an account.
    pub version: i64,
    /// Whether the commit counted the version up. Otherwise it left the balance alone.
    pub is_step: bool,
    /// The database's clock at the commit.
    pub at_ms: i64,
    /// The batch; `None` for a movement outside the writer.
    pub batch: Option<i64>,
    /// The balance before: a history that went another way is recognised by it.
    pub was: Standing,
    /// The balance afterwards.
    pub now: Standing,
    /// What is claimed, where the commit touched it.
    pub claims: Option<Vec<ClaimRow>>,
    /// New lots.
    pub granted: Vec<LotRow>,
    /// What is left of lots that were there.
    pub drawn: Vec<(Uuid, i64)>,
    /// Budgets.
    pub budgets: Vec<BudgetRow>,
    /// Holds that were placed.
    pub opened: Vec<HoldRow<'a>>,
    /// How far open requests have come.
    pub progressed: Vec<ProgressRow<'a>>,
    /// Terminal rows.
    pub charges: Vec<ChargeRecord<'a>>,
    /// The entries of the batch's transaction on the tenant's credit.
    pub usage: Vec<(AccountName<'a>, i64)>,
    /// Other transactions.
    pub transactions: Vec<TransactionRow>,
    /// The request log's records, as stored.
    pub records: Vec<Cow<'a, str>>,
}

/// A balance, in nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Unreserved credit.
    pub available: i64,
    /// Reserved credit.
    pub held: i64,
    /// What the tenant owes.
    pub debt: i64,
}

/// A row of `claim`; an account's `claimed` is their sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// On which lot.
    pub lot: Uuid,
    /// As stored.
    pub purpose: String,
    /// How much.
    pub amount: i64,
    /// What asked for it.
    pub reference: String,
    /// When it was made.
    pub created_at_ms: i64,
}

impl ClaimRow {
    /// As it stands.
    pub fn of(claim: &Claim) -> Self {
        Self {
            lot: claim.lot.as_uuid(),
            purpose: claim.purpose.as_str().to_owned(),
            amount: claim.amount.nanos(),
            reference: claim.reference.clone(),
            created_at_ms: claim.created_at.0,
        }
    }
}

/// A row of `lot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotRow {
    /// The lot.
    pub id: Uuid,
    /// As stored.
    pub kind: String,
    /// What was given.
    pub granted: i64,
    /// What is left.
    pub remaining: i64,
    /// When it expires, if it does.
    pub expires_at_ms: Option<i64>,
    /// When it was given.
    pub created_at_ms: i64,
}

/// A row of `budget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// Whose.
    pub scope: Uuid,
    /// When the period began.
    pub period_start_ms: i64,
    /// The most that may be used.
    pub limit: i64,
    /// What was charged.
    pub used: i64,
    /// What open holds reserve.
    pub held: i64,
}

/// A row of `hold`; node, boot and instant are the batch's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow<'a> {
    /// The request.
    pub request: Uuid,
    /// With which key.
    pub key: Uuid,
    /// What is reserved.
    pub amount: i64,
    /// The budgets in which it is reserved too, as stored.
    pub budgets_json: Cow<'a, str>,
    /// The price-book version.
    pub price_version: i64,
    /// The provider that was most likely used.
    pub provider: Cow<'a, str>,
    /// What the provider may bill at most.
    pub provider_estimate: i64,
}

/// How far an open request has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRow<'a> {
    /// The request.
    pub request: Uuid,
    /// The charge so far.
    pub amount: i64,
    /// As stored.
    pub text: Cow<'a, str>,
}

/// A row of `charge`; the instant is the batch's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeRecord<'a> {
    /// The request.
    pub request: Uuid,
    /// With which key.
    pub key: Uuid,
    /// As stored.
    pub state: Cow<'a, str>,
    /// As stored.
    pub reason: Cow<'a, str>,
    /// What had been reserved.
    pub held: i64,
    /// What the customer paid.
    pub amount: i64,
    /// What the request cost beyond its hold.
    pub overrun: i64,
    /// What the provider bills for the winning attempt.
    pub provider_cost: i64,
    /// What the operator bears beside it.
    pub unbilled: i64,
    /// The price-book version.
    pub price_version: i64,
    /// Whether the batch's transaction moved credit for it.
    pub is_posted: bool,
    /// Whether it ended a hold of an earlier batch.
    pub closes_hold: bool,
}

/// A row of `tx` with its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    /// Derived from what caused it.
    pub id: Uuid,
    /// As stored.
    pub kind: String,
    /// The tenant whose credit moves, if one.
    pub tenant: Option<Uuid>,
    /// What caused it.
    pub reference: String,
    /// Who caused it.
    pub actor: String,
    /// When.
    pub at_ms: i64,
    /// Account and amount; a debit is positive.
    pub entries: Vec<(String, i64)>,
}

/// A tenant's history goes on from one version at another: what lay between was declared lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The tenant.
    pub tenant: Uuid,
    /// The last version that counts.
    pub from: i64,
    /// The version at which the new history begins; nothing but the version differs.
    pub to: i64,
}
