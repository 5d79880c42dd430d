//! How lists are cut into pages: rows after a cursor, in the order of their ids.

/// The longest page that is served; longer requests get this many rows.
pub const MAX_PAGE: u64 = 1_000;

/// The number of rows to read for a requested page length.
pub(crate) fn page_length(limit: u64) -> u64 {
    limit.clamp(1, MAX_PAGE)
}
