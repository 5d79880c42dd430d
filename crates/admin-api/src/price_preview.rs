//! What a price change would have done to past usage: revenue, cost and margin before and after it.

use std::collections::HashMap;

use actix_web::{post, web::Json};
use catalog::{PriceChange, PricePreview};
use domain::{
    RequestId,
    pricing::{Circumstances, FrozenPrice, charge},
    request::RequestRecord,
};
use request_log::operator_scan;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::FullOperator,
    error::Answer,
    input::Body,
    margins::SumUsd,
    prices::PriceChangeInput,
    reports,
    wire::{Instant, Usd},
};

/// The most records that are computed again.
const MOST_RECORDS: usize = 1_000_000;
/// Records read at once.
const PAGE: u32 = 500;
/// Tenants, and models, that are kept apart. More are summed as one, so that memory is bounded.
const MOST_GROUPS: usize = 20_000;
/// How many of those that move most are answered.
const SHOWN: usize = 20;

/// A change to try on past usage.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PricePreviewInput {
    /// Requests admitted from this instant on.
    from: Instant,
    /// Requests admitted before this instant; at most 31 days after `from`.
    to: Instant,
    /// What would change, as for a new version.
    changes: Vec<PriceChangeInput>,
}

/// Sums of one side.
#[derive(Default, Clone, Copy, Serialize, ToSchema)]
struct PreviewSums {
    /// What customers would have paid.
    #[schema(value_type = Usd)]
    revenue_usd: SumUsd,
    /// What providers would have billed for it.
    #[schema(value_type = Usd)]
    cost_usd: SumUsd,
    /// Revenue less cost.
    #[schema(value_type = Usd)]
    margin_usd: SumUsd,
}

/// A tenant or a model, before and after.
#[derive(Serialize, ToSchema)]
struct PreviewMover {
    /// The tenant's or the model's id; `null` for all that were not kept apart.
    #[schema(required)]
    key: Option<String>,
    requests: u64,
    before: PreviewSums,
    after: PreviewSums,
    /// Revenue after less revenue before.
    #[schema(value_type = Usd)]
    revenue_change_usd: SumUsd,
}

/// What a change would have done.
#[derive(Serialize, ToSchema)]
struct PricePreviewAnswer {
    from: Instant,
    to: Instant,
    /// Requests that were charged and could be computed again.
    requests: u64,
    /// Requests that were charged and have no price now, before or after the change.
    requests_left_out: u64,
    /// Whether the window holds more than a million requests: then these are the first of them.
    truncated: bool,
    /// By the prices that are in force now.
    before: PreviewSums,
    /// By those prices with the changes.
    after: PreviewSums,
    /// The tenants whose payments move most.
    tenants: Vec<PreviewMover>,
    /// The models whose revenue moves most.
    models: Vec<PreviewMover>,
}

#[derive(Default, Clone, Copy)]
struct Pair {
    requests: u64,
    revenue: [i128; 2],
    cost: [i128; 2],
}

impl Pair {
    fn add(&mut self, revenue: [i128; 2], cost: [i128; 2]) {
        self.requests += 1;
        for side in 0..2 {
            self.revenue[side] += revenue[side];
            self.cost[side] += cost[side];
        }
    }

    fn sums(&self, side: usize) -> PreviewSums {
        PreviewSums {
            revenue_usd: SumUsd(self.revenue[side]),
            cost_usd: SumUsd(self.cost[side]),
            margin_usd: SumUsd(self.revenue[side] - self.cost[side]),
        }
    }

    const fn change(&self) -> i128 {
        self.revenue[1] - self.revenue[0]
    }
}

#[derive(Default)]
struct Sums {
    all: Pair,
    left_out: u64,
    tenants: HashMap<String, Pair>,
    models: HashMap<String, Pair>,
}

