//! The head of an answer: what the client is told beside the upstream's own bytes.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use domain::RequestId;

use crate::{
    admission::Plan, dispatch::Won, error::RelayError, settlement::KnownCost, verdict::Ended, whole_answer::Answer,
};

/// The request's id, under the name that OpenAI's SDKs read.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The request's id, under the name that Anthropic's SDKs read.
pub const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const PROVIDER: HeaderName = HeaderName::from_static("x-truerelay-provider");
const MODEL: HeaderName = HeaderName::from_static("x-truerelay-model");
const PRICE_VERSION: HeaderName = HeaderName::from_static("x-truerelay-price-version");
const OUTPUT_LIMIT: HeaderName = HeaderName::from_static("x-truerelay-output-limit");
/// The kind of a streamed answer.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
/// The kind of a whole answer.
pub const JSON: &str = "application/json";
const COST: HeaderName = HeaderName::from_static("x-truerelay-cost-usd");

/// What the head of an answer says.
pub struct Facts {
    id: RequestId,
    provider: String,
    model: String,
    price_version: i64,
    /// The output limit, where it is ours.
    output_limit: Option<u64>,
}

impl Facts {
    /// The facts of an answer that has begun.
    pub fn of(id: RequestId, won: &Won, plan: &Plan, model: &str) -> Self {
        Self {
            id,
            provider: won.candidate.offer.provider.slug.to_string(),
            model: model.to_owned(),
            price_version: plan.price_version,
            output_limit: plan.limit_is_ours.then_some(plan.bound.output_tokens),
        }
    }

    /// The request's id as text.
    pub fn request_id(&self) -> String {
        self.id.to_string()
    }

    /// The head, without a body. The kind of the body is ours to say: an upstream's word for it could make a browser run
    /// it.
    pub fn head(&self, status: u16, content_type: &'static str) -> HttpResponseBuilder {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let mut head = HttpResponse::build(status);
        if let Ok(id) = HeaderValue::try_from(self.id.to_string()) {
            head.insert_header((REQUEST_ID, id.clone()))
                .insert_header((ANTHROPIC_REQUEST_ID, id));
        }
        head.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type)))
            .insert_header((PROVIDER, self.provider.as_str()))
            .insert_header((MODEL, self.model.as_str()))
            .insert_header((PRICE_VERSION, self.price_version))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        if let Some(limit) = self.output_limit {
            head.insert_header((OUTPUT_LIMIT, limit));
        }
        head
    }

    /// Adds the cost, where it is known before the head is sent.
    #[allow(clippy::unused_self)]
    pub fn add_cost(&self, head: &mut HttpResponseBuilder, cost: Option<KnownCost>) {
        if let Some(cost) = cost {
            head.insert_header((COST, cost.amount.to_string()));
        }
    }
}

/// Whether a whole answer can be handed on.
///
/// # Errors
/// What the client is told instead.
pub fn check_whole(answer: &Answer) -> Result<(), RelayError> {
    match answer.ended {
        Ended::ByUpstream if answer.is_error => Err(RelayError::BadAnswer("it is an error in place of an answer")),
        Ended::ByUpstream if is_json_object(&answer.bytes) => Ok(()),
        Ended::ByUpstream => Err(RelayError::BadAnswer("it is not a JSON object")),
        Ended::TimedOut | Ended::TookTooLong => Err(RelayError::UpstreamTimeout),
        Ended::Unreadable => Err(RelayError::BadAnswer("it is too large")),
        Ended::Broken | Ended::ByClient => Err(RelayError::BadAnswer("it broke off")),
    }
}

/// An answer that is no JSON object could be anything, such as a page that runs in a browser.
pub fn is_json_object(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}
