//! What the clients are going to ask for, and how their requests will go.

use std::sync::{Arc, LazyLock};

use domain::{
    Amount, KeyId, RequestId, TenantId,
    clock::UnixMs,
    pricing::{Charge, Circumstances, FrozenPrice, Multipliers, charge},
    request::{Dialect, Reason, RequestRecord},
    usage::{TokenClass, Usage, UsageSource},
};
use ledger::{BudgetClaim, BudgetKey, HoldRequest};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::{database::EPOCH_MS, sim::State};

/// An item of a request that the database will never take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// Its hold.
    Hold,
    /// Its progress.
    Progress,
    /// Its end.
    End,
    /// The request-log record at its end.
    Record,
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The whole answer is charged.
    Complete,
    /// The client leaves on the way and pays for what it got.
    ClientGone,
    /// Everything is given back, though something was generated.
    Void,
    /// The hold is dropped, as by a panic.
    Dropped,
    /// The client leaves before its hold is durable.
    Left,
}

/// One request, as its client and its provider will act.
#[derive(Debug, Clone)]
pub struct Order {
    pub hold: HoldRequest,
    /// To the first output, in milliseconds.
    pub first_output_ms: u64,
    /// From the first output to the last, in milliseconds.
    pub output_ms: u64,
    /// Everything that the provider will have generated, in nano-USD at list price.
    pub total: i64,
    pub finish: Finish,
    /// Costs of attempts that lost, in nano-USD.
    pub lost: i64,
    pub poison: Option<Poison>,
}

/// A budget's period, in milliseconds.
const PERIOD_MS: u64 = 40_000;

/// The next request.
pub fn order(s: &mut State) -> Order {
    let index = s.rng.index(s.plan.tenants.len());
    let (_, limit) = s.plan.tenants[index];
    let amount = s.rng.between(1_000, 60_000).cast_signed();
    let period = (s.now / PERIOD_MS * PERIOD_MS).cast_signed();
    let budgets = limit.filter(|_| s.rng.chance(700)).map(|limit| BudgetClaim {
        key: BudgetKey {
            scope: Uuid::from_u128(index as u128 + 1),
            period_start: UnixMs(EPOCH_MS + period),
        },
        limit: Amount::from_nanos(limit),
    });
    let poison = s.now < s.plan.chaos_ms && s.rng.chance(s.plan.rates.poison);
    let kinds = [Poison::Hold, Poison::Progress, Poison::End, Poison::Record];
    let poison = poison.then(|| kinds[s.rng.index(kinds.len())]);
    let finish = match s.rng.between(0, 99) {
        0..=59 => Finish::Complete,
        60..=79 => Finish::ClientGone,
        80..=87 => Finish::Void,
        88..=93 => Finish::Dropped,
        _ => Finish::Left,
    };
    Order {
        hold: HoldRequest {
            request: RequestId::from_uuid(s.rng.id()),
            tenant: tenant_id(index),
            key: KeyId::from_uuid(Uuid::from_u128(7)),
            amount: Amount::from_nanos(amount),
            budgets: budgets.into_iter().collect::<SmallVec<_>>(),
            price_version: 1,
            provider: "acme".to_owned(),
            provider_estimate: Amount::from_nanos(amount + 100),
        },
        first_output_ms: s.rng.mostly_small(5, 3_000),
        output_ms: s.rng.mostly_small(0, 45_000),
        // one in six costs more than its hold
        total: s.rng.between(1, amount.cast_unsigned() * 6 / 5).cast_signed(),
        finish,
        lost: if s.rng.chance(100) {
            s.rng.between(1, 500).cast_signed()
        } else {
            0
        },
        poison,
    }
}

/// The tenant with this index in the plan.
pub fn tenant_id(index: usize) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(index as u128 + 1))
}

static PRICE: LazyLock<FrozenPrice> = LazyLock::new(|| FrozenPrice {
    version: 1,
    entry: Arc::new(serde_json::from_str(r#"{"price":{"input":"0.001","output":"0.001"}}"#).unwrap()),
    multipliers: Multipliers::ONE,
    cost: domain::pricing::Multiplier::ONE,
    admitted_at: UnixMs(0),
});

/// A charge of so many nano-USD, as the pricing rules make it.
pub fn charge_of(nanos: i64) -> Charge {
    let usage = Usage::default().with_tokens(TokenClass::Output, nanos.cast_unsigned());
    charge(std::slice::from_ref(&*PRICE), &usage, &Circumstances::at(UnixMs(0))).unwrap()
}

/// What the request log would say.
pub fn record_of(order: &Order) -> Box<RequestRecord> {
    Box::new(RequestRecord {
        id: order.hold.request,
        tenant: order.hold.tenant,
        key: order.hold.key,
        dialect: Dialect::OpenaiChat,
        requested_model: String::new(),
        model: String::new(),
        served_model: None,
        provider: None,
        pool: None,
        offer: None,
        price_version: 1,
        multiplier: String::new(),
        stream: true,
        status: 200,
        reason: Reason::Completed,
        usage: Usage::default(),
        usage_source: UsageSource::Provider,
        flags: Vec::new(),
        lines: Vec::new(),
        held: Amount::ZERO,
        started_at: UnixMs(0),
        first_byte_ms: None,
        duration_ms: 1,
        attempts: Vec::new(),
        priced_by: None,
        request_sha256: None,
        response_sha256: None,
        budgets: Vec::new(),
    })
}
