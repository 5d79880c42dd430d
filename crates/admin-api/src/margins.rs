//! Revenue, cost and margin: per model, pool, tenant or single request.

use actix_web::{get, web::Json};
use domain::{RequestId, TenantId, clock::UnixMs};
use request_log::{GroupBy, Margin, MarginFilter, operator_margins};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::ReadOperator,
    error::{AdminError, Answer},
    input::Params,
    page::{Page, page_bounds},
    reports,
    wire::{Usd, wire_enum},
};

/// A sum in nano-USD, which may be larger than any single amount. JSON form: USD as a decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct SumUsd(pub i128);

impl Serialize for SumUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let magnitude = self.0.unsigned_abs();
        let digits = format!("{:09}", magnitude % 1_000_000_000);
        let kept = digits.trim_end_matches('0').len().max(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        let fraction = digits.get(..kept).unwrap_or(&digits);
        serializer.serialize_str(&format!("{sign}{}.{fraction}", magnitude / 1_000_000_000))
    }
}

wire_enum! {
    /// What the sums are of.
    MarginGroup = GroupBy {
        /// The catalog's model.
        Model,
        /// The pool of the winning attempt.
        Pool,
        /// The tenant.
        Tenant,
        /// Every request by itself.
        Request,
    }
}

/// What a group brought in and cost.
#[derive(Serialize, ToSchema)]
struct MarginRow {
    /// The model, the pool's id, the tenant's id or the request's id. `null` where no attempt won, or where the request's
    /// node stopped before it could tell.
    #[schema(required)]
    key: Option<String>,
    /// Requests that have ended, those without a charge included.
    requests: i64,
    /// What customers paid, less what corrections have given back of it.
    #[schema(value_type = Usd)]
    revenue_usd: SumUsd,
    /// What was given as goodwill for these requests.
    #[schema(value_type = Usd)]
    goodwill_usd: SumUsd,
    /// What is owed to providers: list price times the pool's cost multiplier, and what the operator bears beside it, also
    /// what became known after the charge.
    #[schema(value_type = Usd)]
    cost_usd: SumUsd,
    /// Revenue less cost and goodwill.
    #[schema(value_type = Usd)]
    margin_usd: SumUsd,
}

impl From<Margin> for MarginRow {
    fn from(row: Margin) -> Self {
        Self {
            key: (!row.key.is_empty()).then_some(row.key),
            requests: row.requests,
            revenue_usd: SumUsd(row.revenue),
            goodwill_usd: SumUsd(row.goodwill),
            cost_usd: SumUsd(row.cost),
            margin_usd: SumUsd(row.revenue - row.cost - row.goodwill),
        }
    }
}

/// Which charges to sum.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MarginParams {
    /// Requests admitted from this instant on, as RFC 3339 text.
    #[param(format = DateTime)]
    from: String,
    /// Requests admitted before this instant; at most 31 days after `from`.
    #[param(format = DateTime)]
    to: String,
    /// What the sums are of.
    #[param(value_type = MarginGroup, inline)]
    group_by: String,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
    /// The most rows to answer, 1 to 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
}

/// Revenue, cost and margin of the requests of a window, in the order of what they are grouped by. One margin report or
/// price preview runs at a time on a node; others get 503.
#[utoipa::path(tag = "prices", params(MarginParams), responses((status = 200, body = Page<MarginRow>)))]
#[get("/margins")]
async fn list_margins(operator: ReadOperator, params: Params<MarginParams>) -> Answer<Json<Page<MarginRow>>> {
    let params = params.0;
    let window = reports::window(read_instant("from", &params.from)?, read_instant("to", &params.to)?)?;
    let group_by = MarginGroup::deserialize(serde_json::Value::from(params.group_by))
        .map_err(|_| AdminError::invalid("group_by", "expected `model`, `pool`, `tenant` or `request`"))?;
    // an empty cursor is the key of what has none
    let bounds = page_bounds::<String>(params.cursor.as_deref(), params.limit.as_deref())?;
    let filter = MarginFilter {
        window,
        group_by: group_by.into(),
        after: bounds.cursor.clone(),
    };
    check_cursor(&filter)?;
    let _turn = operator.parts().reports.begin()?;
    let rows = operator_margins(operator.parts().database.readers(), &filter, bounds.rows_to_read()).await?;
    Ok(Json(bounds.page(rows, |row| row.key.clone(), MarginRow::from)))
}

fn check_cursor(filter: &MarginFilter) -> Answer<()> {
    let fits = match (filter.group_by, &filter.after) {
        (GroupBy::Tenant, Some(cursor)) => cursor.parse::<TenantId>().is_ok(),
        (GroupBy::Request, Some(cursor)) => cursor.parse::<RequestId>().is_ok(),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(AdminError::invalid(
        "cursor",
        "give the `next_cursor` of a page of this list, or none",
    ))
}

/// An instant in a parameter.
pub(crate) fn read_instant(field: &'static str, text: &str) -> Answer<UnixMs> {
    UnixMs::from_rfc3339(text)
        .ok_or_else(|| AdminError::invalid(field, "write RFC 3339 text such as 2026-11-21T12:00:00Z"))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_margins);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_written_as_amounts_are() {
        let text = |nanos: i128| serde_json::to_string(&SumUsd(nanos)).unwrap();
        for nanos in [0, 1, -1, 1_500_000_000, -2_000_000_000, 123_456_789_012] {
            let amount = domain::Amount::from_nanos(i64::try_from(nanos).unwrap());
            assert_eq!(text(nanos), format!("\"{amount}\""));
        }
        assert_eq!(text(i128::from(i64::MAX) * 1_000), "\"9223372036854.775807\"");
    }
}
