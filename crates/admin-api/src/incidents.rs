//! Incidents: what went wrong and how it goes on. Rules open some of them, operators others.

use actix_web::{get, post, web::Json};
use domain::{IncidentId, clock::UnixMs};
use incidents::{Filter, IncidentView, NewIncident, UpdateView};
use serde::{Deserialize, Serialize};
use store::Tx;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    done_once::do_once,
    error::{AdminError, Answer},
    input::{Body, IdempotencyKey, Params, PathId},
    page::{Page, page_bounds},
    wire::{Instant, Usd, wire_enum},
};

wire_enum! {
    /// What an incident is about.
    IncidentKind = incidents::Kind {
        /// An upstream answered as another model than the one that was sold; the subject is the offer.
        Substitution,
        /// A provider fails; the subject is its slug.
        Outage,
        /// A provider billed something else than was booked; the subject is the statement.
        BillingDrift,
        /// Another transparency log has begun; the subject is its id.
        LogRestarted,
        /// What an operator opened.
        Operator,
    }
}

wire_enum! {
    /// Whether an incident lasts.
    IncidentState = incidents::State {
        /// It lasts.
        Open,
        /// It is over.
        Resolved,
    }
}

/// An incident.
#[derive(Serialize, ToSchema)]
struct Incident {
    #[schema(value_type = String, example = "inc_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: IncidentId,
    kind: IncidentKind,
    /// An offer, a provider's slug, a statement, or the incident itself.
    subject: String,
    state: IncidentState,
    title: String,
    /// Whether everybody may read it at `GET /v1/incidents`.
    public: bool,
    started_at: Instant,
    opened_at: Instant,
    updated_at: Instant,
    #[schema(required)]
    resolved_at: Option<Instant>,
    /// When the rule took its subject out of sale last.
    #[schema(required)]
    taken_out_at: Option<Instant>,
    /// How many requests it concerns.
    requests: u64,
    /// How many of them were free from the beginning.
    free_requests: u64,
    /// What the others were charged.
    charged_usd: Usd,
    /// How much of that was given back.
    refunded_usd: Usd,
    /// What was said about it, in order; `null` in lists.
    #[schema(required)]
    updates: Option<Vec<IncidentUpdate>>,
}

/// What was said about an incident at one time.
#[derive(Serialize, ToSchema)]
struct IncidentUpdate {
    at: Instant,
    actor: String,
    text: String,
}

impl Incident {
    fn of(view: IncidentView, updates: Option<Vec<UpdateView>>) -> Self {
        let say = |update: UpdateView| IncidentUpdate {
            at: Instant(update.at),
            actor: update.actor,
            text: update.text,
        };
        Self {
            id: view.id,
            kind: view.kind.into(),
            subject: view.subject,
            state: view.state.into(),
            title: view.title,
            public: view.is_public,
            started_at: Instant(view.started_at),
            opened_at: Instant(view.opened_at),
            updated_at: Instant(view.updated_at),
            resolved_at: view.resolved_at.map(Instant),
            taken_out_at: view.acted_at.map(Instant),
            requests: view.requests,
            free_requests: view.free_requests,
            charged_usd: Usd(view.charged),
            refunded_usd: Usd(view.refunded),
            updates: updates.map(|updates| updates.into_iter().map(say).collect()),
        }
    }
}

/// An incident to open.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewIncident)]
struct NewIncidentInput {
    /// In a line, at most 200 characters. Everybody may read it: name no customer.
    title: String,
    /// What is known, at most 4000 characters. Everybody may read it: name no customer.
    text: String,
    /// When it began; now when left out.
    started_at: Option<Instant>,
    /// Whether everybody may read it; yes when left out.
    public: Option<bool>,
}

/// What there is to say about an incident.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IncidentText {
    /// At most 4000 characters. Everybody may read it: name no customer.
    text: String,
}

/// Which incidents to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct IncidentParams {
    /// `open` or `resolved`; both when left out.
    state: Option<String>,
    /// Only those that were opened since, as RFC 3339 text.
    since: Option<String>,
    /// Only those that were opened before, as RFC 3339 text.
    until: Option<String>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
    /// The most rows to answer, 1 to 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
}

