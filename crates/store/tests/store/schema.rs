//! Migrations: forward, once, together, and never under a newer release's schema.

use sea_orm::{ConnectionTrait, Statement};
use store::{Backend, Database, StoreError, apply_migrations, refuse_unknown_schema};

use crate::databases::{Fresh, empty, migrated};

async fn tables(fresh: &Fresh) -> Vec<String> {
    let readers = fresh.database.readers();
    let sql = match fresh.database.backend() {
        Backend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        Backend::Postgres => "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'",
    };
    let statement = Statement::from_string(readers.get_database_backend(), sql);
    let rows = readers.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get("", "name").unwrap()).collect()
}

#[tokio::test]
async fn an_empty_database_is_refused_unchanged_and_then_brought_up_to_date() {
    for fresh in empty().await {
        let refused = refuse_unknown_schema(&fresh.database).await;
        let Err(StoreError::Schema(told)) = refused else {
            panic!("{refused:?}")
        };
        assert!(told.contains("truerelay migrate"), "{told}");
        assert_eq!(tables(&fresh).await, Vec::<String>::new(), "looking makes nothing");
        apply_migrations(&fresh.database).await.unwrap();
        apply_migrations(&fresh.database).await.unwrap();
        refuse_unknown_schema(&fresh.database).await.unwrap();
    }
}

#[tokio::test]
async fn nodes_that_start_together_migrate_once() {
    for fresh in empty().await {
        // one process has the SQLite file; PostgreSQL has several nodes, each with connections of its own
        if fresh.database.backend() == Backend::Sqlite {
            continue;
        }
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let settings = fresh.settings.clone();
            starts.spawn(async move { apply_migrations(&Database::open(&settings).await.unwrap()).await });
        }
        while let Some(start) = starts.join_next().await {
            start.unwrap().unwrap();
        }
        refuse_unknown_schema(&fresh.database).await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_releases_schema_is_refused_by_name() {
    for fresh in migrated().await {
        fresh
            .execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_future', 0)")
            .await
            .unwrap();
        for refused in [
            refuse_unknown_schema(&fresh.database).await,
            apply_migrations(&fresh.database).await,
        ] {
            let Err(StoreError::Schema(told)) = refused else {
                panic!("{refused:?}")
            };
            assert!(told.contains("m29990101_000001_future"), "{told}");
        }
    }
}
