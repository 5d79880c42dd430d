//! Which requests an incident concerns.

use std::collections::HashSet;

use domain::{Amount, IncidentId, RequestId, TenantId, scope::TenantScope};
use sea_orm::{ConnectionTrait, Value};
use store::{Tx, bulk::Rows};

use crate::{
    IncidentError,
    opening::take_turn,
    reading::{places, rows},
};

/// A request to be linked with an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The request.
    pub request: RequestId,
    /// Whose it was.
    pub tenant: TenantId,
    /// What it was charged.
    pub charged: Amount,
    /// What the upstream named instead of the model that was sold; empty where that is not the point.
    pub reported: String,
}

/// A request that an incident concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// What was linked.
    pub link: Link,
    /// How much of the charge was given back.
    pub refunded: Amount,
}

/// Links requests with an incident and counts them, each once however often it is attached. Answers how many were new.
///
/// # Errors
/// [`IncidentError::NotFound`].
pub async fn attach(tx: &Tx, incident: IncidentId, links: &[Link]) -> Result<u64, IncidentError> {
    let now = tx.now().await?;
    take_turn(tx, incident, now).await?;
    let mut known = linked_already(tx.connection(), incident, links).await?;
    let new: Vec<&Link> = links.iter().filter(|link| known.insert(link.request)).collect();
    if new.is_empty() {
        return Ok(0);
    }
    let insert = "INSERT INTO incident_request (incident_id, request_id, tenant_id, charged, reported) \
         SELECT r.incident_id, r.request_id, r.tenant_id, r.charged, r.reported FROM {rows} WHERE TRUE";
    let records = Rows::new()
        .uuids("incident_id", new.iter().map(|_| incident.as_uuid()))
        .uuids("request_id", new.iter().map(|link| link.request.as_uuid()))
        .uuids("tenant_id", new.iter().map(|link| link.tenant.as_uuid()))
        .numbers("charged", new.iter().map(|link| link.charged.nanos()))
        .texts("reported", new.iter().map(|link| link.reported.replace('\0', "")));
    tx.execute_rows(insert, &records).await?;
    let free = new.iter().filter(|link| link.charged.is_zero()).count();
    let charged = new.iter().fold(Amount::ZERO, |sum, link| {
        sum.checked_add(link.charged).unwrap_or(Amount::MAX)
    });
    tx.execute(
        "UPDATE incident SET requests = requests + $2, free_requests = free_requests + $3, charged = charged + $4 \
         WHERE id = $1",
        vec![
            incident.as_uuid().into(),
            number(new.len()),
            number(free),
            charged.nanos().into(),
        ],
    )
    .await?;
    Ok(u64::try_from(new.len()).unwrap_or(u64::MAX))
}

fn number(count: usize) -> Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

/// Which of these requests the incident concerns already.
pub(crate) async fn linked_already(
    connection: &impl ConnectionTrait,
    incident: IncidentId,
    links: &[Link],
) -> Result<HashSet<RequestId>, IncidentError> {
    if links.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = format!(
        "SELECT request_id FROM incident_request WHERE incident_id = $1 AND request_id IN ({})",
        places(2, links.len())
    );
    let ids = links.iter().map(|link| link.request.as_uuid());
    let values = std::iter::once(incident.as_uuid())
        .chain(ids)
        .map(Value::from)
        .collect();
    let found = rows(connection, sql, values).await?;
    found
        .iter()
        .map(|row| Ok(RequestId::from_uuid(row.try_get("", "request_id")?)))
        .collect()
}

/// Which of these requests an incident of a kind concerns already.
pub(crate) async fn linked_to_kind(
    connection: &impl ConnectionTrait,
    kind: crate::Kind,
    requests: &[RequestId],
) -> Result<HashSet<RequestId>, IncidentError> {
    if requests.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = format!(
        "SELECT r.request_id FROM incident_request AS r JOIN incident AS i ON i.id = r.incident_id \
         WHERE i.kind = $1 AND r.request_id IN ({})",
        places(2, requests.len())
    );
    let mut values: Vec<Value> = vec![kind.as_str().into()];
    values.extend(requests.iter().map(|id| Value::from(id.as_uuid())));
    let found = rows(connection, sql, values).await?;
    found
        .iter()
        .map(|row| Ok(RequestId::from_uuid(row.try_get("", "request_id")?)))
        .collect()
}

