//! Operators and their tokens.

use accounts::{AccountsError, CachedOperator, Operator, OperatorCache, OperatorRole, PlainToken, operator_tokens};
use domain::OperatorTokenId;
use store::audit::Actor;

use crate::world::World;

#[tokio::test]
async fn operators_sign_in_until_revoked_and_unknown_looks_like_revoked() {
    let world = World::new().await;
    let tx = world.database.begin().await.unwrap();
    let (full, full_plain) = operator_tokens::create(&tx, &world.actor, &world.pepper, "ada", OperatorRole::Full)
        .await
        .unwrap();
    let (reader, reader_plain) =
        operator_tokens::create(&tx, &world.actor, &world.pepper, "bob", OperatorRole::ReadOnly)
            .await
            .unwrap();
    let nameless = operator_tokens::create(&tx, &world.actor, &world.pepper, " ", OperatorRole::Full).await;
    assert!(matches!(nameless, Err(AccountsError::Invalid { field: "name", .. })));
    tx.commit().await.unwrap();
    let cache = OperatorCache::new();
    let sign_in = async |plain: &PlainToken| cache.resolve(&world.database, plain.hash(&world.pepper)).await.unwrap();
    let ada = Operator {
        id: full.id,
        role: OperatorRole::Full,
    };
    assert_eq!(sign_in(&full_plain).await, CachedOperator::Known(ada));
    assert_eq!(ada.actor(), Actor::operator(full.id));
    let CachedOperator::Known(bob) = sign_in(&reader_plain).await else {
        panic!("bob may sign in")
    };
    assert!(ada.role.may_write() && !bob.role.may_write());
    let unknown = sign_in(&PlainToken::generate()).await;

    let tx = world.database.begin().await.unwrap();
    operator_tokens::revoke(&tx, &world.actor, full.id).await.unwrap();
    operator_tokens::revoke(&tx, &world.actor, full.id).await.unwrap();
    let missing = operator_tokens::revoke(&tx, &world.actor, OperatorTokenId::generate()).await;
    assert!(matches!(missing, Err(AccountsError::NotFound(_))));
    tx.commit().await.unwrap();
    cache.invalidate_all();
    assert_eq!(sign_in(&full_plain).await, unknown);

    let listed = operator_tokens::list(world.database.readers(), None, 10).await.unwrap();
    let ids: Vec<_> = listed
        .iter()
        .map(|token| (token.id, token.revoked_at.is_some()))
        .collect();
    assert_eq!(ids, [(reader.id, false), (full.id, true)]);
    assert_eq!(
        operator_tokens::list(world.database.readers(), Some(reader.id), 10)
            .await
            .unwrap()
            .len(),
        1
    );
}
