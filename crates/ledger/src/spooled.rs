//! What is kept in the spool, as bytes: ends and progress, never holds.

use serde::{Deserialize, Serialize};

use crate::{
    batch::Item,
    items::{Closing, Progress},
};

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Written<'a> {
    Progress(&'a Progress),
    Close(&'a Closing),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Read {
    Progress(Progress),
    Close(Closing),
}

/// The item as bytes; `None` for a hold. Without its request-log record an item is small: that is for when there is no
/// room.
pub fn encode(item: &Item, with_record: bool) -> Option<Vec<u8>> {
    let written = match item {
        Item::Hold(_) => return None,
        Item::Progress(progress) if with_record => serde_json::to_vec(&Written::Progress(progress)),
        Item::Close(closing) if with_record => serde_json::to_vec(&Written::Close(closing)),
        Item::Progress(progress) => serde_json::to_vec(&Written::Progress(&Progress {
            record: None,
            ..progress.clone()
        })),
        Item::Close(closing) => serde_json::to_vec(&Written::Close(&Closing {
            record: None,
            ..closing.clone()
        })),
    };
    written.ok()
}

/// The item that was kept; `None` for bytes that no version of ours has written.
pub fn decode(bytes: &[u8]) -> Option<Item> {
    Some(match serde_json::from_slice(bytes).ok()? {
        Read::Progress(progress) => Item::Progress(progress),
        Read::Close(closing) => Item::Close(closing),
    })
}
