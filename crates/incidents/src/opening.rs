//! Opening incidents, telling how they go on, and resolving them.

use domain::{IncidentId, clock::UnixMs};
use serde_json::json;
use store::{Tx, audit, audit::Actor};

use crate::{
    IncidentError,
    kinds::{Kind, State},
    reading,
};

const LONGEST_TITLE: usize = 200;
const LONGEST_TEXT: usize = 4_000;

/// An incident to open.
#[derive(Debug, Clone)]
pub struct NewIncident {
    /// What it is about.
    pub kind: Kind,
    /// What of that; empty for the incident itself.
    pub subject: String,
    /// In a line.
    pub title: String,
    /// What is known, for whoever reads the feed.
    pub text: String,
    /// When it began.
    pub started_at: UnixMs,
    /// Whether everybody may read it.
    pub is_public: bool,
}

impl NewIncident {
    /// A rule's: what is too long is cut, because a rule that is refused sees nothing.
    pub(crate) fn fitted(mut self) -> Self {
        let cut = |text: &mut String, longest| {
            if let Some((end, _)) = text.char_indices().nth(longest) {
                text.truncate(end);
            }
        };
        cut(&mut self.title, LONGEST_TITLE);
        cut(&mut self.text, LONGEST_TEXT);
        self
    }
}

/// Opens an incident. If one of the same kind and subject is open, that is the answer, and nothing changes.
///
/// # Errors
/// [`IncidentError::Invalid`] for a text; what the database says.
pub async fn open(tx: &Tx, actor: &Actor, new: &NewIncident) -> Result<(IncidentId, bool), IncidentError> {
    check("title", &new.title, LONGEST_TITLE, false)?;
    check("text", &new.text, LONGEST_TEXT, true)?;
    let id = IncidentId::generate();
    let now = tx.now().await?;
    let subject = if new.subject.is_empty() {
        id.to_string()
    } else {
        new.subject.clone()
    };
    let opened = tx
        .execute(
            "INSERT INTO incident (id, kind, subject, state, title, is_public, started_at_ms, opened_at_ms, updated_at_ms) \
             VALUES ($1, $2, $3, 'open', $4, $5, $6, $7, $7) \
             ON CONFLICT (kind, subject) WHERE state = 'open' DO NOTHING",
            vec![
                id.as_uuid().into(),
                new.kind.as_str().into(),
                subject.clone().into(),
                new.title.clone().into(),
                new.is_public.into(),
                new.started_at.0.into(),
                now.0.into(),
            ],
        )
        .await?;
    if opened == 0 {
        let id = reading::open_one(tx.connection(), new.kind, &subject).await?;
        return Ok((id.ok_or(IncidentError::NotFound)?, false));
    }
    write_update(tx, actor, id, &new.text, now).await?;
    let after = json!({ "kind": new.kind.as_str(), "title": new.title, "text": new.text, "public": new.is_public });
    audit::record(tx, actor, "incident.open", &id.to_string(), None, Some(&after)).await?;
    Ok((id, true))
}

/// Tells how an open incident goes on.
///
/// # Errors
/// [`IncidentError::NotFound`], [`IncidentError::Resolved`], [`IncidentError::Invalid`].
pub async fn add_update(tx: &Tx, actor: &Actor, id: IncidentId, text: &str) -> Result<(), IncidentError> {
    check("text", text, LONGEST_TEXT, true)?;
    let now = tx.now().await?;
    take_turn(tx, id, now).await?;
    if state_of(tx, id).await? == State::Resolved {
        return Err(IncidentError::Resolved);
    }
    write_update(tx, actor, id, text, now).await?;
    let after = json!({ "text": text });
    Ok(audit::record(tx, actor, "incident.update", &id.to_string(), None, Some(&after)).await?)
}

/// Says that an incident is over. One that is over stays as it is.
///
/// # Errors
/// [`IncidentError::NotFound`], [`IncidentError::Invalid`].
pub async fn resolve(tx: &Tx, actor: &Actor, id: IncidentId, text: &str) -> Result<(), IncidentError> {
    check("text", text, LONGEST_TEXT, true)?;
    let now = tx.now().await?;
    take_turn(tx, id, now).await?;
    if state_of(tx, id).await? == State::Resolved {
        return Ok(());
    }
    let sql = "UPDATE incident SET state = 'resolved', resolved_at_ms = $2 WHERE id = $1";
    tx.execute(sql, vec![id.as_uuid().into(), now.0.into()]).await?;
    write_update(tx, actor, id, text, now).await?;
    let after = json!({ "text": text });
    Ok(audit::record(tx, actor, "incident.resolve", &id.to_string(), None, Some(&after)).await?)
}

/// Locks the incident until the transaction ends: whoever changes it comes after.
pub(crate) async fn take_turn(tx: &Tx, id: IncidentId, now: UnixMs) -> Result<(), IncidentError> {
    let sql = "UPDATE incident SET updated_at_ms = $2 WHERE id = $1";
    match tx.execute(sql, vec![id.as_uuid().into(), now.0.into()]).await? {
        0 => Err(IncidentError::NotFound),
        _ => Ok(()),
    }
}

async fn state_of(tx: &Tx, id: IncidentId) -> Result<State, IncidentError> {
    let rows = tx
        .query("SELECT state FROM incident WHERE id = $1", vec![id.as_uuid().into()])
        .await?;
    let row = rows.first().ok_or(IncidentError::NotFound)?;
    State::read(&row.try_get::<String>("", "state")?)
}

async fn write_update(tx: &Tx, actor: &Actor, id: IncidentId, text: &str, now: UnixMs) -> Result<(), IncidentError> {
    tx.execute(
        "INSERT INTO incident_update (incident_id, no, at_ms, actor, text) \
         SELECT $1, COALESCE(MAX(no), 0) + 1, $2, $3, $4 FROM incident_update WHERE incident_id = $1",
        vec![id.as_uuid().into(), now.0.into(), actor.as_str().into(), text.into()],
    )
    .await?;
    Ok(())
}

fn check(field: &'static str, text: &str, longest: usize, lines: bool) -> Result<(), IncidentError> {
    let is_odd = |c: char| c.is_control() && !(lines && c == '\n');
    if !text.trim().is_empty() && text.chars().count() <= longest && !text.chars().any(is_odd) {
        return Ok(());
    }
    let problem = if lines {
        "write 1 to 4000 characters; line feeds are the only control characters"
    } else {
        "write 1 to 200 characters without line breaks"
    };
    Err(IncidentError::Invalid { field, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_writes_fits_whatever_it_is_about() {
        let new = NewIncident {
            kind: Kind::Outage,
            subject: "x".to_owned(),
            title: "\u{fc}".repeat(LONGEST_TITLE + 1),
            text: "\u{fc}".repeat(LONGEST_TEXT + 1),
            started_at: UnixMs(0),
            is_public: true,
        };
        assert!(check("title", &new.title, LONGEST_TITLE, false).is_err());
        let fitted = new.fitted();
        check("title", &fitted.title, LONGEST_TITLE, false).unwrap();
        check("text", &fitted.text, LONGEST_TEXT, true).unwrap();
        assert_eq!(fitted.clone().fitted().title, fitted.title, "what fits stays as it is");
    }
}
