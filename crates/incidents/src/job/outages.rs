//! Providers that fail: an incident for each, which ends by rule when it has recovered.

use std::collections::BTreeMap;

use domain::{Amount, RequestId, clock::UnixMs};

use super::{PAGE, Round};
use crate::{Counts, Failure, IncidentError, Kind, Link, NewIncident, OutageStep, opening, reading::open_of};

/// Failed requests that are looked at in a round; beyond, the window is as short as these are.
const MOST_FAILURES: usize = 20_000;

/// Requests that one provider failed in the window.
#[derive(Default)]
struct Tally {
    failed: u64,
    /// Those among them whose answer was not relayed.
    lost: u64,
    links: Vec<Link>,
    first: Option<UnixMs>,
}

impl Tally {
    fn add(&mut self, failure: &Failure, has_won: bool) {
        self.failed += 1;
        self.lost += u64::from(!has_won);
        self.first = Some(self.first.map_or(failure.ended_at, |first| first.min(failure.ended_at)));
        self.links.push(Link {
            request: failure.request,
            tenant: failure.tenant,
            charged: Amount::ZERO,
            reported: String::new(),
        });
    }
}

/// Where the window begins, for instants of admission and of the end.
#[derive(Clone, Copy)]
struct Since {
    admitted: UnixMs,
    ended: UnixMs,
}

impl Round<'_> {
    pub(super) async fn see_outages(&self) -> Result<(), IncidentError> {
        let (mut tallies, since) = self.tally_failures().await?;
        let mut open: BTreeMap<String, _> = open_of(self.database.readers(), Kind::Outage)
            .await?
            .into_iter()
            .collect();
        for provider in open.keys() {
            tallies.entry(provider.clone()).or_default();
        }
        for (provider, tally) in tallies {
            let incident = open.remove(&provider);
            let enough = self.rules.outage.enough(tally.failed);
            let at_most = enough.saturating_sub(tally.lost);
            let won = if self.rules.outage.must_count(incident.is_some(), tally.failed) {
                self.evidence
                    .won(&provider, since.admitted, since.ended, at_most)
                    .await?
            } else {
                0
            };
            let counts = Counts {
                attempts: won + tally.lost,
                failed: tally.failed,
            };
            let step = self.rules.outage.judge(incident.is_some(), counts);
            match (step, incident) {
                (OutageStep::Opens, _) => self.open_outage(&provider, tally).await?,
                (OutageStep::Lasts, Some(incident)) => self.link(incident, &tally.links).await?,
                (OutageStep::Ends, Some(incident)) => {
                    self.link(incident, &tally.links).await?;
                    self.end_outage(&provider, incident).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Failures of the window, the newest first.
    async fn tally_failures(&self) -> Result<(BTreeMap<String, Tally>, Since), IncidentError> {
        let window = self.rules.outage.window;
        let mut since = Since {
            admitted: self.ago(window + self.rules.longest_request),
            ended: self.ago(window),
        };
        let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
        let mut before: Option<RequestId> = None;
        let mut seen = 0;
        loop {
            let page = self.evidence.failures(since.admitted, before, PAGE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.request);
            for failure in page.iter().filter(|failure| failure.ended_at >= since.ended) {
                for (provider, has_won) in &failure.providers {
                    tallies.entry(provider.clone()).or_default().add(failure, *has_won);
                }
            }
            seen += page.len();
            if seen >= MOST_FAILURES {
                let oldest = last.request.made_at();
                since.admitted = oldest;
                since.ended = since.ended.max(oldest);
                break;
            }
        }
        Ok((tallies, since))
    }

    async fn open_outage(&self, provider: &str, tally: Tally) -> Result<(), IncidentError> {
        let new = NewIncident {
            kind: Kind::Outage,
            subject: provider.to_owned(),
            title: format!("{provider} fails"),
            text: format!(
                "{provider} fails at least {} of 100 requests that are sent to it. Where another offer sells the same \
                 model, requests go there. What came to nothing is free.",
                self.rules.outage.percent
            ),
            started_at: tally.first.unwrap_or(self.now),
            is_public: true,
        }
        .fitted();
        let tx = self.database.begin().await?;
        let (incident, _) = opening::open(&tx, &self.actor, &new).await?;
        tx.commit().await?;
        tracing::warn!(provider, %incident, "a provider fails");
        self.link(incident, &tally.links).await
    }

    async fn end_outage(&self, provider: &str, incident: domain::IncidentId) -> Result<(), IncidentError> {
        let text = format!(
            "{provider} has recovered: it failed fewer than {} of 100 requests in the last {} minutes.",
            self.rules.outage.recovered_percent,
            self.rules.outage.window.as_secs().div_ceil(60)
        );
        let tx = self.database.begin().await?;
        opening::resolve(&tx, &self.actor, incident, &text).await?;
        tx.commit().await?;
        Ok(())
    }
}
