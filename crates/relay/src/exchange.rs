//! A streamed answer on its way to the client: each event goes on when it has arrived; a copy is looked at for usage.
//!
//! How far it has come is noted on the way (`pacing`), so that a crash is charged for what was relayed.
//!
//! It is pulled by the client's connection, so a slow reader slows the upstream and nothing piles up here. When the
//! client leaves, or reads nothing for too long, it is dropped: the upstream is cancelled by that, or read to its end
//! where cancelling would not stop the bill.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use catalog::PoolEntry;
use domain::request::Dialect;
use futures_util::Stream;
use llm::{ErrorView, Observed, StreamObserver, error_event, names_operator, providers::CancelPolicy};
use outbound::UpstreamBody;
use tokio::task::AbortHandle;

use crate::{
    background::Background,
    pacing::Pacing,
    parking::{Parking, evict},
    patience::Patience,
    settlement::{Noted, Settlement},
    verdict::{Basis, Ended, Verdict},
};

/// How long an upstream may keep the connection open after the end mark of its answer. Waiting a moment lets the
/// connection be used again.
const AFTER_END_MARK: Duration = Duration::from_secs(1);

/// A streamed answer that has not ended.
pub struct Exchange {
    live: Arc<Parking<Live>>,
    ready: VecDeque<Bytes>,
    over: bool,
    watch: AbortHandle,
    dialect: Dialect,
    request_id: String,
}

/// The part that has to be ended, whoever holds it. Dropped, it is an answer whose client has left.
struct Live {
    open: Option<Open>,
    background: Background,
}

