//! The notice period: no customer's price rises before it is over.
//!
//! The rule compares two price books, the one before and the one after a change, at every instant within the period at
//! which either of them changes, for every offer that has a price and every customer tier. It does not matter how a rise
//! comes about: a list price, a multiplier, a promotion that ends, a tier, an announced card inside a price entry.

use std::collections::{BTreeSet, HashSet};

use domain::{
    clock::UnixMs,
    pricing::{FrozenPrice, Multiplier, Rise, named_once, rises},
};
use sea_orm::ConnectionTrait;

use super::{
    BookRows, PriceBook, Terms, Timeline,
    listing::{KnownOffer, known_offers},
};
use crate::CatalogError;

const MS_PER_DAY: i64 = 86_400_000;
const MS_PER_MINUTE: i64 = 60_000;

/// How long before it takes effect a rise must be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticePeriod {
    days: u32,
}

impl NoticePeriod {
    /// Rises may take effect as soon as anything else.
    pub const NONE: Self = Self { days: 0 };
    /// A change can be published 92 days ahead at most.
    pub const LONGEST: Self = Self { days: 90 };

    /// A period in days; `None` for more than [`Self::LONGEST`].
    pub fn of_days(days: u32) -> Option<Self> {
        (days <= Self::LONGEST.days).then_some(Self { days })
    }

    /// The period in days.
    pub const fn days(self) -> u32 {
        self.days
    }

    pub(super) const fn is_needed(self) -> bool {
        self.days > 0
    }

    /// The end of the period that begins now.
    pub(super) fn ends_at(self, now: UnixMs) -> UnixMs {
        now.plus_ms(i64::from(self.days).saturating_mul(MS_PER_DAY))
    }
}

/// Refuses a publication that makes a price rise, against what the book had said, before the period is over.
pub(super) async fn check_publication(
    connection: &impl ConnectionTrait,
    before: &BookRows,
    after: &BookRows,
    now: UnixMs,
    notice: NoticePeriod,
) -> Result<(), CatalogError> {
    let offers = known_offers(connection, None).await?;
    let books = Books::new(before, after, now, notice)?;
    refuse(books.rises(&offers, Against::Announced), now, notice)
}

/// Refuses a cancellation after which a price in the period is both above what had been announced and above what is in
/// force now. To withdraw a reduction leaves prices as they are, and needs no notice.
pub(super) async fn check_cancellation(
    connection: &impl ConnectionTrait,
    before: &BookRows,
    after: &BookRows,
    now: UnixMs,
    notice: NoticePeriod,
) -> Result<(), CatalogError> {
    let offers = known_offers(connection, None).await?;
    let books = Books::new(before, after, now, notice)?;
    refuse(books.rises(&offers, Against::AnnouncedAndPresent), now, notice)
}

