//! Answers of another model than the one that was sold: an incident for each offer, which goes out of sale after a number of
//! them.

use std::{collections::BTreeMap, time::Duration};

use domain::{Amount, IncidentId, OfferId, RequestId};
use store::Tx;

use super::{PAGE, Round};
use crate::{IncidentError, Kind, Link, NewIncident, Substitution, opening, reading, requests};

impl Round<'_> {
    pub(super) async fn see_substitutions(&self, lookback: Duration) -> Result<(), IncidentError> {
        let since = self.ago(lookback);
        let mut after: Option<RequestId> = None;
        loop {
            let page = self.evidence.substitutions(since, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.request);
            let ids: Vec<RequestId> = page.iter().map(|row| row.request).collect();
            let known = requests::linked_to_kind(self.database.readers(), Kind::Substitution, &ids).await?;
            let mut by_offer: BTreeMap<OfferId, Vec<Substitution>> = BTreeMap::new();
            for row in page.into_iter().filter(|row| !known.contains(&row.request)) {
                by_offer.entry(row.offer).or_default().push(row);
            }
            for (offer, rows) in by_offer {
                self.note_substitutions(offer, &rows).await?;
            }
        }
    }

    async fn note_substitutions(&self, offer: OfferId, rows: &[Substitution]) -> Result<(), IncidentError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let new = NewIncident {
            kind: Kind::Substitution,
            subject: offer.to_string(),
            title: format!("{} answered {} as another model", first.provider, first.model),
            text: format!(
                "Requests for {} that {} answered under the name of another model are free. GET /v1/models/{{id}} \
                 lists the names that it may answer under (`served_names`), with any key.",
                first.model, first.provider
            ),
            started_at: first.admitted_at,
            is_public: true,
        }
        .fitted();
        // they are free by rule
        let links: Vec<Link> = rows
            .iter()
            .map(|row| Link {
                request: row.request,
                tenant: row.tenant,
                charged: Amount::ZERO,
                reported: row.reported.clone(),
            })
            .collect();
        let tx = self.database.begin().await?;
        let (incident, _) = opening::open(&tx, &self.actor, &new).await?;
        requests::attach(&tx, incident, &links).await?;
        let is_out = self.take_out(&tx, incident, offer).await?;
        tx.commit().await?;
        if is_out {
            tracing::error!(%offer, %incident, "an offer was taken out of sale: its upstream answers as another model");
            self.evidence.taken_out().await;
        }
        Ok(())
    }

    /// Counts again from the last time on: an operator who puts an offer back gives it another chance.
    async fn take_out(&self, tx: &Tx, incident: IncidentId, offer: OfferId) -> Result<bool, IncidentError> {
        let rule = self.rules.substitution;
        let found = reading::find(tx.connection(), incident, false).await?;
        let last = found.and_then(|incident| incident.acted_at);
        let since = last.unwrap_or_default().max(self.ago(rule.window));
        let count = requests::count_since(tx.connection(), incident, RequestId::first_at(since).as_uuid()).await?;
        if !rule.takes_out(count) || !self.evidence.take_out(tx, &self.actor, offer).await? {
            return Ok(false);
        }
        let now = tx.now().await?;
        let sql = "UPDATE incident SET acted_at_ms = $2 WHERE id = $1";
        tx.execute(sql, vec![incident.as_uuid().into(), now.0.into()]).await?;
        let text = format!(
            "Out of sale after {count} such answers within {} minutes. Requests go to other offers of the model.",
            rule.window.as_secs().div_ceil(60)
        );
        opening::add_update(tx, &self.actor, incident, &text).await?;
        Ok(true)
    }
}
