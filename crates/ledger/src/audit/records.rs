//! The request log's records are text. A number below zero in one (tokens, money, time) is found by its sign, and then
//! the record is read to be sure that the sign is no part of a name.

use std::time::Instant;

use domain::RequestId;
use serde_json::Value;
use store::StoreError;
use uuid::Uuid;

use super::{Check, reader::Reader, sweep::next_range};

/// Looks for numbers below zero, and for records that cannot be read.
pub async fn say_nothing_negative(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I8",
        "no number of a request's record is negative: tokens, amounts, times",
    );
    let mut above = Uuid::nil();
    let mut since = Instant::now();
    while let Some(range) = next_range(reader, "request", "id", above).await? {
        check.rows += range.rows;
        above = range.last;
        if check.offender.is_none() {
            let sql = "SELECT id, record_json FROM request WHERE id > $1 AND id <= $2 AND record_json LIKE '%:-%' ORDER BY id";
            let rows = reader.rows(sql, vec![range.above.into(), range.last.into()]).await?;
            for row in &rows {
                let (id, text): (Uuid, String) = (row.try_get("", "id")?, row.try_get("", "record_json")?);
                let id = RequestId::from_uuid(id);
                match serde_json::from_str(&text) {
                    Ok(record) if !has_negative(&record) => {}
                    Ok(_) => check.offend(|| format!("{id}: its record has a negative number")),
                    Err(_) => check.offend(|| format!("{id}: its record cannot be read")),
                }
            }
        }
        reader.rest("request", check.rows, since).await;
        since = Instant::now();
    }
    Ok(check)
}

fn has_negative(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_i64().is_some_and(i64::is_negative) || number.as_f64() < Some(0.0),
        Value::Array(values) => values.iter().any(has_negative),
        Value::Object(fields) => fields.values().any(has_negative),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
