//! What a node does while it runs: it serves requests and looks after holds that nobody ends. And what an operator does
//! beside it: credit is granted.

use std::sync::Arc;

use domain::TenantId;
use ledger::{Ledger, chart::LotKind, claims::Purpose};
use tokio::task::JoinSet;

use crate::{
    client::Client,
    node::judge_panic,
    orders::{order, tenant_id},
    sim::{LifeId, Sim, State},
};

/// Some time after the troubles every request is served, in milliseconds.
const CALM_AFTER_MS: u64 = 100_000;
/// How often a node closes holds that nobody ends, in milliseconds.
const BOOKS_EVERY_MS: u64 = 10_000;

/// Serves requests until an instant; if that is the end of the troubles, a few more when all must be well again. Returns
/// when all have ended.
pub async fn serve(sim: Arc<Sim>, life: LifeId, ledger: Ledger, until: u64) {
    let mut clients = JoinSet::new();
    loop {
        let (pause_ms, chaos_ms) = sim.with(|s| {
            let most = s.plan.request_every_ms * 2;
            (s.rng.between(1, most), s.plan.chaos_ms)
        });
        let next = sim.now() + pause_ms;
        if next >= until {
            if until < chaos_ms {
                break;
            }
            sim.until(chaos_ms + CALM_AFTER_MS).await;
            sim.gate(life).await;
            // whoever has just been stopped finds its calls lost
            sim.spend(life, 5_000).await;
            for _ in 0..3 {
                send(&sim, life, &ledger, &mut clients, true);
            }
            break;
        }
        sim.until(next).await;
        sim.gate(life).await;
        for _ in 0..sim.with(|s| s.plan.burst) {
            send(&sim, life, &ledger, &mut clients, false);
        }
        while let Some(joined) = clients.try_join_next() {
            judge_panic(&sim, joined);
        }
    }
    while let Some(joined) = clients.join_next().await {
        judge_panic(&sim, joined);
    }
}

fn send(sim: &Arc<Sim>, life: LifeId, ledger: &Ledger, clients: &mut JoinSet<()>, must_be_served: bool) {
    let client = Client {
        sim: Arc::clone(sim),
        life,
        ledger: ledger.clone(),
        order: sim.with(order),
        must_be_served,
    };
    clients.spawn(client.run());
}

/// Closes what nobody ends, and reads a balance now and then, for ever.
pub async fn keep_books(sim: Arc<Sim>, life: LifeId, ledger: Ledger) {
    loop {
        sim.spend(life, BOOKS_EVERY_MS).await;
        // failures are told to an operator and tried again
        drop(ledger.set_clock().await);
        drop(ledger.close_abandoned_holds().await);
        drop(ledger.read_available(tenant_id(0)).await);
    }
}

/// Grants credit now and then while there are troubles.
pub async fn grant(sim: Arc<Sim>) {
    loop {
        sim.pause(1_000).await;
        let is_over = sim.with(|s| {
            if !s.rng.chance(s.plan.rates.grant) {
                return s.now > s.plan.chaos_ms;
            }
            let tenant: TenantId = tenant_id(s.rng.index(s.plan.tenants.len()));
            let amount = s.rng.between(1, 200_000).cast_signed();
            // who moves money waits for the account's lock; it is tried again in a second
            if !s.database.locked.contains(&tenant.as_uuid()) {
                let lot = s.rng.id();
                let lot = s.database.grant(tenant, lot, amount);
                s.truth.books.grant(tenant, &lot);
                s.note("is granted", tenant.as_uuid().as_u128() as u64, amount);
            }
            s.now > s.plan.chaos_ms
        });
        if is_over {
            return;
        }
    }
}

/// Takes credit out of lots now and then while there are troubles: for a refund, for expiry, for a suspension.
pub async fn withdraw(sim: Arc<Sim>) {
    while sim.with(|s| s.plan.rates.withdraw > 0 && s.now <= s.plan.chaos_ms) {
        sim.pause(1_000).await;
        sim.with(|s| {
            if s.rng.chance(s.plan.rates.withdraw) {
                withdraw_something(s);
            }
        });
    }
}

fn withdraw_something(s: &mut State) {
    let tenant = tenant_id(s.rng.index(s.plan.tenants.len()));
    let lots = &s.database.lots[&tenant];
    let lot = lots[s.rng.index(lots.len())].clone();
    let purposes = [Purpose::Expiry, Purpose::Suspension, Purpose::Refund];
    let purpose = purposes[s.rng.index(if lot.kind == LotKind::Paid { 3 } else { 2 })];
    let most = s.database.unclaimed(tenant, &lot);
    // most of a lot is taken, so that holds are in the way; whoever holds the account's lock goes first
    if most < 2 || s.database.locked.contains(&tenant.as_uuid()) {
        return;
    }
    let amount = s
        .rng
        .between(most.cast_unsigned() / 2, most.cast_unsigned())
        .cast_signed();
    let now = s.now;
    let available = s.database.balances[&tenant].available.nanos();
    if s.database.withdraw(tenant, &lot, purpose, amount, now) {
        s.truth.books.withdraw(tenant, lot.id, purpose, amount, available);
        s.note("is withdrawn", lot.id.as_uuid().as_u128() as u64, amount);
        s.truth.count("withdrawn");
    }
}
