//! Spans of time as ranges of request ids, which carry the instant of their admission, and reading along one.

use domain::{RequestId, clock::UnixMs, request::RequestRecord};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use store::StoreError;

use crate::reading::read;

/// Requests admitted from one instant (inside) to another (outside).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant inside.
    pub from: UnixMs,
    /// The first instant outside again.
    pub to: UnixMs,
}

impl Window {
    /// No id of the window is less than the first, none is the second or more.
    pub(crate) fn ids(self) -> (RequestId, RequestId) {
        (RequestId::first_at(self.from), RequestId::first_at(self.to))
    }
}

/// Records of a window in the order of their ids, after one of them when given.
///
/// # Errors
/// What the database says.
pub async fn operator_scan(
    connection: &DatabaseConnection,
    window: Window,
    after: Option<RequestId>,
    limit: u32,
) -> Result<Vec<RequestRecord>, StoreError> {
    let (first, end) = window.ids();
    let sql =
        format!("SELECT record_json FROM request WHERE id >= $1 AND id < $2 AND id > $3 ORDER BY id LIMIT {limit}");
    let after = after.unwrap_or_else(|| RequestId::first_at(UnixMs(0)));
    let values = [first, end, after].map(|id| id.as_uuid().into());
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    connection.query_all_raw(statement).await?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lie_in_the_window_of_their_instant() {
        let id = RequestId::generate();
        let (seconds, nanos) = id.as_uuid().get_timestamp().expect("a time").to_unix();
        let at = UnixMs(i64::try_from(seconds).unwrap() * 1_000 + i64::from(nanos / 1_000_000));
        let inside = |from: i64, to: i64| {
            let (first, end) = Window {
                from: at.plus_ms(from),
                to: at.plus_ms(to),
            }
            .ids();
            first <= id && id < end
        };
        assert!(inside(0, 1));
        assert!(!inside(1, 2));
        assert!(!inside(-1, 0));
    }
}