fn refuse(rises: Vec<String>, now: UnixMs, notice: NoticePeriod) -> Result<(), CatalogError> {
    if rises.is_empty() {
        return Ok(());
    }
    // half a minute to send it, and then a whole minute, so that the instant named can be given as it is
    let end = notice.ends_at(now).plus_ms(MS_PER_MINUTE / 2);
    let earliest = UnixMs(
        end.0
            .div_euclid(MS_PER_MINUTE)
            .saturating_add(1)
            .saturating_mul(MS_PER_MINUTE),
    );
    Err(CatalogError::NoticeNeeded {
        earliest,
        days: notice.days,
        rises,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Announced,
    AnnouncedAndPresent,
}

/// What rises, each thing once: at the first instant at which it does.
#[derive(Default)]
struct Named {
    words: HashSet<String>,
    texts: Vec<String>,
}

/// The price book before and after a change, over the notice period.
struct Books {
    before: PriceBook,
    after: PriceBook,
    now: UnixMs,
    instants: BTreeSet<UnixMs>,
    until: UnixMs,
}

impl Books {
    fn new(before: &BookRows, after: &BookRows, now: UnixMs, notice: NoticePeriod) -> Result<Self, CatalogError> {
        let until = notice.ends_at(now);
        let changes = before
            .versions
            .iter()
            .chain(&after.versions)
            .map(|point| point.effective_at);
        let instants = changes.filter(|at| (now..until).contains(at)).chain([now]).collect();
        Ok(Self {
            before: PriceBook::of_rows(before)?,
            after: PriceBook::of_rows(after)?,
            now,
            instants,
            until,
        })
    }

    fn rises(&self, offers: &[KnownOffer], against: Against) -> Vec<String> {
        let tiers: BTreeSet<&String> = self.before.tiers.keys().chain(self.after.tiers.keys()).collect();
        let mut found = Named::default();
        for known in offers {
            let terms = |book: &PriceBook| book.terms_of(known.view.id, known.view.pool, &known.view.model);
            let terms = [terms(&self.before), terms(&self.after)];
            for at in self.instants_of(&terms) {
                self.note(known, &terms, None, at, against, &mut found);
                for tier in &tiers {
                    let [old, new] = [&self.before, &self.after].map(|book| factor(book, tier, at));
                    // what is in force now is compared only where it counts
                    let counts_now = against == Against::AnnouncedAndPresent;
                    let changes_since = counts_now && new != factor(&self.before, tier, self.now);
                    // a tier whose factor stays says nothing that the price without a tier does not say
                    if old != new || changes_since {
                        self.note(known, &terms, Some(tier), at, against, &mut found);
                    }
                }
            }
        }
        found.texts
    }

    /// Instants at which a price may change: those of versions, and of announced cards inside the entries.
    fn instants_of(&self, terms: &[Timeline<Option<Terms>>; 2]) -> BTreeSet<UnixMs> {
        let entries = terms
            .iter()
            .flat_map(|terms| terms.steps().filter_map(|step| terms.at(step)?.as_ref()));
        let days = entries.flat_map(|terms| {
            terms
                .entry
                .scheduled()
                .iter()
                .map(|card| card.effective_from.starts_at())
        });
        let days = days.filter(|day| (self.now..self.until).contains(day));
        self.instants.iter().copied().chain(days).collect()
    }

    fn note(
        &self,
        known: &KnownOffer,
        [old, new]: &[Timeline<Option<Terms>>; 2],
        tier: Option<&str>,
        at: UnixMs,
        against: Against,
        found: &mut Named,
    ) {
        // what had no price yet cannot rise
        let Some(announced) = frozen(&self.before, old, tier, at) else {
            return;
        };
        let Some(becomes) = frozen(&self.after, new, tier, at) else {
            return;
        };
        let mut rising = rises(&announced, &becomes);
        if against == Against::AnnouncedAndPresent {
            let Some(present) = frozen(&self.before, old, tier, self.now) else {
                return;
            };
            let above_present = rises(&present, &becomes);
            rising.retain(|rise| above_present.iter().any(|other| concern_the_same(rise, other)));
        }
        for Rise {
            line, before, after, ..
        } in named_once(rising)
        {
            let of_tier = tier.map(|tier| format!(" for tier {tier}")).unwrap_or_default();
            let words = format!("{}{of_tier}: {line}", known.label());
            let text = format!("{words} from {before} to {after} at {}", at.to_rfc3339());
            if found.words.insert(words) {
                found.texts.push(text);
            }
        }
    }
}

/// Two rises of one class, or one of them of every class.
fn concern_the_same(one: &Rise, other: &Rise) -> bool {
    one.class == other.class || one.class.is_none() || other.class.is_none()
}

fn factor(book: &PriceBook, tier: &str, at: UnixMs) -> Multiplier {
    let timeline = book.tier(tier);
    let factor = book.step_at(at).and_then(|step| timeline?.at(step).copied());
    factor.unwrap_or(Multiplier::ONE)
}

fn frozen(book: &PriceBook, terms: &Timeline<Option<Terms>>, tier: Option<&str>, at: UnixMs) -> Option<FrozenPrice> {
    let step = book.step_at(at)?;
    let terms = terms.at(step)?.as_ref()?;
    Some(FrozenPrice {
        version: 0,
        entry: std::sync::Arc::clone(&terms.entry),
        multipliers: terms.multipliers(tier.map(|tier| factor(book, tier, at))),
        cost: Multiplier::ONE,
        admitted_at: at,
    })
}
