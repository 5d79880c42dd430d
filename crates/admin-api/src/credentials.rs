//! Credentials: accounts with providers. Secrets go in and never come out.

use std::collections::HashMap;

use actix_web::{delete, get, patch, post, web::Json};
use catalog::{CredentialView, NewCredential, Outage, UpdateCredential};
use domain::{CredentialId, PoolId, clock::UnixMs, secret::SecretText};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::{Created, NoContent},
    error::Answer,
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    wire::{Instant, wire_enum},
};

wire_enum! {
    /// On what ground an account may be used.
    CredentialBasis = catalog::Basis {
        /// The operator's own API contract with the provider.
        OwnContract,
        /// A cloud marketplace subscription.
        CloudMarketplace,
        /// An agreement with a reseller.
        ResellerAgreement,
        /// No real account: the simulated provider.
        Simulated,
    }
}

/// A credential, without its secret.
#[derive(Serialize, ToSchema)]
struct Credential {
    #[schema(value_type = String, example = "cred_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: CredentialId,
    /// The pool that it serves.
    #[schema(value_type = String)]
    pool: PoolId,
    name: String,
    /// The secret's last four characters; empty when the secret is short.
    last4: String,
    /// Scheme, host and port that the secret may be sent to.
    origin: String,
    basis: CredentialBasis,
    /// Whether it is used.
    enabled: bool,
    created_at: Instant,
    /// Why the node that answers does not use it at the moment; `null` when it does. Other nodes may know otherwise.
    #[schema(required)]
    outage: Option<CredentialOutage>,
}

/// A rest after the provider has refused a credential.
#[derive(Serialize, ToSchema)]
struct CredentialOutage {
    /// When it is tried again.
    until_at: Instant,
    /// How often the provider answered 401 or 403 since the last success.
    unauthorized: u32,
    /// How often the provider answered 429 since the last success.
    rate_limited: u32,
}

impl From<Outage> for CredentialOutage {
    fn from(outage: Outage) -> Self {
        Self {
            until_at: Instant(outage.until),
            unauthorized: outage.unauthorized,
            rate_limited: outage.rate_limited,
        }
    }
}

impl Credential {
    fn new(view: CredentialView, outage: Option<Outage>) -> Self {
        Self {
            id: view.id,
            pool: view.pool,
            name: view.name,
            last4: view.last4,
            origin: view.origin,
            basis: view.basis.into(),
            enabled: view.enabled,
            created_at: Instant(view.created_at),
            outage: outage.map(CredentialOutage::from),
        }
    }
}

/// A credential to add to a pool. It starts enabled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCredential)]
struct NewCredentialInput {
    name: String,
    /// The provider's API key: 1 to 8192 visible ASCII characters. It is sealed and never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    secret: SecretText,
    basis: CredentialBasis,
}

/// What to change of a credential; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CredentialUpdate)]
struct CredentialUpdateInput {
    name: Option<String>,
    basis: Option<CredentialBasis>,
    enabled: Option<bool>,
}

/// Another secret for a credential.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CredentialRotation)]
struct CredentialRotationInput {
    /// The provider's new API key: 1 to 8192 visible ASCII characters. It is sealed and never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    secret: SecretText,
}

/// A pool's credentials, oldest first, with what this node knows of their health.
#[utoipa::path(
    tag = "credentials",
    params(("pool_id" = String, Path), PageParams),
    responses((status = 200, body = Page<Credential>))
)]
#[get("/pools/{pool_id}/credentials")]
async fn list_credentials(
    operator: ReadOperator,
    pool: PathId<PoolId>,
    page: Params<PageParams>,
) -> Answer<Json<Page<Credential>>> {
    let bounds = page.0.bounds::<CredentialId>()?;
    let parts = operator.parts();
    let readers = parts.database.readers();
    catalog::get_pool(readers, pool.0).await?;
    let rows = catalog::list_credentials(readers, Some(pool.0), bounds.cursor, bounds.rows_to_read().into()).await?;
    let outages: HashMap<_, _> = parts.catalog.health().outages(UnixMs::now()).into_iter().collect();
    Ok(Json(bounds.page(
        rows,
        |row| row.id.to_string(),
        |row| {
            let outage = outages.get(&row.id).copied();
            Credential::new(row, outage)
        },
    )))
}

