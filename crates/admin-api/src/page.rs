//! Pages: at most `limit` rows after a cursor, and the cursor of the next page when there is one.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{AdminError, Answer};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// Which page to answer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// `next_cursor` of the page before; absent for the first page.
    pub cursor: Option<String>,
    /// The most rows to answer, 1 to 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Give this as `cursor` to get the next page; `null` on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// The bounds of a page, as read.
#[derive(Debug)]
pub(crate) struct Bounds<C> {
    /// Where the page starts.
    pub cursor: Option<C>,
    limit: u32,
}

impl PageParams {
    /// Reads cursor and limit.
    pub(crate) fn bounds<C: FromStr>(&self) -> Answer<Bounds<C>> {
        page_bounds(self.cursor.as_deref(), self.limit.as_deref())
    }
}

/// Reads cursor and limit of a list whose parameters have more than these.
pub(crate) fn page_bounds<C: FromStr>(cursor: Option<&str>, limit: Option<&str>) -> Answer<Bounds<C>> {
    let limit = match limit {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| AdminError::invalid("limit", format!("write a whole number from 1 to {MAX_LIMIT}")))?,
    };
    let cursor = cursor
        .map(|text| {
            text.parse()
                .map_err(|_| AdminError::invalid("cursor", "give the `next_cursor` of a page of this list, or none"))
        })
        .transpose()?;
    Ok(Bounds { cursor, limit })
}

impl<C> Bounds<C> {
    /// How many rows to read: one more than are shown, to know whether there is a next page.
    pub(crate) const fn rows_to_read(&self) -> u32 {
        self.limit + 1
    }

    /// Cuts what was read to the page.
    pub(crate) fn page<Row, T>(
        &self,
        mut rows: Vec<Row>,
        cursor_of: impl Fn(&Row) -> String,
        show: impl FnMut(Row) -> T,
    ) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(cursor_of);
        Page {
            data: rows.into_iter().map(show).collect(),
            next_cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_last_page_has_no_next() {
        let bounds = page_bounds::<i64>(None, Some("2")).unwrap();
        let page = |rows: Vec<i64>| bounds.page(rows, ToString::to_string, |row| row);
        assert_eq!(page(vec![1, 2]).next_cursor, None);
        let cut = page(vec![1, 2, 3]);
        assert_eq!((cut.data, cut.next_cursor.as_deref()), (vec![1, 2], Some("2")));
        assert_eq!(page(vec![]).next_cursor, None);
    }

    #[test]
    fn bounds_are_kept() {
        for bad in ["0", "201", "-1", "x", ""] {
            assert!(page_bounds::<i64>(None, Some(bad)).is_err(), "{bad}");
        }
        assert!(page_bounds::<i64>(Some("x"), None).is_err());
        assert_eq!(page_bounds::<i64>(None, None).unwrap().rows_to_read(), 51);
    }
}
