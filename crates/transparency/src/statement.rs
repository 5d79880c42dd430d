//! What a leaf says. It is made of rows that are never changed, always in the same way, so that the audit can make it again
//! bit by bit; nothing is parsed or sorted on the way.

use std::fmt::Write as _;

use domain::{KeyId, RequestId, TenantId};
use uuid::Uuid;

/// How a request ended: its terminal row without what is the operator's own, and its record in the request log.
#[derive(Debug, Clone, Copy)]
pub struct RequestStatement<'a> {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// `settled`, `voided` or `refused`.
    pub state: &'a str,
    /// The reason code.
    pub reason: &'a str,
    /// What had been reserved, in nano-USD.
    pub held: i64,
    /// What the customer paid, in nano-USD.
    pub amount: i64,
    /// The price-book version.
    pub price_version: i64,
    /// The ledger transaction that moved the credit.
    pub transaction: Option<Uuid>,
    /// When it was closed.
    pub closed_at_ms: i64,
    /// The record as the request log keeps it, a JSON text; `None` for a request without one.
    pub record: Option<&'a str>,
}

/// Room for a statement without its record.
const FIXED_BYTES: usize = 384;

impl RequestStatement<'_> {
    /// The statement, one JSON object.
    pub fn to_text(&self) -> String {
        let record = self.record.unwrap_or("null");
        let mut text = String::with_capacity(FIXED_BYTES + record.len());
        // writing to a String does not fail
        let _ = write!(
            text,
            "{{\"object\":\"request\",\"request\":\"{}\",\"tenant\":\"{}\",\"key\":\"{}\",\"state\":{},\"reason\":{},\
             \"held_nano_usd\":{},\"amount_nano_usd\":{},\"price_version\":{},\"transaction\":",
            self.request,
            self.tenant,
            self.key,
            quoted(self.state),
            quoted(self.reason),
            self.held,
            self.amount,
            self.price_version,
        );
        match self.transaction {
            Some(id) => text.push_str(&format!("\"{id}\"")),
            None => text.push_str("null"),
        }
        let _ = write!(text, ",\"closed_at_ms\":{},\"record\":{record}}}", self.closed_at_ms);
        text
    }
}

/// A ledger transaction with its entries.
#[derive(Debug, Clone, Copy)]
pub struct TransactionStatement<'a, E> {
    /// The transaction.
    pub id: Uuid,
    /// Its kind.
    pub kind: &'a str,
    /// The tenant whose credit moves, if one.
    pub tenant: Option<TenantId>,
    /// What caused it.
    pub reference: &'a str,
    /// Who caused it.
    pub actor: &'a str,
    /// When.
    pub at_ms: i64,
    /// Account and amount in nano-USD, in the order of their lines; a debit is positive.
    pub entries: E,
}

impl<'a, E: Iterator<Item = (&'a str, i64)>> TransactionStatement<'_, E> {
    /// The statement, one JSON object.
    pub fn into_text(self) -> String {
        let mut text = String::with_capacity(FIXED_BYTES);
        let _ = write!(
            text,
            "{{\"object\":\"transaction\",\"id\":\"{}\",\"kind\":{},\"tenant\":",
            self.id,
            quoted(self.kind)
        );
        match self.tenant {
            Some(tenant) => text.push_str(&format!("\"{tenant}\"")),
            None => text.push_str("null"),
        }
        let _ = write!(
            text,
            ",\"reference\":{},\"actor\":{},\"at_ms\":{},\"entries\":[",
            quoted(self.reference),
            quoted(self.actor),
            self.at_ms
        );
        for (number, (account, amount)) in self.entries.enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let _ = write!(
                text,
                "{comma}{{\"account\":{},\"amount_nano_usd\":{amount}}}",
                quoted(account)
            );
        }
        text.push_str("]}");
        text
    }
}

/// A JSON string. What needs no escapes, as codes and accounts, is not gone through by a serializer.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return format!("\"{text}\"");
    }
    serde_json::Value::from(text).to_string()
}
