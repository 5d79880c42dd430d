//! The end of a request: it owns the hold, and whatever happens, it ends it exactly once.
//!
//! All ends lead here: an answer that ended, an error, a client that left, a panic. Ending does not wait for
//! anything: the place in the ledger's queue was reserved with the hold.

mod digests;
mod progress;
mod record;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use domain::{
    Amount,
    clock::UnixMs,
    pricing::{Charge, Circumstances, PinnedRegion, PricingError, SearchContext, ServiceTier, ServiceTiers, charge},
    request::{AttemptRecord, PricedBy, Reason, RequestRecord},
    served_names::Served,
    upstream_failure,
    usage::{TokenClass, Usage},
};
use ledger::{Ending, ProviderCost, Reservation};
use llm::{Accounted, ChatRequest, Observed, UsageLimits, UsageReport, usage_or_estimate};

use crate::{
    admission::Candidate,
    credit::{Credit, Outcome, Payer},
    gate::Pass,
    parts::RelayParts,
    verdict::{Basis, Ended, Reported, Seen, Verdict, judge, judge_unattended},
};

pub use progress::Noted;
pub use record::new_record;

use digests::Digests;
use record::report;

/// Ends a request exactly once. Dropped without an end, it is a client that left before an answer began.
pub struct Settlement {
    open: Option<Box<Open>>,
}

struct Open {
    credit: Credit,
    story: Story,
}

/// What has become of a request so far.
pub struct Story {
    parts: Arc<RelayParts>,
    /// Keeps the drain waiting until the end is queued.
    _pass: Pass,
    request: Arc<ChatRequest>,
    record: RequestRecord,
    limits: UsageLimits,
    /// The customer's tier; empty without one.
    tier: String,
    winner: Option<Candidate>,
    unbilled: Vec<ProviderCost>,
    started: Instant,
    /// The text of the prompt is being counted for the progress.
    counts_prompt: bool,
    /// What was relayed so far.
    relayed: Digests,
}

/// The client closed the request: the status that nginx logs for it.
const CLIENT_CLOSED: u16 = 499;

/// What a request was charged, where it is known at once.
#[derive(Debug, Clone, Copy)]
pub struct KnownCost {
    /// What the customer pays.
    pub amount: Amount,
}

/// What a settlement begins with.
pub struct Opening {
    /// The shared parts.
    pub parts: Arc<RelayParts>,
    /// The credit, on its way.
    pub reservation: Reservation,
    /// The place behind the gate.
    pub pass: Pass,
    /// The request.
    pub request: Arc<ChatRequest>,
    /// The record as far as it is known.
    pub record: RequestRecord,
    /// The most that the answer can use.
    pub limits: UsageLimits,
    /// The customer's tier; empty without one.
    pub tier: String,
    /// When the request was admitted.
    pub started: Instant,
}

impl Settlement {
    /// Takes the hold.
    pub fn open(opening: Opening) -> Self {
        Self {
            open: Some(Box::new(Open {
                credit: Credit::Pending(opening.reservation),
                story: Story {
                    parts: opening.parts,
                    _pass: opening.pass,
                    request: opening.request,
                    record: opening.record,
                    limits: opening.limits,
                    tier: opening.tier,
                    winner: None,
                    unbilled: Vec::new(),
                    started: opening.started,
                    counts_prompt: false,
                    relayed: Digests::default(),
                },
            })),
        }
    }

    /// The credit and the story apart, so that the hold can be committed while the request is being sent. `None`
    /// once the request has ended.
    pub fn split(&mut self) -> Option<(&mut Credit, &mut Story)> {
        let open = self.open.as_mut()?;
        Some((&mut open.credit, &mut open.story))
    }

