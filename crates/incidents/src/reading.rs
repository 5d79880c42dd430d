//! Reading incidents: for everybody, for operators.

use domain::{Amount, IncidentId, clock::UnixMs};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use crate::{
    IncidentError,
    kinds::{Kind, State},
};

/// Which incidents to list. The default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those that everybody may read.
    pub public_only: bool,
    /// Only those that last, or that are over.
    pub state: Option<State>,
    /// Only those that were opened since.
    pub since: Option<UnixMs>,
    /// Only those that were opened before.
    pub until: Option<UnixMs>,
    /// Older than this one: the paging cursor.
    pub before: Option<IncidentId>,
}

/// An incident with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentView {
    /// The incident.
    pub id: IncidentId,
    /// What it is about.
    pub kind: Kind,
    /// What of that: an offer, a provider's slug, a statement.
    pub subject: String,
    /// Whether it lasts.
    pub state: State,
    /// In a line.
    pub title: String,
    /// Whether everybody may read it.
    pub is_public: bool,
    /// When it began.
    pub started_at: UnixMs,
    /// When it was opened.
    pub opened_at: UnixMs,
    /// When something about it changed last.
    pub updated_at: UnixMs,
    /// When it was over.
    pub resolved_at: Option<UnixMs>,
    /// When the rule took its subject out of sale last.
    pub acted_at: Option<UnixMs>,
    /// How many requests it concerns.
    pub requests: u64,
    /// How many of them were free.
    pub free_requests: u64,
    /// What the others were charged.
    pub charged: Amount,
    /// How much of that was given back.
    pub refunded: Amount,
}

/// What was said about an incident at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateView {
    /// Counts up.
    pub no: i64,
    /// When.
    pub at: UnixMs,
    /// By whom.
    pub actor: String,
    /// What.
    pub text: String,
}

const COLUMNS: &str = "SELECT id, kind, subject, state, title, is_public, started_at_ms, opened_at_ms, updated_at_ms, \
     resolved_at_ms, acted_at_ms, requests, free_requests, charged, refunded FROM incident";

/// Incidents, the last opened first.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &impl ConnectionTrait,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<IncidentView>, IncidentError> {
    let mut conditions = vec!["TRUE".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut condition = |text: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{text} ${}", values.len()));
    };
    if filter.public_only {
        condition("is_public =", true.into());
    }
    if let Some(state) = filter.state {
        condition("state =", state.as_str().into());
    }
    if let Some(since) = filter.since {
        condition("opened_at_ms >=", since.0.into());
    }
    if let Some(until) = filter.until {
        condition("opened_at_ms <", until.0.into());
    }
    if let Some(before) = filter.before {
        condition("id <", before.as_uuid().into());
    }
    let sql = format!(
        "{COLUMNS} WHERE {} ORDER BY id DESC LIMIT {limit}",
        conditions.join(" AND ")
    );
    rows(connection, sql, values).await?.iter().map(read).collect()
}

/// One incident; `None` when there is none, or none for everybody where that is asked for.
///
/// # Errors
/// What the database says.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: IncidentId,
    public_only: bool,
) -> Result<Option<IncidentView>, IncidentError> {
    let sql = format!("{COLUMNS} WHERE id = $1 AND (is_public OR NOT $2)");
    let values = vec![id.as_uuid().into(), public_only.into()];
    rows(connection, sql, values).await?.first().map(read).transpose()
}

/// What was said about some incidents, each with its id, in order.
///
/// # Errors
/// What the database says.
pub async fn updates(
    connection: &impl ConnectionTrait,
    incidents: &[IncidentId],
) -> Result<Vec<(IncidentId, UpdateView)>, IncidentError> {
    if incidents.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT incident_id, no, at_ms, actor, text FROM incident_update WHERE incident_id IN ({}) ORDER BY incident_id, no",
        places(1, incidents.len())
    );
    let values = incidents.iter().map(|id| id.as_uuid().into()).collect();
    let found = rows(connection, sql, values).await?;
    found
        .iter()
        .map(|row| {
            let update = UpdateView {
                no: row.try_get("", "no")?,
                at: UnixMs(row.try_get("", "at_ms")?),
                actor: row.try_get("", "actor")?,
                text: row.try_get("", "text")?,
            };
            Ok((IncidentId::from_uuid(row.try_get("", "incident_id")?), update))
        })
        .collect()
}

