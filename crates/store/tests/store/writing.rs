//! Transactions, audit rows and change notices.

use serde_json::json;
use store::{
    StoreError,
    audit::{self, Actor},
    changes::{self, Topic, read_versions},
};

use crate::databases::migrated;

#[tokio::test]
async fn audit_rows_come_newest_first_in_pages_and_cannot_be_changed() {
    for fresh in migrated().await {
        let actor = Actor::system("test");
        for (action, before, after) in [
            ("thing.create", None, Some(json!({ "name": "a" }))),
            (
                "thing.update",
                Some(json!({ "name": "a" })),
                Some(json!({ "name": "b" })),
            ),
            ("thing.remove", Some(json!({ "name": "b" })), None),
        ] {
            let tx = fresh.database.begin().await.unwrap();
            audit::record(&tx, &actor, action, "thing_1", before.as_ref(), after.as_ref())
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
        let (readers, backend) = (fresh.database.readers(), fresh.database.backend());
        let first = audit::list(readers, backend, None, 2).await.unwrap();
        assert_eq!(
            first.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(),
            ["thing.remove", "thing.update"]
        );
        assert_eq!(
            (&first[0].after, &first[0].before),
            (&None, &Some(json!({ "name": "b" })))
        );
        let rest = audit::list(readers, backend, Some(first[1].seq), 2).await.unwrap();
        assert_eq!((rest.len(), rest[0].action.as_str()), (1, "thing.create"));
        assert_eq!(
            (rest[0].actor.as_str(), rest[0].subject.as_str()),
            ("system:test", "thing_1")
        );
        for sql in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
            let refused = fresh.execute(sql).await.unwrap_err();
            assert!(format!("{refused:?}").contains("insert-only"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_notice_counts_with_its_transaction() {
    for fresh in migrated().await {
        let (readers, backend) = (fresh.database.readers(), fresh.database.backend());
        let tx = fresh.database.begin().await.unwrap();
        changes::notify(&tx, Topic::Keys).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(read_versions(readers, backend).await.unwrap().of(Topic::Keys), 0);
        for expected in 1..=3 {
            let tx = fresh.database.begin().await.unwrap();
            changes::notify(&tx, Topic::Keys).await.unwrap();
            tx.commit().await.unwrap();
            let versions = read_versions(readers, backend).await.unwrap();
            assert_eq!((versions.of(Topic::Keys), versions.of(Topic::Catalog)), (expected, 0));
        }
    }
}

#[tokio::test]
async fn failures_say_what_a_caller_can_do() {
    const INSERT: &str = "INSERT INTO model_alias (alias, spelling, model_id) VALUES ('a', 'a', 'nobody/nothing')";
    const TOPIC: &str = "INSERT INTO change_topic (topic, version) VALUES ('a', 1)";
    for fresh in migrated().await {
        assert!(matches!(fresh.execute(INSERT).await, Err(StoreError::MissingReference)));
        fresh.execute(TOPIC).await.unwrap();
        let twice = fresh.execute(TOPIC).await.unwrap_err();
        assert!(matches!(twice, StoreError::Conflict) && twice.is_data_error());
        let nonsense = fresh.execute("this is no SQL").await.unwrap_err();
        assert!(!nonsense.is_data_error() && !nonsense.is_io_failure(), "{nonsense:?}");
    }
}
