//! The books, for reading: a tenant's balance and lots, and transactions with their entries.

use accounts::operator_tenants;
use actix_web::{get, web::Json};
use domain::{LotId, TenantId};
use ledger::{
    chart, claims,
    reading::{self, EntryView, LotView, TransactionView},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::ReadOperator,
    error::{AdminError, Answer},
    input::{Params, PathId},
    page::{Page, PageParams},
    wire::{Instant, Usd, wire_enum},
};

wire_enum! {
    /// What kind of credit a lot is. Promotional credit is spent first and never refunded.
    LotKind = chart::LotKind {
        /// Bought.
        Paid,
        /// Given.
        Promo,
    }
}

wire_enum! {
    /// Why credit is to leave a lot.
    ClaimPurpose = claims::Purpose {
        /// It is paid back.
        Refund,
        /// Its time is over.
        Expiry,
        /// It must not be used for now.
        Suspension,
    }
}

/// A tenant's credit.
#[derive(Serialize, ToSchema)]
struct Balance {
    #[schema(value_type = String)]
    tenant: TenantId,
    /// What a new request may reserve.
    available_usd: Usd,
    /// What requests under way have reserved.
    held_usd: Usd,
    /// What the tenant owes; it blocks use until paid.
    debt_usd: Usd,
    /// What is still to leave the tenant's lots when requests under way end.
    claimed_usd: Usd,
    /// Where the credit comes from, oldest first.
    lots: Vec<Lot>,
}

/// Credit from one payment or one grant.
#[derive(Serialize, ToSchema)]
struct Lot {
    #[schema(value_type = String)]
    id: LotId,
    kind: LotKind,
    granted_usd: Usd,
    /// What is left; requests under way may have reserved some of it.
    remaining_usd: Usd,
    /// When what is left expires; `null` for never. Of one kind, credit that expires first is spent first.
    #[schema(required)]
    expires_at: Option<Instant>,
    created_at: Instant,
    /// What of the rest leaves when requests under way end, oldest first. What they spend lowers it.
    claims: Vec<LotClaim>,
    /// What has left it and is suspended: a release brings it back.
    suspended_usd: Usd,
}

/// What is still to leave a lot.
#[derive(Serialize, ToSchema)]
struct LotClaim {
    purpose: ClaimPurpose,
    amount_usd: Usd,
    /// The withdrawal that it belongs to.
    reference: String,
    created_at: Instant,
}

impl From<claims::Claim> for LotClaim {
    fn from(claim: claims::Claim) -> Self {
        Self {
            purpose: claim.purpose.into(),
            amount_usd: Usd(claim.amount),
            reference: claim.reference,
            created_at: Instant(claim.created_at),
        }
    }
}

impl From<LotView> for Lot {
    fn from(view: LotView) -> Self {
        Self {
            id: view.id,
            kind: view.kind.into(),
            granted_usd: Usd(view.granted),
            remaining_usd: Usd(view.remaining),
            expires_at: view.expires_at.map(Instant),
            created_at: Instant(view.created_at),
            claims: view.claims.into_iter().map(LotClaim::from).collect(),
            suspended_usd: Usd(view.suspended),
        }
    }
}

/// A ledger transaction; its entries sum to zero.
#[derive(Serialize, ToSchema)]
struct Transaction {
    /// Counts up.
    seq: i64,
    /// Derived from what caused it.
    id: uuid::Uuid,
    /// `usage`, `operator_cost`, `grant`, ...
    kind: String,
    /// The tenant whose credit moved, if one.
    #[schema(value_type = Option<String>, required)]
    tenant: Option<TenantId>,
    /// What caused it, such as the id of a request or of a grant.
    reference: String,
    /// Who caused it.
    actor: String,
    posted_at: Instant,
    entries: Vec<Entry>,
}

/// One entry of a transaction.
#[derive(Serialize, ToSchema)]
struct Entry {
    /// The account, as `kind:subject`.
    account: String,
    /// A debit is positive, a credit negative.
    amount_usd: Usd,
}

impl From<TransactionView> for Transaction {
    fn from(view: TransactionView) -> Self {
        let entry = |entry: EntryView| Entry {
            account: entry.account,
            amount_usd: Usd(entry.amount),
        };
        Self {
            seq: view.seq,
            id: view.id,
            kind: view.kind,
            tenant: view.tenant,
            reference: view.reference,
            actor: view.actor,
            posted_at: Instant(view.at),
            entries: view.entries.into_iter().map(entry).collect(),
        }
    }
}

/// A tenant's balance and lots.
#[utoipa::path(tag = "ledger", params(("tenant_id" = String, Path)), responses((status = 200, body = Balance)))]
#[get("/tenants/{tenant_id}/balance")]
async fn get_balance(operator: ReadOperator, tenant: PathId<TenantId>) -> Answer<Json<Balance>> {
    let readers = operator.parts().database.readers();
    let tenant = tenant.0;
    let balance = reading::balance(readers, tenant)
        .await?
        .ok_or_else(|| AdminError::not_found("tenant"))?;
    let lots = reading::operator_lots(readers, tenant).await?;
    Ok(Json(Balance {
        tenant,
        available_usd: Usd(balance.available),
        held_usd: Usd(balance.held),
        debt_usd: Usd(balance.debt),
        claimed_usd: Usd(balance.claimed),
        lots: lots.into_iter().map(Lot::from).collect(),
    }))
}

/// A tenant's ledger transactions, newest first.
#[utoipa::path(
    tag = "ledger",
    params(("tenant_id" = String, Path), PageParams),
    responses((status = 200, body = Page<Transaction>))
)]
#[get("/tenants/{tenant_id}/transactions")]
async fn list_tenant_transactions(
    operator: ReadOperator,
    tenant: PathId<TenantId>,
    page: Params<PageParams>,
) -> Answer<Json<Page<Transaction>>> {
    operator_tenants::get(operator.parts().database.readers(), tenant.0).await?;
    transactions(&operator, Some(tenant.0), &page.0).await
}

/// All ledger transactions, newest first.
#[utoipa::path(tag = "ledger", params(PageParams), responses((status = 200, body = Page<Transaction>)))]
#[get("/ledger/transactions")]
async fn list_transactions(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<Transaction>>> {
    transactions(&operator, None, &page.0).await
}

async fn transactions(
    operator: &ReadOperator,
    tenant: Option<TenantId>,
    page: &PageParams,
) -> Answer<Json<Page<Transaction>>> {
    let bounds = page.bounds::<i64>()?;
    let readers = operator.parts().database.readers();
    let rows = reading::operator_transactions(readers, tenant, bounds.cursor, bounds.rows_to_read()).await?;
    Ok(Json(bounds.page(rows, |row| row.seq.to_string(), Transaction::from)))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(get_balance)
        .service(list_tenant_transactions)
        .service(list_transactions);
}