/// How many requests of an incident were admitted since a request id.
pub(crate) async fn count_since(
    connection: &impl ConnectionTrait,
    incident: IncidentId,
    since: uuid::Uuid,
) -> Result<u64, IncidentError> {
    let sql = "SELECT COUNT(*) AS n FROM incident_request WHERE incident_id = $1 AND request_id >= $2";
    let found = rows(connection, sql, vec![incident.as_uuid().into(), since.into()]).await?;
    let count: i64 = found.first().map_or(Ok(0), |row| row.try_get("", "n"))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// The requests of an incident in the order of their ids, after one of them when given.
///
/// # Errors
/// What the database says.
pub async fn linked(
    connection: &impl ConnectionTrait,
    incident: IncidentId,
    after: Option<RequestId>,
    limit: u32,
) -> Result<Vec<LinkView>, IncidentError> {
    page(connection, incident, after, limit, "").await
}

/// The requests of an incident that were charged and of which no refund is noted, in the order of their ids: a refund gives
/// back all that is left of a charge, so none is due twice.
///
/// # Errors
/// What the database says.
pub async fn refundable(
    connection: &impl ConnectionTrait,
    incident: IncidentId,
    after: Option<RequestId>,
    limit: u32,
) -> Result<Vec<LinkView>, IncidentError> {
    page(connection, incident, after, limit, "AND charged > 0 AND refunded = 0").await
}

/// Notes how much of the charges was given back for the incident, of each request once.
///
/// # Errors
/// [`IncidentError::NotFound`].
pub async fn note_refunds(tx: &Tx, incident: IncidentId, refunds: &[(RequestId, Amount)]) -> Result<(), IncidentError> {
    take_turn(tx, incident, tx.now().await?).await?;
    let mut given = Amount::ZERO;
    for (request, amount) in refunds {
        let sql =
            "UPDATE incident_request SET refunded = $3 WHERE incident_id = $1 AND request_id = $2 AND refunded = 0";
        let values = vec![
            incident.as_uuid().into(),
            request.as_uuid().into(),
            amount.nanos().into(),
        ];
        if tx.execute(sql, values).await? > 0 {
            given = given.checked_add(*amount).unwrap_or(Amount::MAX);
        }
    }
    let sql = "UPDATE incident SET refunded = refunded + $2 WHERE id = $1";
    tx.execute(sql, vec![incident.as_uuid().into(), given.nanos().into()])
        .await?;
    Ok(())
}

async fn page(
    connection: &impl ConnectionTrait,
    incident: IncidentId,
    after: Option<RequestId>,
    limit: u32,
    condition: &str,
) -> Result<Vec<LinkView>, IncidentError> {
    let sql = format!(
        "SELECT request_id, tenant_id, charged, refunded, reported FROM incident_request \
         WHERE incident_id = $1 AND request_id > $2 {condition} ORDER BY request_id LIMIT {limit}"
    );
    let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
    let found = rows(connection, sql, vec![incident.as_uuid().into(), after.into()]).await?;
    found
        .iter()
        .map(|row| {
            let link = Link {
                request: RequestId::from_uuid(row.try_get("", "request_id")?),
                tenant: TenantId::from_uuid(row.try_get("", "tenant_id")?),
                charged: Amount::from_nanos(row.try_get("", "charged")?),
                reported: row.try_get("", "reported")?,
            };
            Ok(LinkView {
                link,
                refunded: Amount::from_nanos(row.try_get("", "refunded")?),
            })
        })
        .collect()
}

/// The public incidents that concern a request of the tenant, oldest first.
///
/// # Errors
/// What the database says.
pub async fn of_request(
    connection: &impl ConnectionTrait,
    scope: TenantScope,
    request: RequestId,
) -> Result<Vec<IncidentId>, IncidentError> {
    let sql = "SELECT i.id FROM incident_request AS r JOIN incident AS i ON i.id = r.incident_id \
         WHERE r.request_id = $1 AND r.tenant_id = $2 AND i.is_public ORDER BY i.id";
    let values = vec![request.as_uuid().into(), scope.tenant().as_uuid().into()];
    let found = rows(connection, sql, values).await?;
    found
        .iter()
        .map(|row| Ok(IncidentId::from_uuid(row.try_get("", "id")?)))
        .collect()
}
