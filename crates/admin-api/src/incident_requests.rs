//! Which requests an incident concerns: looking at them, and attaching more.

use std::collections::HashMap;

use actix_web::{get, post, web::Json};
use domain::{
    IncidentId, RequestId, TenantId,
    request::{Reason, RequestRecord},
};
use incidents::{Link, LinkView};
use ledger::reading;
use request_log::Window;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    error::{AdminError, Answer},
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    requests::RequestReason,
    wire::{Instant, Usd},
};

/// Requests that are looked at in one call; a filter that finds more goes on from where it was.
const MOST_SCANNED: usize = 10_000;
const SCAN_PAGE: u32 = 500;
const LONGEST_PERIOD_MS: i64 = 31 * 86_400_000;

/// A request that an incident concerns.
#[derive(Serialize, ToSchema)]
struct IncidentRequest {
    #[schema(value_type = String)]
    request: RequestId,
    #[schema(value_type = String)]
    tenant: TenantId,
    charged_usd: Usd,
    refunded_usd: Usd,
    /// The model that the upstream named instead of the one that was sold; empty where that is not the point.
    reported: String,
}

impl From<LinkView> for IncidentRequest {
    fn from(view: LinkView) -> Self {
        Self {
            request: view.link.request,
            tenant: view.link.tenant,
            charged_usd: Usd(view.link.charged),
            refunded_usd: Usd(view.refunded),
            reported: view.link.reported,
        }
    }
}

/// Requests to attach: by their ids, or all of a period that fit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AttachInput {
    /// At most 500 ids.
    #[schema(value_type = Option<Vec<String>>)]
    requests: Option<Vec<RequestId>>,
    /// Which of a period.
    filter: Option<AttachFilter>,
}

/// Which requests of a period.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AttachFilter {
    /// Admitted since.
    from: Instant,
    /// Admitted before; at most 31 days later.
    to: Instant,
    /// The catalog's model.
    model: Option<String>,
    /// The slug of the provider that answered.
    provider: Option<String>,
    /// How they ended.
    reason: Option<RequestReason>,
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// `next_cursor` of the call before.
    #[schema(value_type = Option<String>)]
    cursor: Option<RequestId>,
}

/// What was attached.
#[derive(Serialize, ToSchema)]
struct Attached {
    /// How many were not attached before.
    attached: u64,
    /// Give this as `cursor` to go on; `null` when the whole period was looked at.
    #[schema(value_type = Option<String>, required)]
    next_cursor: Option<RequestId>,
}

/// The requests that an incident concerns, oldest first.
#[utoipa::path(
    tag = "incidents",
    params(("incident_id" = String, Path), PageParams),
    responses((status = 200, body = Page<IncidentRequest>))
)]
#[get("/incidents/{incident_id}/requests")]
async fn list_incident_requests(
    operator: ReadOperator,
    id: PathId<IncidentId>,
    params: Params<PageParams>,
) -> Answer<Json<Page<IncidentRequest>>> {
    let bounds = params.0.bounds::<RequestId>()?;
    let readers = operator.parts().database.readers();
    let rows = incidents::linked(readers, id.0, bounds.cursor, bounds.rows_to_read()).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.link.request.to_string(),
        IncidentRequest::from,
    )))
}

/// Attaches requests that have ended to an incident, each once however often it is sent.
#[utoipa::path(
    tag = "incidents",
    params(("incident_id" = String, Path)),
    request_body = AttachInput,
    responses((status = 200, body = Attached))
)]
#[post("/incidents/{incident_id}/requests")]
async fn attach_requests(
    operator: FullOperator,
    id: PathId<IncidentId>,
    body: Body<AttachInput>,
) -> Answer<Json<Attached>> {
    match (body.0.requests, body.0.filter) {
        (Some(requests), None) => attach_named(&operator, id.0, requests).await,
        (None, Some(filter)) => attach_filtered(&operator, id.0, &filter).await,
        _ => Err(AdminError::invalid("requests", "give either `requests` or `filter`")),
    }
    .map(Json)
}

