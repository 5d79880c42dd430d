//! Why a call was not carried out, and how the caller is told: one table from code to status, one body for all.

use std::fmt;

use ::incidents::IncidentError;
use accounts::AccountsError;
use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use catalog::CatalogError;
use ledger::LedgerError;
use serde::Serialize;
use store::StoreError;
use utoipa::ToSchema;

/// The stable code of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorCode {
    /// The operator token is missing or not valid.
    Unauthenticated,
    /// The operator token may read only.
    Forbidden,
    /// There is no such object or path.
    NotFound,
    /// A field, a parameter or a header does not have an acceptable form.
    InvalidInput,
    /// The body is larger than 1 MiB.
    BodyTooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// A name is taken, or the state of other objects forbids the change.
    Conflict,
    /// The idempotency key was used for another request.
    IdempotencyMismatch,
    /// The input is well formed and breaks a rule.
    RuleBroken,
    /// The database is busy or away: try again.
    Unavailable,
    /// A failure of the server.
    InternalError,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::InvalidInput => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Conflict | Self::IdempotencyMismatch => StatusCode::CONFLICT,
            Self::RuleBroken => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every failure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What went wrong.
    error: ErrorDetail,
}

/// What went wrong, for programs and for people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// For programs.
    code: ErrorCode,
    /// For people: what is wrong and what to do.
    message: String,
    /// The field, parameter or header that is meant, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

/// A call that was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct AdminError {
    code: ErrorCode,
    message: String,
    field: Option<String>,
}

/// The outcome of a handler.
pub(crate) type Answer<T> = Result<T, AdminError>;

impl AdminError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
        }
    }

    /// The same words for every reason, so that nothing is learnt from them.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            ErrorCode::Unauthenticated,
            "a valid operator token is required: send it as `Authorization: Bearer op-tr-...`",
        )
    }

    pub(crate) fn read_only() -> Self {
        Self::new(
            ErrorCode::Forbidden,
            "this operator token may read only: use one with the role `full`",
        )
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no such {what}: check the id"))
    }

    pub(crate) fn invalid(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        let field = field.into();
        Self {
            code: ErrorCode::InvalidInput,
            message: format!("`{field}`: {problem}"),
            field: Some(field),
        }
    }

    /// A failure of ours. It is logged here, once; the caller learns nothing of its inside.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %Chain(error), "an admin request failed");
        Self::new(
            ErrorCode::InternalError,
            "the server failed: try again, and look into its log if it happens again",
        )
    }

    fn unavailable(error: &dyn std::error::Error) -> Self {
        tracing::warn!(error = %Chain(error), "an admin request could not reach the database");
        Self::new(
            ErrorCode::Unavailable,
            "the database is busy or cannot be reached: try again in a moment",
        )
    }
}

/// An error with its causes, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl ResponseError for AdminError {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        match self.code {
            ErrorCode::Unauthenticated => response.insert_header((WWW_AUTHENTICATE, "Bearer")),
            ErrorCode::Unavailable => response.insert_header((RETRY_AFTER, "1")),
            _ => &mut response,
        };
        let detail = ErrorDetail {
            code: self.code,
            message: self.message.clone(),
            field: self.field.clone(),
        };
        response.json(ErrorBody { error: detail })
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::new(ErrorCode::Conflict, "it exists already: choose another identity"),
            StoreError::MissingReference => Self::new(
                ErrorCode::RuleBroken,
                "it refers to something that does not exist: check the ids in the request",
            ),
            StoreError::Busy | StoreError::Unavailable(_) => Self::unavailable(&error),
            _ => Self::internal(&error),
        }
    }
}

impl From<CatalogError> for AdminError {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        match error {
            CatalogError::NotFound { .. } => Self::new(ErrorCode::NotFound, format!("{message}: check the id")),
            CatalogError::Invalid { field, problem } => Self::invalid(field, problem),
            CatalogError::Taken(_) | CatalogError::Refused(_) => Self::new(ErrorCode::Conflict, message),
            CatalogError::TooEarly { .. } | CatalogError::NoticeNeeded { .. } => Self {
                code: ErrorCode::RuleBroken,
                message,
                field: Some("effective_at".to_owned()),
            },
            CatalogError::Pricing(_) => Self::new(ErrorCode::RuleBroken, message),
            CatalogError::Store(error) => error.into(),
        }
    }
}

impl From<IncidentError> for AdminError {
    fn from(error: IncidentError) -> Self {
        match error {
            IncidentError::NotFound => Self::not_found("incident"),
            IncidentError::Resolved => Self::new(ErrorCode::Conflict, error.to_string()),
            IncidentError::Invalid { field, problem } => Self::invalid(field, problem),
            IncidentError::Store(error) => error.into(),
        }
    }
}

impl From<AccountsError> for AdminError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::NotFound(what) => Self::not_found(what),
            AccountsError::Invalid { field, problem } => Self::invalid(field, problem),
            AccountsError::Revoked => Self::new(ErrorCode::Conflict, error.to_string()),
            AccountsError::Lookup(error) => Self::unavailable(&*error),
            AccountsError::Store(error) => error.into(),
        }
    }
}

impl From<LedgerError> for AdminError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::InvalidAmount(problem) => Self::invalid("amount_usd", problem),
            LedgerError::ExpiryPassed => Self::invalid("expires_at", error),
            LedgerError::Duplicate => Self::new(ErrorCode::Conflict, "this was posted before"),
            LedgerError::UnknownLot => Self::invalid("lot_id", error),
            LedgerError::NotRefundable | LedgerError::MoreThanLeft(_) | LedgerError::MoreThanSuspended(_) => {
                Self::new(ErrorCode::RuleBroken, error.to_string())
            }
            LedgerError::UnknownCharge => Self::new(ErrorCode::NotFound, error.to_string()),
            LedgerError::MoreThanCharged(_) | LedgerError::MoreThanHeld(_) => {
                Self::new(ErrorCode::RuleBroken, error.to_string())
            }
            LedgerError::ClaimWaits => Self::new(ErrorCode::Conflict, error.to_string()),
            LedgerError::Store(error) => error.into(),
            LedgerError::Overloaded | LedgerError::Unavailable | LedgerError::Stopped => Self::unavailable(&error),
            LedgerError::AwaitsReplay(_) => Self::new(ErrorCode::Conflict, error.to_string()),
            LedgerError::Refused(_) | LedgerError::Rejected | LedgerError::Spool(_) | LedgerError::Archive(_) => {
                Self::internal(&error)
            }
        }
    }
}
