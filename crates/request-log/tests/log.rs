//! What is written is found again, by its tenant alone, and listed newest first. On SQLite always, on PostgreSQL as
//! well when `TRUERELAY_TEST_POSTGRES_URL` names a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use domain::{
    Amount, CredentialId, KeyId, OfferId, PoolId, RequestId, TenantId,
    clock::UnixMs,
    request::{AttemptRecord, ChargeLine, Dialect, Reason, RequestRecord},
    scope::TenantScope,
    secret::SecretText,
    usage::{TokenClass, Usage, UsageSource},
};
use request_log::{Filter, find, operator_failed, operator_find, operator_list, operator_substituted, stored_records};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use store::{Database, DatabaseSettings, apply_migrations};

struct Fresh {
    database: Database,
    _folder: tempfile::TempDir,
}

impl Fresh {
    async fn open(settings: DatabaseSettings, folder: tempfile::TempDir) -> Self {
        let database = Database::open(&settings).await.unwrap();
        apply_migrations(&database).await.unwrap();
        Self {
            database,
            _folder: folder,
        }
    }

    async fn write(&self, records: &[&RequestRecord]) {
        let tx = self.database.begin().await.unwrap();
        let (_, (sql, rows)) = stored_records(records).unwrap();
        tx.execute_rows(sql, &rows).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn list(&self, filter: Filter, limit: u32) -> Vec<RequestId> {
        let page = operator_list(self.database.readers(), &filter, limit).await.unwrap();
        page.iter().map(|record| record.id).collect()
    }
}

async fn databases() -> Vec<Fresh> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.db");
    let mut all = vec![Fresh::open(DatabaseSettings::Sqlite { file }, folder).await];
    if let Ok(server) = std::env::var("TRUERELAY_TEST_POSTGRES_URL") {
        let name = format!("r_{}", uuid::Uuid::now_v7().simple());
        let connection: DatabaseConnection = sea_orm::Database::connect(server.as_str()).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        connection.execute_unprepared(&create).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let settings = DatabaseSettings::Postgres {
            url: SecretText::new(format!("{base}/{name}")),
            max_connections: 2,
        };
        all.push(Fresh::open(settings, tempfile::tempdir().unwrap()).await);
    }
    all
}

fn served(tenant: TenantId, key: KeyId, model: &str) -> RequestRecord {
    RequestRecord {
        id: RequestId::generate(),
        tenant,
        key,
        dialect: Dialect::AnthropicMessages,
        requested_model: "an alias".to_owned(),
        model: model.to_owned(),
        served_model: Some(format!("{model}-2026")),
        provider: Some("one".to_owned()),
        pool: Some(PoolId::generate()),
        offer: Some(OfferId::generate()),
        price_version: 7,
        multiplier: "1.7".to_owned(),
        stream: true,
        status: 200,
        reason: Reason::Completed,
        usage: Usage::default().with_tokens(TokenClass::Input, 12),
        usage_source: UsageSource::Provider,
        flags: vec!["usage_inconsistent".to_owned()],
        lines: vec![ChargeLine {
            class: "input".to_owned(),
            quantity: 12,
            price_key: "input".to_owned(),
            nano_usd_exact: "100000/3".to_owned(),
        }],
        held: Amount::from_nanos(100_000),
        started_at: UnixMs(1_000),
        first_byte_ms: Some(20),
        duration_ms: 40,
        attempts: vec![AttemptRecord {
            offer: OfferId::generate(),
            pool: PoolId::generate(),
            credential: CredentialId::generate(),
            provider: "one".to_owned(),
            status: Some(200),
            outcome: "won".to_owned(),
            elapsed_ms: 5,
        }],
        priced_by: None,
        request_sha256: None,
        response_sha256: None,
        budgets: Vec::new(),
    }
}

/// A request that no provider ever saw.
fn refused(tenant: TenantId, key: KeyId, model: &str) -> RequestRecord {
    RequestRecord {
        served_model: None,
        provider: None,
        pool: None,
        offer: None,
        status: 502,
        reason: Reason::UpstreamFailed,
        usage: Usage::default(),
        flags: vec![],
        lines: vec![],
        first_byte_ms: None,
        attempts: vec![],
        ..served(tenant, key, model)
    }
}

#[tokio::test]
async fn every_field_comes_back_present_or_absent() {
    for fresh in databases().await {
        let (tenant, key) = (TenantId::generate(), KeyId::generate());
        let records = [served(tenant, key, "a/full"), refused(tenant, key, "a/bare")];
        fresh.write(&[&records[0], &records[1]]).await;
        for record in &records {
            let found = operator_find(fresh.database.readers(), record.id).await.unwrap();
            assert_eq!(found.as_ref(), Some(record));
        }
    }
}

