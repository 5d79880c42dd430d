//! The price list as CSV (RFC 4180): one line per price.

use catalog::{ListedPrice, ModelPriceHistory, PriceListing};
use domain::{OfferId, clock::UnixMs, request::Dialect};

const HEAD: &str = "model,provider,pool,offer,dialect,state,class,condition,unit,list_price_usd,multiplier,price_usd,\
    price_version,effective_at,until,published_at,cancelled_at\r\n";

/// What can be written as lines.
pub trait ToCsv {
    /// The whole file.
    fn to_csv(&self) -> String;
}

/// The cells that all prices of an offer share.
struct Seller<'a> {
    model: &'a str,
    provider: &'a str,
    pool: &'a str,
    offer: OfferId,
    dialect: Dialect,
}

impl ToCsv for PriceListing {
    fn to_csv(&self) -> String {
        let mut text = HEAD.to_owned();
        for model in &self.models {
            for offer in &model.offers {
                let seller = Seller {
                    model: &model.id,
                    provider: &offer.provider,
                    pool: &offer.pool,
                    offer: offer.offer,
                    dialect: offer.dialect,
                };
                let current = offer.price.iter().map(|price| ("current", price));
                let scheduled = offer.scheduled.iter().map(|price| ("scheduled", price));
                for (state, price) in current.chain(scheduled) {
                    add(&mut text, &seller, state, price, [None, None]);
                }
            }
        }
        text
    }
}

impl ToCsv for ModelPriceHistory {
    fn to_csv(&self) -> String {
        let mut text = HEAD.to_owned();
        for offer in &self.offers {
            let seller = Seller {
                model: &self.model,
                provider: &offer.provider,
                pool: &offer.pool,
                offer: offer.offer,
                dialect: offer.dialect,
            };
            for price in &offer.prices {
                add(
                    &mut text,
                    &seller,
                    price.state,
                    &price.price,
                    [price.until, price.cancelled_at],
                );
            }
        }
        text
    }
}

fn add(
    text: &mut String,
    seller: &Seller<'_>,
    state: &str,
    price: &ListedPrice,
    [until, cancelled_at]: [Option<UnixMs>; 2],
) {
    let instant = |instant: Option<UnixMs>| instant.map(UnixMs::to_rfc3339).unwrap_or_default();
    let (until, cancelled_at) = (instant(until), instant(cancelled_at));
    let (effective_at, published_at) = (price.effective_at.to_rfc3339(), price.published_at.to_rfc3339());
    let (offer, version) = (seller.offer.to_string(), price.version.to_string());
    for line in &price.prices {
        let cells = [
            seller.model,
            seller.provider,
            seller.pool,
            &offer,
            seller.dialect.as_str(),
            state,
            line.class,
            &line.condition,
            line.unit,
            &line.list,
            &price.multiplier,
            &line.price,
            &version,
            &effective_at,
            &until,
            &published_at,
            &cancelled_at,
        ];
        let cells: Vec<String> = cells.into_iter().map(cell).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
}

/// Quoted where it must be. What a spreadsheet would take for a formula is made text: operators choose names freely.
fn cell(text: &str) -> String {
    let guarded;
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        guarded = format!("'{text}");
        &guarded
    } else {
        text
    };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, written) in [
            ("plain-name", "plain-name"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-pool", "'-pool"),
            ("@sum", "'@sum"),
            ("=a,b", "\"'=a,b\""),
            ("say \"a\"", "\"say \"\"a\"\"\""),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}
