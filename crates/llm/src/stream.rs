//! A streamed answer on its way through: whole events are forwarded as soon as they are complete, byte for byte, and
//! looked at in passing. Only an incomplete event is held back.

use bytes::Bytes;
use domain::request::Dialect;

use crate::{
    estimate::estimate_output_tokens,
    formats::{
        anthropic_messages::{self, AnthropicEvents},
        openai_chat::{self, OpenaiEvents},
    },
    meter::OutputMeter,
    observed::{Observed, UsageLimits, UsageReport},
    sse::{Event, EventScanner},
    usage::UsageProfile,
};

/// The largest event that is accepted unless told otherwise.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Events kept undecoded for an estimate; beyond it they are decoded into text, which is far smaller.
const MAX_RETAINED_BYTES: usize = 64 * 1024;
/// Bytes of output text for each token of the limit from which on the tokens are counted: far more than languages and
/// code have, so that an answer within its limit is hardly ever counted.
const SUSPICIOUS_BYTES_PER_TOKEN: u64 = 8;
/// The largest stream in bytes, and what each token of the output limit may add to it: the names around a token, and the
/// log probabilities of twenty others.
const MAX_STREAM_BYTES: u64 = 64 * 1024 * 1024;
const MAX_STREAM_BYTES_PER_TOKEN: u64 = 8 * 1024;
/// Separates retained events: a control character that no JSON text can contain (RFC 8259, section 7).
const SEPARATOR: u8 = 0x1E;

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// One event is larger than any that a provider sends: cut the connection.
    #[error("the provider sent an event of more than {limit_bytes} bytes: the stream is cut off")]
    EventTooLarge {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The answer is longer than its request allowed: the provider ignores the limit that it was given.
    #[error("the provider sent more than twice the output that was asked for: the stream is cut off")]
    BeyondLimit,
}

/// How a stream is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// The wire format.
    pub dialect: Dialect,
    /// How usage objects are read.
    pub usage_profile: UsageProfile,
    /// Drop the chunk that holds nothing but usage: the client did not ask for it.
    pub strip_usage_chunk: bool,
    /// How many choices were asked for.
    pub choices: u64,
    /// The largest event accepted, in bytes.
    pub max_event_bytes: usize,
    /// The most that the answer can have used.
    pub limits: UsageLimits,
}

impl StreamOptions {
    /// The options for an answer to one choice, nothing dropped.
    pub const fn new(dialect: Dialect, usage_profile: UsageProfile) -> Self {
        Self {
            dialect,
            usage_profile,
            strip_usage_chunk: false,
            choices: 1,
            max_event_bytes: MAX_EVENT_BYTES,
            limits: UsageLimits::NONE,
        }
    }
}

#[derive(Debug)]
enum Events {
    Openai(Box<OpenaiEvents>),
    Anthropic(AnthropicEvents),
}

/// Forwards and observes one streamed answer.
#[derive(Debug)]
pub struct StreamObserver {
    scanner: EventScanner,
    /// The bytes of an event that is not complete yet.
    pending: Vec<u8>,
    /// The last event was not forwarded, so neither is a line feed that still belongs to it.
    dropped_last: bool,
    events: Events,
    observed: Observed,
    retained: Vec<u8>,
    meter: OutputMeter,
    /// Bytes of events since the output was last metered.
    unmetered_bytes: usize,
    /// The event that reported an error, and what followed it.
    after_error: Vec<u8>,
    /// The last event went there, and so does a line feed that still belongs to it.
    kept_last: bool,
    max_event_bytes: usize,
    limits: UsageLimits,
    stream_bytes: u64,
    /// From how many bytes of output text on its tokens are counted.
    count_from_bytes: u64,
    failed: Option<StreamError>,
}

