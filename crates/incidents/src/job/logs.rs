//! Transparency logs that could not be gone on with: whoever kept a receipt or a head learns from the feed what happened.

use super::Round;
use crate::{IncidentError, Kind, NewIncident, RestartedLog, opening, reading};

impl Round<'_> {
    /// Each is told once, also when an operator has resolved it.
    pub(super) async fn see_logs(&self) -> Result<(), IncidentError> {
        for restarted in self.evidence.restarted_logs().await? {
            let subject = restarted.log.to_string();
            if !reading::is_known(self.database.readers(), Kind::LogRestarted, &subject).await? {
                self.open_restarted(subject, &restarted).await?;
            }
        }
        Ok(())
    }

    async fn open_restarted(&self, subject: String, restarted: &RestartedLog) -> Result<(), IncidentError> {
        let RestartedLog {
            log, before, reason, ..
        } = restarted;
        let new = NewIncident {
            kind: Kind::LogRestarted,
            subject,
            title: "Another transparency log has begun".to_owned(),
            text: format!(
                "The transparency log {before} could not be gone on with: {reason}. The log {log} has begun in its place. \
                 Receipts of the old log still prove what they say under its heads. Heads of the new one are not \
                 consistent with those of the old one: keep both. GET /v1/log lists the logs."
            ),
            started_at: restarted.began_at,
            is_public: true,
        }
        .fitted();
        let tx = self.database.begin().await?;
        let (incident, _) = opening::open(&tx, &self.actor, &new).await?;
        tx.commit().await?;
        tracing::error!(%log, %incident, "customers are told that another transparency log has begun");
        Ok(())
    }
}