struct Open {
    body: UpstreamBody,
    observer: StreamObserver,
    settlement: Settlement,
    pacing: Pacing,
    cancel: CancelPolicy,
    pool: Arc<PoolEntry>,
    idle: Duration,
    deadline: Instant,
    patience: Patience,
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
    /// Whose credentials must not be shown.
    pub pool: Arc<PoolEntry>,
    /// The longest silence of the upstream.
    pub idle: Duration,
    /// The longest time in which the client reads nothing.
    pub stall: Duration,
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
        let mut live = Live {
            open: Some(Open {
                body: begin.body,
                observer: begin.observer,
                settlement: begin.settlement,
                pacing: Pacing::default(),
                cancel: begin.cancel,
                pool: begin.pool,
                idle: begin.idle,
                deadline: begin.deadline,
                patience: Patience::new(begin.stall, Instant::now()),
            }),
            background: begin.background,
        };
        let place = Arc::new(Parking::empty());
        let watch = live.background.watch(evict(Arc::downgrade(&place), begin.stall));
        let mut exchange = Self {
            live: place,
            ready: VecDeque::new(),
            over: false,
            watch,
            dialect: begin.dialect,
            request_id: begin.request_id,
        };
        let step = live.take(&begin.first, &mut exchange.ready);
        exchange.go_on(live, step);
        exchange
    }

    /// The bytes for the client. An error breaks the client's connection off.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        futures_util::stream::unfold(self, |mut exchange| async move {
            let bytes = exchange.next().await?;
            Some((bytes, exchange))
        })
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.live.renew();
                return Some(Ok(bytes));
            }
            if self.over {
                return None;
            }
            let Some(mut live) = self.live.leave() else {
                // taken away because nothing was read for too long: what follows must not look like an end
                self.over = true;
                return Some(Err(io::ErrorKind::TimedOut.into()));
            };
            let step = live.step(&mut self.ready).await;
            self.go_on(live, step);
        }
    }

    fn go_on(&mut self, live: Live, step: Step) {
        match step {
            Step::More => self.live.park(live),
            Step::Over(ended) => self.end(live, ended),
        }
    }

    fn end(&mut self, mut live: Live, ended: Ended) {
        self.over = true;
        let Some(open) = live.open.take() else { return };
        let (settlement, observed, is_whole) = open.conclude(ended);
        let (verdict, _) = settlement.finish(ended, observed);
        if let Some(event) = self.closing_event(&verdict, is_whole) {
            self.ready.push_back(event);
        }
    }

    /// A cut answer never looks like a whole one.
    fn closing_event(&self, verdict: &Verdict, is_whole: bool) -> Option<Bytes> {
        use domain::request::Reason;
        let (http_status, message) = match verdict.reason {
            Reason::Completed
            | Reason::CompletedUsageEstimated
            | Reason::ClientGone
            | Reason::FilteredBeforeOutput
            | Reason::FilteredAfterOutput => return None,
            Reason::ModelSubstituted if is_whole => return None,
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

impl Drop for Exchange {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Live {
    fn take(&mut self, chunk: &Bytes, ready: &mut VecDeque<Bytes>) -> Step {
        match &mut self.open {
            Some(open) => {
                let step = open.take(chunk, ready);
                open.settlement.relayed(&*ready);
                step
            }
            None => Step::Over(Ended::ByClient),
        }
    }

    async fn step(&mut self, ready: &mut VecDeque<Bytes>) -> Step {
        match &mut self.open {
            Some(open) => {
                open.patience.more_is_wanted(Instant::now());
                // what is in it has not gone on yet: everything before has been handed over
                let step = open.step(ready).await;
                open.settlement.relayed(&*ready);
                open.patience.client_has_some(Instant::now());
                step
            }
            None => Step::Over(Ended::ByClient),
        }
    }
}

impl Open {
    async fn step(&mut self, ready: &mut VecDeque<Bytes>) -> Step {
        let now = Instant::now();
        // an upstream that always has something to say never lets a timer win
        if now >= self.deadline {
            return if self.has_end_mark() {
                self.end_of_body(ready)
            } else {
                Step::Over(Ended::TookTooLong)
            };
        }
        let until = (now + self.idle).min(self.deadline);
        loop {
            let due = self.pacing.due().filter(|_| !self.has_end_mark());
            let wake = due.map_or(until, |due| due.min(until));
            return match tokio::time::timeout_at(wake.into(), self.body.next_chunk()).await {
                Ok(Some(Ok(chunk))) => self.take(&chunk, ready),
                // behind the end mark it does not matter how the connection ends
                Ok(None) => self.end_of_body(ready),
                Ok(Some(Err(_))) if self.has_end_mark() => self.end_of_body(ready),
                Ok(Some(Err(_))) => Step::Over(Ended::Broken),
                Err(_) if wake < until => {
                    self.note_progress();
                    continue;
                }
                Err(_) if self.has_end_mark() => self.end_of_body(ready),
                Err(_) if until == self.deadline => Step::Over(Ended::TookTooLong),
                Err(_) => Step::Over(Ended::TimedOut),
            };
        }
    }

    /// Notes how far the answer has come, when it is time to.
    fn note_progress(&mut self) {
        let now = Instant::now();
        if !self.pacing.must_meter(now, self.observer.unmetered_bytes()) {
            return;
        }
        let (tokens, observed) = self.observer.metered_output();
        if !self.pacing.must_note(now, tokens) {
            return;
        }
        match self.settlement.note_progress(observed, tokens) {
            Noted::Yes => self.pacing.noted(now, tokens),
            Noted::NotYet => self.pacing.try_again(now),
        }
    }

    const fn has_end_mark(&self) -> bool {
        self.observer.observed().done_seen
    }

    fn end_of_body(&mut self, ready: &mut VecDeque<Bytes>) -> Step {
        self.observer.finish(&mut |bytes| ready.push_back(bytes));
        self.show_error(ready);
        Step::Over(Ended::ByUpstream)
    }

    fn take(&mut self, chunk: &Bytes, ready: &mut VecDeque<Bytes>) -> Step {
        let had_end_mark = self.has_end_mark();
        let (had_output, named) = (
            self.observer.observed().output_began,
            self.observer.observed().models_named(),
        );
        let pushed = self.observer.push(chunk, &mut |bytes| ready.push_back(bytes));
        self.show_error(ready);
        if !had_end_mark && self.has_end_mark() {
            self.deadline = self.deadline.min(Instant::now() + AFTER_END_MARK);
        }
        // behind the end mark comes the end itself
        if self.observer.observed().output_began && !self.has_end_mark() {
            self.pacing.output_arrived(Instant::now());
            let now_named = self.observer.observed().models_named();
            // a first name that comes with the first output is noted with it
            if now_named > named && (had_output || now_named > 1) {
                self.pacing.must_note_now(Instant::now());
            }
            self.note_progress();
        }
        match pushed {
            Ok(()) => Step::More,
            Err(_) => Step::Over(Ended::Unreadable),
        }
    }

    /// The provider's own words about an error go on, unless they are about the operator. Then the closing event says
    /// in ours what happened.
    fn show_error(&mut self, ready: &mut VecDeque<Bytes>) {
        let Some(words) = self.observer.take_after_error() else {
            return;
        };
        let credentials = || self.pool.credentials.iter().map(|credential| &credential.secret);
        let error = self.observer.observed().error.as_ref();
        let read = error
            .into_iter()
            .flat_map(|error| [&error.code, &error.message])
            .flatten();
        let is_unfit = names_operator(&String::from_utf8_lossy(&words), credentials())
            || read.into_iter().any(|text| names_operator(text, credentials()));
        if is_unfit {
            tracing::warn!(pool = %self.pool.id, "an error about the operator's account was kept from a client");
        } else {
            ready.push_back(words);
        }
    }

    /// Reads the answer to its end for its usage: the provider bills all of it anyway.
    async fn drain(mut self) {
        self.patience.more_is_wanted(Instant::now());
        let mut nobody = VecDeque::new();
        let read = loop {
            match self.step(&mut nobody).await {
                Step::More => nobody.clear(),
                Step::Over(read) => break read,
            }
        };
        let (settlement, observed, _) = self.conclude(read);
        settlement.finish_unattended(read, observed);
    }

    /// What was seen, and whether the answer came to its end.
    fn conclude(self, ended: Ended) -> (Settlement, Observed, bool) {
        let observed = self.observer.conclude();
        let is_whole = ended == Ended::ByUpstream && observed.ended_normally();
        let mut settlement = self.settlement;
        if !is_whole && self.patience.is_at_its_end() {
            settlement.note_slow_reader();
        }
        (settlement, observed, is_whole)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.has_end_mark() {
            // clients often leave at the mark, before the connection has ended
            open.settlement.finish(Ended::ByUpstream, open.observer.conclude());
            return;
        }
        if open.cancel == CancelPolicy::Drain
            && let Some(place) = self.background.drain_place()
        {
            metrics::counter!("truerelay_unattended_answers_total").increment(1);
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