/// Computes past usage again, by the prices in force and by those with the changes: with the code that charges requests.
/// Nothing is published. Holds are not applied: they would have been others. One preview or margin report runs at a time
/// on a node; others get 503.
#[utoipa::path(tag = "prices", request_body = PricePreviewInput, responses((status = 200, body = PricePreviewAnswer)))]
#[post("/prices/preview")]
async fn preview_prices(operator: FullOperator, body: Body<PricePreviewInput>) -> Answer<Json<PricePreviewAnswer>> {
    let PricePreviewInput { from, to, changes } = body.0;
    let window = reports::window(from.0, to.0)?;
    let _turn = operator.parts().reports.begin()?;
    let database = &operator.parts().database;
    let changes: Vec<PriceChange> = changes.into_iter().map(PriceChange::from).collect();
    let preview = catalog::preview_prices(database, &changes, database.now().await?).await?;
    let mut sums = Sums::default();
    let mut after: Option<RequestId> = None;
    let mut read = 0;
    let truncated = loop {
        let records = operator_scan(database.readers(), window, after, PAGE).await?;
        let Some(last) = records.last() else { break false };
        if read >= MOST_RECORDS {
            break true;
        }
        read += records.len();
        after = Some(last.id);
        for record in &records {
            sums.add(&preview, record);
        }
    };
    Ok(Json(PricePreviewAnswer {
        from,
        to,
        requests: sums.all.requests,
        requests_left_out: sums.left_out,
        truncated,
        before: sums.all.sums(0),
        after: sums.all.sums(1),
        tenants: movers(sums.tenants),
        models: movers(sums.models),
    }))
}

impl Sums {
    fn add(&mut self, preview: &PricePreview, record: &RequestRecord) {
        // what was free when it failed stays free
        let Some(offer) = record.offer.filter(|_| !record.lines.is_empty()) else {
            return;
        };
        let tier = record.priced_by.as_ref().map_or("", |by| by.tier.as_str());
        let met = circumstances(record);
        let priced = |price: &Option<FrozenPrice>| {
            let charged = charge(std::slice::from_ref(price.as_ref()?), &record.usage, &met).ok()?;
            Some((charged.amount().nanos().into(), charged.provider_cost().nanos().into()))
        };
        let [before, after] = preview.prices(offer, tier);
        let (Some((revenue_before, cost_before)), Some((revenue_after, cost_after))) =
            (priced(&before), priced(&after))
        else {
            self.left_out += 1;
            return;
        };
        let (revenue, cost) = ([revenue_before, revenue_after], [cost_before, cost_after]);
        self.all.add(revenue, cost);
        group(&mut self.tenants, record.tenant.to_string()).add(revenue, cost);
        group(&mut self.models, record.model.clone()).add(revenue, cost);
    }
}

/// Records of earlier releases do not say how the request was served: then it was the ordinary way.
fn circumstances(record: &RequestRecord) -> Circumstances {
    let ended_at = record.started_at.plus_ms(record.duration_ms.into());
    record
        .priced_by
        .as_ref()
        .map_or_else(|| Circumstances::at(ended_at), domain::request::PricedBy::circumstances)
}

/// The sums of a key, or of all that are not kept apart.
fn group(groups: &mut HashMap<String, Pair>, key: String) -> &mut Pair {
    let is_kept = groups.len() < MOST_GROUPS || groups.contains_key(&key);
    groups.entry(if is_kept { key } else { String::new() }).or_default()
}

fn movers(groups: HashMap<String, Pair>) -> Vec<PreviewMover> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(one, pair), (other, of_other)| {
        let order = of_other.change().unsigned_abs().cmp(&pair.change().unsigned_abs());
        order.then_with(|| one.cmp(other))
    });
    let shown = groups.into_iter().take(SHOWN).map(|(key, pair)| PreviewMover {
        key: (!key.is_empty()).then_some(key),
        requests: pair.requests,
        before: pair.sums(0),
        after: pair.sums(1),
        revenue_change_usd: SumUsd(pair.change()),
    });
    shown.collect()
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(preview_prices);
}
