//! What a demo needs in its database. Every step makes only what is missing, so a demo that was killed in the middle
//! of its first start is completed by the next.

use accounts::{
    KeySettings, NewTenant, OperatorRole, PlainKey, PlainToken, Tenant, operator_keys, operator_tenants,
    operator_tokens,
};
use catalog::{
    Basis, NewCredential, NewOffer, NewPool, NewProvider, OfferFilter, PoolView, ProviderView, UpdateProvider,
};
use domain::{Amount, PoolId, ProviderId, request::Dialect, secret::SecretText};
use ledger::movements::{Grant, GrantKind, grant, open_account};
use store::{Database, Tx, audit::Actor, keyring::Keyring};

/// The provider, its pool and the tenant are found again by these.
const PROVIDER: &str = "simulated";
const TENANT: &str = "Demo";
/// Credit of a new demo, in USD.
const CREDIT_USD: i64 = 5;
const PAGE: u64 = 200;

/// A model of a demo, and whose price list it follows.
struct DemoModel {
    id: &'static str,
    vendor: &'static str,
}

/// One inexpensive model per wire format first: the banner's lines use them.
const MODELS: [DemoModel; 4] = [
    DemoModel {
        id: OPENAI_MODEL,
        vendor: "openai",
    },
    DemoModel {
        id: ANTHROPIC_MODEL,
        vendor: "anthropic",
    },
    DemoModel {
        id: "openai/gpt-4o-mini",
        vendor: "openai",
    },
    DemoModel {
        id: "anthropic/claude-sonnet-4.5",
        vendor: "anthropic",
    },
];
/// Answers in OpenAI's format.
pub const OPENAI_MODEL: &str = "openai/gpt-5-mini";
/// Answers in Anthropic's format.
pub const ANTHROPIC_MODEL: &str = "anthropic/claude-haiku-4.5";

/// What a demo prints. The secrets are shown there and kept nowhere.
pub struct Seeded {
    /// A new virtual key of the tenant.
    pub key: PlainKey,
    /// A new token for the admin API.
    pub operator: PlainToken,
    /// What the tenant has.
    pub balance: Amount,
    /// Whether the folder had a demo before.
    pub is_first: bool,
}

/// Makes what is missing, and issues a new key and token: those of earlier starts cannot be shown again.
///
/// # Errors
/// What the database says.
pub async fn seed(database: &Database, keyring: &Keyring, base_url: &str) -> anyhow::Result<Seeded> {
    let tx = database.begin().await?;
    let actor = Actor::system("demo");
    catalog::seed_models(&tx).await?;
    let provider = provider(&tx, &actor, base_url).await?;
    let pool = pool(&tx, &actor, provider.id).await?;
    credential(&tx, &actor, keyring, &pool, base_url).await?;
    offers(&tx, &actor, pool.id).await?;
    let (tenant, is_first) = tenant(&tx, &actor).await?;
    let name = KeySettings {
        name: "demo".to_owned(),
        ..KeySettings::default()
    };
    let (_, key) = operator_keys::create(&tx, &actor, &keyring.pepper, tenant.id, name).await?;
    let (_, operator) = operator_tokens::create(&tx, &actor, &keyring.pepper, "demo", OperatorRole::Full).await?;
    tx.commit().await?;
    let balance = ledger::reading::balance(database.readers(), tenant.id)
        .await?
        .unwrap_or_default();
    Ok(Seeded {
        key,
        operator,
        balance: balance.available,
        is_first,
    })
}