    /// Notes bytes of the answer that go to the client.
    pub fn relayed<'a>(&mut self, bytes: impl IntoIterator<Item = &'a Bytes>) {
        if let Some(open) = &mut self.open {
            open.story.relayed.add(bytes);
        }
    }

    /// Nothing came of the request: everything is given back.
    pub fn void(mut self, reason: Reason, status: u16) {
        if let Some(open) = self.open.take() {
            open.void(reason, status);
        }
    }

    /// The ledger has refused the hold: what was sent meanwhile is the operator's.
    pub fn refused(mut self, reason: Reason, status: u16) {
        let Some(mut open) = self.open.take() else { return };
        open.bear_prompt();
        open.void(reason, status);
    }

    /// The answer ended. The charge is known at once unless it has to be estimated.
    pub fn finish(mut self, ended: Ended, observed: Observed) -> (Verdict, Option<KnownCost>) {
        self.note_end(ended);
        let verdict = judge(ended, &self.seen(&observed));
        (verdict, self.close(verdict, observed))
    }

    /// The answer was read on after its client had left, and this is how the reading ended.
    pub fn finish_unattended(mut self, read: Ended, observed: Observed) {
        self.note_end(read);
        let verdict = judge_unattended(read, &self.seen(&observed));
        self.close(verdict, observed);
    }

    /// Notes that the client let the upstream wait, and the answer did not come to its end.
    pub fn note_slow_reader(&mut self) {
        if let Some(open) = &mut self.open {
            open.story.record.flags.push(upstream_failure::READ_SLOWLY.to_owned());
        }
    }

    fn note_end(&mut self, ended: Ended) {
        if let Some(open) = &mut self.open
            && ended == Ended::TookTooLong
        {
            open.story.record.flags.push(upstream_failure::TOOK_TOO_LONG.to_owned());
        }
    }

    fn seen(&self, observed: &Observed) -> Seen {
        let winner = self.open.as_ref().and_then(|open| open.story.winner.as_ref());
        seen(observed, winner)
    }

    fn close(mut self, verdict: Verdict, observed: Observed) -> Option<KnownCost> {
        let open = self.open.take()?;
        // when the answer ended, which chooses the time window of its price: not when somebody comes to settle it
        let completed_at = open.story.parts.ledger.clock().now();
        if verdict.basis == Basis::Reported {
            return open.settle(verdict, &observed, completed_at);
        }
        // counting tokens takes a core for a moment: not on the event loop
        let background = open.story.parts.background.clone();
        background.compute(move || {
            open.settle(verdict, &observed, completed_at);
        });
        None
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if std::thread::panicking() {
            open.void(Reason::InternalError, 500);
        } else if open.is_kept_back() {
            open.bear_prompt();
            open.void(Reason::ClientGoneBeforeHead, CLIENT_CLOSED);
        } else if open.story.winner.is_some() {
            open.story.record.status = CLIENT_CLOSED;
            let inner = Self { open: Some(open) };
            inner.finish(Ended::ByClient, Observed::default());
        } else {
            open.void(Reason::ClientGoneBeforeHead, CLIENT_CLOSED);
        }
    }
}

/// Writes the model that answered into the record, as its upstream named it. Answers whether it is another one than was sold.
fn note_served(record: &mut RequestRecord, winner: &Candidate, observed: &Observed) -> bool {
    let served = judge_served(winner, observed);
    record.served_model = served.name().map(str::to_owned);
    if served.is_substituted() {
        record.flags.push(Reason::ModelSubstituted.as_str().to_owned());
    }
    served.is_substituted()
}

/// What the reports come to. More names than are kept are no one model's.
fn judge_served<'a>(winner: &Candidate, observed: &'a Observed) -> Served<'a> {
    let served = winner.offer.served_names.judge(observed.reported_models());
    match observed.reported_models().last() {
        Some(newest) if !served.is_substituted() && observed.names_too_many_models() => Served::Substituted(newest),
        _ => served,
    }
}

fn seen(observed: &Observed, winner: Option<&Candidate>) -> Seen {
    Seen {
        substituted: winner.is_some_and(|winner| judge_served(winner, observed).is_substituted()),
        output: observed.output_began,
        finish: observed.finish_seen || observed.done_seen,
        error: observed.error.is_some(),
        filtered: observed.filtered,
        usage: match &observed.usage {
            UsageReport::Reported(report) => Some(Reported {
                output_tokens: report.usage.total_output_tokens(),
            }),
            _ => None,
        },
    }
}

