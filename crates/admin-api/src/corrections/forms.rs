//! The JSON forms of corrections.

use domain::{LotId, RequestId, TenantId};
use ledger::{
    chart::LotKind,
    corrections::CorrectionKind,
    movements::{Corrected, GivenBack},
    reading::CorrectionView,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    correcting::{Done, Wish},
    wire::{Instant, Usd, wire_enum},
};

wire_enum! {
    /// Why something goes back after the charge.
    CorrectionPurpose = CorrectionKind {
        /// The provider's later count is lower: the difference.
        TrueUp,
        /// The charge is taken back, in part or in full.
        Refund,
        /// Promotional credit to make up for the request, no more than was held for it. The charge stands.
        Goodwill,
    }
}

wire_enum! {
    /// What kind of credit comes back: what paid for the request.
    CorrectedCredit = LotKind {
        /// Bought.
        Paid,
        /// Given.
        Promo,
    }
}

/// A correction of one request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCorrection)]
pub(super) struct NewCorrectionInput {
    pub kind: CorrectionPurpose,
    /// More than zero, and no more than is left of the charge; absent for all of it, which only a refund may be.
    #[serde(default)]
    #[schema(value_type = Usd, required = false)]
    pub amount_usd: Option<Usd>,
    /// Why, for people and the audit log: 1 to 500 characters without line breaks.
    pub reason: String,
}

/// The same correction of many requests.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCorrections)]
pub(super) struct NewCorrectionsInput {
    /// 1 to 500 requests, each once.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 500)]
    pub requests: Vec<RequestId>,
    pub kind: CorrectionPurpose,
    /// Of each request: more than zero; absent for all that is left of its charge, which only a refund may be.
    #[serde(default)]
    #[schema(value_type = Usd, required = false)]
    pub amount_usd: Option<Usd>,
    /// Why, for people and the audit log: 1 to 500 characters without line breaks.
    pub reason: String,
}

/// Credit that went back.
#[derive(Serialize, ToSchema)]
pub(super) struct ReturnedCredit {
    #[schema(value_type = String)]
    lot_id: LotId,
    kind: CorrectedCredit,
    amount_usd: Usd,
    /// When the lot expires; `null` for never.
    #[schema(required)]
    expires_at: Option<Instant>,
    /// Whether the lot is new: the one that had paid has expired or soon will, or it is goodwill.
    is_new: bool,
}

impl From<GivenBack> for ReturnedCredit {
    fn from(given: GivenBack) -> Self {
        Self {
            lot_id: given.lot,
            kind: given.kind.into(),
            amount_usd: Usd(given.amount),
            expires_at: given.expires_at.map(Instant),
            is_new: given.is_new,
        }
    }
}

/// What a correction does.
#[derive(Serialize, ToSchema)]
pub(super) struct PostedCorrection {
    /// Its ledger transaction, whose reference is the request.
    transaction: uuid::Uuid,
    #[schema(value_type = String)]
    request: RequestId,
    #[schema(value_type = String)]
    tenant: TenantId,
    pub kind: CorrectionPurpose,
    amount_usd: Usd,
    pub reason: String,
    /// What had been charged.
    charged_usd: Usd,
    /// What is left of the charge after all corrections.
    net_charge_usd: Usd,
    /// How much paid off debt.
    paid_debt_usd: Usd,
    /// Where the rest is.
    credit: Vec<ReturnedCredit>,
    /// The tenant's available credit afterwards.
    available_usd: Usd,
}

impl PostedCorrection {
    pub(super) fn of(request: RequestId, wish: &Wish, corrected: &Corrected) -> Self {
        Self {
            transaction: corrected.transaction,
            request,
            tenant: corrected.tenant,
            kind: wish.kind.into(),
            amount_usd: Usd(corrected.amount),
            reason: wish.reason.clone(),
            charged_usd: Usd(corrected.charged),
            net_charge_usd: Usd(corrected.net_charge),
            paid_debt_usd: Usd(corrected.paid_debt),
            credit: corrected.credit.iter().copied().map(ReturnedCredit::from).collect(),
            available_usd: Usd(corrected.available),
        }
    }
}

/// A correction that was made, as requests show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RequestCorrection {
    /// Its ledger transaction.
    transaction: uuid::Uuid,
    pub kind: CorrectionPurpose,
    amount_usd: Usd,
    /// Who made it.
    actor: String,
    created_at: Instant,
}

impl From<CorrectionView> for RequestCorrection {
    fn from(made: CorrectionView) -> Self {
        Self {
            transaction: made.transaction,
            kind: made.kind.into(),
            amount_usd: Usd(made.amount),
            actor: made.actor,
            created_at: Instant(made.at),
        }
    }
}

/// What became of a request of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListedOutcome {
    /// It was corrected by this call (or would be, in a preview).
    Corrected,
    /// An earlier call with this idempotency key had corrected it.
    Repeated,
    /// It cannot be corrected so; `problem` says why.
    Refused,
}

/// One request of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedCorrection {
    #[schema(value_type = String)]
    request: RequestId,
    outcome: ListedOutcome,
    /// Its ledger transaction; `null` if it was refused.
    #[schema(required)]
    transaction: Option<uuid::Uuid>,
    /// How much was given; nothing if it was refused.
    amount_usd: Usd,
    /// Why it was refused; `null` otherwise.
    #[schema(required)]
    problem: Option<String>,
}

/// What became of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedCorrections {
    corrected: usize,
    repeated: usize,
    refused: usize,
    /// What was given, by this call and by earlier ones with its idempotency key.
    amount_usd: Usd,
    /// Every request, in the order in which they were named.
    results: Vec<ListedCorrection>,
}

impl ListedCorrections {
    /// Of every request, in order.
    pub(super) fn of(done: Vec<(RequestId, Done)>) -> Self {
        let mut list = Self {
            corrected: 0,
            repeated: 0,
            refused: 0,
            amount_usd: Usd(domain::Amount::ZERO),
            results: Vec::with_capacity(done.len()),
        };
        for (request, done) in done {
            let (outcome, transaction, amount, problem) = match done {
                Done::Corrected(corrected) => {
                    list.corrected += 1;
                    (
                        ListedOutcome::Corrected,
                        Some(corrected.transaction),
                        corrected.amount,
                        None,
                    )
                }
                Done::Repeated(earlier) => {
                    list.repeated += 1;
                    (ListedOutcome::Repeated, Some(earlier.transaction), earlier.amount, None)
                }
                Done::Refused(error) => {
                    list.refused += 1;
                    (
                        ListedOutcome::Refused,
                        None,
                        domain::Amount::ZERO,
                        Some(error.to_string()),
                    )
                }
            };
            let total = list.amount_usd.0.checked_add(amount);
            list.amount_usd = Usd(total.unwrap_or(domain::Amount::MAX));
            list.results.push(ListedCorrection {
                request,
                outcome,
                transaction,
                amount_usd: Usd(amount),
                problem,
            });
        }
        list
    }
}
