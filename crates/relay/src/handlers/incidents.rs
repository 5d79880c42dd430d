//! `GET /v1/incidents` and what is below it: what went wrong, for everybody. No key is needed, and nothing is told about a
//! customer: counts and sums, no ids of requests.

use std::collections::HashMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query},
};
use domain::{Amount, IncidentId, RequestId, clock::UnixMs};
use incidents::{Filter, IncidentError, IncidentView, State, UpdateView};
use serde::{Deserialize, Serialize};

use crate::{
    error::RelayError,
    handlers::{
        cacheable::{Keeper, respond_cacheable},
        models::dialect_of,
    },
    parts::{Relay, RelayParts},
    price_list::Rendered,
    public_reading::Subject,
    reply::error_response,
};

/// For how long others may keep the feed, in seconds.
const MAX_AGE_S: i64 = 10;
const DEFAULT_LIMIT: u32 = 20;
const MOST: u32 = 100;
const JSON: &str = "application/json";
const RSS: &str = "application/rss+xml; charset=utf-8";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
struct ListAnswer {
    object: &'static str,
    /// The last opened first.
    data: Vec<IncidentAnswer>,
    /// Give this as `cursor` to get the next page; `null` on the last page.
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct IncidentAnswer {
    object: &'static str,
    id: IncidentId,
    /// `substitution`, `outage`, `billing_drift`, `log_restarted` or `operator`.
    kind: &'static str,
    /// `open` or `resolved`.
    state: &'static str,
    title: String,
    started_at: String,
    opened_at: String,
    resolved_at: Option<String>,
    /// How many requests it concerns.
    requests: u64,
    /// How many of them were free from the beginning.
    free_requests: u64,
    /// What the others were charged.
    charged_usd: Amount,
    /// How much of that was given back.
    refunded_usd: Amount,
    updates: Vec<UpdateAnswer>,
}

#[derive(Serialize)]
struct UpdateAnswer {
    at: String,
    text: String,
}

/// Incidents, the last opened first.
pub async fn list_incidents(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match query(&request) {
        Ok((filter, limit)) => page(&relay.parts, filter, limit).await.and_then(|page| json(&page)),
        Err(error) => Err(error),
    };
    answer(&request, JSON, Keeper::Anybody, found)
}

/// One incident.
pub async fn show_incident(relay: Data<Relay>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let found = find(&relay.parts, &id).await.and_then(|incident| json(&incident));
    answer(&request, JSON, Keeper::Anybody, found)
}

/// The same as a feed.
pub async fn show_feed(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match query(&request) {
        Ok((filter, limit)) => page(&relay.parts, filter, limit).await.map(|page| feed(&request, page)),
        Err(error) => Err(error),
    };
    answer(&request, RSS, Keeper::Caller, found)
}

fn query(request: &HttpRequest) -> Result<(Filter, u32), RelayError> {
    let bad = |name, expected| RelayError::BadParameter { name, expected };
    let query = Query::<ListQuery>::from_query(request.query_string())
        .map_err(|_| {
            bad(
                "query",
                "write only `state`, `since`, `until`, `cursor` and `limit`, each once",
            )
        })?
        .into_inner();
    let state = |text: &str| {
        let found = State::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| bad("state", "write `open` or `resolved`"))
    };
    let instant = |name, text: &str| {
        UnixMs::from_rfc3339(text).ok_or_else(|| bad(name, "write an instant such as 2026-11-21T12:00:00Z"))
    };
    let filter = Filter {
        public_only: true,
        state: query.state.as_deref().map(state).transpose()?,
        since: query.since.as_deref().map(|text| instant("since", text)).transpose()?,
        until: query.until.as_deref().map(|text| instant("until", text)).transpose()?,
        before: query
            .cursor
            .map(|text| {
                text.parse()
                    .map_err(|_| bad("cursor", "give the `next_cursor` of a page, or none"))
            })
            .transpose()?,
    };
    let limit = match query.limit {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MOST).contains(limit))
            .ok_or_else(|| bad("limit", "write a whole number from 1 to 100"))?,
    };
    Ok((filter, limit))
}

async fn page(parts: &RelayParts, filter: Filter, limit: u32) -> Result<ListAnswer, RelayError> {
    let _permit = parts.readings.permit(Subject::Incidents)?;
    let readers = parts.database.readers();
    let mut found = incidents::list(readers, &filter, limit + 1).await.map_err(unreadable)?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > shown;
    found.truncate(shown);
    let next_cursor = found.last().filter(|_| has_more).map(|last| last.id.to_string());
    Ok(ListAnswer {
        object: "list",
        data: described(parts, found).await?,
        next_cursor,
    })
}

