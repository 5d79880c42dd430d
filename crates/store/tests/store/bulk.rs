//! Many rows in one statement: the same statement means the same on both databases.

use store::{
    StoreError,
    bulk::{Cells, Rows},
};
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
async fn byte_strings_arrive_as_they_were_on_every_way() {
    const READ: &str = "SELECT r.number, r.blob FROM {rows} ORDER BY r.number";
    let blobs: [&[u8]; 4] = [b"", b"\0\xff{}\"", &[7; 70_000], b"x"];
    for fresh in migrated().await {
        let rows = || Rows::new().numbers("number", 0..4).bytes("blob", blobs);
        for is_money in [false, true] {
            let tx = if is_money {
                fresh.database.begin_money().await.unwrap()
            } else {
                fresh.database.begin().await.unwrap()
            };
            let found = tx.query_rows(READ, &rows()).await.unwrap();
            let read: Vec<Vec<u8>> = found.iter().map(|row| row.try_get("", "blob").unwrap()).collect();
            assert_eq!(read, blobs, "{:?}", fresh.database.backend());
        }
        let statement = fresh.database.statement(READ, &rows());
        let found = sea_orm::ConnectionTrait::query_all_raw(fresh.database.readers(), statement)
            .await
            .unwrap();
        assert_eq!(found[2].try_get::<Vec<u8>>("", "blob").unwrap(), blobs[2]);
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

#[tokio::test]
async fn what_is_the_same_in_every_row_is_sent_once() {
    let node = Uuid::now_v7();
    for fresh in migrated().await {
        let backend = fresh.database.backend();
        let rows = Rows::new()
            .every_uuid("node", node)
            .numbers("number", [1, 2])
            .every_text("text", "it's the same")
            .every_number("at_ms", i64::MIN);
        assert_eq!(rows.len(), 2);
        for money in [false, true] {
            let tx = fresh.begin(money).await;
            let sql = "SELECT r.number, r.node, r.text, r.at_ms FROM {rows} ORDER BY r.number";
            let found = tx.query_rows(sql, &rows).await.unwrap();
            assert_eq!(found.len(), 2, "{backend:?}");
            for row in &found {
                assert_eq!(row.try_get::<Uuid>("", "node").unwrap(), node, "{backend:?}");
                assert_eq!(
                    row.try_get::<String>("", "text").unwrap(),
                    "it's the same",
                    "{backend:?}"
                );
                assert_eq!(row.try_get::<i64>("", "at_ms").unwrap(), i64::MIN, "{backend:?}");
            }
            tx.rollback().await.unwrap();
        }
        let only_the_same = Rows::new().every_uuid("node", node);
        assert!(only_the_same.is_empty());
    }
}

const NUMBERS: &str = "SELECT r.id, r.number, CAST(NULL AS TEXT) AS text FROM {rows} ORDER BY r.number";
const TEXTS: &str = "SELECT CAST(NULL AS {uuid}) AS id, CAST(NULL AS BIGINT) AS number, r.text FROM {rows}";
const DOUBLED: &str = "SELECT r.id, 2 * r.number, 'doubled' FROM {rows} ORDER BY r.number";

#[tokio::test]
async fn queries_together_answer_each_for_itself() {
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    for fresh in migrated().await {
        let numbers = Rows::new().uuids("id", ids).numbers("number", [7, i64::MAX / 2]);
        let texts = Rows::new().texts("text", ["one", "", "東京"]);
        let none = Rows::new().texts("text", Vec::<String>::new());
        for money in [false, true] {
            let tx = fresh.begin(money).await;
            // the second time the statement is known; the third has other parameters, for its rows are not the same
            let copy = numbers.clone();
            for doubled in [&numbers, &numbers, &copy] {
                let queries = [(NUMBERS, &numbers), (TEXTS, &none), (TEXTS, &texts), (DOUBLED, doubled)];
                let found = tx.query_together(&queries).await.unwrap();
                let of = |query: usize| {
                    found
                        .iter()
                        .filter(move |(number, _)| *number == query)
                        .map(|(_, row)| row)
                };
                assert_eq!(found.len(), 7);
                assert!(of(1).next().is_none());
                let rows: Vec<_> = of(0)
                    .map(|row| (row.uuid(0).unwrap(), row.number(1).unwrap()))
                    .collect();
                assert_eq!(rows, [(ids[0], 7), (ids[1], i64::MAX / 2)]);
                let rows: Vec<_> = of(3)
                    .map(|row| (row.number(1).unwrap(), row.text(2).unwrap()))
                    .collect();
                assert_eq!(rows, [(14, "doubled".into()), (i64::MAX - 1, "doubled".into())]);
                let rows: Vec<_> = of(2).map(|row| row.text(2).unwrap()).collect();
                assert_eq!(rows, ["one", "", "東京"]);
                for row in of(2) {
                    assert_eq!(
                        (row.optional_uuid(0).unwrap(), row.optional_number(1).unwrap()),
                        (None, None)
                    );
                    assert!(matches!(row.uuid(0), Err(StoreError::Damaged(_))));
                    assert!(matches!(row.number(1), Err(StoreError::Damaged(_))));
                }
                assert!(of(0).all(|row| row.text(2).is_err()));
            }
            assert!(tx.query_together(&[(TEXTS, &none)]).await.unwrap().is_empty());
            tx.rollback().await.unwrap();
        }
    }
}

const REMEMBER: &str = "INSERT INTO idempotency (scope, key, fingerprint, response_json, created_at_ms) \
     SELECT r.scope, r.key, 'f', 'null', r.at_ms FROM {rows} WHERE TRUE";
const FORGET: &str = "DELETE FROM idempotency WHERE scope IN (SELECT r.scope FROM {rows})";

#[tokio::test]
async fn changes_together_are_all_made_or_none() {
    for fresh in migrated().await {
        let remembered = |scope: &'static str| {
            let rows = Rows::new().texts("scope", [scope]);
            rows.every_text("key", "k").every_number("at_ms", 1)
        };
        let count = async |tx: &store::Tx| {
            let rows = tx
                .query("SELECT scope FROM idempotency ORDER BY scope", vec![])
                .await
                .unwrap();
            rows.iter()
                .map(|row| row.try_get_by_index(0).unwrap())
                .collect::<Vec<String>>()
        };
        let tx = fresh.database.begin_money().await.unwrap();
        let none = Rows::new().texts("scope", [] as [&str; 0]);
        tx.execute_together(&[(FORGET, none.clone())]).await.unwrap();
        tx.execute_together(&[(REMEMBER, remembered("a")), (FORGET, none)])
            .await
            .unwrap();
        let changes = [(FORGET, Rows::new().texts("scope", ["a"])), (REMEMBER, remembered("b"))];
        tx.execute_together(&changes).await.unwrap();
        assert_eq!(count(&tx).await, ["b"]);
        tx.commit().await.unwrap();
        let tx = fresh.database.begin_money().await.unwrap();
        let changes = [(REMEMBER, remembered("c")), (REMEMBER, remembered("b"))];
        let error = tx.execute_together(&changes).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict), "{error}");
        tx.rollback().await.unwrap();
        let tx = fresh.database.begin_money().await.unwrap();
        assert_eq!(count(&tx).await, ["b"]);
        tx.rollback().await.unwrap();
    }
}
