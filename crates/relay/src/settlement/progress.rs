//! What a request has come to so far, priced: what its customer is charged if this node dies before the end.
//!
//! Recovery prices nothing. It settles at the last progress that is durable, so a progress carries all that a settle
//! does: the charge by the frozen prices, and the record for the request log.

use std::sync::Arc;

use domain::{
    clock::UnixMs,
    pricing::Charge,
    request::{Reason, RequestRecord},
};
use llm::{Observed, UsageReport, usage_so_far};

use super::{Settlement, Story, note_served};

/// Says of a record that its usage is as of the last progress, not of the end.
const PARTIAL: &str = "partial_usage";

/// Whether the progress was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is queued.
    Yes,
    /// The prompt is still being counted: try again in a moment.
    NotYet,
}

struct SoFar {
    charge: Charge,
    provider: String,
    record: Box<RequestRecord>,
    /// Why nothing of it is charged.
    free_by: Option<Reason>,
}

impl Settlement {
    /// Notes how far an answer has come whose output was metered. Does not wait.
    pub fn note_progress(&mut self, observed: &Observed, metered_output: u64) -> Noted {
        let Some(open) = self.open.as_mut() else {
            return Noted::Yes;
        };
        if !open.story.knows_prompt(observed) {
            return Noted::NotYet;
        }
        open.story.note_request_digest();
        let now = open.story.parts.ledger.clock().now();
        if let Some(so_far) = open.story.so_far(observed, metered_output, now) {
            let SoFar {
                charge,
                provider,
                record,
                free_by,
            } = so_far;
            open.credit.progress(&charge, provider, record, free_by);
        }
        Noted::Yes
    }
}

impl Story {
    /// Whether the input can be accounted for at once. If not, its text is counted away from the event loop, once: most
    /// requests end before anybody needs it.
    fn knows_prompt(&mut self, observed: &Observed) -> bool {
        if matches!(observed.usage, UsageReport::Reported(_) | UsageReport::InputOnly(_)) || self.request.is_counted() {
            return true;
        }
        if !self.counts_prompt {
            self.counts_prompt = true;
            let request = Arc::clone(&self.request);
            self.parts.background.compute(move || {
                request.text_tokens();
            });
        }
        false
    }

    /// `None` when there is nobody to pay or no price for it: then a crash gives everything back.
    fn so_far(&self, observed: &Observed, metered_output: u64, now: UnixMs) -> Option<SoFar> {
        let winner = self.winner.as_ref()?;
        let accounted = usage_so_far(&self.request, observed, metered_output);
        let priced = self.price(winner, &accounted, observed, now).ok()?;
        let mut record = Box::new(self.record.clone());
        let is_substituted = note_served(&mut record, winner, observed);
        record.usage = accounted.usage;
        record.usage_source = accounted.source;
        let flags = accounted.flags.into_iter().chain([PARTIAL]);
        record.flags.extend(flags.map(str::to_owned));
        if !is_substituted {
            priced.note(&mut record, &self.tier);
        }
        record.reason = Reason::RelayCrashed;
        record.duration_ms = self.elapsed_ms();
        let provider = winner.offer.provider.slug.to_string();
        record.provider.get_or_insert_with(|| provider.clone());
        Some(SoFar {
            charge: priced.charge,
            provider,
            record,
            free_by: is_substituted.then_some(Reason::ModelSubstituted),
        })
    }
}
