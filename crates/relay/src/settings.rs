//! Limits of the data plane, as an operator sets them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[relay]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelaySettings {
    /// The largest request body, in bytes.
    pub max_request_bytes: usize,
    /// The longest time in which a request body must have arrived, in milliseconds.
    pub request_body_timeout_ms: u64,
    /// The largest answer that is not streamed, in bytes.
    pub max_answer_bytes: usize,
    /// The largest single event of a stream, in bytes.
    pub max_event_bytes: usize,
    /// The longest wait for the head of a streamed answer, in milliseconds. An answer that is not streamed has the
    /// whole of `total_timeout_ms` for it, because its head comes when it is complete.
    pub first_byte_timeout_ms: u64,
    /// The longest silence in an answer that has begun, in milliseconds.
    pub idle_timeout_ms: u64,
    /// The longest time in which the client of a stream reads nothing while there is something to read, in milliseconds.
    pub write_stall_timeout_ms: u64,
    /// The longest time for a whole request, in milliseconds.
    pub total_timeout_ms: u64,
    /// The longest wait for a hold to be durable, in milliseconds.
    pub hold_timeout_ms: u64,
    /// The output limit of a request that names none, in tokens: never more than the model's own maximum.
    pub default_output_limit: u64,
    /// The smallest output limit that is chosen for a request that names none, in tokens.
    pub smallest_output_limit: u64,
    /// The most attempts for one request. One that meets a dead connection is sent again all the same, once.
    pub max_attempts: usize,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            max_request_bytes: 32 * 1024 * 1024,
            request_body_timeout_ms: 60_000,
            max_answer_bytes: 64 * 1024 * 1024,
            max_event_bytes: 1024 * 1024,
            first_byte_timeout_ms: 120_000,
            idle_timeout_ms: 150_000,
            write_stall_timeout_ms: 60_000,
            total_timeout_ms: 900_000,
            hold_timeout_ms: 10_000,
            default_output_limit: 16_384,
            smallest_output_limit: 256,
            max_attempts: 4,
        }
    }
}

impl RelaySettings {
    /// Says what is wrong with the settings, all of them together.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("max_request_bytes", self.max_request_bytes > 0),
            ("request_body_timeout_ms", self.request_body_timeout_ms > 0),
            ("max_answer_bytes", self.max_answer_bytes > 0),
            ("max_event_bytes", self.max_event_bytes > 0),
            ("first_byte_timeout_ms", self.first_byte_timeout_ms > 0),
            ("idle_timeout_ms", self.idle_timeout_ms > 0),
            ("write_stall_timeout_ms", self.write_stall_timeout_ms > 0),
            ("total_timeout_ms", self.total_timeout_ms > 0),
            ("hold_timeout_ms", self.hold_timeout_ms > 0),
            ("smallest_output_limit", self.smallest_output_limit > 0),
            ("max_attempts", self.max_attempts > 0),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, good)| !good) {
            return Err(format!("relay.{name} must be more than 0"));
        }
        if self.default_output_limit < self.smallest_output_limit {
            return Err("relay.default_output_limit must not be less than relay.smallest_output_limit".to_owned());
        }
        Ok(())
    }

    /// The longest time for a whole request.
    pub const fn total_timeout(&self) -> Duration {
        Duration::from_millis(self.total_timeout_ms)
    }

    /// The longest time in which a client reads nothing.
    pub const fn write_stall_timeout(&self) -> Duration {
        Duration::from_millis(self.write_stall_timeout_ms)
    }

    /// The longest silence in an answer.
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }
}
