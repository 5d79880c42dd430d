//! Errors as responses, in the client's own dialect.

use actix_web::{HttpResponse, http::StatusCode, http::header};
use domain::{RequestId, request::Dialect};
use llm::{ErrorView, error_body};
use serde_json::{Map, Value};

use crate::{
    answer::{ANTHROPIC_REQUEST_ID, REQUEST_ID},
    error::{RelayError, Shortfall},
};

/// The response for an error. Whatever is answered this way was not charged.
pub fn error_response(dialect: Dialect, id: RequestId, error: &RelayError) -> HttpResponse {
    let status = error.status();
    let message = error.to_string();
    let request_id = id.to_string();
    let details = details(error);
    let view = ErrorView {
        http_status: status,
        code: error.code(),
        message: &message,
        what_to_do: what_to_do(&message),
        param: error.param(),
        request_id: Some(&request_id),
        charged: false,
        details: details.as_ref(),
    };
    metrics::counter!(
        "truerelay_refusals_total",
        "dialect" => dialect.as_str(),
        "status" => status.to_string(),
    )
    .increment(1);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((REQUEST_ID, request_id.as_str()))
        .insert_header((ANTHROPIC_REQUEST_ID, request_id.as_str()))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if let Some(seconds) = error.retry_after_s() {
        response.insert_header((header::RETRY_AFTER, seconds));
    }
    if let RelayError::WrongMethod { allowed } = error {
        response.insert_header((header::ALLOW, *allowed));
    }
    if matches!(error, RelayError::Draining) {
        response.force_close();
    }
    response.body(error_body(dialect, &view))
}

/// Messages read `problem: what to do`; without the second part the caller can only look the code up.
fn what_to_do(message: &str) -> &str {
    message
        .split_once(": ")
        .map_or("see the documentation of this code", |(_, advice)| advice)
}

fn details(error: &RelayError) -> Option<Map<String, Value>> {
    let (shortfall, scope) = match error {
        RelayError::InsufficientCredit(shortfall) => (shortfall, None),
        RelayError::BudgetExceeded { scope, shortfall } => (shortfall, Some(scope)),
        _ => return None,
    };
    let Shortfall {
        needed,
        available,
        affordable_output_tokens,
    } = shortfall;
    let mut details = Map::new();
    details.insert("needed_usd".to_owned(), needed.to_string().into());
    details.insert("available_usd".to_owned(), available.to_string().into());
    details.insert(
        "affordable_output_tokens".to_owned(),
        (*affordable_output_tokens).into(),
    );
    if let Some(scope) = scope {
        details.insert("scope".to_owned(), scope.as_str().into());
    }
    Some(details)
}
