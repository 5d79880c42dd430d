//! Everything that a caller can be told, in one table: code, status, whether to try again, what to do.

use accounts::KeyState;
use domain::Amount;
use llm::RequestError;

use crate::budgets::BudgetScope;

/// A request that was not served. Nothing was charged.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No credential.
    #[error("no API key was sent: put your virtual key into the `Authorization: Bearer` or the `x-api-key` header")]
    MissingKey,
    /// Malformed, unknown and revoked keys look alike.
    #[error("the API key is not valid: check that it was copied in full, or create a new one")]
    InvalidKey,
    /// More than one credential.
    #[error("more than one credential was sent: send the key once, as `Authorization: Bearer` or as `x-api-key`")]
    TwoCredentials,
    /// The key is known and may not be used now.
    #[error("{}", key_state_message(*.0))]
    KeyNotUsable(KeyState),
    /// The body is larger than the limit.
    #[error("the request body is larger than {limit_bytes} bytes: send less")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body did not arrive in time.
    #[error("the request body did not arrive in time: send it again")]
    BodyTimeout,
    /// The body broke off.
    #[error("the request body broke off: send it again")]
    BodyBroken,
    /// The request cannot be served as it is.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Nothing is known under the model's name.
    #[error("the model `{0}` does not exist here: GET /v1/models lists what does")]
    UnknownModel(String),
    /// The key's allow-list does not name the model.
    #[error("this key may not use the model `{0}`: use a model of its list, or another key")]
    ModelNotAllowed(String),
    /// The model exists and no offer sells it in this dialect now.
    #[error("the model `{model}` is not for sale through {dialect} now: GET /v1/models shows what is")]
    NotForSale {
        /// The model's id.
        model: String,
        /// The dialect.
        dialect: &'static str,
    },
    /// Too many requests.
    #[error("the key's limit of requests per minute is reached: try again in {retry_after_ms} ms")]
    RateLimited {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The credit does not cover the worst case of the request.
    #[error("{}", credit_message(.0))]
    InsufficientCredit(Shortfall),
    /// A budget does not cover the worst case of the request.
    #[error("{}", budget_message(*scope, shortfall))]
    BudgetExceeded {
        /// Whose budget.
        scope: BudgetScope,
        /// What it lacks.
        shortfall: Shortfall,
    },
    /// The tenant owes money.
    #[error("the account owes {0} USD: top up first, incoming credit pays that")]
    Debt(Amount),
    /// The node is stopping.
    #[error("this node is stopping: send the request again")]
    Draining,
    /// Too much waits for the database.
    #[error("the relay is overloaded: try again in a moment")]
    Overloaded,
    /// The database does not answer.
    #[error("the relay cannot reserve credit now: try again in a moment")]
    Unavailable,
    /// The node has not heard of price changes for too long.
    #[error("the prices that hold now are not confirmed on this node: try again in a moment")]
    PricesUnconfirmed,
    /// No upstream could be asked.
    #[error("no upstream for the model `{0}` is available now: try again in a moment")]
    NoCapacity(String),
    /// The upstream refused the request itself.
    #[error("{}", .0.message)]
    UpstreamRejected(Rejection),
    /// Every attempt failed.
    #[error("no upstream answered the request ({attempts} attempts): try again")]
    UpstreamFailed {
        /// How many were made.
        attempts: usize,
    },
    /// A time limit ran out before an answer began.
    #[error("the upstream did not begin to answer in time: try again, or ask for a stream")]
    UpstreamTimeout,
    /// The answer cannot be relayed.
    #[error("the upstream's answer could not be relayed: {0}")]
    BadAnswer(&'static str),
    /// A parameter in the address is not acceptable.
    #[error("the parameter `{name}` is not acceptable: {expected}")]
    BadParameter {
        /// Which.
        name: &'static str,
        /// What to write.
        expected: &'static str,
    },
    /// No such tier was ever in the price book.
    #[error("there is no customer tier `{0}`: ask the operator for its name, or leave the parameter out")]
    UnknownTier(String),
    /// Nothing is there.
    #[error("there is nothing at this address: see the documentation for the routes")]
    NoSuchRoute,
    /// The address takes another method.
    #[error("this address takes {allowed} requests only: use that method")]
    WrongMethod {
        /// The method.
        allowed: &'static str,
    },
    /// The request is unknown, or another tenant's.
    #[error("no request with this id exists")]
    UnknownRequest,
    /// Nothing is known under the incident's id.
    #[error("no incident with this id exists: GET /v1/incidents lists them")]
    UnknownIncident,
    /// The request has not ended, or no published head of the log covers it yet.
    #[error("the receipt is not ready yet: ask again a second after the request has ended")]
    ReceiptNotReady,
    /// The request is older than the transparency log.
    #[error("the request ended before the transparency log began: there is no receipt of it")]
    NoReceipt,
    /// Nothing was published yet.
    #[error("the transparency log has no head yet: ask again when a request has ended")]
    LogNotReady,
    /// No head was published then.
    #[error("no head of the log was published at this size or on this day: GET /v1/log shows the newest")]
    UnknownHead,
    /// An error of ours.
    #[error("the relay failed; the request id helps us to find out why")]
    Internal,
}

/// What credit or budget lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// What the request may cost at most.
    pub needed: Amount,
    /// What there is.
    pub available: Amount,
    /// The largest output limit that would be covered; `None` when not even the input is.
    pub affordable_output_tokens: Option<u64>,
}

