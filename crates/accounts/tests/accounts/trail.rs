//! What writes leave behind, and what they must not.

use accounts::{OperatorRole, TenantUpdate, operator_keys, operator_tenants, operator_tokens};

use crate::world::{World, limited, named};

#[tokio::test]
async fn no_plain_secret_is_in_the_database() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (key, plain) = world.key(tenant.id, limited()).await;
    let tx = world.database.begin().await.unwrap();
    let created = operator_tokens::create(&tx, &world.actor, &world.pepper, "ops", OperatorRole::Full)
        .await
        .unwrap();
    operator_keys::revoke(&tx, &world.actor, key.id).await.unwrap();
    tx.commit().await.unwrap();
    let hashes = world
        .text("SELECT hash AS found FROM virtual_key UNION ALL SELECT hash FROM operator_token")
        .await;
    assert!(hashes.len() == 2 && hashes.iter().all(|hash| hash.len() == 64));
    let peppers = world
        .text("SELECT pepper_id AS found FROM virtual_key UNION ALL SELECT pepper_id FROM operator_token")
        .await;
    assert_eq!(peppers, [world.pepper.id(), world.pepper.id()]);

    world.database.close().await;
    let mut searched = 0;
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        searched += bytes.len();
        let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        // neither whole nor the random part without its prefix and checksum
        assert!(!holds(&plain.expose()[6..38]) && !holds(&created.1.expose()[6..38]));
    }
    assert!(searched > 0);
}

#[tokio::test]
async fn every_write_leaves_an_audit_row_and_a_notice_and_none_without_commit() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (key, _) = world.key(tenant.id, named("ci")).await;
    assert_eq!(world.versions().await, (2, 0));
    let tx = world.database.begin().await.unwrap();
    operator_keys::disable(&tx, &world.actor, key.id).await.unwrap();
    operator_keys::revoke(&tx, &world.actor, key.id).await.unwrap();
    operator_keys::revoke(&tx, &world.actor, key.id).await.unwrap();
    let enabled = TenantUpdate {
        enabled: Some(false),
        ..TenantUpdate::default()
    };
    operator_tenants::update(&tx, &world.actor, tenant.id, enabled)
        .await
        .unwrap();
    let (token, _) = operator_tokens::create(&tx, &world.actor, &world.pepper, "ops", OperatorRole::ReadOnly)
        .await
        .unwrap();
    operator_tokens::revoke(&tx, &world.actor, token.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.versions().await, (5, 2));

    let rows = world.audit().await;
    let actions: Vec<&str> = rows.iter().rev().map(|row| row.action.as_str()).collect();
    let expected = [
        "tenant.create",
        "key.create",
        "key.update",
        "key.revoke",
        "tenant.update",
        "operator_token.create",
        "operator_token.revoke",
    ];
    assert_eq!(actions, expected);
    assert!(rows.iter().all(|row| row.actor == world.actor.as_str()));
    let update = &rows[rows.len() - 3];
    assert_eq!(update.subject, key.id.to_string());
    assert_eq!(update.before.as_ref().unwrap()["enabled"], true);
    assert_eq!(update.after.as_ref().unwrap()["enabled"], false);

    let tx = world.database.begin().await.unwrap();
    operator_keys::create(&tx, &world.actor, &world.pepper, tenant.id, named("lost"))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(world.versions().await, (5, 2));
    assert_eq!(world.audit().await.len(), expected.len());
}
