//! What providers billed, beside what the ledger booked for them.

use super::Round;
use crate::{
    IncidentError, Kind, NewIncident, StatementView, drifts, opening,
    statements::{next_unchecked, note_checked},
};

impl Round<'_> {
    /// One that fails keeps none of the others waiting, and is taken up again in the next round.
    pub(super) async fn see_statements(&self) -> Result<bool, IncidentError> {
        let mut all = true;
        let mut after = None;
        while let Some(statement) = next_unchecked(self.database.readers(), after).await? {
            after = Some(statement.id);
            if let Err(error) = self.check_statement(&statement).await {
                tracing::warn!(statement = %statement.id, %error, "a provider's statement was not compared");
                all = false;
            }
        }
        Ok(all)
    }

    async fn check_statement(&self, statement: &StatementView) -> Result<(), IncidentError> {
        let StatementView { provider, from, to, .. } = statement;
        let booked = self.evidence.booked(provider, *from, *to).await?;
        let tx = self.database.begin().await?;
        let incident = if drifts(statement.billed, booked, self.rules.drift_basis_points) {
            // it concerns the operator and the provider, and no customer
            let new = NewIncident {
                kind: Kind::BillingDrift,
                subject: statement.id.to_string(),
                title: format!("The bill of {provider} is not what was booked"),
                text: format!(
                    "{provider} billed {} USD from {} to {}, and {booked} USD were booked.",
                    statement.billed,
                    from.to_rfc3339(),
                    to.to_rfc3339()
                ),
                started_at: *from,
                is_public: false,
            }
            .fitted();
            Some(opening::open(&tx, &self.actor, &new).await?.0)
        } else {
            None
        };
        note_checked(&tx, statement.id, booked, incident).await?;
        Ok(tx.commit().await?)
    }
}
