//! An answer that is not streamed: read whole, looked at once, handed on byte for byte.
//!
//! A provider sends its head when the answer is complete, so a client that leaves now has had all the work done: the
//! rest is read without it and charged as reported.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use domain::request::Dialect;
use llm::{Observed, UsageLimits, UsageProfile, observe_body};
use outbound::UpstreamBody;

use crate::{
    answer::is_json_object,
    background::Background,
    settlement::{KnownCost, Settlement},
    verdict::Ended,
};

/// A whole answer that is being read.
pub struct WholeAnswer {
    open: Option<Reading>,
    background: Background,
}

/// What is being read, and what ends it.
pub struct Reading {
    /// The first bytes.
    pub first: Bytes,
    /// The rest.
    pub body: UpstreamBody,
    /// What ends it.
    pub settlement: Settlement,
    /// The wire format.
    pub dialect: Dialect,
    /// How its usage is read.
    pub usage_profile: UsageProfile,
    /// The most that it can have used.
    pub limits: UsageLimits,
    /// The largest answer that is accepted.
    pub max_bytes: usize,
    /// When it has taken too long.
    pub deadline: Instant,
}

/// An answer that was read.
pub struct Answer {
    /// Its bytes.
    pub bytes: Bytes,
    /// What it cost, where that is known at once.
    pub cost: Option<KnownCost>,
    /// How the reading ended.
    pub ended: Ended,
    /// It holds an error and no output, whatever its status says.
    pub is_error: bool,
}

impl WholeAnswer {
    /// Takes the answer over.
    pub const fn new(reading: Reading, background: Background) -> Self {
        Self {
            open: Some(reading),
            background,
        }
    }

    /// Reads it to its end. Dropping this future leaves the rest of the reading to the background.
    pub async fn read(mut self) -> Option<Answer> {
        let ended = self.open.as_mut()?.collect().await;
        Some(self.open.take()?.conclude(ended))
    }
}

impl Reading {
    /// Reads the rest into `first`. What was read survives a cancellation.
    async fn collect(&mut self) -> Ended {
        loop {
            // an upstream that always has something to say never lets a timer win
            if Instant::now() >= self.deadline {
                return Ended::TookTooLong;
            }
            match tokio::time::timeout_at(self.deadline.into(), self.body.next_chunk()).await {
                Ok(None) => return Ended::ByUpstream,
                Ok(Some(Err(_))) => return Ended::Broken,
                Err(_) => return Ended::TookTooLong,
                Ok(Some(Ok(chunk))) if self.first.len() + chunk.len() > self.max_bytes => return Ended::Unreadable,
                Ok(Some(Ok(chunk))) => self.append(&chunk),
            }
        }
    }

    fn append(&mut self, chunk: &Bytes) {
        let mut grown = std::mem::take(&mut self.first)
            .try_into_mut()
            .unwrap_or_else(|first| BytesMut::from(&first[..]));
        grown.extend_from_slice(chunk);
        self.first = grown.freeze();
    }

    fn observe(&self, read: Ended) -> Observed {
        match read {
            Ended::ByUpstream => observe_body(self.dialect, self.usage_profile, self.limits, &self.first),
            _ => Observed::default(),
        }
    }

    fn conclude(mut self, read: Ended) -> Answer {
        let observed = self.observe(read);
        let is_error = observed.error.is_some() && !observed.output_began;
        if read == Ended::ByUpstream && !is_error && is_json_object(&self.first) {
            self.settlement.relayed([&self.first]);
        }
        let (_, cost) = self.settlement.finish(read, observed);
        Answer {
            bytes: self.first,
            cost,
            ended: read,
            is_error,
        }
    }
}

impl Drop for WholeAnswer {
    fn drop(&mut self) {
        let Some(mut reading) = self.open.take() else { return };
        self.background.spawn(async move {
            let read = reading.collect().await;
            let observed = reading.observe(read);
            reading.settlement.finish_unattended(read, observed);
        });
    }
}