/// One credential.
#[utoipa::path(
    tag = "credentials",
    params(("credential_id" = String, Path)),
    responses((status = 200, body = Credential))
)]
#[get("/credentials/{credential_id}")]
async fn get_credential(operator: ReadOperator, id: PathId<CredentialId>) -> Answer<Json<Credential>> {
    let parts = operator.parts();
    let view = catalog::get_credential(parts.database.readers(), id.0).await?;
    Ok(Json(Credential::new(view, outage_of(&parts.catalog, id.0))))
}

/// Adds a credential to a pool. Its secret is sealed for the provider's present host and sent nowhere else.
#[utoipa::path(
    tag = "credentials",
    params(("pool_id" = String, Path)),
    request_body = NewCredentialInput,
    responses((status = 201, body = Credential))
)]
#[post("/pools/{pool_id}/credentials")]
async fn create_credential(
    operator: FullOperator,
    pool: PathId<PoolId>,
    body: Body<NewCredentialInput>,
) -> Answer<Created<Credential>> {
    let NewCredentialInput { name, secret, basis } = body.0;
    let new = NewCredential {
        pool: pool.0,
        name,
        secret,
        basis: basis.into(),
    };
    let tx = operator.begin().await?;
    let key = &operator.parts().keyring.encryption;
    let view = catalog::create_credential(&tx, operator.actor(), key, new).await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(Credential::new(view, None)))
}

/// Changes a credential, but not its secret.
#[utoipa::path(
    tag = "credentials",
    params(("credential_id" = String, Path)),
    request_body = CredentialUpdateInput,
    responses((status = 200, body = Credential))
)]
#[patch("/credentials/{credential_id}")]
async fn update_credential(
    operator: FullOperator,
    id: PathId<CredentialId>,
    body: Body<CredentialUpdateInput>,
) -> Answer<Json<Credential>> {
    let CredentialUpdateInput { name, basis, enabled } = body.0;
    let update = UpdateCredential {
        name,
        basis: basis.map(Into::into),
        enabled,
    };
    let tx = operator.begin().await?;
    let view = catalog::update_credential(&tx, operator.actor(), id.0, update).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(Credential::new(view, outage_of(&operator.parts().catalog, id.0))))
}

/// Replaces a credential's secret. Requests that are under way keep the old one.
#[utoipa::path(
    tag = "credentials",
    params(("credential_id" = String, Path)),
    request_body = CredentialRotationInput,
    responses((status = 200, body = Credential))
)]
#[post("/credentials/{credential_id}/rotate")]
async fn rotate_credential(
    operator: FullOperator,
    id: PathId<CredentialId>,
    body: Body<CredentialRotationInput>,
) -> Answer<Json<Credential>> {
    let tx = operator.begin().await?;
    let key = &operator.parts().keyring.encryption;
    let view = catalog::rotate_credential(&tx, operator.actor(), key, id.0, &body.0.secret).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(Credential::new(view, outage_of(&operator.parts().catalog, id.0))))
}

/// Removes a credential and its sealed secret.
#[utoipa::path(tag = "credentials", params(("credential_id" = String, Path)), responses((status = 204)))]
#[delete("/credentials/{credential_id}")]
async fn remove_credential(operator: FullOperator, id: PathId<CredentialId>) -> Answer<NoContent> {
    let tx = operator.begin().await?;
    catalog::remove_credential(&tx, operator.actor(), id.0).await?;
    operator.commit_catalog(tx).await?;
    Ok(NoContent)
}

fn outage_of(cache: &catalog::CatalogCache, id: CredentialId) -> Option<Outage> {
    let outages = cache.health().outages(UnixMs::now());
    outages
        .into_iter()
        .find_map(|(credential, outage)| (credential == id).then_some(outage))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_credentials)
        .service(create_credential)
        .service(get_credential)
        .service(update_credential)
        .service(remove_credential)
        .service(rotate_credential);
}