impl StreamObserver {
    /// An observer for one answer.
    pub fn new(options: StreamOptions) -> Self {
        let events = match options.dialect {
            Dialect::OpenaiChat => Events::Openai(Box::new(OpenaiEvents::new(
                options.usage_profile,
                options.strip_usage_chunk,
                options.choices,
            ))),
            Dialect::AnthropicMessages => Events::Anthropic(AnthropicEvents::default()),
        };
        Self {
            scanner: EventScanner::default(),
            pending: Vec::new(),
            dropped_last: false,
            events,
            observed: Observed::default(),
            retained: Vec::new(),
            meter: OutputMeter::default(),
            unmetered_bytes: 0,
            after_error: Vec::new(),
            kept_last: false,
            max_event_bytes: options.max_event_bytes,
            stream_bytes: 0,
            count_from_bytes: options.limits.output_tokens.saturating_mul(SUSPICIOUS_BYTES_PER_TOKEN),
            limits: options.limits,
            failed: None,
        }
    }

    /// Takes the next piece from the upstream and hands out what may be forwarded: slices of the piece itself, and a copy
    /// only of an event that began in an earlier piece. An event that reports an error, and all that follows it, is kept
    /// for `take_after_error`. After a failure nothing more is handed out.
    pub fn push(&mut self, piece: &Bytes, out: &mut impl FnMut(Bytes)) -> Result<(), StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.check_stream_size(piece.len())?;
        let owed = self.pending.is_empty() && self.scanner.may_owe_line_feed() && piece.first() == Some(&b'\n');
        if owed && self.kept_last {
            self.after_error.push(b'\n');
        }
        let mut event_start = usize::from(owed);
        let mut forward_from = if owed && self.dropped_last { 1 } else { 0 };
        let mut at = 0;
        while let Some(end) = self.scanner.next_end(piece, at) {
            self.check_size(self.pending.len() + (end - event_start))
                .inspect_err(|_| {
                    emit(piece, forward_from, event_start, out);
                })?;
            let keep = if self.pending.is_empty() {
                let keep = self.admit(&piece[event_start..end]);
                if !keep {
                    emit(piece, forward_from, event_start, out);
                    forward_from = end;
                }
                keep
            } else {
                let mut event = std::mem::take(&mut self.pending);
                event.extend_from_slice(&piece[event_start..end]);
                let keep = self.admit(&event);
                if keep {
                    out(Bytes::from(event));
                }
                forward_from = end;
                keep
            };
            if let Some(error) = self.failed {
                return Err(error);
            }
            self.dropped_last = !keep;
            event_start = end;
            at = end;
        }
        if self.pending.is_empty() {
            emit(piece, forward_from, event_start, out);
        }
        let tail = &piece[event_start..];
        self.check_size(self.pending.len() + tail.len())?;
        self.pending.extend_from_slice(tail);
        Ok(())
    }

    /// Takes the end of the stream: an event without its blank line is looked at and handed out as it is.
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) {
        let tail = std::mem::take(&mut self.pending);
        if self.failed.is_none() && !tail.is_empty() && self.admit(&tail) {
            out(Bytes::from(tail));
        }
    }

    /// The bytes from the first event on that reported an error, taken once: a provider's errors may name the operator's
    /// account, so whoever forwards them looks at them first.
    pub fn take_after_error(&mut self) -> Option<Bytes> {
        let kept = std::mem::take(&mut self.after_error);
        (!kept.is_empty()).then(|| Bytes::from(kept))
    }

    /// What has been seen so far, without the output text.
    pub const fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Output tokens so far by our own count, never above the estimate of the same output or what the provider counts,
    /// and what has been seen of the answer. It decodes and counts what has come since the last call: some
    /// 75 microseconds for a second of an ordinary answer.
    pub fn metered_output(&mut self) -> (u64, &Observed) {
        self.decode_retained();
        // what is metered often is never retained for long
        self.check_output();
        self.observed.doubt(&self.limits);
        self.unmetered_bytes = 0;
        let metered = self.meter.read(&self.observed.output);
        // as in an estimate: what has begun is at least one token
        (metered.max(u64::from(self.observed.output_began)), &self.observed)
    }

    /// Bytes of events that came after the last metering: a hint that it is time for another.
    pub const fn unmetered_bytes(&self) -> usize {
        self.unmetered_bytes
    }

    /// What was seen of the whole stream. The output text is decoded only where there is no report to be believed.
    pub fn conclude(mut self) -> Observed {
        self.observed.doubt(&self.limits);
        if !matches!(self.observed.usage, UsageReport::Reported(_)) {
            self.decode_retained();
        }
        self.observed
    }

    /// Looks at one event; answers whether it is to be forwarded now. What comes from an error on is kept instead.
    fn admit(&mut self, bytes: &[u8]) -> bool {
        let keep = self.see(bytes) && self.failed.is_none();
        self.kept_last = keep && self.observed.error.is_some();
        if self.kept_last {
            // whoever does not take it gets no more than fits into one event
            if self.after_error.len() + bytes.len() <= self.max_event_bytes {
                self.after_error.extend_from_slice(bytes);
            }
            return false;
        }
        keep
    }

    /// Looks at one event; answers whether the client is to have it.
    fn see(&mut self, bytes: &[u8]) -> bool {
        let event = Event::parse(bytes);
        let keep = match &mut self.events {
            Events::Openai(events) => events.see(&event, &mut self.observed),
            Events::Anthropic(events) => {
                events.see(&event, &mut self.observed);
                true
            }
        };
        if let Some(data) = event.data.as_deref() {
            self.retain(data);
        }
        keep
    }

    fn retain(&mut self, data: &[u8]) {
        if self.retained.len().saturating_add(data.len()) > MAX_RETAINED_BYTES {
            self.decode_retained();
            self.check_output();
        }
        self.retained.extend_from_slice(data);
        self.retained.push(SEPARATOR);
        self.unmetered_bytes = self.unmetered_bytes.saturating_add(data.len());
    }

    fn decode_retained(&mut self) {
        let decode = match self.events {
            Events::Openai(_) => openai_chat::event_text,
            Events::Anthropic(_) => anthropic_messages::event_text,
        };
        for data in self
            .retained
            .split(|byte| *byte == SEPARATOR)
            .filter(|data| !data.is_empty())
        {
            let before = self.observed.output.bytes();
            decode(data, &mut self.observed.output);
            if self.observed.output.bytes() > before {
                self.meter.note_event();
            }
        }
        self.retained.clear();
    }

    /// Fails when the output is more than twice what was asked for. Tokens are counted only when the text is suspiciously
    /// long, and then not again before it has doubled.
    fn check_output(&mut self) {
        let bytes = self.observed.output.bytes();
        if bytes <= self.count_from_bytes {
            return;
        }
        if estimate_output_tokens(&self.observed) > self.limits.output_tokens.saturating_mul(2) {
            self.failed = Some(StreamError::BeyondLimit);
        }
        self.count_from_bytes = bytes.saturating_mul(2);
    }

    fn check_stream_size(&mut self, piece_bytes: usize) -> Result<(), StreamError> {
        let more = u64::try_from(piece_bytes).unwrap_or(u64::MAX);
        self.stream_bytes = self.stream_bytes.saturating_add(more);
        let asked_for = self.limits.output_tokens.saturating_mul(MAX_STREAM_BYTES_PER_TOKEN);
        if self.stream_bytes <= MAX_STREAM_BYTES.max(asked_for) {
            return Ok(());
        }
        self.failed = Some(StreamError::BeyondLimit);
        Err(StreamError::BeyondLimit)
    }

    fn check_size(&mut self, event_bytes: usize) -> Result<(), StreamError> {
        if event_bytes <= self.max_event_bytes {
            return Ok(());
        }
        let error = StreamError::EventTooLarge {
            limit_bytes: self.max_event_bytes,
        };
        self.pending = Vec::new();
        self.failed = Some(error);
        Err(error)
    }
}

fn emit(piece: &Bytes, from: usize, to: usize, out: &mut impl FnMut(Bytes)) {
    if from < to {
        out(piece.slice(from..to));
    }
}