async fn find(parts: &RelayParts, id: &str) -> Result<IncidentAnswer, RelayError> {
    let id: IncidentId = id.parse().map_err(|_| RelayError::UnknownIncident)?;
    let _permit = parts.readings.permit(Subject::Incidents)?;
    let found = incidents::find(parts.database.readers(), id, true)
        .await
        .map_err(unreadable)?;
    let described = described(parts, found.into_iter().collect()).await?;
    described.into_iter().next().ok_or(RelayError::UnknownIncident)
}

async fn described(parts: &RelayParts, found: Vec<IncidentView>) -> Result<Vec<IncidentAnswer>, RelayError> {
    let ids: Vec<IncidentId> = found.iter().map(|incident| incident.id).collect();
    let updates = incidents::updates(parts.database.readers(), &ids).await;
    let mut by_incident: HashMap<IncidentId, Vec<UpdateView>> = HashMap::new();
    for (id, update) in updates.map_err(unreadable)? {
        by_incident.entry(id).or_default().push(update);
    }
    let describe = |incident: IncidentView| {
        let updates = by_incident.remove(&incident.id).unwrap_or_default();
        describe(incident, updates)
    };
    Ok(found.into_iter().map(describe).collect())
}

fn describe(incident: IncidentView, updates: Vec<UpdateView>) -> IncidentAnswer {
    IncidentAnswer {
        object: "incident",
        id: incident.id,
        kind: incident.kind.as_str(),
        state: incident.state.as_str(),
        title: incident.title,
        started_at: incident.started_at.to_rfc3339(),
        opened_at: incident.opened_at.to_rfc3339(),
        resolved_at: incident.resolved_at.map(UnixMs::to_rfc3339),
        requests: incident.requests,
        free_requests: incident.free_requests,
        charged_usd: incident.charged,
        refunded_usd: incident.refunded,
        updates: updates
            .into_iter()
            .map(|update| UpdateAnswer {
                at: update.at.to_rfc3339(),
                text: update.text,
            })
            .collect(),
    }
}

/// The same incident is the same item: its id is the `guid`. Links lead to where the caller asked, so nobody may keep the
/// feed for others.
fn feed(request: &HttpRequest, page: ListAnswer) -> Vec<u8> {
    let scheme = match request.connection_info().scheme() {
        "https" => "https",
        _ => "http",
    };
    // not what a forwarding header says, which anybody may send
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let base = format!("{scheme}://{}/v1/incidents", host.unwrap_or_default());
    let items = page.data.into_iter().map(|incident| item(&base, incident)).collect();
    let channel = rss::Channel {
        title: "Incidents".to_owned(),
        link: base.clone(),
        description: "What went wrong, which requests it concerned, and what was given back.".to_owned(),
        items,
        ..rss::Channel::default()
    };
    channel.to_string().into_bytes()
}

fn item(base: &str, incident: IncidentAnswer) -> rss::Item {
    let mut text = format!(
        "{}; since {}; {} requests, {} of them free; {} USD given back",
        incident.state, incident.started_at, incident.requests, incident.free_requests, incident.refunded_usd
    );
    for update in &incident.updates {
        text.push_str(&format!("\n{}: {}", update.at, update.text));
    }
    rss::Item {
        title: Some(incident.title),
        link: Some(format!("{base}/{}", incident.id)),
        description: Some(text),
        guid: Some(rss::Guid {
            value: incident.id.to_string(),
            permalink: false,
        }),
        pub_date: UnixMs::from_rfc3339(&incident.opened_at).map(UnixMs::to_rfc2822),
        categories: vec![rss::Category {
            name: incident.kind.to_owned(),
            domain: None,
        }],
        ..rss::Item::default()
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, RelayError> {
    serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "incidents could not be written");
        RelayError::Internal
    })
}

fn unreadable(error: IncidentError) -> RelayError {
    tracing::error!(%error, "incidents could not be read");
    RelayError::Unavailable
}

fn answer(
    request: &HttpRequest,
    content_type: &'static str,
    keeper: Keeper,
    found: Result<Vec<u8>, RelayError>,
) -> HttpResponse {
    match found {
        Ok(body) => {
            let rendered = Rendered::new(body, None);
            respond_cacheable(&rendered, content_type, keeper, MAX_AGE_S, request.headers())
        }
        Err(error) => error_response(dialect_of(request.headers()), RequestId::generate(), &error),
    }
}
