//! The current price list, out of the snapshot: no query.

use domain::{clock::UnixMs, pricing::Multiplier};

use super::{ModelEntry, Snapshot};
use crate::{
    CatalogError,
    price_book::{
        ListedModel, ListedTier, OfferNames, PriceListing, Timeline, listed_model, listed_offer, listing_head,
        price_points,
    },
};

impl Snapshot {
    /// What everything for sale costs at present and will cost as announced; of one model, when given by its id or an
    /// alias.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] for an unknown model or tier.
    pub fn listing(&self, model: Option<&str>, tier: Option<&str>, now: UnixMs) -> Result<PriceListing, CatalogError> {
        let tier = match tier {
            None => None,
            Some(name) => {
                let timeline = self
                    .tiers
                    .get(name)
                    .ok_or_else(|| CatalogError::not_found("tier", name))?;
                Some((name, timeline))
            }
        };
        let step = self.place_at(now);
        let listed_tier = tier.map(|(name, timeline)| ListedTier {
            name: name.to_owned(),
            multiplier: step
                .and_then(|step| timeline.at(step))
                .copied()
                .unwrap_or(Multiplier::ONE),
        });
        let timeline = tier.map(|(_, timeline)| timeline);
        let point = step.and_then(|step| self.versions.get(step)).copied();
        let mut listing = listing_head(None, point, listed_tier);
        listing.next_change_at = self.next_change_at(now);
        listing.models = match model {
            None => self
                .models()
                .filter_map(|model| self.listed(model, timeline, now))
                .collect(),
            Some(name) => {
                let found = self.model(name).and_then(|model| self.listed(model, timeline, now));
                vec![found.ok_or_else(|| CatalogError::not_found("model", name))?]
            }
        };
        Ok(listing)
    }

    /// When the next version takes effect, as far as is known.
    pub fn next_change_at(&self, now: UnixMs) -> Option<UnixMs> {
        let next = self.versions.get(self.place_at(now).map_or(0, |step| step + 1))?;
        Some(next.effective_at)
    }

    fn listed(&self, model: &ModelEntry, tier: Option<&Timeline<Multiplier>>, now: UnixMs) -> Option<ListedModel> {
        let offers = model.offers.iter().filter_map(|offer| {
            let names = OfferNames {
                offer: offer.id,
                provider: &offer.provider.slug,
                pool: &offer.pool.name,
                dialect: offer.format,
                for_sale: true,
                served_names: offer.served_names.as_slice(),
            };
            listed_offer(&names, &price_points(&self.versions, &offer.terms, tier), now)
        });
        listed_model(&model.id, &model.name, offers.collect())
    }
}