/// The simulated provider, at the address that it has this time.
async fn provider(tx: &Tx, actor: &Actor, base_url: &str) -> anyhow::Result<ProviderView> {
    let Some(known) = catalog::get_provider_by_slug(tx.connection(), PROVIDER).await? else {
        let new = NewProvider {
            slug: PROVIDER.to_owned(),
            name: "Simulated provider".to_owned(),
            formats: vec![Dialect::OpenaiChat, Dialect::AnthropicMessages],
            base_url: base_url.to_owned(),
            allow_private_address: true,
        };
        return Ok(catalog::create_provider(tx, actor, new).await?);
    };
    if known.base_url.as_str().trim_end_matches('/') == base_url {
        return Ok(known);
    }
    // a credential belongs to its provider's address, so those of the old one go before the address changes
    for pool in pools_of(tx, known.id).await? {
        for credential in catalog::list_credentials(tx.connection(), Some(pool.id), None, PAGE).await? {
            catalog::remove_credential(tx, actor, credential.id).await?;
        }
    }
    let update = UpdateProvider {
        base_url: Some(base_url.to_owned()),
        ..UpdateProvider::default()
    };
    Ok(catalog::update_provider(tx, actor, known.id, update).await?)
}

async fn pools_of(tx: &Tx, provider: ProviderId) -> anyhow::Result<Vec<PoolView>> {
    let pools = catalog::list_pools(tx.connection(), None, PAGE).await?;
    Ok(pools.into_iter().filter(|pool| pool.provider == provider).collect())
}

async fn pool(tx: &Tx, actor: &Actor, provider: ProviderId) -> anyhow::Result<PoolView> {
    if let Some(pool) = pools_of(tx, provider).await?.into_iter().next() {
        return Ok(pool);
    }
    let new = NewPool {
        provider,
        name: PROVIDER.to_owned(),
        multiplier: "1".parse()?,
    };
    Ok(catalog::create_pool(tx, actor, new).await?)
}

async fn credential(tx: &Tx, actor: &Actor, keyring: &Keyring, pool: &PoolView, base_url: &str) -> anyhow::Result<()> {
    if !catalog::list_credentials(tx.connection(), Some(pool.id), None, 1)
        .await?
        .is_empty()
    {
        return Ok(());
    }
    let new = NewCredential {
        pool: pool.id,
        name: format!("simulator at {base_url}"),
        // the simulator takes any key; a random one, so that no secret is the same in two installations
        secret: SecretText::new(format!("simulated-{}", uuid::Uuid::new_v4().simple())),
        basis: Basis::Simulated,
    };
    catalog::create_credential(tx, actor, &keyring.encryption, new).await?;
    Ok(())
}

async fn offers(tx: &Tx, actor: &Actor, pool: PoolId) -> anyhow::Result<()> {
    let filter = OfferFilter {
        pool: Some(pool),
        ..OfferFilter::default()
    };
    let offered = catalog::list_offers(tx.connection(), &filter, None, PAGE).await?;
    for model in &MODELS {
        if offered.iter().any(|offer| offer.model == model.id) {
            continue;
        }
        // at the vendor's own list prices
        let new = NewOffer {
            template: Some(model.vendor.to_owned()),
            ..NewOffer::of(model.id, pool)
        };
        catalog::create_offer(tx, actor, new).await?;
    }
    Ok(())
}

/// The demo's tenant, with its credit; and whether it is new.
async fn tenant(tx: &Tx, actor: &Actor) -> anyhow::Result<(Tenant, bool)> {
    let known = operator_tenants::list(tx.connection(), None, PAGE).await?;
    if let Some(tenant) = known.into_iter().find(|tenant| tenant.name == TENANT) {
        return Ok((tenant, false));
    }
    let tenant = operator_tenants::create(
        tx,
        actor,
        NewTenant {
            name: TENANT.to_owned(),
            tier: None,
            budget: None,
        },
    )
    .await?;
    // the demo keeps no archive
    drop(open_account(tx, tenant.id).await?);
    let gift = Grant {
        tenant: tenant.id,
        amount: Amount::from_usd(CREDIT_USD),
        kind: GrantKind::Promotion,
        expires_at: None,
        source: "demo".to_owned(),
    };
    let granted = grant(tx, actor, &gift).await?;
    let after = serde_json::json!({ "kind": "promotion", "amount_usd": gift.amount, "source": gift.source });
    tracing::debug!(available = %granted.available, "the demo's tenant has credit");
    store::audit::record(tx, actor, "grant.create", &tenant.id.to_string(), None, Some(&after)).await?;
    Ok((tenant, true))
}
