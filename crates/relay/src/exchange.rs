//! A streamed answer on its way to the client: each event goes on when it has arrived; a copy is looked at for usage.
//!
//! It is pulled by the client's connection, so a slow reader slows the upstream and nothing piles up here. When the
//! client leaves, it is dropped: the upstream is cancelled by that, or read to its end where cancelling would not
//! stop the bill.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::request::Dialect;
use futures_util::Stream;
use llm::{ErrorView, StreamObserver, error_event, providers::CancelPolicy};
use outbound::UpstreamBody;

use crate::{
    background::Background,
    settlement::Settlement,
    verdict::{Basis, Ended, Verdict},
};

/// A streamed answer that has not ended.
pub struct Exchange {
    open: Option<Open>,
    ready: VecDeque<Bytes>,
    background: Background,
    dialect: Dialect,
    request_id: String,
}

struct Open {
    body: UpstreamBody,
    observer: StreamObserver,
    settlement: Settlement,
    cancel: CancelPolicy,
    idle: Duration,
    deadline: Instant,
}

/// What an exchange begins with.
pub struct Begin {
    /// The first bytes of the answer.
    pub first: Bytes,
    /// The rest of it.
    pub body: UpstreamBody,
    /// What looks at it.
    pub observer: StreamObserver,
    /// What ends it.
    pub settlement: Settlement,
    /// What becomes of the bill when it is cancelled.
    pub cancel: CancelPolicy,
    /// The longest silence.
    pub idle: Duration,
    /// When all of it has taken too long.
    pub deadline: Instant,
    /// Where it is read to its end without a client.
    pub background: Background,
    /// The client's dialect.
    pub dialect: Dialect,
    /// For the error event.
    pub request_id: String,
}

/// Where one step of the pump leads.
enum Step {
    /// Go on.
    More,
    /// The answer is over.
    Over(Ended),
}

impl Exchange {
    /// Takes the answer over, first bytes included.
    pub fn begin(begin: Begin) -> Self {
        let open = Open {
            body: begin.body,
            observer: begin.observer,
            settlement: begin.settlement,
            cancel: begin.cancel,
            idle: begin.idle,
            deadline: begin.deadline,
        };
        let mut exchange = Self {
            open: Some(open),
            ready: VecDeque::new(),
            background: begin.background,
            dialect: begin.dialect,
            request_id: begin.request_id,
        };
        if let Some(open) = &mut exchange.open
            && let Step::Over(ended) = open.take(&begin.first, &mut exchange.ready)
        {
            exchange.end(ended);
        }
        exchange
    }

    /// The bytes for the client.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        futures_util::stream::unfold(self, |mut exchange| async move {
            let bytes = exchange.next().await?;
            Some((Ok(bytes), exchange))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            let open = self.open.as_mut()?;
            if let Step::Over(ended) = open.step(&mut self.ready).await {
                self.end(ended);
            }
        }
    }

    fn end(&mut self, ended: Ended) {
        let Some(open) = self.open.take() else { return };
        let (verdict, _) = open.settlement.finish(ended, open.observer.conclude());
        if let Some(event) = self.closing_event(&verdict) {
            self.ready.push_back(event);
        }
    }

    /// A cut answer never looks like a whole one.
    fn closing_event(&self, verdict: &Verdict) -> Option<Bytes> {
        use domain::request::Reason;
        let (http_status, message) = match verdict.reason {
            Reason::Completed | Reason::CompletedUsageEstimated | Reason::ClientGone => return None,
            Reason::TimeoutBeforeOutput | Reason::TimeoutAfterOutput => (504, "the upstream was silent for too long"),
            _ => (502, "the upstream's answer broke off"),
        };
        let view = ErrorView {
            http_status,
            code: verdict.reason.as_str(),
            message,
            what_to_do: verdict.reason.explanation(),
            param: None,
            request_id: Some(&self.request_id),
            charged: verdict.basis != Basis::Nothing,
            details: None,
        };
        Some(error_event(self.dialect, &view))
    }
}

impl Open {
    async fn step(&mut self, ready: &mut VecDeque<Bytes>) -> Step {
        let until = (Instant::now() + self.idle).min(self.deadline);
        match tokio::time::timeout_at(until.into(), self.body.next_chunk()).await {
            Ok(Some(Ok(chunk))) => self.take(&chunk, ready),
            Ok(Some(Err(_))) => Step::Over(Ended::Broken),
            Ok(None) => {
                self.observer.finish(&mut |bytes| ready.push_back(bytes));
                Step::Over(Ended::ByUpstream)
            }
            Err(_) => Step::Over(Ended::TimedOut),
        }
    }

    fn take(&mut self, chunk: &Bytes, ready: &mut VecDeque<Bytes>) -> Step {
        match self.observer.push(chunk, &mut |bytes| ready.push_back(bytes)) {
            Ok(()) => Step::More,
            Err(_) => Step::Over(Ended::Unreadable),
        }
    }

    /// Reads the answer to its end for its usage: the provider bills all of it anyway.
    async fn drain(mut self) {
        let mut nobody = VecDeque::new();
        while let Step::More = self.step(&mut nobody).await {
            nobody.clear();
        }
        self.settlement.finish(Ended::ByClient, self.observer.conclude());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.cancel == CancelPolicy::Drain
            && let Some(place) = self.background.drain_place()
        {
            self.background.spawn(async move {
                open.drain().await;
                drop(place);
            });
            return;
        }
        // dropping the body closes the connection: the upstream is cancelled
        drop(open.body);
        open.settlement.finish(Ended::ByClient, open.observer.conclude());
    }
}
