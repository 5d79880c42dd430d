//! The rules that can be told from one row and what belongs to it, by table.

use std::time::Duration;

use super::sweep::{Rule, Subject, Sweep};

/// How much longer than a request a hold may be open.
const GRACE: Duration = Duration::from_secs(120);
/// How long credit may stay after its time. Expiry looks for it much more often.
const EXPIRY_GRACE: Duration = Duration::from_secs(3_600);

/// Every table that is swept, with its rules.
pub fn sweeps(max_request_time: Duration) -> Vec<Sweep> {
    let sweep = |table, key, subject, rules| Sweep {
        table,
        key,
        subject,
        rules,
    };
    vec![
        sweep("tx", "id", Subject::Transaction, transactions()),
        sweep("entry", "tx_id", Subject::Transaction, entries()),
        sweep("lot", "id", Subject::Lot, lots()),
        sweep("claim", "lot_id", Subject::Lot, claims()),
        sweep("acct", "tenant_id", Subject::Tenant, accounts()),
        sweep("hold", "request_id", Subject::Request, holds(max_request_time + GRACE)),
        sweep("charge", "request_id", Subject::Request, charges()),
        sweep("request", "id", Subject::Request, records()),
    ]
}

const fn rule(invariant: &'static str, statement: &'static str, sql: &'static str) -> Rule {
    Rule {
        invariant,
        statement,
        sql,
        limit: None,
    }
}

