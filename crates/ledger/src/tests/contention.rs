//! Movements and the writers of two nodes at the same accounts, lots and claims: they take turns, and none of them
//! waits for ever.

use domain::{Amount, LotId, TenantId};
use futures_util::future::{join, join_all};
use store::{StoreError, audit::Actor};

use super::world::*;
use crate::{
    Ledger, LedgerError,
    claims::Purpose,
    movements::{self, GrantKind, Release},
};

on_every_database! { movements_run_beside_the_writers_of_two_nodes }

const TURNS: u64 = 24;

async fn movements_run_beside_the_writers_of_two_nodes(world: &World) {
    let nodes = [world.ledger().await, world.ledger().await];
    let mut tenants = Vec::new();
    for _ in 0..3 {
        let tenant = world.tenant(0).await;
        let lot = grant(world, tenant, "first").await.unwrap().unwrap();
        tenants.push((tenant, lot));
    }
    let requests = nodes
        .iter()
        .flat_map(|node| tenants.iter().map(move |one| (node, one.0)));
    let requests = join_all(requests.map(|(node, tenant)| spend(node, tenant)));
    let moves = join_all(tenants.iter().map(|(tenant, lot)| move_credit(world, *tenant, *lot)));
    let expiry = async {
        loop {
            movements::expire_lots(&world.database).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = join(requests, moves) => {}
        () = expiry => {}
    }
    movements::expire_lots(&world.database).await.unwrap();
    for node in &nodes {
        node.drain().await;
    }
    for (tenant, _) in &tenants {
        assert_eq!(world.balance(*tenant).await.1, 0, "every hold has ended");
    }
    for kind in ["usage", "refund", "suspension", "expiry"] {
        let found = world
            .number(&format!("SELECT COUNT(*) FROM tx WHERE kind = '{kind}'"))
            .await;
        assert!(found > 0, "there was no {kind}");
    }
    assert_eq!(world.number("SELECT COUNT(*) FROM quarantine").await, 0);
}

/// One request after the other; what is not covered is refused.
async fn spend(node: &Ledger, tenant: TenantId) {
    for turn in 0..TURNS {
        match node.hold(hold_request(tenant, 900)).await {
            Ok(hold) if turn % 3 == 0 => hold.void(completed()),
            Ok(hold) => hold.settle(&charge_of(20 * turn), "acme".to_owned(), completed()),
            // on a machine that stands still for seconds the node believes that its database is away
            Err(LedgerError::Refused(_) | LedgerError::Unavailable) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn grant(world: &World, tenant: TenantId, source: &str) -> Result<Option<LotId>, LedgerError> {
    Ok(world.grant(tenant, GrantKind::Payment, 2_000, source).await?.lot)
}

/// Credit comes, goes, is suspended and comes back, and some of it expires.
async fn move_credit(world: &World, tenant: TenantId, lot: LotId) {
    for turn in 0..TURNS {
        let source = turn.to_string();
        let done = match turn % 4 {
            0 => world
                .withdraw(tenant, lot, Purpose::Suspension, 90, &source)
                .await
                .map(|_| ()),
            1 => world
                .withdraw(tenant, lot, Purpose::Refund, 60, &source)
                .await
                .map(|_| ()),
            2 => give_back(world, tenant, lot, &source).await,
            _ => match grant(world, tenant, &source).await {
                Ok(Some(lot)) => expire_soon(world, lot).await,
                other => other.map(|_| ()),
            },
        };
        match done {
            // much makes no sense by the time that it is asked for, and a lock may be waited for too long
            Ok(())
            | Err(
                LedgerError::MoreThanLeft(_)
                | LedgerError::MoreThanSuspended(_)
                | LedgerError::ClaimWaits
                | LedgerError::Store(StoreError::Busy),
            ) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn give_back(world: &World, tenant: TenantId, lot: LotId, source: &str) -> Result<(), LedgerError> {
    let tx = world.database.begin().await?;
    let release = Release {
        tenant,
        lot,
        amount: Amount::from_nanos(70),
        source: source.to_owned(),
    };
    movements::release(&tx, &Actor::system("test"), &release).await?;
    tx.commit().await?;
    Ok(())
}

async fn expire_soon(world: &World, lot: LotId) -> Result<(), LedgerError> {
    let sql = "UPDATE lot SET expires_at_ms = 1 WHERE id = $1";
    world.change(sql, vec![lot.as_uuid().into()]).await?;
    Ok(())
}
