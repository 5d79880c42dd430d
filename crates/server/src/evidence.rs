//! What the rules of incidents go by: the request log's rows, the ledger's, and the catalog's offers.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use catalog::{CatalogCache, CatalogError, UpdateOffer};
use domain::{Amount, OfferId, RequestId, clock::UnixMs, request::RequestRecord, upstream_failure::failed_providers};
use incidents::{Evidence, Failure, RestartedLog, Substitution};
use store::{Database, StoreError, Tx, audit::Actor};

/// Reads the database, and writes the catalog.
pub struct Books {
    /// Where everything is.
    pub database: Database,
    /// This node's view, refreshed at once after a write.
    pub catalog: Arc<CatalogCache>,
}

#[async_trait]
impl Evidence for Books {
    async fn substitutions(
        &self,
        since: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<Substitution>, StoreError> {
        let records = request_log::operator_substituted(self.database.readers(), since, after, limit).await?;
        Ok(records.into_iter().filter_map(substitution).collect())
    }

    async fn failures(&self, since: UnixMs, before: Option<RequestId>, limit: u32) -> Result<Vec<Failure>, StoreError> {
        let records = request_log::operator_failed(self.database.readers(), since, before, limit).await?;
        Ok(records.iter().map(failure).collect())
    }

    async fn won(&self, provider: &str, admitted: UnixMs, ended: UnixMs, at_most: u64) -> Result<u64, StoreError> {
        request_log::operator_count_won(self.database.readers(), provider, admitted, ended, at_most).await
    }

    async fn charged(&self, requests: &[RequestId]) -> Result<HashMap<RequestId, Amount>, StoreError> {
        let charges = ledger::reading::operator_charges(self.database.readers(), requests).await?;
        Ok(charges
            .into_iter()
            .map(|charge| (charge.row.request, charge.row.amount))
            .collect())
    }

    async fn booked(&self, provider: &str, from: UnixMs, to: UnixMs) -> Result<Amount, StoreError> {
        ledger::reading::operator_booked_cost(self.database.readers(), provider, from, to).await
    }

    async fn put_back_at(&self, tx: &Tx, offer: OfferId, since: UnixMs) -> Result<Option<UnixMs>, StoreError> {
        match catalog::put_back_at(tx, offer, since).await {
            Ok(at) => Ok(at),
            Err(CatalogError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Contradiction(error.to_string())),
        }
    }

    async fn restarted_logs(&self) -> Result<Vec<RestartedLog>, StoreError> {
        let logs = transparency_log::logs(&self.database).await?;
        let restarted = logs.array_windows().map(|[before, log]| RestartedLog {
            log: log.id,
            before: before.id,
            began_at: UnixMs(log.created_at_ms),
            reason: log.reason.clone(),
        });
        Ok(restarted.collect())
    }

    async fn take_out(&self, tx: &Tx, actor: &Actor, offer: OfferId) -> Result<bool, StoreError> {
        let update = UpdateOffer {
            enabled: Some(false),
            ..UpdateOffer::default()
        };
        match catalog::get_offer(tx.connection(), offer).await {
            Ok(view) if !view.enabled => return Ok(false),
            Err(CatalogError::NotFound { .. }) => return Ok(false),
            _ => {}
        }
        match catalog::update_offer(tx, actor, offer, update).await {
            Ok(_) => Ok(true),
            Err(CatalogError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Contradiction(error.to_string())),
        }
    }

    async fn taken_out(&self) {
        if let Err(error) = self.catalog.refresh().await {
            // the poll for change notices brings the snapshot up to date
            tracing::warn!(%error, "the catalog snapshot was not refreshed");
        }
    }
}

fn substitution(record: RequestRecord) -> Option<Substitution> {
    Some(Substitution {
        request: record.id,
        tenant: record.tenant,
        admitted_at: record.started_at,
        offer: record.offer?,
        provider: record.provider.unwrap_or_default(),
        model: record.model,
        reported: record.served_model.unwrap_or_default(),
    })
}

fn failure(record: &RequestRecord) -> Failure {
    Failure {
        request: record.id,
        tenant: record.tenant,
        ended_at: record.started_at.plus_ms(i64::from(record.duration_ms)),
        providers: failed_providers(record)
            .into_iter()
            .map(|(provider, has_won)| (provider.to_owned(), has_won))
            .collect(),
    }
}
