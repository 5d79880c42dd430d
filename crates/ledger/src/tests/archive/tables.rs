//! The ledger's tables as text, to be compared row by row.

use std::collections::BTreeMap;

use crate::tests::world::World;

/// What a replay must bring back. Not among them: `tx.seq`, which counts insertions; `node.retired_at_ms`, which an
/// operator sets; `quarantine`; the audit rows. `change_topic` is where the tests' request log writes.
const TABLES: [(&str, &str); 10] = [
    ("acct", "tenant_id, available, held, debt, version, claimed"),
    (
        "lot",
        "id, tenant_id, kind, granted, remaining, expires_at_ms, created_at_ms",
    ),
    ("claim", "lot_id, purpose, tenant_id, amount, reference, created_at_ms"),
    ("budget", "scope, period_start_ms, limit_amount, used, held"),
    ("node", "id, boot, batch_no, last_commit_at_ms"),
    (
        "hold",
        "request_id, tenant_id, key_id, node_id, boot, amount, budgets_json, price_version, provider, \
         provider_estimate, created_at_ms, progress_json, progress_amount",
    ),
    (
        "charge",
        "request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, price_version, \
         tx_id, closed_at_ms",
    ),
    ("tx", "id, kind, tenant_id, reference, actor, at_ms"),
    ("entry", "tx_id, line, account, amount"),
    ("change_topic", "topic, version"),
];

/// Every row of every table, sorted.
pub async fn rows_of(world: &World) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for (table, columns) in TABLES {
        let fields: Vec<String> = columns
            .split(", ")
            .map(|column| match world.database.backend() {
                store::Backend::Postgres => format!("COALESCE({}::text, 'NULL')", column.trim()),
                store::Backend::Sqlite => format!("quote({})", column.trim()),
            })
            .collect();
        let sql = format!("SELECT {} AS line FROM {table} ORDER BY 1", fields.join(" || '|' || "));
        let rows = world.rows(&sql, vec![]).await;
        let lines = rows.iter().map(|row| row.try_get("", "line").unwrap()).collect();
        tables.insert(table, lines);
    }
    tables
}

/// Asserts that two databases have the same rows.
pub fn assert_same(found: &BTreeMap<&str, Vec<String>>, expected: &BTreeMap<&str, Vec<String>>) {
    for (table, lines) in expected {
        let missing: Vec<_> = lines.iter().filter(|line| !found[table].contains(line)).collect();
        let surplus: Vec<_> = found[table].iter().filter(|line| !lines.contains(line)).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "{table}: missing {missing:#?}, surplus {surplus:#?}"
        );
    }
}
