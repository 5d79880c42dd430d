//! From offer to offer and from credential to credential until one begins to answer. Once the first byte is here
//! there is no way back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::http::header::HeaderMap;
use catalog::{CredentialEntry, Fault};
use domain::{clock::UnixMs, request::AttemptRecord, request::Reason};
use llm::{ChatRequest, json::Object, names_operator, providers::FaultKind};
use outbound::Via;

use crate::{
    admission::{Candidate, Plan},
    error::{Rejection, RelayError},
    parts::Relay,
    retry_budget::RetryPermit,
    settlement::Story,
    upstream::{Attempt, AttemptFailure, Begun, upstream_body},
};

/// The answer that won, and its candidate.
pub struct Won {
    /// The answer.
    pub begun: Begun,
    /// Who answers.
    pub candidate: Candidate,
}

/// Why there is no answer.
pub struct Lost {
    /// What the client is told.
    pub error: RelayError,
    /// What the request log says.
    pub reason: Reason,
}

/// What a dispatch is made of.
pub struct Dispatch<'a> {
    /// The worker's parts.
    pub relay: &'a Relay,
    /// The request.
    pub request: &'a ChatRequest,
    /// What was decided about it.
    pub plan: &'a Plan,
    /// The client's headers.
    pub client_headers: &'a HeaderMap,
    /// The model's id, for messages.
    pub model: &'a str,
    /// When the request has taken too long.
    pub deadline: Instant,
}

