//! The control API under `/_simulator`, for tests in another process. It says and does what the in-process handle does.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::{script::Answer, script::Rule, service::fixed_plan, state::State};

/// Registers the control routes.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/_simulator")
            .route("/script", web::post().to(add_rule))
            .route("/release/{gate}", web::post().to(release))
            .route("/log", web::get().to(log))
            .route("/counts", web::get().to(counts))
            .route("", web::delete().to(reset)),
    );
}

/// Checks a rule beyond its form; the message says what to change.
pub(crate) fn check_rule(rule: &Rule) -> Result<(), String> {
    let Answer::Fixed(fixed) = &rule.answer else {
        return Ok(());
    };
    if !(200..=599).contains(&fixed.status) {
        return Err(format!("status {} cannot be answered: use 200 to 599", fixed.status));
    }
    for (name, value) in &fixed.headers {
        let valid = actix_web::http::header::HeaderName::try_from(name.as_str()).is_ok()
            && actix_web::http::header::HeaderValue::try_from(value.as_str()).is_ok();
        if !valid {
            return Err(format!("header `{name}` cannot be sent"));
        }
    }
    fixed_plan(fixed).map(drop).map_err(|refusal| refusal.message)
}

async fn add_rule(body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let rule: Rule = match serde_json::from_slice(&body) {
        Ok(rule) => rule,
        Err(error) => return HttpResponse::BadRequest().json(json!({"error": error.to_string()})),
    };
    match check_rule(&rule) {
        Ok(()) => {
            state.add_rule(rule);
            HttpResponse::NoContent().finish()
        }
        Err(message) => HttpResponse::BadRequest().json(json!({"error": message})),
    }
}

async fn release(gate: web::Path<String>, state: web::Data<State>) -> HttpResponse {
    state.release(&gate);
    HttpResponse::NoContent().finish()
}

async fn log(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.entries())
}

async fn counts(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.counts())
}

async fn reset(state: web::Data<State>) -> HttpResponse {
    state.reset();
    HttpResponse::NoContent().finish()
}
