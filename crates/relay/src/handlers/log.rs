//! `GET /v1/log` and what is below it: the transparency log, for everybody. No key is needed; a leaf shows others only a
//! hash with a salt, and of batches only their roots are listed.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query},
};
use domain::{RequestId, clock::UnixMs};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use store::StoreError;
use transparency::{Hash, SignedHead};
use transparency_log::{EntryView, HeadRow};
use uuid::Uuid;

use crate::{
    error::RelayError,
    handlers::models::dialect_of,
    parts::{Relay, RelayParts},
    public_reading::Subject,
    reply::error_response,
};

/// For how long others may keep what changes, in seconds.
const FRESH_S: u32 = 1;
/// For how long others may keep what only another log could change, in seconds.
const FINAL_S: u32 = 300;
const DAY_MS: i64 = 86_400_000;
const MOST_ENTRIES: u64 = 1_000;

#[derive(Serialize)]
struct LogAnswer {
    object: &'static str,
    id: Uuid,
    /// The newest published one; `null` before the first.
    head: Option<SignedHead>,
    /// The log in use last. Another one begins only after a loss, and says why.
    logs: Vec<LogView>,
}

#[derive(Serialize)]
struct LogView {
    id: Uuid,
    created_at: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DayQuery {
    day: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyQuery {
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct ConsistencyAnswer {
    log: Uuid,
    from: u64,
    to: u64,
    path: Vec<Hash>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    from: u64,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct EntriesAnswer {
    log: Uuid,
    /// How many there are in the newest published head.
    size: u64,
    entries: Vec<EntryView>,
}

/// The log and its newest head.
pub async fn show_log(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    answer(&request, FRESH_S, newest(&relay.parts).await)
}

/// The head at a size.
pub async fn show_head(relay: Data<Relay>, request: HttpRequest, size: Path<String>) -> HttpResponse {
    answer(&request, FINAL_S, head_at(&relay.parts, &size).await)
}

/// The head of a day: the first after its 00:00 UTC.
pub async fn show_day_head(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match parsed(&request, "day", "write a day such as 2026-11-21") {
        Ok(query) => day_head(&relay.parts, query).await,
        Err(error) => Err(error),
    };
    answer(&request, FRESH_S, found)
}

/// The proof that the log only grew between two sizes.
pub async fn show_consistency(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match parsed(&request, "from", "write `from` and `to`, two sizes of the log") {
        Ok(query) => consistency(&relay.parts, query).await,
        Err(error) => Err(error),
    };
    answer(&request, FINAL_S, found)
}

/// Batches in their order, for mirrors.
pub async fn list_entries(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match parsed(
        &request,
        "from",
        "write `from` and, if you like, `limit`: whole numbers",
    ) {
        Ok(query) => entries(&relay.parts, query).await,
        Err(error) => Err(error),
    };
    answer(&request, FRESH_S, found)
}

/// The keys that sign and signed heads.
pub async fn show_keys(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match relay.parts.readings.permit(Subject::History) {
        Ok(_permit) => transparency_log::key_list(&relay.parts.database)
            .await
            .map_err(unreadable),
        Err(error) => Err(error),
    };
    answer(&request, 60, found)
}

async fn newest(parts: &RelayParts) -> Result<LogAnswer, RelayError> {
    let _permit = parts.readings.permit(Subject::History)?;
    let logs = transparency_log::logs(&parts.database).await.map_err(unreadable)?;
    let id = logs.last().ok_or(RelayError::LogNotReady)?.id;
    let head = transparency_log::newest_head(&parts.database)
        .await
        .map_err(unreadable)?;
    Ok(LogAnswer {
        object: "log",
        id,
        head: head.and_then(|head| head.published()),
        logs: logs
            .into_iter()
            .map(|log| LogView {
                id: log.id,
                created_at: UnixMs(log.created_at_ms).to_rfc3339(),
                reason: log.reason,
            })
            .collect(),
    })
}

async fn head_at(parts: &RelayParts, size: &str) -> Result<SignedHead, RelayError> {
    let size: u64 = size.parse().map_err(|_| RelayError::UnknownHead)?;
    let _permit = parts.readings.permit(Subject::History)?;
    let head = transparency_log::head_at(&parts.database, size).await;
    head.map_err(unreadable)?
        .and_then(|head| head.published())
        .ok_or(RelayError::UnknownHead)
}

async fn day_head(parts: &RelayParts, query: DayQuery) -> Result<SignedHead, RelayError> {
    let start = (query.day.len() == 10)
        .then(|| UnixMs::from_rfc3339(&format!("{}T00:00:00Z", query.day)))
        .flatten();
    let UnixMs(start) = start.ok_or(RelayError::BadParameter {
        name: "day",
        expected: "write a day such as 2026-11-21",
    })?;
    let _permit = parts.readings.permit(Subject::History)?;
    let head = transparency_log::day_head(&parts.database, (start, start + DAY_MS)).await;
    head.map_err(unreadable)?
        .and_then(|head| head.published())
        .ok_or(RelayError::UnknownHead)
}

async fn consistency(parts: &RelayParts, query: ConsistencyQuery) -> Result<ConsistencyAnswer, RelayError> {
    let _permit = parts.readings.permit(Subject::History)?;
    let head = newest_or_none(parts).await?;
    let ConsistencyQuery { from, to } = query;
    if from > to || to > head.head.size {
        return Err(RelayError::BadParameter {
            name: "to",
            expected: "write sizes up to the newest head's, the smaller one as `from`",
        });
    }
    let path = transparency_log::consistency(&parts.database, head.log_no, from, to).await;
    Ok(ConsistencyAnswer {
        log: head.head.log,
        from,
        to,
        path: path.map_err(unreadable)?.unwrap_or_default(),
    })
}

async fn entries(parts: &RelayParts, query: EntriesQuery) -> Result<EntriesAnswer, RelayError> {
    let _permit = parts.readings.permit(Subject::History)?;
    let head = newest_or_none(parts).await?;
    let limit = query.limit.unwrap_or(MOST_ENTRIES).min(MOST_ENTRIES);
    let entries = transparency_log::entries(&parts.database, &head, query.from, limit).await;
    Ok(EntriesAnswer {
        log: head.head.log,
        size: head.head.size,
        entries: entries.map_err(unreadable)?,
    })
}

async fn newest_or_none(parts: &RelayParts) -> Result<HeadRow, RelayError> {
    let head = transparency_log::newest_head(&parts.database)
        .await
        .map_err(unreadable)?;
    head.ok_or(RelayError::LogNotReady)
}

fn parsed<T: DeserializeOwned>(
    request: &HttpRequest,
    name: &'static str,
    expected: &'static str,
) -> Result<T, RelayError> {
    Query::<T>::from_query(request.query_string())
        .map(Query::into_inner)
        .map_err(|_| RelayError::BadParameter { name, expected })
}

fn unreadable(error: StoreError) -> RelayError {
    tracing::error!(%error, "the transparency log could not be read");
    RelayError::Unavailable
}

fn answer<T: Serialize>(request: &HttpRequest, max_age_s: u32, found: Result<T, RelayError>) -> HttpResponse {
    match found {
        Ok(body) => HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, format!("public, max-age={max_age_s}")))
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .json(body),
        Err(error) => error_response(dialect_of(request.headers()), RequestId::generate(), &error),
    }
}
