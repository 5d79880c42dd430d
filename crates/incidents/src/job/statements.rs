//! What providers billed, beside what the ledger booked for them.

use super::Round;
use crate::{
    IncidentError, Kind, NewIncident, StatementView, drifts, opening,
    statements::{note_checked, unchecked},
};

/// Statements that are compared in a round: each sums up a period.
const MOST: u32 = 10;

impl Round<'_> {
    pub(super) async fn see_statements(&self) -> Result<(), IncidentError> {
        for statement in unchecked(self.database.readers(), MOST).await? {
            self.check_statement(&statement).await?;
        }
        Ok(())
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
            };
            Some(opening::open(&tx, &self.actor, &new).await?.0)
        } else {
            None
        };
        note_checked(&tx, statement.id, booked, incident).await?;
        Ok(tx.commit().await?)
    }
}
