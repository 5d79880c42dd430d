//! Nodes: which relay processes have written to the ledger, what they hold, and which are gone for good.

use actix_web::{get, post, web::Json};
use domain::NodeId;
use ledger::nodes::{self, NodeView, Retirement};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::audit;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use crate::{
    access::{FullOperator, ReadOperator},
    error::{AdminError, Answer},
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    wire::{Instant, Usd},
};

const MAX_REASON_CHARS: usize = 500;

/// A node: one data folder, and the processes that ran on it.
#[derive(Serialize, ToSchema)]
struct Node {
    #[schema(value_type = String, example = "node_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: NodeId,
    /// How often it has started.
    boots: i64,
    /// Its newest boot, as in its log.
    newest_boot: Uuid,
    /// When that boot began, by the node's own clock.
    #[schema(required)]
    booted_at: Option<Instant>,
    /// When it last wrote to the ledger. A node without requests writes nothing.
    last_commit_at: Instant,
    /// Requests for which it has reserved credit.
    open_holds: i64,
    /// How much credit that is.
    held_usd: Usd,
    /// When it was retired; `null` for a node that was not, or that has started again since.
    #[schema(required)]
    retired_at: Option<Instant>,
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        Self {
            id: view.id,
            boots: view.boots,
            newest_boot: view.newest_boot,
            booted_at: view.booted_at.map(Instant),
            last_commit_at: Instant(view.last_commit_at),
            open_holds: view.open_holds,
            held_usd: Usd(view.held),
            retired_at: view.retired_at.map(Instant),
        }
    }
}

/// Why a node is retired.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NodeRetirement)]
struct RetirementInput {
    /// For people and the audit log: 1 to 500 characters without line breaks.
    reason: String,
}

/// A node that was retired, and what becomes of its requests.
#[derive(Serialize, ToSchema)]
struct RetiredNode {
    node: Node,
    /// Open holds that it placed up to its retirement: these are closed.
    holds_to_close: i64,
    /// How much credit they reserve.
    held_to_close_usd: Usd,
    /// What happens now, for people.
    what_happens: &'static str,
}

const WHAT_HAPPENS: &str = "Any running node closes the holds that this node placed up to retired_at: a request whose \
    progress was recorded is charged up to that, any other is charged nothing, and the rest of each hold is given back. \
    The node is not stopped: if it still runs or comes back, it goes on with new holds, and of a request that both \
    close the first end counts.";

impl From<Retirement> for RetiredNode {
    fn from(retirement: Retirement) -> Self {
        Self {
            node: retirement.node.into(),
            holds_to_close: retirement.holds_to_close,
            held_to_close_usd: Usd(retirement.held_to_close),
            what_happens: WHAT_HAPPENS,
        }
    }
}

/// Nodes, newest first.
#[utoipa::path(tag = "nodes", params(PageParams), responses((status = 200, body = Page<Node>)))]
#[get("/nodes")]
async fn list_nodes(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<Node>>> {
    let bounds = page.0.bounds::<NodeId>()?;
    let readers = operator.parts().database.readers();
    let rows = nodes::list(readers, bounds.cursor, bounds.rows_to_read()).await?;
    Ok(Json(bounds.page(rows, |row| row.id.to_string(), Node::from)))
}

/// Says that a node's machine is gone for good, so that what it reserved need not wait until it is too old. Doing it
/// again changes nothing, unless the node has written to the ledger since.
#[utoipa::path(
    tag = "nodes",
    params(("node_id" = String, Path)),
    request_body = RetirementInput,
    responses((status = 200, body = RetiredNode))
)]
#[post("/nodes/{node_id}/retire")]
async fn retire_node(
    operator: FullOperator,
    id: PathId<NodeId>,
    body: Body<RetirementInput>,
) -> Answer<Json<RetiredNode>> {
    let reason = valid_reason(&body.0.reason)?;
    let tx = operator.begin().await?;
    let retirement = nodes::retire(&tx, id.0)
        .await?
        .ok_or_else(|| AdminError::not_found("node"))?;
    if retirement.is_new {
        let before = json!({ "retired_at": retirement.retired_before });
        let after = json!({
            "retired_at": retirement.node.retired_at,
            "reason": reason,
            "holds_to_close": retirement.holds_to_close,
            "held_to_close_usd": retirement.held_to_close,
        });
        let subject = id.0.to_string();
        audit::record(
            &tx,
            operator.actor(),
            "node.retire",
            &subject,
            Some(&before),
            Some(&after),
        )
        .await?;
    }
    tx.commit().await?;
    Ok(Json(retirement.into()))
}

fn valid_reason(reason: &str) -> Answer<&str> {
    let reason = reason.trim();
    if (1..=MAX_REASON_CHARS).contains(&reason.chars().count()) && !reason.chars().any(char::is_control) {
        return Ok(reason);
    }
    Err(AdminError::invalid(
        "reason",
        format!("say in 1 to {MAX_REASON_CHARS} characters without line breaks why the node is gone"),
    ))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_nodes).service(retire_node);
}
