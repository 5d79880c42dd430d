//! Answers of another model than the one that was sold: an incident for each offer, which goes out of sale after a number of
//! them.

use std::{collections::BTreeMap, time::Duration};

use domain::{Amount, IncidentId, OfferId, RequestId, clock::UnixMs};
use store::Tx;

use super::{PAGE, Round};
use crate::{IncidentError, Kind, Link, NewIncident, Substitution, opening, reading, requests};

/// Pages in one round; what is left is the next one's.
const MOST_PAGES: usize = 20;
/// How far back a process looks once, whatever was not seen while none ran.
const FIRST_LOOKBACK: Duration = Duration::from_secs(30 * 86_400);

/// How far a process has looked for answers of another model: it begins far back, and goes on from round to round.
#[derive(Debug, Default)]
pub struct Scan {
    has_caught_up: bool,
    after: Option<RequestId>,
}

impl Scan {
    /// Whether it has seen all that was there before it began.
    pub const fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }
}

impl Round<'_> {
    /// Goes on where `scan` stopped. A month of them is not read in one round.
    pub(super) async fn see_substitutions(&self, scan: &mut Scan) -> Result<(), IncidentError> {
        let lookback = if scan.has_caught_up {
            self.rules.substitution.window + self.rules.longest_request
        } else {
            FIRST_LOOKBACK
        };
        let since = self.ago(lookback);
        for _ in 0..MOST_PAGES {
            let page = self.evidence.substitutions(since, scan.after, PAGE).await?;
            let Some(last) = page.last().map(|row| row.request) else {
                *scan = Scan {
                    has_caught_up: true,
                    after: None,
                };
                return Ok(());
            };
            let ids: Vec<RequestId> = page.iter().map(|row| row.request).collect();
            let known = requests::linked_to_kind(self.database.readers(), Kind::Substitution, &ids).await?;
            let mut by_offer: BTreeMap<OfferId, Vec<Substitution>> = BTreeMap::new();
            for row in page.into_iter().filter(|row| !known.contains(&row.request)) {
                by_offer.entry(row.offer).or_default().push(row);
            }
            for (offer, rows) in by_offer {
                self.note_substitutions(offer, &rows).await?;
            }
            scan.after = Some(last);
        }
        Ok(())
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

    /// Counts from when the offer last went out or was put back: an operator who puts it back gives it another chance, and
    /// what was admitted before comes to nothing.
    async fn take_out(&self, tx: &Tx, incident: IncidentId, offer: OfferId) -> Result<bool, IncidentError> {
        let rule = self.rules.substitution;
        let found = reading::find(tx.connection(), incident, false).await?;
        let last = found.and_then(|incident| incident.acted_at);
        let since = last.unwrap_or_default().max(self.ago(rule.window));
        let count = count_since(tx, incident, since).await?;
        if !rule.takes_out(count) {
            return Ok(false);
        }
        let put_back = self.evidence.put_back_at(tx, offer, since).await?;
        let count = match put_back {
            Some(at) => count_since(tx, incident, at).await?,
            None => count,
        };
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

async fn count_since(tx: &Tx, incident: IncidentId, since: UnixMs) -> Result<u64, IncidentError> {
    requests::count_since(tx.connection(), incident, RequestId::first_at(since).as_uuid()).await
}