/// Incidents, the last opened first.
#[utoipa::path(tag = "incidents", params(IncidentParams), responses((status = 200, body = Page<Incident>)))]
#[get("/incidents")]
async fn list_incidents(operator: ReadOperator, params: Params<IncidentParams>) -> Answer<Json<Page<Incident>>> {
    let params = params.0;
    let bounds = page_bounds::<IncidentId>(params.cursor.as_deref(), params.limit.as_deref())?;
    let instant = |name: &'static str, text: Option<String>| {
        text.map(|text| {
            UnixMs::from_rfc3339(&text)
                .ok_or_else(|| AdminError::invalid(name, "write an instant such as 2026-11-21T12:00:00Z"))
        })
        .transpose()
    };
    let state = params
        .state
        .map(|text| {
            incidents::State::ALL
                .into_iter()
                .find(|state| state.as_str() == text)
                .ok_or_else(|| AdminError::invalid("state", "write `open` or `resolved`"))
        })
        .transpose()?;
    let filter = Filter {
        public_only: false,
        state,
        since: instant("since", params.since)?,
        until: instant("until", params.until)?,
        before: bounds.cursor,
    };
    let readers = operator.parts().database.readers();
    let rows = incidents::list(readers, &filter, bounds.rows_to_read()).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.id.to_string(),
        |row| Incident::of(row, None),
    )))
}

/// One incident.
#[utoipa::path(tag = "incidents", params(("incident_id" = String, Path)), responses((status = 200, body = Incident)))]
#[get("/incidents/{incident_id}")]
async fn get_incident(operator: ReadOperator, id: PathId<IncidentId>) -> Answer<Json<Incident>> {
    let told = incidents::tell(operator.parts().database.readers(), id.0).await?;
    Ok(Json(told.into()))
}

impl From<(IncidentView, Vec<UpdateView>)> for Incident {
    fn from((view, updates): (IncidentView, Vec<UpdateView>)) -> Self {
        Self::of(view, Some(updates))
    }
}

/// Opens an incident. The same idempotency key with the same content gets the same answer and changes nothing.
#[utoipa::path(
    tag = "incidents",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable characters: new for every incident, the same for every repetition of it",
        min_length = 1, max_length = 255)),
    request_body = NewIncidentInput,
    responses((status = 201, body = Incident))
)]
#[post("/incidents")]
async fn open_incident(
    operator: FullOperator,
    key: IdempotencyKey,
    body: Body<NewIncidentInput>,
) -> Answer<Created<serde_json::Value>> {
    let input = body.0;
    let work = async |tx: &Tx| {
        let new = NewIncident {
            kind: incidents::Kind::Operator,
            subject: String::new(),
            title: input.title.clone(),
            text: input.text.clone(),
            started_at: match input.started_at {
                Some(at) => at.0,
                None => tx.now().await?,
            },
            is_public: input.public.unwrap_or(true),
        };
        let (id, _) = incidents::open(tx, operator.actor(), &new).await?;
        Ok(Incident::from(incidents::tell(tx.connection(), id).await?))
    };
    do_once(&operator, "incident", &key, &input, work).await
}

/// Says how an open incident goes on. The same idempotency key with the same content changes nothing.
#[utoipa::path(
    tag = "incidents",
    params(
        ("incident_id" = String, Path),
        ("Idempotency-Key" = String, Header,
            description = "1 to 255 printable characters: new for every update, the same for every repetition of it",
            min_length = 1, max_length = 255)
    ),
    request_body = IncidentText,
    responses((status = 201, body = Incident))
)]
#[post("/incidents/{incident_id}/updates")]
async fn add_update(
    operator: FullOperator,
    id: PathId<IncidentId>,
    key: IdempotencyKey,
    body: Body<IncidentText>,
) -> Answer<Created<serde_json::Value>> {
    let text = &body.0.text;
    let work = async |tx: &Tx| {
        incidents::add_update(tx, operator.actor(), id.0, text).await?;
        Ok(Incident::from(incidents::tell(tx.connection(), id.0).await?))
    };
    do_once(&operator, "incident update", &key, &(id.0, text), work).await
}

/// Says that an incident is over, and how it ended. One that is over stays as it is.
#[utoipa::path(
    tag = "incidents",
    params(("incident_id" = String, Path)),
    request_body = IncidentText,
    responses((status = 200, body = Incident))
)]
#[post("/incidents/{incident_id}/resolve")]
async fn resolve_incident(
    operator: FullOperator,
    id: PathId<IncidentId>,
    body: Body<IncidentText>,
) -> Answer<Json<Incident>> {
    let tx = operator.begin().await?;
    incidents::resolve(&tx, operator.actor(), id.0, &body.0.text).await?;
    let incident = incidents::tell(tx.connection(), id.0).await?.into();
    tx.commit().await?;
    Ok(Json(incident))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_incidents)
        .service(open_incident)
        .service(get_incident)
        .service(add_update)
        .service(resolve_incident);
}
