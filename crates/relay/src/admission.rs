//! What a request may cost and how long its answer may be: decided before anything is sent.
//!
//! The quote is an upper bound over every offer that the request may fall over to. The output limit is the clamp: it
//! goes to the upstream, so that the hold can never be exceeded by an answer that keeps it.

use std::sync::Arc;

use accounts::Caller;
use catalog::{ModelEntry, OfferEntry, Snapshot};
use domain::{
    Amount, RequestId,
    clock::UnixMs,
    pricing::{
        Candidates, FrozenPrice, Modalities, PricingError, Quote, ServiceTiers, UsageBound, affordable_output_tokens,
        quote,
    },
    request::Dialect,
    usage::Units,
};
use ledger::{BudgetKey, HoldRequest, LedgerError, Refusal};
use llm::{BoundRules, ChatRequest, InputBound, ProviderProfile, RequestError, UsageLimits, UsageProfile};
use smallvec::SmallVec;

use crate::{
    budgets::{self, BudgetScope, Claims},
    error::{RelayError, Shortfall},
    parts::RelayParts,
    routing::{self, Weighted},
    settings::RelaySettings,
};

/// A balance, or what is left in a budget, of so many holds is taken for rich: the coarse bound of the input is good enough.
const RICH: i64 = 20;
/// Bodies up to this size are counted on the event loop: about a millisecond.
const MAX_INLINE_COUNT_BYTES: usize = 8 * 1024;
/// The bound of a model for which no context window is published.
const UNKNOWN_CONTEXT_WINDOW_TOKENS: u64 = 2_000_000;

/// An offer that may serve the request, at the prices that it was admitted with.
#[derive(Clone)]
pub struct Candidate {
    /// The offer.
    pub offer: Arc<OfferEntry>,
    /// What is peculiar to its provider.
    pub profile: ProviderProfile,
    /// Its prices: one, or two around a price change.
    pub prices: Candidates,
}

impl Weighted for Candidate {
    fn priority(&self) -> i64 {
        i64::from(self.offer.priority)
    }

    fn weight(&self) -> u64 {
        u64::from(self.offer.weight)
    }
}

/// What was decided about a request.
pub struct Plan {
    /// The offers, in the order in which they are tried.
    pub candidates: SmallVec<[Candidate; 4]>,
    /// What the request may use at most; its output limit is the one that goes upstream.
    pub bound: UsageBound,
    /// Whether the limit is ours: the client named none.
    pub limit_is_ours: bool,
    /// What is held.
    pub quote: Quote,
    /// The price-book version.
    pub price_version: i64,
    /// The budgets that the hold must fit in.
    budgets: Claims,
    /// What balance and budgets left when the output limit was chosen; `None` when there was plenty.
    room: Option<Amount>,
}

/// The offers that sell the model in the client's dialect, with their prices, in the order in which they are tried.
///
/// # Errors
/// [`RelayError::NotForSale`] when there is none.
pub fn candidates(
    snapshot: &Snapshot,
    model: &ModelEntry,
    dialect: Dialect,
    tier: &str,
    admitted_at: UnixMs,
) -> Result<SmallVec<[Candidate; 4]>, RelayError> {
    let sellable: SmallVec<[Candidate; 4]> = model
        .offers
        .iter()
        .filter(|offer| offer.format == dialect)
        .filter_map(|offer| candidate(snapshot, offer, dialect, tier, admitted_at))
        .collect();
    if sellable.is_empty() {
        return Err(RelayError::NotForSale {
            model: model.id.to_string(),
            dialect: dialect.as_str(),
        });
    }
    Ok(routing::order(&sellable, |below| rand::random_range(0..below)))
}

fn candidate(
    snapshot: &Snapshot,
    offer: &Arc<OfferEntry>,
    dialect: Dialect,
    tier: &str,
    admitted_at: UnixMs,
) -> Option<Candidate> {
    let prices = snapshot.frozen_prices(offer, tier, admitted_at);
    let usage_profile: UsageProfile = offer.usage_profile.parse().ok()?;
    if prices.is_empty() {
        return None;
    }
    let profile = ProviderProfile {
        usage_profile,
        ..ProviderProfile::find(&offer.provider.slug, dialect)
    };
    Some(Candidate {
        offer: Arc::clone(offer),
        profile,
        prices,
    })
}