impl Open {
    /// An upstream answers, and the credit is still being reserved: nothing of the answer went to the client.
    const fn is_kept_back(&self) -> bool {
        self.story.record.first_byte_ms.is_some() && matches!(self.credit, Credit::Pending(_))
    }

    /// What an upstream has begun is the operator's.
    fn bear_prompt(&mut self) {
        if let Some(candidate) = self.story.winner.take() {
            let cost = self.story.prompt_cost(&candidate);
            self.story.unbilled.push(cost);
        }
    }

    fn settle(mut self: Box<Self>, verdict: Verdict, observed: &Observed, completed_at: UnixMs) -> Option<KnownCost> {
        let story = &mut self.story;
        let Some(winner) = story.winner.clone() else {
            self.void(Reason::InternalError, 500);
            return None;
        };
        note_served(&mut story.record, &winner, observed);
        let accounted = usage_or_estimate(&story.request, observed);
        let charged = story.price_or_nothing(&winner, &accounted, observed, completed_at);
        story.record.usage = accounted.usage;
        story.record.usage_source = accounted.source;
        story
            .record
            .flags
            .extend(accounted.flags.iter().map(|flag| (*flag).to_owned()));
        let provider = winner.offer.provider.slug.to_string();
        story.record.provider.get_or_insert_with(|| provider.clone());
        if verdict.basis == Basis::Nothing {
            story.unbilled.push(ProviderCost {
                provider,
                amount: charged.charge.provider_cost(),
            });
            let status = story.record.status;
            self.void(verdict.reason, status);
            return Some(KnownCost { amount: Amount::ZERO });
        }
        charged.note(&mut story.record, &story.tier);
        let amount = charged.charge.amount().min(story.record.held);
        let charge = Box::new(charged.charge);
        self.end(verdict.reason, Outcome::Settle { charge, provider });
        Some(KnownCost { amount })
    }

    fn void(mut self: Box<Self>, reason: Reason, status: u16) {
        self.story.record.status = status;
        self.end(reason, Outcome::Void);
    }

    fn end(self: Box<Self>, reason: Reason, outcome: Outcome) {
        let Self { credit, mut story } = *self;
        story.record.reason = reason;
        story.record.duration_ms = story.elapsed_ms();
        story.note_request_digest();
        story.record.response_sha256 = std::mem::take(&mut story.relayed).finish();
        report(&story.record);
        let payer = Payer {
            request: story.record.id,
            tenant: story.record.tenant,
            key: story.record.key,
        };
        let ending = Ending {
            reason,
            unbilled: story.unbilled,
            record: Some(Box::new(story.record)),
        };
        credit.end(outcome, ending, payer, &story.parts.ledger, &story.parts.background);
    }
}

impl Story {
    /// Notes that the request goes to an upstream for the first time.
    pub fn dispatched(&self) {
        metrics::histogram!("truerelay_before_dispatch_seconds").record(self.started.elapsed());
    }

    /// Notes an attempt that came to nothing; `begun` says whether its provider may bill the prompt.
    pub fn attempt_lost(&mut self, attempt: AttemptRecord, candidate: &Candidate, begun: bool) {
        self.winner = None;
        if begun {
            let cost = self.prompt_cost(candidate);
            self.unbilled.push(cost);
        }
        self.record.attempts.push(attempt);
    }

    /// Notes that an upstream has accepted the request: from here on its input is spent.
    pub fn head_arrived(&mut self, candidate: &Candidate) {
        self.winner = Some(candidate.clone());
    }

    /// Notes the attempt whose answer is relayed.
    pub fn attempt_won(&mut self, attempt: AttemptRecord, candidate: Candidate, status: u16) {
        self.record.first_byte_ms = Some(self.elapsed_ms());
        self.record.status = status;
        self.record.provider = Some(candidate.offer.provider.slug.to_string());
        self.record.pool = Some(candidate.offer.pool.id);
        self.record.offer = Some(candidate.offer.id);
        self.record.attempts.push(attempt);
        self.winner = Some(candidate);
    }

