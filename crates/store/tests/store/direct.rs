//! The ledger writer's own connection to PostgreSQL.

use sea_orm::ConnectionTrait;
use store::{Backend, StoreError, Tx};

use crate::databases::{Fresh, migrated};

const REMEMBER: &str = "INSERT INTO change_topic (topic, version) VALUES ($1, $2)";

async fn postgres() -> Option<Fresh> {
    let all = migrated().await;
    all.into_iter()
        .find(|fresh| fresh.database.backend() == Backend::Postgres)
}

async fn backend_of(tx: &Tx) -> i32 {
    let rows = tx.query("SELECT pg_backend_pid()", vec![]).await.unwrap();
    rows[0].try_get_by_index(0).unwrap()
}

async fn topics(fresh: &Fresh) -> usize {
    let tx = fresh.database.begin().await.unwrap();
    let rows = tx.query("SELECT topic FROM change_topic", vec![]).await.unwrap();
    tx.rollback().await.unwrap();
    rows.len()
}

#[tokio::test]
async fn one_connection_serves_one_transaction_after_the_other() {
    let Some(fresh) = postgres().await else { return };
    let first = fresh.database.begin_money().await.unwrap();
    let backend = backend_of(&first).await;
    first.execute(REMEMBER, vec!["a".into(), 1_i64.into()]).await.unwrap();
    let beside = fresh.database.begin_money().await.unwrap();
    assert_ne!(
        backend_of(&beside).await,
        backend,
        "two transactions at a time are on two connections"
    );
    drop(beside);
    first.commit().await.unwrap();
    let second = fresh.database.begin_money().await.unwrap();
    assert_eq!(backend_of(&second).await, backend);
    let twice = second
        .execute(REMEMBER, vec!["a".into(), 1_i64.into()])
        .await
        .unwrap_err();
    assert!(matches!(twice, StoreError::Conflict), "{twice}");
    second.rollback().await.unwrap();
    let third = fresh.database.begin_money().await.unwrap();
    assert_eq!(
        backend_of(&third).await,
        backend,
        "a failed statement costs no connection"
    );
    third
        .connection()
        .execute_unprepared("SELECT 1; SELECT 2")
        .await
        .unwrap();
    assert!(third.now().await.unwrap().0 > 0);
    third.rollback().await.unwrap();
    assert_eq!(topics(&fresh).await, 1);
    fresh.database.close().await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_taken_back() {
    let Some(fresh) = postgres().await else { return };
    let tx = fresh.database.begin_money().await.unwrap();
    tx.execute(REMEMBER, vec!["a".into(), 1_i64.into()]).await.unwrap();
    let backend = backend_of(&tx).await;
    drop(tx);
    // the same key would have to wait for a transaction that is still open, and not for one that was taken back
    let next = fresh.database.begin_money().await.unwrap();
    assert_ne!(backend_of(&next).await, backend);
    let sql = "SELECT pg_terminate_backend($1, 5000)";
    next.query(sql, vec![backend.into()]).await.unwrap();
    next.execute(REMEMBER, vec!["a".into(), 2_i64.into()]).await.unwrap();
    next.commit().await.unwrap();
    assert_eq!(topics(&fresh).await, 1);
}

#[tokio::test]
async fn a_connection_that_the_database_has_closed_is_replaced_unnoticed() {
    let Some(fresh) = postgres().await else { return };
    let tx = fresh.database.begin_money().await.unwrap();
    let backend = backend_of(&tx).await;
    tx.commit().await.unwrap();
    let killer = fresh.database.begin().await.unwrap();
    let sql = "SELECT pg_terminate_backend($1, 5000)";
    killer.query(sql, vec![backend.into()]).await.unwrap();
    killer.commit().await.unwrap();
    let next = fresh.database.begin_money().await.unwrap();
    assert_ne!(backend_of(&next).await, backend);
    next.rollback().await.unwrap();
}

#[tokio::test]
async fn a_connection_lost_in_a_transaction_is_said_to_be_lost() {
    let Some(fresh) = postgres().await else { return };
    let tx = fresh.database.begin_money().await.unwrap();
    let backend = backend_of(&tx).await;
    let killer = fresh.database.begin().await.unwrap();
    let sql = "SELECT pg_terminate_backend($1, 5000)";
    killer.query(sql, vec![backend.into()]).await.unwrap();
    let error = tx.execute(REMEMBER, vec!["a".into(), 1_i64.into()]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(tx.rollback().await.is_err());
}
