//! Many rows in one statement: the same statement means the same on both databases.

use store::bulk::Rows;
use uuid::Uuid;

use crate::databases::migrated;

const READ_BACK: &str =
    "SELECT r.id, r.number, r.text, r.maybe_text, r.maybe_id FROM {rows} WHERE r.number > 0 ORDER BY r.number";

#[tokio::test]
async fn values_arrive_as_they_were_and_absent_ones_are_absent() {
    let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let texts = ["plain", "", "{\"quoted\": \"' \\\\ é 東京\"},NULL"];
    let maybe_texts = [Some("here".to_owned()), None, Some(String::new())];
    let maybe_ids = [None, Some(ids[0]), Some(Uuid::nil())];
    for fresh in migrated().await {
        let backend = fresh.database.backend();
        let rows = Rows::new()
            .uuids("id", ids)
            .numbers("number", [1, 2, i64::MAX])
            .texts("text", texts.map(str::to_owned))
            .optional_texts("maybe_text", maybe_texts.clone())
            .optional_uuids("maybe_id", maybe_ids);
        let tx = fresh.database.begin().await.unwrap();
        let found = tx.query_rows(READ_BACK, &rows).await.unwrap();
        assert_eq!(found.len(), 3, "{backend:?}");
        for (index, row) in found.iter().enumerate() {
            assert_eq!(row.try_get::<Uuid>("", "id").unwrap(), ids[index], "{backend:?}");
            assert_eq!(row.try_get::<String>("", "text").unwrap(), texts[index], "{backend:?}");
        }
        assert_eq!(found[2].try_get::<i64>("", "number").unwrap(), i64::MAX, "{backend:?}");
        let maybe_text = |row: usize| found[row].try_get::<Option<String>>("", "maybe_text").unwrap();
        let maybe_id = |row: usize| found[row].try_get::<Option<Uuid>>("", "maybe_id").unwrap();
        assert_eq!(maybe_text(0).as_deref(), Some("here"), "{backend:?}");
        assert_eq!((maybe_text(1), maybe_text(2)), (None, None), "{backend:?}");
        assert_eq!(
            (maybe_id(0), maybe_id(1), maybe_id(2)),
            (None, Some(ids[0]), None),
            "{backend:?}"
        );
    }
}

#[tokio::test]
async fn no_rows_send_nothing() {
    for fresh in migrated().await {
        let tx = fresh.database.begin().await.unwrap();
        let none = Rows::new().numbers("number", []);
        assert!(none.is_empty());
        assert_eq!(tx.execute_rows("this is no SQL {rows}", &none).await.unwrap(), 0);
        assert!(tx.query_rows("this is no SQL {rows}", &none).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn five_hundred_rows_are_one_statement() {
    for fresh in migrated().await {
        let tx = fresh.database.begin().await.unwrap();
        let rows = Rows::new()
            .texts("scope", (0..500).map(|n| format!("scope {n}")))
            .numbers("created_at_ms", 0..500);
        let written = tx
            .execute_rows(
                "INSERT INTO idempotency (scope, key, fingerprint, response_json, created_at_ms) \
                 SELECT r.scope, 'k', 'f', 'null', r.created_at_ms FROM {rows} WHERE TRUE",
                &rows,
            )
            .await
            .unwrap();
        assert_eq!(written, 500);
        let locked = tx
            .query_rows(
                "SELECT i.scope FROM idempotency i WHERE i.scope IN (SELECT r.scope FROM {rows}) {for_update}",
                &rows,
            )
            .await
            .unwrap();
        assert_eq!(locked.len(), 500);
    }
}