/// One incident, public or not, with all that was said about it.
///
/// # Errors
/// [`IncidentError::NotFound`].
pub async fn tell(
    connection: &impl ConnectionTrait,
    id: IncidentId,
) -> Result<(IncidentView, Vec<UpdateView>), IncidentError> {
    let view = find(connection, id, false).await?.ok_or(IncidentError::NotFound)?;
    let told = updates(connection, &[id]).await?;
    Ok((view, told.into_iter().map(|(_, update)| update).collect()))
}

/// How many incidents last.
///
/// # Errors
/// What the database says.
pub async fn count_open(connection: &impl ConnectionTrait) -> Result<u32, IncidentError> {
    let sql = "SELECT COUNT(*) AS n FROM incident WHERE state = 'open'";
    let found = rows(connection, sql, vec![]).await?;
    let count: i64 = found.first().map_or(Ok(0), |row| row.try_get("", "n"))?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The open incident about something.
pub(crate) async fn open_one(
    connection: &impl ConnectionTrait,
    kind: Kind,
    subject: &str,
) -> Result<Option<IncidentId>, IncidentError> {
    let sql = "SELECT id FROM incident WHERE kind = $1 AND subject = $2 AND state = 'open'";
    let found = rows(connection, sql, vec![kind.as_str().into(), subject.into()]).await?;
    Ok(found
        .first()
        .map(|row| row.try_get("", "id").map(IncidentId::from_uuid))
        .transpose()?)
}

/// Whether there is an incident of a kind and subject, open or not.
pub(crate) async fn is_known(
    connection: &impl ConnectionTrait,
    kind: Kind,
    subject: &str,
) -> Result<bool, IncidentError> {
    let sql = "SELECT id FROM incident WHERE kind = $1 AND subject = $2 LIMIT 1";
    Ok(!rows(connection, sql, vec![kind.as_str().into(), subject.into()])
        .await?
        .is_empty())
}

/// The open incidents of a kind, with their subjects.
pub(crate) async fn open_of(
    connection: &impl ConnectionTrait,
    kind: Kind,
) -> Result<Vec<(String, IncidentId)>, IncidentError> {
    let sql = "SELECT id, subject FROM incident WHERE kind = $1 AND state = 'open'";
    let found = rows(connection, sql, vec![kind.as_str().into()]).await?;
    found
        .iter()
        .map(|row| {
            Ok((
                row.try_get("", "subject")?,
                IncidentId::from_uuid(row.try_get("", "id")?),
            ))
        })
        .collect()
}

/// `$first, $first+1, ...`
pub(crate) fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

pub(crate) async fn rows(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, IncidentError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_all_raw(statement).await?)
}

fn read(row: &QueryResult) -> Result<IncidentView, IncidentError> {
    let instant = |name: &str| -> Result<Option<UnixMs>, sea_orm::DbErr> {
        Ok(row.try_get::<Option<i64>>("", name)?.map(UnixMs))
    };
    let count = |name: &str| -> Result<u64, sea_orm::DbErr> {
        Ok(u64::try_from(row.try_get::<i64>("", name)?).unwrap_or_default())
    };
    Ok(IncidentView {
        id: IncidentId::from_uuid(row.try_get("", "id")?),
        kind: Kind::read(&row.try_get::<String>("", "kind")?)?,
        subject: row.try_get("", "subject")?,
        state: State::read(&row.try_get::<String>("", "state")?)?,
        title: row.try_get("", "title")?,
        is_public: row.try_get("", "is_public")?,
        started_at: UnixMs(row.try_get("", "started_at_ms")?),
        opened_at: UnixMs(row.try_get("", "opened_at_ms")?),
        updated_at: UnixMs(row.try_get("", "updated_at_ms")?),
        resolved_at: instant("resolved_at_ms")?,
        acted_at: instant("acted_at_ms")?,
        requests: count("requests")?,
        free_requests: count("free_requests")?,
        charged: Amount::from_nanos(row.try_get("", "charged")?),
        refunded: Amount::from_nanos(row.try_get("", "refunded")?),
    })
}
