//! Lookups of a batch go by key, however large the tables are.

use domain::RequestId;
use store::bulk::Rows;

use super::world::*;
use crate::{batch::Item, sql_store::LOOKUPS};

on_postgres! {
    lookups_never_read_a_whole_table,
    lookups_of_empty_tables_are_by_key_too,
    batches_that_began_on_empty_tables_do_not_read_whole_ones,
}

async fn batches_that_began_on_empty_tables_do_not_read_whole_ones(world: &World) {
    const ROWS: i64 = 20_000;
    const BATCHES: i64 = 20;
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000_000).await);
    let mut send = async || {
        let request = hold_request(tenant, 100);
        let end = settle_item(&request, 10);
        // the second end finds the row of the first
        for item in [Item::Hold(request), end.clone(), end] {
            batches.send(vec![item]).await;
        }
    };
    // as a relay that was started a moment ago: the statements are planned on tables that are known to be empty
    world.change("ANALYZE", vec![]).await.unwrap();
    send().await;
    world.change(FILL_CHARGES, vec![tenant.as_uuid().into()]).await.unwrap();
    for _ in 0..BATCHES {
        send().await;
    }
    // a connection tells what it has read when it is asked to, or much later
    let tx = world.database.begin_money().await.unwrap();
    tx.query("SELECT 1 FROM pg_stat_force_next_flush()", vec![]).await.unwrap();
    tx.commit().await.unwrap();
    let read = world.number(READ_OF_CHARGES).await;
    assert!((BATCHES..BATCHES * ROWS / 4).contains(&read), "{read} rows were read");
}

const FILL_CHARGES: &str = "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, \
     provider_cost, unbilled, price_version, closed_at_ms) SELECT gen_random_uuid(), $1, gen_random_uuid(), 'voided', \
     'completed', 0, 0, 0, 0, 0, 1, 1 FROM generate_series(1, 20000)";
const READ_OF_CHARGES: &str =
    "SELECT seq_tup_read + COALESCE(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'charge'";

/// A plan is made once and kept: what was planned while the tables were small must serve when they are large.
async fn lookups_of_empty_tables_are_by_key_too(world: &World) {
    for (column, sql) in LOOKUPS {
        let plan = plan_of(world, column, sql, 1).await;
        let by_key = plan
            .lines()
            .any(|line| line.contains("Index Cond:") && line.contains(&format!("({column} = ")));
        assert!(by_key && !plan.contains("Seq Scan"), "{sql}\n{plan}");
    }
}

async fn plan_of(world: &World, column: &'static str, sql: &str, items: usize) -> String {
    let rows = Rows::new().uuids(column, (0..items).map(|_| RequestId::generate().as_uuid()));
    let tx = world.database.begin_money().await.unwrap();
    let explain: &'static str = Box::leak(format!("EXPLAIN {sql}").into_boxed_str());
    let plan = tx.query_rows(explain, &rows).await.unwrap();
    let lines: Vec<String> = plan.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    tx.rollback().await.unwrap();
    lines.join("\n")
}

async fn lookups_never_read_a_whole_table(world: &World) {
    let tenant = world.tenant(1).await;
    let fill = [
        "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, \
         unbilled, price_version, closed_at_ms) SELECT gen_random_uuid(), $1, gen_random_uuid(), 'voided', \
         'completed', 0, 0, 0, 0, 0, 1, 1 FROM generate_series(1, 100000)",
        "INSERT INTO hold (request_id, tenant_id, key_id, node_id, boot, amount, budgets_json, price_version, provider, \
         provider_estimate, created_at_ms) SELECT gen_random_uuid(), $1, gen_random_uuid(), gen_random_uuid(), \
         gen_random_uuid(), 0, '[]', 1, 'acme', 0, (EXTRACT(EPOCH FROM now()) * 1000)::BIGINT FROM generate_series(1, 20000)",
        "INSERT INTO acct (tenant_id, available, held, debt, version) \
         SELECT gen_random_uuid(), 0, 0, 0, 0 FROM generate_series(1, 20000)",
        "INSERT INTO lot (id, tenant_id, kind, granted, remaining, created_at_ms) \
         SELECT gen_random_uuid(), gen_random_uuid(), 'paid', 1, 0, 1 FROM generate_series(1, 20000)",
    ];
    for sql in fill {
        let values = if sql.contains("$1") {
            vec![tenant.as_uuid().into()]
        } else {
            vec![]
        };
        world.change(sql, values).await.unwrap();
    }
    for analysed in [false, true] {
        if analysed {
            world.change("ANALYZE", vec![]).await.unwrap();
        }
        for (column, sql) in LOOKUPS {
            for items in [1, 500] {
                let plan = plan_of(world, column, sql, items).await;
                assert!(
                    !plan.contains("Seq Scan"),
                    "{items} items, analysed: {analysed}\n{sql}\n{plan}"
                );
                assert!(plan.contains("Index"), "{plan}");
            }
        }
    }
}
