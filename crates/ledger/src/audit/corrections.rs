//! Corrections against the charges that they name: no more goes back than was paid, and what was given never comes back as
//! what was bought.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use domain::RequestId;
use store::StoreError;
use uuid::Uuid;

use super::{Check, reader::Reader};
use crate::{
    chart::{Account, LotKind},
    corrections::{CorrectionKind, TRANSACTION_KINDS},
    items::ChargeRow,
    reading::operator_charges,
};

/// Requests looked at at a time.
const PAGE: i64 = 200;

/// Paid and promotional credit, in nano-USD. Debt is paid with what would be paid credit.
#[derive(Default, Clone, Copy)]
struct Kinds {
    paid: i128,
    promo: i128,
}

impl Kinds {
    /// Adds an entry on credit; answers whether it is one.
    fn add(&mut self, account: &str, amount: i128) -> bool {
        match Account::lot_of(account) {
            Some((LotKind::Promo, _)) => self.promo += amount,
            Some((LotKind::Paid, _)) => self.paid += amount,
            None if account.starts_with("customer_debt:") => self.paid += amount,
            None => return false,
        }
        true
    }
}

/// What the corrections of one request gave.
#[derive(Default)]
struct Given {
    tenants: BTreeSet<Option<Uuid>>,
    of_charge: i128,
    goodwill: i128,
    credit: Kinds,
    /// The first account that has no place in a correction.
    stray: Option<String>,
}

impl Given {
    /// Adds an entry. What is given of a charge comes from revenue, goodwill from the account of its own.
    fn add(&mut self, kind: CorrectionKind, account: &str, amount: i128) {
        let mut kinds = Kinds::default();
        let is_credit = kinds.add(account, -amount);
        let fits = match kind {
            CorrectionKind::TrueUp | CorrectionKind::Refund if amount > 0 => {
                self.of_charge += amount;
                account == "revenue_usage"
            }
            CorrectionKind::TrueUp | CorrectionKind::Refund => {
                self.credit.paid += kinds.paid;
                self.credit.promo += kinds.promo;
                is_credit
            }
            CorrectionKind::Goodwill if amount > 0 => {
                self.goodwill += amount;
                account == "goodwill"
            }
            CorrectionKind::Goodwill => is_credit && kinds.paid == 0,
        };
        if !fits && self.stray.is_none() {
            self.stray = Some(account.to_owned());
        }
    }
}

/// Checks every request that has corrections, and the transactions that had charged them.
pub async fn are_within_charges(reader: &Reader<'_>) -> Result<[Check; 2], StoreError> {
    let mut within = Check::new(
        "I15",
        "every correction names an existing charge of its tenant, and all of a request are no more than it was charged",
    );
    let mut kinds = Check::new(
        "I16",
        "corrections give back no more paid credit, and no more promotional credit, than the charges took",
    );
    // of each transaction that was corrected at all; corrections are few
    let mut given_back: BTreeMap<Uuid, Kinds> = BTreeMap::new();
    let (mut after, mut since) = (String::new(), Instant::now());
    loop {
        let given = page(reader, &after).await?;
        let Some((last, _)) = given.last_key_value() else { break };
        after = last.clone();
        let charges = charges_of(reader, given.keys()).await?;
        for (reference, given) in &given {
            within.rows += 1;
            let charge = charges.get(reference);
            if let Some(fault) = fault_of(given, charge) {
                within.offend(|| format!("{reference}: {fault}"));
            }
            if let Some(transaction) = charge.and_then(|charge| charge.transaction) {
                let sum = given_back.entry(transaction).or_default();
                sum.paid += given.credit.paid;
                sum.promo += given.credit.promo;
            }
        }
        reader.rest("tx", within.rows, since).await;
        since = Instant::now();
    }
    check_kinds(reader, &given_back, &mut kinds).await?;
    Ok([within, kinds])
}

fn fault_of(given: &Given, charge: Option<&ChargeRow>) -> Option<String> {
    let charge = charge.filter(|charge| given.tenants.iter().eq([&Some(charge.tenant.as_uuid())]));
    let Some(charge) = charge else {
        return Some("is corrected, and its tenant was not charged for it".to_owned());
    };
    if let Some(account) = &given.stray {
        return Some(format!("a correction posts on {account}"));
    }
    let (charged, held) = (i128::from(charge.amount.nanos()), i128::from(charge.held.nanos()));
    if given.of_charge > charged {
        return Some(format!("{} of a charge of {charged} were given back", given.of_charge));
    }
    (given.goodwill > held).then(|| format!("goodwill of {} was given, {held} were held", given.goodwill))
}

/// What the next requests were given, by their references.
async fn page(reader: &Reader<'_>, after: &str) -> Result<BTreeMap<String, Given>, StoreError> {
    let sql = format!(
        "SELECT t.kind, t.reference, t.tenant_id, e.account, e.amount FROM \
         (SELECT DISTINCT reference FROM tx WHERE kind IN {TRANSACTION_KINDS} AND reference > $1 \
         ORDER BY reference LIMIT $2) p \
         JOIN tx t ON t.reference = p.reference AND t.kind IN {TRANSACTION_KINDS} JOIN entry e ON e.tx_id = t.id"
    );
    let mut page: BTreeMap<String, Given> = BTreeMap::new();
    for row in reader.rows(&sql, vec![after.into(), PAGE.into()]).await? {
        let kind: String = row.try_get("", "kind")?;
        let kind = CorrectionKind::parse(&kind).ok_or_else(|| StoreError::damaged("tx.kind"))?;
        let given = page.entry(row.try_get("", "reference")?).or_default();
        given.tenants.insert(row.try_get("", "tenant_id")?);
        let (account, nanos): (String, i64) = (row.try_get("", "account")?, row.try_get("", "amount")?);
        given.add(kind, &account, i128::from(nanos));
    }
    Ok(page)
}

/// The charges of requests, by their references; there is none for what is no request.
async fn charges_of(
    reader: &Reader<'_>,
    references: impl Iterator<Item = &String>,
) -> Result<BTreeMap<String, ChargeRow>, StoreError> {
    let requests: Vec<RequestId> = references.filter_map(|reference| reference.parse().ok()).collect();
    let charges = operator_charges(reader.connection(), &requests).await?;
    let by_reference = charges
        .into_iter()
        .map(|charge| (charge.row.request.to_string(), charge.row));
    Ok(by_reference.collect())
}

/// Compares what went back of each transaction with what it took.
async fn check_kinds(
    reader: &Reader<'_>,
    given_back: &BTreeMap<Uuid, Kinds>,
    check: &mut Check,
) -> Result<(), StoreError> {
    let sql = "SELECT account, amount FROM entry WHERE tx_id = $1 AND amount > 0";
    for (transaction, given) in given_back {
        check.rows += 1;
        let mut took = Kinds::default();
        for row in reader.rows(sql, vec![(*transaction).into()]).await? {
            let (account, nanos): (String, i64) = (row.try_get("", "account")?, row.try_get("", "amount")?);
            took.add(&account, i128::from(nanos));
        }
        if given.paid > took.paid || given.promo > took.promo {
            check.offend(|| {
                format!(
                    "usage transaction {transaction} took {} paid and {} promotional, {} and {} were given back",
                    took.paid, took.promo, given.paid, given.promo
                )
            });
        }
    }
    Ok(())
}