    fn note_request_digest(&mut self) {
        let body = self.request.body();
        self.record.request_sha256.get_or_insert_with(|| digests::of(body));
    }

    fn elapsed_ms(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    /// The charge; nothing, with an alarm, when the prices do not cover what was used: the quote was to see to that.
    fn price_or_nothing(
        &mut self,
        winner: &Candidate,
        accounted: &Accounted,
        observed: &Observed,
        completed_at: UnixMs,
    ) -> Priced {
        let priced = self.price(winner, accounted, observed, completed_at);
        priced.unwrap_or_else(|error| {
            metrics::counter!("truerelay_relay_unpriced_total").increment(1);
            tracing::error!(%error, request_id = %self.record.id, "an answer could not be priced");
            self.record.flags.push("unpriced".to_owned());
            Priced {
                charge: Charge::nothing(self.record.price_version),
                met: Circumstances::at(completed_at),
            }
        })
    }

    /// The charge by the winner's frozen prices.
    fn price(
        &self,
        winner: &Candidate,
        accounted: &Accounted,
        observed: &Observed,
        completed_at: UnixMs,
    ) -> Result<Priced, PricingError> {
        let met = Circumstances {
            service_tier: self.served_tier(observed),
            region: self.request.region().and_then(pinned_region),
            thinking: self.request.thinking().unwrap_or(false),
            search_context: self
                .request
                .search_context_size()
                .map_or(SearchContext::Low, search_context),
            ..Circumstances::at(completed_at)
        };
        let charge = charge(&winner.prices, &accounted.usage, &met)?;
        Ok(Priced { charge, met })
    }

    /// The tier that the provider says it applied; the ordinary one for a request that asked for no other, whatever the
    /// operator's account is set to: the quote was for that.
    fn served_tier(&self, observed: &Observed) -> Option<ServiceTier> {
        match ServiceTiers::asked(self.request.service_tier()) {
            ServiceTiers::Ordinary => None,
            ServiceTiers::Any => observed.service_tier.as_deref().and_then(ServiceTier::named),
        }
    }

    /// What a provider may bill for a prompt whose answer came to nothing.
    fn prompt_cost(&self, candidate: &Candidate) -> ProviderCost {
        let usage = Usage::default().with_tokens(TokenClass::Input, self.limits.input_tokens);
        let circumstances = Circumstances::at(self.parts.ledger.clock().now());
        let amount = charge(&candidate.prices, &usage, &circumstances).map_or(Amount::ZERO, |c| c.provider_cost());
        ProviderCost {
            provider: candidate.offer.provider.slug.to_string(),
            amount,
        }
    }
}

/// A charge and what decided it beside the usage.
struct Priced {
    charge: Charge,
    met: Circumstances,
}

impl Priced {
    /// Writes it into the record of the request.
    fn note(&self, record: &mut RequestRecord, tier: &str) {
        let charged = &self.charge;
        record.lines = charged.lines();
        record.multiplier = charged.multiplier();
        record.price_version = charged.version();
        record.priced_by = Some(PricedBy {
            tier: tier.to_owned(),
            multipliers: charged.multipliers(),
            service_tier: self.met.service_tier,
            region: self.met.region,
            thinking: self.met.thinking,
            search_context: self.met.search_context,
            completed_at: self.met.completed_at,
        });
        let flags = charged.flags().iter().map(|flag| flag.as_str().to_owned());
        record.flags.extend(flags);
        if charged.amount() > record.held {
            record.flags.push("overrun".to_owned());
        }
    }
}

fn pinned_region(name: &str) -> Option<PinnedRegion> {
    match name {
        "us" => Some(PinnedRegion::Us),
        "eu" => Some(PinnedRegion::Eu),
        _ => None,
    }
}

fn search_context(name: &str) -> SearchContext {
    match name {
        "high" => SearchContext::High,
        "medium" => SearchContext::Medium,
        _ => SearchContext::Low,
    }
}
