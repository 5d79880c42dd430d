//! The price list as bytes: rendered once per catalog and version, and handed out until either changes.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use catalog::{NoticePeriod, PriceListing, Snapshot};
use domain::clock::UnixMs;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Lists of single models and tiers that are kept; more are rendered each time.
const MOST_KEPT: usize = 1_024;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/json`
    Json,
    /// `text/csv`
    Csv,
}

impl Format {
    /// As the answer names it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// What is asked for of the current list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// One model, by its id or an alias.
    pub model: Option<String>,
    /// For customers of a tier.
    pub tier: Option<String>,
    /// How to write it.
    pub format: Format,
}

/// A list as it is sent.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The body.
    pub body: Bytes,
    /// A strong validator: the same bytes and no others have it.
    pub etag: String,
    /// When it will be another one, as far as is known.
    pub next_change_at: Option<UnixMs>,
}

impl Rendered {
    /// Of a body.
    pub fn new(body: Vec<u8>, next_change_at: Option<UnixMs>) -> Self {
        let digest = Sha256::digest(&body);
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self {
            body: body.into(),
            etag: format!("\"{digest}\""),
            next_change_at,
        }
    }
}

/// Of which catalog and version the kept lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Edition {
    catalog_read_at: i64,
    change_version: i64,
    price_version: i64,
}

/// The lists that were rendered last.
pub struct PriceList {
    notice: NoticePeriod,
    kept: Mutex<(Edition, HashMap<Wanted, Arc<Rendered>>)>,
}

impl PriceList {
    /// Nothing rendered yet.
    pub fn new(notice: NoticePeriod) -> Self {
        Self {
            notice,
            kept: Mutex::default(),
        }
    }

    /// The notice period in days.
    pub const fn notice_days(&self) -> u32 {
        self.notice.days()
    }

    /// The current list, rendered if it is not kept.
    ///
    /// # Errors
    /// What `render` says.
    pub fn current<E>(
        &self,
        snapshot: &Snapshot,
        mut wanted: Wanted,
        now: UnixMs,
        render: impl FnOnce(PriceListing) -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Rendered>, E>
    where
        E: From<catalog::CatalogError>,
    {
        // one list for every spelling of a name; an unknown one is refused below
        if let Some(name) = &mut wanted.model
            && let Some(model) = snapshot.model(name)
        {
            *name = model.id.to_string();
        }
        let edition = Edition {
            catalog_read_at: snapshot.read_at().0,
            change_version: snapshot.change_version(),
            price_version: snapshot.version_at(now),
        };
        {
            let mut kept = self.kept.lock();
            if kept.0 != edition {
                *kept = (edition, HashMap::new());
            }
            if let Some(rendered) = kept.1.get(&wanted) {
                return Ok(Arc::clone(rendered));
            }
        }
        let listing = snapshot.listing(wanted.model.as_deref(), wanted.tier.as_deref(), now)?;
        let next_change_at = listing.next_change_at;
        let rendered = Arc::new(Rendered::new(render(listing)?, next_change_at));
        let mut kept = self.kept.lock();
        // the full lists are few, and the dearest to render
        let is_full = wanted.model.is_none();
        if kept.0 == edition && (is_full || kept.1.len() < MOST_KEPT) {
            kept.1.insert(wanted, Arc::clone(&rendered));
        }
        Ok(rendered)
    }
}