/// What an upstream said about a request that it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The upstream's status.
    pub status: u16,
    /// In its own words, without anything of ours in them.
    pub message: String,
    /// Its error type, if it named one.
    pub kind: Option<String>,
    /// Its error code, if it named one.
    pub code: Option<String>,
    /// The parameter it complained about, if it named one.
    pub param: Option<String>,
}

fn key_state_message(state: KeyState) -> &'static str {
    match state {
        KeyState::Expired => "the API key has expired: create a new one",
        KeyState::TenantDisabled => "the account of this API key is disabled: contact the operator",
        _ => "the API key is disabled: enable it, or use another one",
    }
}

fn credit_message(shortfall: &Shortfall) -> String {
    format!(
        "the account has {} USD available and the request may cost {} USD: {}",
        shortfall.available,
        shortfall.needed,
        affordable_advice("add credit", shortfall.affordable_output_tokens)
    )
}

fn budget_message(scope: BudgetScope, shortfall: &Shortfall) -> String {
    let whose = match scope {
        BudgetScope::Key => "key's",
        BudgetScope::Tenant => "account's",
    };
    format!(
        "the {whose} budget has {} USD left and the request may cost {} USD: {}",
        shortfall.available,
        shortfall.needed,
        affordable_advice("have the budget raised", shortfall.affordable_output_tokens)
    )
}

fn affordable_advice(remedy: &str, tokens: Option<u64>) -> String {
    match tokens {
        Some(tokens) if tokens > 0 => format!("{remedy}, or set the output limit to at most {tokens} tokens"),
        _ => format!("{remedy}, or send a shorter input"),
    }
}

impl RelayError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Request(_) | Self::TwoCredentials | Self::BodyBroken | Self::BadParameter { .. } => 400,
            Self::MissingKey | Self::InvalidKey => 401,
            Self::InsufficientCredit(_) | Self::BudgetExceeded { .. } | Self::Debt(_) => 402,
            Self::KeyNotUsable(_) | Self::ModelNotAllowed(_) => 403,
            Self::UnknownModel(_)
            | Self::UnknownTier(_)
            | Self::NotForSale { .. }
            | Self::NoSuchRoute
            | Self::UnknownRequest
            | Self::UnknownIncident
            | Self::NoReceipt
            | Self::UnknownHead => 404,
            Self::WrongMethod { .. } => 405,
            Self::BodyTimeout => 408,
            Self::ReceiptNotReady | Self::LogNotReady => 409,
            Self::BodyTooLarge { .. } => 413,
            Self::RateLimited { .. } => 429,
            Self::UpstreamRejected(rejection) => rejection.status,
            Self::Internal => 500,
            Self::UpstreamFailed { .. } | Self::BadAnswer(_) => 502,
            Self::Draining | Self::Overloaded | Self::Unavailable | Self::PricesUnconfirmed | Self::NoCapacity(_) => {
                503
            }
            Self::UpstreamTimeout => 504,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::MissingKey => "missing_api_key",
            Self::InvalidKey => "invalid_api_key",
            Self::TwoCredentials => "two_credentials",
            Self::KeyNotUsable(KeyState::Expired) => "api_key_expired",
            Self::KeyNotUsable(KeyState::TenantDisabled) => "account_disabled",
            Self::KeyNotUsable(_) => "api_key_disabled",
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::BodyTimeout => "request_timeout",
            Self::BodyBroken => "request_broken_off",
            Self::Request(error) => error.code(),
            Self::UnknownModel(_) => "model_not_found",
            Self::ModelNotAllowed(_) => "model_not_allowed",
            Self::NotForSale { .. } => "model_not_for_sale",
            Self::RateLimited { .. } => "rate_limit_exceeded",
            Self::InsufficientCredit(_) => "insufficient_credit",
            Self::BudgetExceeded { .. } => "budget_exceeded",
            Self::Debt(_) => "account_in_debt",
            Self::Draining => "node_stopping",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "ledger_unavailable",
            Self::PricesUnconfirmed => "prices_unconfirmed",
            Self::NoCapacity(_) => "no_capacity",
            Self::UpstreamRejected(rejection) => rejection.code.as_deref().unwrap_or("upstream_rejected"),
            Self::UpstreamFailed { .. } => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::BadAnswer(_) => "bad_upstream_answer",
            Self::BadParameter { .. } => "bad_parameter",
            Self::UnknownTier(_) => "tier_not_found",
            Self::NoSuchRoute => "no_such_route",
            Self::WrongMethod { .. } => "method_not_allowed",
            Self::UnknownRequest => "request_not_found",
            Self::UnknownIncident => "incident_not_found",
            Self::ReceiptNotReady => "receipt_not_ready",
            Self::NoReceipt => "no_receipt",
            Self::LogNotReady => "log_not_ready",
            Self::UnknownHead => "head_not_found",
            Self::Internal => "internal_error",
        }
    }

    /// The parameter at fault, if one is.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Request(error) => error.field(),
            Self::UnknownModel(_) | Self::ModelNotAllowed(_) | Self::NotForSale { .. } => Some("model"),
            Self::BadParameter { name, .. } => Some(name),
            Self::UnknownTier(_) => Some("tier"),
            Self::UpstreamRejected(rejection) => rejection.param.as_deref(),
            _ => None,
        }
    }

    /// When to try again, in whole seconds; `None` when trying again unchanged is of no use.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms } => Some(retry_after_ms.div_ceil(1_000).max(1)),
            Self::Draining
            | Self::Overloaded
            | Self::Unavailable
            | Self::PricesUnconfirmed
            | Self::NoCapacity(_)
            | Self::ReceiptNotReady
            | Self::LogNotReady => Some(1),
            _ => None,
        }
    }
}
