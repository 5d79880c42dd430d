//! A streamed answer on its way through: whole events are forwarded as soon as they are complete, byte for byte, and
//! looked at in passing. Only an incomplete event is held back.

use bytes::Bytes;
use domain::request::Dialect;

use crate::{
    formats::{
        anthropic_messages::{self, AnthropicEvents},
        openai_chat::{self, OpenaiEvents},
    },
    observed::{Observed, OutputText, UsageReport},
    sse::{Event, EventScanner},
    usage::UsageProfile,
};

/// The largest event that is accepted unless told otherwise.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Events kept undecoded for an estimate; beyond it they are decoded into text, which is far smaller.
const MAX_RETAINED_BYTES: usize = 64 * 1024;
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
    max_event_bytes: usize,
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
            max_event_bytes: options.max_event_bytes,
            failed: None,
        }
    }

    /// Takes the next piece from the upstream and hands out what may be forwarded: slices of the piece itself, and a copy
    /// only of an event that began in an earlier piece. After an error nothing more is handed out.
    pub fn push(&mut self, piece: &Bytes, out: &mut impl FnMut(Bytes)) -> Result<(), StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let owed = self.pending.is_empty() && self.scanner.may_owe_line_feed() && piece.first() == Some(&b'\n');
        let mut event_start = usize::from(owed);
        let mut forward_from = if owed && self.dropped_last { 1 } else { 0 };
        let mut at = 0;
        while let Some(end) = self.scanner.next_end(piece, at) {
            self.check_size(self.pending.len() + (end - event_start))
                .inspect_err(|_| {
                    emit(piece, forward_from, event_start, out);
                })?;
            let keep = if self.pending.is_empty() {
                let keep = self.see(&piece[event_start..end]);
                if !keep {
                    emit(piece, forward_from, event_start, out);
                    forward_from = end;
                }
                keep
            } else {
                let mut event = std::mem::take(&mut self.pending);
                event.extend_from_slice(&piece[event_start..end]);
                let keep = self.see(&event);
                if keep {
                    out(Bytes::from(event));
                }
                forward_from = end;
                keep
            };
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
        if self.failed.is_none() && !tail.is_empty() && self.see(&tail) {
            out(Bytes::from(tail));
        }
    }

    /// What has been seen so far, without the output text.
    pub const fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The output text so far, for an estimate in mid-stream.
    pub fn output_so_far(&mut self) -> &OutputText {
        self.decode_retained();
        &self.observed.output
    }

    /// What was seen of the whole stream. The output text is decoded only where the usage report is not whole.
    pub fn conclude(mut self) -> Observed {
        if !matches!(self.observed.usage, UsageReport::Reported(_)) {
            self.decode_retained();
        }
        self.observed
    }

    /// Looks at one event; answers whether it is to be forwarded.
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
        }
        self.retained.extend_from_slice(data);
        self.retained.push(SEPARATOR);
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
            decode(data, &mut self.observed.output);
        }
        self.retained.clear();
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