fn milliseconds(time: Duration) -> Option<i64> {
    Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

fn transactions() -> Vec<Rule> {
    vec![
        rule(
            "I1",
            "the entries of every transaction sum to zero",
            // a withdrawal of what holds cover moves nothing yet, nor does the release of one
            "SELECT t.id, 'does not balance or has no entries' AS what FROM tx t LEFT JOIN entry e ON e.tx_id = t.id \
             WHERE {range:t.id} GROUP BY t.id, t.kind HAVING COALESCE(SUM(e.amount), \
             CASE WHEN t.kind IN ('refund', 'expiry', 'suspension', 'release') THEN 0 ELSE 1 END) <> 0",
        ),
        rule(
            "I11",
            "promotional credit is never paid back",
            "SELECT t.id, 'pays back ' || e.account AS what FROM tx t JOIN entry e ON e.tx_id = t.id \
             WHERE {range:t.id} AND e.account LIKE 'credit_promo:%' AND EXISTS \
             (SELECT 1 FROM entry r WHERE r.tx_id = t.id AND r.account LIKE 'refunds_payable:%')",
        ),
    ]
}

/// PostgreSQL does not look for it when an entry is written (migration `writer_speed`).
fn entries() -> Vec<Rule> {
    vec![rule(
        "I1",
        "every entry is of a transaction",
        "SELECT e.tx_id AS id, 'has entries and is not there' AS what FROM entry e LEFT JOIN tx t ON t.id = e.tx_id \
         WHERE {range:e.tx_id} AND t.id IS NULL",
    )]
}

fn lots() -> Vec<Rule> {
    let expired = "SELECT l.id, 'expired, and ' || l.remaining || ' of it are neither held nor claimed' AS what \
         FROM lot l JOIN acct a ON a.tenant_id = l.tenant_id \
         WHERE {range:l.id} AND l.expires_at_ms < {now_ms} - $3 \
         AND l.remaining > a.held + (SELECT COALESCE(SUM(c.amount), 0) FROM claim c WHERE c.lot_id = l.id)";
    vec![
        rule(
            "I2",
            "what is left of every lot is the sum of its entries",
            "SELECT v.id, v.remaining || ' left, entries say ' || v.posted AS what FROM \
             (SELECT l.id, l.remaining, -COALESCE((SELECT SUM(e.amount) FROM entry e WHERE e.account = \
             'credit_' || l.kind || ':ten_' || {hex:l.tenant_id} || ':lot_' || {hex:l.id}), 0) AS posted \
             FROM lot l WHERE {range:l.id}) v WHERE v.posted <> v.remaining",
        ),
        rule(
            "I2",
            "what is suspended of a lot came from it",
            "SELECT v.id, v.suspended || ' suspended and ' || v.remaining || ' left of ' || v.granted AS what FROM \
             (SELECT l.id, l.remaining, l.granted, -COALESCE((SELECT SUM(e.amount) FROM entry e WHERE e.account = \
             'credit_suspended:ten_' || {hex:l.tenant_id} || ':lot_' || {hex:l.id}), 0) AS suspended \
             FROM lot l WHERE {range:l.id}) v WHERE v.suspended < 0 OR v.suspended + v.remaining > v.granted",
        ),
        Rule {
            limit: milliseconds(EXPIRY_GRACE),
            ..rule(
                "I12",
                "nothing is left of a lot an hour after its time but what holds and claims cover",
                expired,
            )
        },
    ]
}

fn claims() -> Vec<Rule> {
    vec![
        rule(
            "I10",
            "what is claimed of a lot is no more than what is left of it",
            "SELECT l.id, v.claimed || ' claimed, ' || l.remaining || ' left' AS what FROM lot l JOIN \
             (SELECT lot_id, SUM(amount) AS claimed FROM claim WHERE {range:lot_id} GROUP BY lot_id) v \
             ON v.lot_id = l.id WHERE v.claimed > l.remaining",
        ),
        rule(
            "I10",
            "a claim is its lot's tenant's",
            "SELECT c.lot_id AS id, 'a claim on it is for another tenant' AS what FROM claim c \
             JOIN lot l ON l.id = c.lot_id WHERE {range:c.lot_id} AND c.tenant_id <> l.tenant_id",
        ),
        rule(
            "I11",
            "no promotional credit waits to be paid back",
            "SELECT c.lot_id AS id, 'is promotional and to be paid back' AS what FROM claim c \
             JOIN lot l ON l.id = c.lot_id WHERE {range:c.lot_id} AND c.purpose = 'refund' AND l.kind <> 'paid'",
        ),
    ]
}

fn accounts() -> Vec<Rule> {
    vec![
        rule(
            "I2",
            "available credit is the lots less what is held",
            "SELECT v.tenant_id AS id, \
             'available ' || v.available || ' and held ' || v.held || ' are not the lots'' ' || v.lots AS what FROM \
             (SELECT a.tenant_id, a.available, a.held, \
             (SELECT COALESCE(SUM(l.remaining), 0) FROM lot l WHERE l.tenant_id = a.tenant_id) AS lots \
             FROM acct a WHERE {range:a.tenant_id}) v \
             WHERE v.available < 0 OR v.held < 0 OR v.lots - v.available - v.held <> 0",
        ),
        rule(
            "I2",
            "no more was paid back than was taken for it",
            "SELECT v.tenant_id AS id, 'refunds payable are ' || v.payable AS what FROM \
             (SELECT a.tenant_id, -COALESCE((SELECT SUM(e.amount) FROM entry e \
             WHERE e.account = 'refunds_payable:ten_' || {hex:a.tenant_id}), 0) AS payable \
             FROM acct a WHERE {range:a.tenant_id}) v WHERE v.payable < 0",
        ),
        rule(
            "I3",
            "what a tenant has held is the sum of its open holds",
            "SELECT v.tenant_id AS id, 'held ' || v.held || ', open holds ' || v.holds AS what FROM \
             (SELECT a.tenant_id, a.held, COALESCE(o.open, 0) AS holds FROM acct a LEFT JOIN \
             (SELECT h.tenant_id, SUM(h.amount) AS open FROM hold h GROUP BY h.tenant_id) o \
             ON o.tenant_id = a.tenant_id WHERE {range:a.tenant_id}) v WHERE v.held <> v.holds",
        ),
        rule(
            "I10",
            "what a tenant has claimed is the sum of the claims on its lots",
            "SELECT v.tenant_id AS id, 'claimed ' || v.claimed || ', claims ' || v.claims AS what FROM \
             (SELECT a.tenant_id, a.claimed, \
             (SELECT COALESCE(SUM(c.amount), 0) FROM claim c WHERE c.tenant_id = a.tenant_id) AS claims \
             FROM acct a WHERE {range:a.tenant_id}) v WHERE v.claimed <> v.claims",
        ),
    ]
}

fn holds(oldest: Duration) -> Vec<Rule> {
    vec![
        rule(
            "I5",
            "no request is both open and closed",
            "SELECT h.request_id AS id, 'has a hold and a charge' AS what FROM hold h \
             JOIN charge c ON c.request_id = h.request_id WHERE {range:h.request_id}",
        ),
        Rule {
            limit: milliseconds(oldest),
            ..rule(
                "I6",
                "no hold is older than a request may be, with a grace of two minutes",
                "SELECT h.request_id AS id, 'is held for too long' AS what FROM hold h \
                 WHERE {range:h.request_id} AND h.created_at_ms < {now_ms} - $3",
            )
        },
        rule(
            "I7",
            "every hold names a price version that was published",
            "SELECT h.request_id AS id, 'is held at price version ' || h.price_version AS what FROM hold h \
             LEFT JOIN price_version p ON p.version = h.price_version \
             WHERE {range:h.request_id} AND p.version IS NULL",
        ),
    ]
}

fn charges() -> Vec<Rule> {
    vec![
        rule(
            "I4",
            "no charge is above its hold, and nothing is charged for a void",
            "SELECT c.request_id AS id, 'is charged more than it may be' AS what FROM charge c \
             WHERE {range:c.request_id} AND (c.amount > c.held OR c.amount < 0 \
             OR (c.state <> 'settled' AND (c.amount <> 0 OR c.overrun <> 0)))",
        ),
        rule(
            "I5",
            "every charge has its transaction, which is the tenant's own",
            "SELECT c.request_id AS id, 'is charged without a transaction of its tenant' AS what FROM charge c \
             LEFT JOIN tx t ON t.id = c.tx_id AND t.tenant_id = c.tenant_id AND t.kind = 'usage' \
             WHERE {range:c.request_id} AND (c.amount + c.overrun > 0 OR c.tx_id IS NOT NULL) AND t.id IS NULL",
        ),
        // a request that was refused, or ended without ever having a hold, need not have been priced
        rule(
            "I7",
            "every charge names a price version that was published",
            "SELECT c.request_id AS id, 'is charged by price version ' || c.price_version AS what FROM charge c \
             LEFT JOIN price_version p ON p.version = c.price_version \
             WHERE {range:c.request_id} AND (c.state = 'settled' OR c.held > 0) AND p.version IS NULL",
        ),
        rule(
            "I8",
            "no line of a charge is negative",
            "SELECT c.request_id AS id, 'has a negative amount' AS what FROM charge c \
             WHERE {range:c.request_id} AND (c.held < 0 OR c.amount < 0 OR c.overrun < 0 OR c.provider_cost < 0 \
             OR c.unbilled < 0)",
        ),
    ]
}

fn records() -> Vec<Rule> {
    vec![rule(
        "I5",
        "every record of the request log has its charge, and both say so if recovery closed the request",
        "SELECT r.id, 'is logged as ' || r.reason || ', charged as ' || COALESCE(c.reason, 'nothing') AS what \
         FROM request r LEFT JOIN charge c ON c.request_id = r.id \
         WHERE {range:r.id} AND (c.request_id IS NULL OR (c.reason <> r.reason AND \
         (c.reason IN ('relay_crashed', 'hold_expired') OR r.reason IN ('relay_crashed', 'hold_expired'))))",
    )]
}
