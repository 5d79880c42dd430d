//! The tables as sea-orm sees them. Private: what leaves the crate is a record, never an entity.

pub(crate) mod operator_token;
pub(crate) mod tenant;
pub(crate) mod virtual_key;