async fn attach_named(operator: &FullOperator, id: IncidentId, requests: Vec<RequestId>) -> Answer<Attached> {
    if requests.len() > 500 {
        return Err(AdminError::invalid("requests", "give at most 500 ids"));
    }
    let readers = operator.parts().database.readers();
    let charges = reading::operator_charges(readers, &requests).await?;
    let links: Vec<Link> = charges
        .iter()
        .map(|charge| Link {
            request: charge.row.request,
            tenant: charge.row.tenant,
            charged: charge.row.amount,
            reported: String::new(),
        })
        .collect();
    if let Some(unknown) = requests
        .iter()
        .find(|id| !links.iter().any(|link| link.request == **id))
    {
        return Err(AdminError::invalid(
            "requests",
            format!("{unknown} is unknown or has not ended"),
        ));
    }
    Ok(Attached {
        attached: attach(operator, id, &links).await?,
        next_cursor: None,
    })
}

async fn attach_filtered(operator: &FullOperator, id: IncidentId, filter: &AttachFilter) -> Answer<Attached> {
    let (from, to) = (filter.from.0, filter.to.0);
    if from >= to || to.0.saturating_sub(from.0) > LONGEST_PERIOD_MS {
        return Err(AdminError::invalid(
            "filter.to",
            "write an instant after `from`, at most 31 days later",
        ));
    }
    let readers = operator.parts().database.readers();
    let mut done = Attached {
        attached: 0,
        next_cursor: filter.cursor,
    };
    let mut scanned = 0;
    while scanned < MOST_SCANNED {
        let page = request_log::operator_scan(readers, Window { from, to }, done.next_cursor, SCAN_PAGE).await?;
        let is_last = page.len() < usize::try_from(SCAN_PAGE).unwrap_or(usize::MAX);
        scanned += page.len();
        done.next_cursor = page.last().map(|record| record.id);
        let fitting: Vec<&RequestRecord> = page.iter().filter(|record| fits(record, filter)).collect();
        let ids: Vec<RequestId> = fitting.iter().map(|record| record.id).collect();
        let charges = reading::operator_charges(readers, &ids).await?;
        let charged: HashMap<RequestId, _> = charges
            .iter()
            .map(|charge| (charge.row.request, charge.row.amount))
            .collect();
        let links: Vec<Link> = fitting
            .into_iter()
            .filter_map(|record| {
                Some(Link {
                    request: record.id,
                    tenant: record.tenant,
                    charged: *charged.get(&record.id)?,
                    reported: String::new(),
                })
            })
            .collect();
        done.attached += attach(operator, id, &links).await?;
        if is_last {
            done.next_cursor = None;
            break;
        }
    }
    Ok(done)
}

fn fits(record: &RequestRecord, filter: &AttachFilter) -> bool {
    filter.model.as_ref().is_none_or(|model| *model == record.model)
        && filter
            .provider
            .as_ref()
            .is_none_or(|provider| Some(provider) == record.provider.as_ref())
        && filter.reason.is_none_or(|reason| Reason::from(reason) == record.reason)
        && filter.tenant.is_none_or(|tenant| tenant == record.tenant)
}

/// One page in one transaction, audited.
async fn attach(operator: &FullOperator, id: IncidentId, links: &[Link]) -> Answer<u64> {
    let tx = operator.begin().await?;
    let attached = incidents::attach(&tx, id, links).await?;
    if attached > 0 {
        let after = serde_json::json!({ "attached": attached });
        store::audit::record(
            &tx,
            operator.actor(),
            "incident.attach",
            &id.to_string(),
            None,
            Some(&after),
        )
        .await?;
    }
    tx.commit().await?;
    Ok(attached)
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_incident_requests).service(attach_requests);
}