/// Decides the output limit and the quote.
///
/// # Errors
/// What is wrong with the request, or that it cannot be priced.
pub async fn plan(
    parts: &RelayParts,
    caller: &Caller,
    model: &ModelEntry,
    request: &Arc<ChatRequest>,
    candidates: SmallVec<[Candidate; 4]>,
    admitted_at: UnixMs,
) -> Result<Plan, RelayError> {
    let settings = &parts.settings;
    let claims = budgets::claims(caller, admitted_at);
    let tiers = ServiceTiers::asked(request.service_tier());
    let wanted = request.output_limit().unwrap_or_else(|| {
        model
            .max_output_tokens
            .unwrap_or(settings.default_output_limit)
            .min(settings.default_output_limit)
            .max(1)
    });
    let mut bound = usage_bound(
        request,
        largest_bound(&candidates, model, |rules| request.input_bound(rules))?,
        wanted,
    );
    let mut amount = quoted(&candidates, &bound, tiers, model)?;
    let worst = amount.amount();
    let room = room(parts, caller, &claims, |left| left.nanos() / RICH >= worst.nanos()).await?;
    if let Some(room) = room {
        let text_tokens = count_text(request).await?;
        let tighter = largest_bound(&candidates, model, |rules| {
            request.tighter_input_bound(rules, text_tokens)
        })?;
        bound = usage_bound(request, tighter, wanted);
        if request.output_limit().is_none() {
            bound.output_tokens = clamp(&candidates, &bound, room, tiers, settings);
        }
        amount = quoted(&candidates, &bound, tiers, model)?;
    }
    Ok(Plan {
        price_version: version_in_force(&candidates),
        candidates,
        bound,
        limit_is_ours: request.output_limit().is_none(),
        quote: amount,
        budgets: claims,
        room,
    })
}

/// What balance and budgets leave, the least of them; `None` when each of them is rich. What this node remembers is
/// good enough to find them rich; to find them near, the database is asked.
async fn room(
    parts: &RelayParts,
    caller: &Caller,
    claims: &Claims,
    rich: impl Fn(Amount) -> bool,
) -> Result<Option<Amount>, RelayError> {
    let tenant = caller.scope.tenant();
    let available = match parts.ledger.available_hint(tenant).filter(|hint| rich(*hint)) {
        Some(hint) => hint,
        None => {
            let read = parts.ledger.read_available(tenant).await;
            read.map_err(|error| unavailable(&error))?
        }
    };
    let left = match parts.budgets.hint(claims).filter(|hint| rich(*hint)) {
        Some(hint) => hint,
        None => {
            let read = parts.budgets.read(&parts.database, claims).await;
            read.map_err(|error| unavailable(&error))?
        }
    };
    let room = available.min(left);
    Ok((!rich(room)).then_some(room))
}

/// Counts the text of a request; a long one away from the event loop, which serves others meanwhile.
async fn count_text(request: &Arc<ChatRequest>) -> Result<u64, RelayError> {
    if request.body().len() <= MAX_INLINE_COUNT_BYTES {
        return Ok(request.text_tokens());
    }
    let request = Arc::clone(request);
    tokio::task::spawn_blocking(move || request.text_tokens())
        .await
        .map_err(|_| RelayError::Internal)
}

fn unavailable(error: &store::StoreError) -> RelayError {
    tracing::error!(%error, "a balance or a budget could not be read");
    RelayError::Unavailable
}

/// The version in force at admission: every offer's first price is of it.
fn version_in_force(candidates: &[Candidate]) -> i64 {
    let first = candidates.first().and_then(|candidate| candidate.prices.first());
    first.map_or(0, |price| price.version)
}

/// What is affordable, not above what was wanted, and not below the smallest useful answer: the ledger refuses that.
fn clamp(
    candidates: &[Candidate],
    bound: &UsageBound,
    available: Amount,
    tiers: ServiceTiers,
    settings: &RelaySettings,
) -> u64 {
    affordable_output_tokens(prices(candidates), bound, available, tiers)
        .unwrap_or(0)
        .max(settings.smallest_output_limit)
        .min(bound.output_tokens)
}

fn prices(candidates: &[Candidate]) -> impl Iterator<Item = &[FrozenPrice]> {
    candidates.iter().map(|candidate| candidate.prices.as_slice())
}

fn quoted(
    candidates: &[Candidate],
    bound: &UsageBound,
    tiers: ServiceTiers,
    model: &ModelEntry,
) -> Result<Quote, RelayError> {
    quote(prices(candidates), bound, tiers).map_err(|error| match error {
        PricingError::Overflow => RelayError::Request(llm::RequestError::BadField {
            field: "max_tokens",
            expected: "a limit whose cost can be reserved",
        }),
        error => {
            tracing::error!(%error, model = %model.id, "a model cannot be priced");
            RelayError::NotForSale {
                model: model.id.to_string(),
                dialect: "this request",
            }
        }
    })
}

