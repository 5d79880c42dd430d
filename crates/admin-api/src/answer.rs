//! Answers other than a plain 200.

use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;

/// 201 with the object that was created.
pub(crate) struct Created<T>(pub T);

impl<T: Serialize> Responder for Created<T> {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Created().json(self.0)
    }
}

/// 204: done, and there is nothing to show.
pub(crate) struct NoContent;

impl Responder for NoContent {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::NoContent().finish()
    }
}
