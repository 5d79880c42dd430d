//! Wire formats and providers of language models: bytes in, bytes out. No socket, no async, no clock, no price.
//!
//! - `request`: a client's request, looked at once, bounded, and spliced for the upstream;
//! - `stream`, `answer`: what an upstream's answer says about usage and ending, observed while it passes through;
//! - `usage`, `estimate`, `tokens`, `meter`: usage in disjoint classes, by the provider's report or by our own count;
//! - `formats`: one folder for each wire format; `providers`: who runs models, and what is peculiar to each;
//! - `errors`: errors in the client's own dialect.

pub mod answer;
pub mod discretion;
pub mod errors;
pub mod estimate;
pub mod formats;
pub mod json;
mod meter;
pub mod observed;
pub mod providers;
pub mod request;
pub mod sse;
pub mod stream;
pub mod tokens;
pub mod usage;

pub use answer::observe_body;
pub use discretion::names_operator;
pub use errors::{ErrorView, error_body, error_event};
pub use estimate::{Accounted, estimate_input_tokens, estimate_output_tokens, usage_or_estimate, usage_so_far};
pub use observed::{Observed, UpstreamError, UsageLimits, UsageReport};
pub use providers::{ProviderProfile, UpstreamFault};
pub use request::{BoundRules, ChatRequest, InputBound, RequestError};
pub use stream::{StreamError, StreamObserver, StreamOptions};
pub use usage::{NormalisedUsage, UsageError, UsageProfile, normalise_usage};