/// The largest bound over the providers that may serve the request.
fn largest_bound(
    candidates: &[Candidate],
    model: &ModelEntry,
    bound: impl Fn(&BoundRules) -> Result<InputBound, RequestError>,
) -> Result<InputBound, RelayError> {
    let window = model.context_window.unwrap_or(UNKNOWN_CONTEXT_WINDOW_TOKENS);
    let mut largest = InputBound {
        tokens: 0,
        may_contain_audio: false,
        may_contain_images: false,
        web_searches: 0,
    };
    for candidate in candidates {
        let rules = candidate
            .profile
            .bound_rules(&candidate.offer.upstream_model_id, window);
        let one = bound(&rules)?;
        largest.tokens = largest.tokens.max(one.tokens);
        largest.may_contain_audio |= one.may_contain_audio;
        largest.may_contain_images |= one.may_contain_images;
        largest.web_searches = largest.web_searches.max(one.web_searches);
    }
    Ok(largest)
}

fn usage_bound(request: &ChatRequest, input: InputBound, output_tokens: u64) -> UsageBound {
    UsageBound {
        input_tokens: input.tokens,
        input: Modalities {
            audio: input.may_contain_audio,
            image: input.may_contain_images,
        },
        output_tokens,
        // a model that hears may answer in sound unasked; anything else it has to be asked for
        output: Modalities {
            audio: input.may_contain_audio || !request.is_text_only(),
            image: !request.is_text_only(),
        },
        choices: request.choices(),
        units: Units {
            web_searches: input.web_searches,
            ..Units::default()
        },
    }
}

impl Plan {
    /// The most that the answer can use, all choices together.
    pub const fn usage_limits(&self) -> UsageLimits {
        UsageLimits {
            input_tokens: self.bound.input_tokens,
            output_tokens: self.bound.output_tokens.saturating_mul(self.bound.choices),
        }
    }

    /// Whether balance or budgets were near when the request was planned: then it is sent when its hold is durable, not
    /// before.
    pub const fn is_tight(&self) -> bool {
        self.room.is_some()
    }

    /// The budgets in which the charge will be counted.
    pub fn budget_keys(&self) -> Vec<BudgetKey> {
        self.budgets.iter().map(|claim| claim.key).collect()
    }

    /// The hold to ask for.
    pub fn hold_request(&self, request: RequestId, caller: &Caller) -> HoldRequest {
        HoldRequest {
            request,
            tenant: caller.scope.tenant(),
            key: caller.key,
            amount: self.quote.amount(),
            budgets: self.budgets.clone(),
            price_version: self.price_version,
            provider: self
                .candidates
                .first()
                .map(|candidate| candidate.offer.provider.slug.to_string())
                .unwrap_or_default(),
            provider_estimate: self.quote.provider_cost(),
        }
    }

    /// What the caller is told when the ledger does not place the hold.
    pub fn refused(&self, request: &ChatRequest, caller: &Caller, error: LedgerError) -> RelayError {
        match error {
            LedgerError::Refused(Refusal::InsufficientCredit { available }) => {
                RelayError::InsufficientCredit(self.shortfall(request, available))
            }
            LedgerError::Refused(Refusal::BudgetExceeded { scope, left }) => RelayError::BudgetExceeded {
                scope: BudgetScope::of(scope, caller),
                shortfall: self.shortfall(request, left),
            },
            LedgerError::Refused(Refusal::Debt { debt }) => RelayError::Debt(debt),
            LedgerError::Overloaded => RelayError::Overloaded,
            LedgerError::Unavailable | LedgerError::Stopped => RelayError::Unavailable,
            error => {
                tracing::error!(%error, "a hold could not be placed");
                RelayError::Internal
            }
        }
    }

    fn shortfall(&self, request: &ChatRequest, available: Amount) -> Shortfall {
        let tiers = ServiceTiers::asked(request.service_tier());
        // what refused is not always all that is near: the number must fit in the rest as well
        let room = self.room.unwrap_or(Amount::MAX).min(available);
        Shortfall {
            needed: self.quote.amount(),
            available,
            affordable_output_tokens: affordable_output_tokens(prices(&self.candidates), &self.bound, room, tiers),
        }
    }
}