#[tokio::test]
async fn only_its_tenant_finds_a_request() {
    for fresh in databases().await {
        let (mine, theirs) = (TenantId::generate(), TenantId::generate());
        let record = served(mine, KeyId::generate(), "a/b");
        fresh.write(&[&record]).await;
        let readers = fresh.database.readers();
        let scope = TenantScope::authenticated(mine);
        assert_eq!(find(readers, scope, record.id).await.unwrap(), Some(record.clone()));
        let scope = TenantScope::authenticated(theirs);
        assert_eq!(find(readers, scope, record.id).await.unwrap(), None);
        assert_eq!(operator_find(readers, RequestId::generate()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_first_record_of_a_request_stays_and_nothing_is_written_without_a_commit() {
    for fresh in databases().await {
        let record = served(TenantId::generate(), KeyId::generate(), "a/b");
        let tx = fresh.database.begin().await.unwrap();
        let (_, (sql, rows)) = stored_records(&[&record]).unwrap();
        tx.execute_rows(sql, &rows).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(operator_find(fresh.database.readers(), record.id).await.unwrap(), None);
        fresh.write(&[]).await;
        fresh.write(&[&record]).await;
        let other = RequestRecord {
            reason: Reason::InternalError,
            ..record.clone()
        };
        fresh.write(&[&other]).await;
        let found = operator_find(fresh.database.readers(), record.id).await.unwrap();
        assert_eq!(found, Some(record));
    }
}

#[tokio::test]
async fn pages_are_filtered_newest_first_and_go_on_behind_the_cursor() {
    for fresh in databases().await {
        let (one, two) = (TenantId::generate(), TenantId::generate());
        let (key, other_key) = (KeyId::generate(), KeyId::generate());
        // ids are made in the order of time
        let records = [
            served(one, key, "a/x"),
            refused(one, key, "a/y"),
            served(two, other_key, "a/x"),
            refused(one, other_key, "a/x"),
        ];
        fresh.write(&records.each_ref()).await;
        let ids: Vec<RequestId> = records.iter().map(|record| record.id).collect();
        let all = Filter::default;
        assert_eq!(fresh.list(all(), 10).await, [ids[3], ids[2], ids[1], ids[0]]);
        let of_tenant = Filter {
            tenant: Some(one),
            ..all()
        };
        assert_eq!(fresh.list(of_tenant.clone(), 10).await, [ids[3], ids[1], ids[0]]);
        let of_key = Filter {
            key: Some(other_key),
            ..all()
        };
        assert_eq!(fresh.list(of_key, 10).await, [ids[3], ids[2]]);
        let of_model = Filter {
            model: Some("a/y".to_owned()),
            ..all()
        };
        assert_eq!(fresh.list(of_model, 10).await, [ids[1]]);
        let failed_of_tenant = Filter {
            reason: Some(Reason::UpstreamFailed),
            ..of_tenant.clone()
        };
        assert_eq!(fresh.list(failed_of_tenant, 10).await, [ids[3], ids[1]]);
        // two pages of two, then nothing
        let first = fresh.list(of_tenant.clone(), 2).await;
        assert_eq!(first, [ids[3], ids[1]]);
        let behind = |before| Filter {
            before: Some(before),
            ..of_tenant.clone()
        };
        assert_eq!(fresh.list(behind(ids[1]), 2).await, [ids[0]]);
        assert_eq!(fresh.list(behind(ids[0]), 2).await, []);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_no_other() {
    for fresh in databases().await {
        let (tenant, key) = (TenantId::generate(), KeyId::generate());
        let record = || {
            let mut record = served(tenant, key, "a/x");
            record.reason = Reason::ModelSubstituted;
            record.attempts[0].outcome = "status_500".to_owned();
            record
        };
        let records = [record(), record(), record()];
        fresh.write(&records.each_ref()).await;
        let tx = fresh.database.begin().await.unwrap();
        let spoil = "UPDATE request SET record_json = '{}' WHERE id = $1";
        assert_eq!(
            tx.execute(spoil, vec![records[1].id.as_uuid().into()]).await.unwrap(),
            1
        );
        tx.commit().await.unwrap();
        let (mut upwards, mut downwards) = (Vec::new(), Vec::new());
        let readers = fresh.database.readers();
        // in pages of one, of which one is nothing but that row
        while let [found] = operator_substituted(readers, UnixMs(0), upwards.last().copied(), 1)
            .await
            .unwrap()
            .as_slice()
        {
            upwards.push(found.id);
        }
        while let [found] = operator_failed(readers, UnixMs(0), downwards.last().copied(), 1)
            .await
            .unwrap()
            .as_slice()
        {
            downwards.push(found.id);
        }
        assert_eq!(upwards, [records[0].id, records[2].id]);
        assert_eq!(downwards, [records[2].id, records[0].id]);
    }
}
