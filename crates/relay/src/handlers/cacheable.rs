//! Answers for everybody that may be kept: with a validator and a time to live.

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderMap},
};

use crate::price_list::Rendered;

/// Who may keep an answer.
#[derive(Debug, Clone, Copy)]
pub enum Keeper {
    /// Whoever passes it on, for everybody.
    Anybody,
    /// The caller for itself: the answer depends on how it asked.
    Caller,
}

/// The body, or that it is the one that the caller has.
pub fn respond_cacheable(
    rendered: &Rendered,
    content_type: &'static str,
    keeper: Keeper,
    max_age_s: i64,
    headers: &HeaderMap,
) -> HttpResponse {
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok());
    let mut tags = known
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"));
    let is_known = tags.any(|tag| tag == "*" || tag == rendered.etag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    let who = match keeper {
        Keeper::Anybody => "public",
        Keeper::Caller => "private",
    };
    response
        .insert_header((header::ETAG, rendered.etag.as_str()))
        .insert_header((header::CACHE_CONTROL, format!("{who}, max-age={max_age_s}")))
        .insert_header((header::VARY, "accept"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if is_known {
        return response.finish();
    }
    response.content_type(content_type).body(rendered.body.clone())
}
