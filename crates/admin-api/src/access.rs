//! Who may call: an operator's token, and what its role permits.
//!
//! Every request under the scope is authenticated before its handler is chosen. What a handler works with (the
//! database, the caches, the name of the actor) is reached through [`ReadOperator`] and [`FullOperator`] only, so that
//! a handler whose signature names neither can do nothing.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use accounts::{CachedOperator, Operator, PlainToken};
use actix_web::{
    FromRequest, HttpMessage, HttpRequest, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    middleware::Next,
};
use ledger::archive::Movement;
use store::{StoreError, Tx, audit::Actor};

use crate::{
    AdminParts,
    error::{AdminError, Answer, ErrorCode},
};

/// What authentication leaves behind for the extractors. Nothing else can make one.
#[derive(Clone)]
struct Pass {
    parts: Arc<AdminParts>,
    operator: Operator,
}

/// An operator who may at least read.
pub(crate) struct ReadOperator {
    parts: Arc<AdminParts>,
}

/// An operator who may change everything.
pub(crate) struct FullOperator {
    parts: Arc<AdminParts>,
    actor: Actor,
}

impl ReadOperator {
    pub(crate) fn parts(&self) -> &AdminParts {
        &self.parts
    }
}

impl FullOperator {
    pub(crate) fn parts(&self) -> &AdminParts {
        &self.parts
    }

    /// Who makes the change, for the audit row.
    pub(crate) const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Opens the transaction of one write.
    pub(crate) async fn begin(&self) -> Answer<Tx> {
        Ok(self.parts.database.begin().await?)
    }

    /// Makes a movement of credit durable and hands it to the archive. Both are done together: a handler ends where it waits
    /// when its client leaves, and what is committed and not archived could not be restored.
    pub(crate) async fn commit_movement(&self, tx: Tx, movement: Movement) -> Answer<()> {
        let archive = self.parts.archive.clone();
        let kept = actix_web::rt::spawn(async move {
            tx.commit().await?;
            archive.keep(movement);
            Ok::<(), StoreError>(())
        });
        Ok(kept.await.map_err(|error| AdminError::internal(&error))??)
    }

    /// Makes a catalog write durable, then refreshes this node's snapshot. Other nodes see the change notice.
    pub(crate) async fn commit_catalog(&self, tx: Tx) -> Answer<()> {
        tx.commit().await?;
        if let Err(error) = self.parts.catalog.refresh().await {
            // the write is done; the poll for change notices brings the snapshot up to date
            tracing::warn!(%error, "the catalog snapshot was not refreshed after a write");
        }
        Ok(())
    }

    /// Makes a write on tenants or virtual keys durable, then forgets this node's cached callers.
    pub(crate) async fn commit_accounts(&self, tx: Tx) -> Answer<()> {
        tx.commit().await?;
        self.forget_callers();
        Ok(())
    }

    /// Forgets this node's cached callers, after a write on tenants or virtual keys.
    pub(crate) fn forget_callers(&self) {
        self.parts.callers.invalidate_all();
    }

    /// Makes a write on operator tokens durable, then forgets this node's cached operators.
    pub(crate) async fn commit_operators(&self, tx: Tx) -> Answer<()> {
        tx.commit().await?;
        self.parts.operators.invalidate_all();
        Ok(())
    }
}

impl FromRequest for ReadOperator {
    type Error = AdminError;
    type Future = Ready<Answer<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(pass_of(request).map(|pass| Self { parts: pass.parts }))
    }
}

impl FromRequest for FullOperator {
    type Error = AdminError;
    type Future = Ready<Answer<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(pass_of(request).and_then(|pass| {
            if !pass.operator.role.may_write() {
                return Err(AdminError::read_only());
            }
            Ok(Self {
                actor: pass.operator.actor(),
                parts: pass.parts,
            })
        }))
    }
}

fn pass_of(request: &HttpRequest) -> Answer<Pass> {
    request
        .extensions()
        .get::<Pass>()
        .cloned()
        .ok_or_else(AdminError::unauthenticated)
}

/// The scope's middleware: lets operators through and answers everybody else.
pub(crate) async fn authenticate<B: MessageBody + 'static>(
    parts: Arc<AdminParts>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let admitted = match operator_of(&parts, request.headers()).await {
        Ok(operator) => refuse_nul(&request).map(|()| operator),
        Err(error) => Err(error),
    };
    let mut response = match admitted {
        Ok(operator) => {
            request.extensions_mut().insert(Pass { parts, operator });
            next.call(request).await?.map_into_boxed_body()
        }
        Err(error) => request.into_response(error.error_response()),
    };
    let headers = response.headers_mut();
    // some answers show a secret, once
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// PostgreSQL takes no NUL in text, so none is let in.
fn refuse_nul(request: &ServiceRequest) -> Answer<()> {
    let uri = request.uri();
    if uri.path().contains("%00") || uri.query().is_some_and(|query| query.contains("%00")) {
        return Err(AdminError::new(
            ErrorCode::InvalidInput,
            "leave the NUL character out of path and parameters",
        ));
    }
    Ok(())
}

async fn operator_of(parts: &AdminParts, headers: &HeaderMap) -> Answer<Operator> {
    let token = token_of(headers).ok_or_else(AdminError::unauthenticated)?;
    let hash = token.hash(&parts.keyring.pepper);
    match parts.operators.resolve(&parts.database, hash).await? {
        CachedOperator::Known(operator) => Ok(operator),
        CachedOperator::Unknown => Err(AdminError::unauthenticated()),
    }
}

/// The one token of the request, its checksum verified. Two credentials are as good as none.
fn token_of(headers: &HeaderMap) -> Option<PlainToken> {
    let mut values = headers.get_all(AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    PlainToken::parse(token.trim()).ok()
}