impl Dispatch<'_> {
    /// Tries offers and credentials in order. Answers with the first that begins to answer.
    pub async fn run(&self, story: &mut Story) -> Result<Won, Lost> {
        let mut attempts = 0;
        let mut last: Option<AttemptFailure> = None;
        // one for all further attempts of this request
        let mut permit: Option<RetryPermit> = None;
        let mut via = Via::Pool;
        for candidate in &self.plan.candidates {
            let mut tried: Vec<domain::CredentialId> = Vec::new();
            while let Some(credential) = self.next_credential(candidate, &tried) {
                if attempts > 0 {
                    let in_flight = self.relay.parts.gate.open_requests();
                    permit = permit.or_else(|| self.relay.parts.retries.take(in_flight));
                    if permit.is_none() || attempts >= self.relay.parts.settings.max_attempts {
                        return Err(self.lost(attempts, last));
                    }
                } else {
                    story.dispatched();
                }
                attempts += 1;
                tried.push(credential.id);
                let mut result = self.attempt(candidate, &credential, via, story).await;
                if result.as_ref().is_err_and(AttemptFailure::is_dead_kept_connection) && Instant::now() < self.deadline
                {
                    // no fault of the credential; what else is kept is likely dead too (docs/adr/0016)
                    metrics::counter!("truerelay_kept_connections_died_total").increment(1);
                    via = Via::Fresh;
                    attempts += 1;
                    result = self.attempt(candidate, &credential, via, story).await;
                }
                let failure = match result {
                    Ok(begun) => {
                        return Ok(Won {
                            begun,
                            candidate: candidate.clone(),
                        });
                    }
                    Err(failure) => failure,
                };
                let elsewhere = may_succeed_elsewhere(&failure);
                last = Some(failure);
                if !elsewhere || Instant::now() >= self.deadline {
                    return Err(self.lost(attempts, last));
                }
            }
        }
        Err(self.lost(attempts, last))
    }

    fn next_credential(&self, candidate: &Candidate, tried: &[domain::CredentialId]) -> Option<Arc<CredentialEntry>> {
        let now = self.relay.parts.ledger.clock().now();
        self.relay
            .parts
            .catalog
            .health()
            .pick(&candidate.offer.pool, now, tried)
    }

    async fn attempt(
        &self,
        candidate: &Candidate,
        credential: &CredentialEntry,
        via: Via,
        story: &mut Story,
    ) -> Result<Begun, AttemptFailure> {
        let started = Instant::now();
        let attempt = Attempt {
            client: &self.relay.client,
            candidate,
            credential,
            via,
            client_headers: self.client_headers,
            head_deadline: self.head_deadline(started),
            first_deadline: self.first_deadline(started),
        };
        let limit = self.plan.limit_is_ours.then_some(self.plan.bound.output_tokens);
        let result = match attempt.send(upstream_body(self.request, candidate, limit)).await {
            Ok(response) => {
                story.head_arrived(candidate);
                attempt.begin(response, self.request.stream()).await
            }
            Err(failure) => Err(failure),
        };
        let now = self.relay.parts.ledger.clock().now();
        self.note_health(credential, &result, now);
        let (status, outcome) = match &result {
            Ok(begun) => (Some(begun.status), "won".to_owned()),
            Err(failure) => (failure.status(), failure.code()),
        };
        let record = AttemptRecord {
            offer: candidate.offer.id,
            pool: candidate.offer.pool.id,
            credential: credential.id,
            provider: candidate.offer.provider.slug.to_string(),
            status,
            outcome,
            elapsed_ms: u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX),
        };
        match &result {
            Ok(begun) => {
                metrics::histogram!("truerelay_upstream_first_byte_seconds").record(started.elapsed());
                story.attempt_won(record, candidate.clone(), begun.status);
            }
            Err(failure) => story.attempt_lost(record, candidate, failure.may_be_billed()),
        }
        result
    }

    /// An answer that is not streamed has its head when it is complete.
    fn head_deadline(&self, started: Instant) -> Instant {
        if self.request.stream() {
            self.first_deadline(started)
        } else {
            self.deadline
        }
    }

    fn first_deadline(&self, started: Instant) -> Instant {
        if !self.request.stream() {
            return self.deadline;
        }
        let first = Duration::from_millis(self.relay.parts.settings.first_byte_timeout_ms);
        (started + first).min(self.deadline)
    }

    fn note_health(&self, credential: &CredentialEntry, result: &Result<Begun, AttemptFailure>, now: UnixMs) {
        let health = self.relay.parts.catalog.health();
        match result {
            Ok(_) => health.report_success(credential.id, now),
            Err(AttemptFailure::Refused { fault, .. }) => {
                let fault = match fault.kind {
                    FaultKind::Auth | FaultKind::Billing => Fault::Unauthorized,
                    FaultKind::RateLimited => Fault::RateLimited {
                        retry_after_ms: fault.retry_after_ms.and_then(|wait| i64::try_from(wait).ok()),
                    },
                    _ => return,
                };
                metrics::counter!("truerelay_credential_outages_total").increment(1);
                tracing::warn!(credential = %credential.id, ?fault, "a credential is out for a while");
                health.report(credential.id, fault, now);
            }
            Err(_) => {}
        }
    }

    fn lost(&self, attempts: usize, last: Option<AttemptFailure>) -> Lost {
        match last {
            None => Lost {
                error: RelayError::NoCapacity(self.model.to_owned()),
                reason: Reason::UpstreamFailed,
            },
            Some(AttemptFailure::Refused { status, fault, body }) if fault.kind == FaultKind::ClientRequest => Lost {
                error: RelayError::UpstreamRejected(self.rejection(status, fault.code, fault.message, &body)),
                reason: Reason::UpstreamRejected,
            },
            Some(AttemptFailure::NoHead) => Lost {
                error: RelayError::UpstreamTimeout,
                reason: Reason::TimeoutBeforeOutput,
            },
            Some(AttemptFailure::NothingCame { .. } | AttemptFailure::Unsuitable { .. }) => Lost {
                error: RelayError::UpstreamFailed { attempts },
                reason: Reason::UpstreamNoOutput,
            },
            Some(_) => Lost {
                error: RelayError::UpstreamFailed { attempts },
                reason: Reason::UpstreamFailed,
            },
        }
    }

    /// What the upstream said about the client's own mistake. Its words are shown unless they are about the operator.
    fn rejection(&self, status: u16, code: Option<String>, message: Option<String>, body: &[u8]) -> Rejection {
        let object = Object::parse_bytes(body);
        let error = object.as_ref().and_then(|object| object.object("error"));
        let fit = |words: &String| !self.names_operator(words);
        let text = |name: &str| error.as_ref().and_then(|error| error.string(name)).filter(fit);
        let message = message
            .filter(fit)
            .unwrap_or_else(|| "the upstream refused the request".to_owned());
        Rejection {
            status,
            message,
            kind: text("type"),
            code: code.filter(fit),
            param: text("param"),
        }
    }

    fn names_operator(&self, words: &str) -> bool {
        let pools = self.plan.candidates.iter().map(|candidate| &candidate.offer.pool);
        let credentials = pools.flat_map(|pool| pool.credentials.iter());
        names_operator(words, credentials.map(|credential| &credential.secret))
    }
}

fn may_succeed_elsewhere(failure: &AttemptFailure) -> bool {
    match failure {
        AttemptFailure::Refused { fault, .. } => fault.may_succeed_elsewhere(),
        _ => true,
    }
}
