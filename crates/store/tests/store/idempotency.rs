//! A repeated write is answered as the first was, and done once.

use serde_json::json;
use store::idempotency::{Known, claim, remember};

use crate::databases::migrated;

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_another_is_refused() {
    for fresh in migrated().await {
        let tx = fresh.database.begin().await.unwrap();
        assert_eq!(claim(&tx, "grant", "a", "five").await.unwrap(), Known::New);
        remember(&tx, "grant", "a", &json!({ "id": 1 })).await.unwrap();
        tx.commit().await.unwrap();
        let tx = fresh.database.begin().await.unwrap();
        assert_eq!(
            claim(&tx, "grant", "a", "five").await.unwrap(),
            Known::Repeated(json!({ "id": 1 }))
        );
        assert_eq!(claim(&tx, "grant", "a", "six").await.unwrap(), Known::Mismatch);
        assert_eq!(
            claim(&tx, "other", "a", "six").await.unwrap(),
            Known::New,
            "another scope"
        );
        assert_eq!(
            claim(&tx, "grant", "b", "six").await.unwrap(),
            Known::New,
            "another key"
        );
    }
}

#[tokio::test]
async fn what_was_taken_back_was_never_claimed() {
    for fresh in migrated().await {
        let tx = fresh.database.begin().await.unwrap();
        assert_eq!(claim(&tx, "grant", "a", "five").await.unwrap(), Known::New);
        tx.rollback().await.unwrap();
        let tx = fresh.database.begin().await.unwrap();
        assert_eq!(claim(&tx, "grant", "a", "six").await.unwrap(), Known::New);
    }
}

#[tokio::test]
async fn of_many_at_once_one_does_the_work() {
    for fresh in migrated().await {
        let mut claims = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let database = fresh.database.clone();
            claims.spawn(async move {
                let tx = database.begin().await.unwrap();
                let known = claim(&tx, "grant", "a", "five").await.unwrap();
                if known == Known::New {
                    remember(&tx, "grant", "a", &json!(worker)).await.unwrap();
                    tx.commit().await.unwrap();
                    return (true, json!(worker));
                }
                let Known::Repeated(answer) = known else {
                    panic!("{known:?}")
                };
                (false, answer)
            });
        }
        let outcomes = claims.join_all().await;
        let winner = outcomes.iter().find(|(is_new, _)| *is_new).unwrap().1.clone();
        assert_eq!(outcomes.iter().filter(|(is_new, _)| *is_new).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(|(_, answer)| *answer == winner), "{outcomes:?}");
    }
}
