//! The margin report counts every cost that is owed to providers: those of charges, and those that the ledger booked apart.
//! On SQLite always, on PostgreSQL as well when `TRUERELAY_TEST_POSTGRES_URL` names a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use domain::{
    Amount, KeyId, PoolId, RequestId, TenantId,
    clock::UnixMs,
    request::{Dialect, Reason, RequestRecord},
    secret::SecretText,
    usage::{Usage, UsageSource},
};
use request_log::{GroupBy, Margin, MarginFilter, Window, operator_margins, stored_records};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use store::{Database, DatabaseSettings, apply_migrations};
use uuid::Uuid;

async fn databases() -> Vec<(Database, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.db");
    let mut settings = vec![(DatabaseSettings::Sqlite { file }, folder)];
    if let Ok(server) = std::env::var("TRUERELAY_TEST_POSTGRES_URL") {
        let name = format!("m_{}", Uuid::now_v7().simple());
        let connection: DatabaseConnection = sea_orm::Database::connect(server.as_str()).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        connection.execute_unprepared(&create).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = SecretText::new(format!("{base}/{name}"));
        let on_server = DatabaseSettings::Postgres {
            url,
            max_connections: 2,
        };
        settings.push((on_server, tempfile::tempdir().unwrap()));
    }
    let mut all = Vec::new();
    for (settings, folder) in settings {
        let database = Database::open(&settings).await.unwrap();
        apply_migrations(&database).await.unwrap();
        all.push((database, folder));
    }
    all
}

/// A request with its charge row.
struct Charged {
    id: RequestId,
    tenant: TenantId,
    pool: Option<PoolId>,
    state: &'static str,
    amount: i64,
    provider_cost: i64,
    unbilled: i64,
    /// What the ledger booked later, as `late_cost` or `refused_cost`.
    apart: Option<(&'static str, i64)>,
}

impl Charged {
    fn record(&self) -> RequestRecord {
        RequestRecord {
            id: self.id,
            tenant: self.tenant,
            key: KeyId::generate(),
            dialect: Dialect::OpenaiChat,
            requested_model: "m".to_owned(),
            model: "a/m".to_owned(),
            // upstreams say what they like
            served_model: Some("odd \0 name, \\u0000 \"pool\":\"x\"".to_owned()),
            provider: Some("one".to_owned()),
            pool: self.pool,
            offer: None,
            price_version: 1,
            multiplier: "1".to_owned(),
            stream: false,
            status: 200,
            reason: Reason::Completed,
            usage: Usage::default(),
            usage_source: UsageSource::Provider,
            flags: vec![],
            lines: vec![],
            held: Amount::from_nanos(1_000),
            started_at: UnixMs(1),
            first_byte_ms: None,
            duration_ms: 1,
            attempts: vec![],
            request_sha256: None,
            response_sha256: None,
            budgets: Vec::new(),
            priced_by: None,
        }
    }

    /// As the ledger writes it.
    async fn write(&self, database: &Database) {
        let tx = database.begin().await.unwrap();
        let (_, (sql, rows)) = stored_records(&[&self.record()]).unwrap();
        tx.execute_rows(sql, &rows).await.unwrap();
        tx.execute(
            "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
             price_version, closed_at_ms) VALUES ($1, $2, $3, $4, 'completed', 1000000, $5, 0, $6, $7, 1, 1)",
            vec![
                self.id.as_uuid().into(),
                self.tenant.as_uuid().into(),
                KeyId::generate().as_uuid().into(),
                self.state.into(),
                self.amount.into(),
                self.provider_cost.into(),
                self.unbilled.into(),
            ],
        )
        .await
        .unwrap();
        let booked = [
            ("usage", self.provider_cost + self.unbilled),
            self.apart.unwrap_or(("late_cost", 0)),
        ];
        for (kind, cost) in booked.into_iter().filter(|(_, cost)| *cost > 0) {
            let id = Uuid::now_v7();
            tx.execute(
                "INSERT INTO tx (id, kind, reference, actor, at_ms) VALUES ($1, $2, $3, 'ledger', 1)",
                vec![id.into(), kind.into(), self.id.to_string().into()],
            )
            .await
            .unwrap();
            for (line, account, amount) in [(0_i64, "operator_loss:late", cost), (1, "provider_payable:one", -cost)] {
                tx.execute(
                    "INSERT INTO entry (tx_id, line, account, amount) VALUES ($1, $2, $3, $4)",
                    vec![id.into(), line.into(), account.into(), amount.into()],
                )
                .await
                .unwrap();
            }
        }
        tx.commit().await.unwrap();
    }
}

async fn margins(database: &Database, group_by: GroupBy) -> Vec<Margin> {
    let window = Window {
        from: UnixMs(0),
        to: UnixMs::now().plus_ms(60_000),
    };
    let mut after = None;
    let mut all = Vec::new();
    loop {
        let filter = MarginFilter {
            window,
            group_by,
            after: after.take(),
        };
        let page = operator_margins(database.readers(), &filter, 1).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.key.clone());
        all.extend(page);
    }
}

#[tokio::test]
async fn costs_are_what_is_owed_to_providers() {
    for (database, _folder) in databases().await {
        let (tenant, other) = (TenantId::generate(), TenantId::generate());
        let pool = PoolId::generate();
        let charged = |state, amount, provider_cost, unbilled, apart| Charged {
            id: RequestId::generate(),
            tenant,
            pool: Some(pool),
            state,
            amount,
            provider_cost,
            unbilled,
            apart,
        };
        let all = [
            charged("settled", 900, 500, 0, None),
            charged("settled", 300, 100, 7, Some(("late_cost", 40))),
            charged("voided", 0, 0, 11, Some(("late_cost", 3))),
            Charged {
                tenant: other,
                pool: None,
                ..charged("refused", 0, 0, 0, Some(("refused_cost", 250)))
            },
        ];
        for one in &all {
            one.write(&database).await;
        }
        let owed = "SELECT CAST(-SUM(amount) AS BIGINT) AS owed FROM entry WHERE account LIKE 'provider_payable:%'";
        let tx = database.begin().await.unwrap();
        let owed: i64 = tx.query(owed, vec![]).await.unwrap()[0].try_get("", "owed").unwrap();
        tx.rollback().await.unwrap();
        for group_by in [GroupBy::Model, GroupBy::Pool, GroupBy::Tenant, GroupBy::Request] {
            let rows = margins(&database, group_by).await;
            assert_eq!(
                rows.iter().map(|row| row.cost).sum::<i128>(),
                i128::from(owed),
                "{group_by:?}"
            );
            assert_eq!(rows.iter().map(|row| row.revenue).sum::<i128>(), 1_200);
            assert_eq!(rows.iter().map(|row| row.requests).sum::<i64>(), 4);
        }
        let by_request = margins(&database, GroupBy::Request).await;
        let costs: Vec<i128> = by_request.iter().map(|row| row.cost).collect();
        assert_eq!(costs, [500, 147, 14, 250], "in the order of the ids");
        let by_pool = margins(&database, GroupBy::Pool).await;
        let pools: Vec<_> = by_pool.iter().map(|row| (row.key.clone(), row.cost)).collect();
        assert_eq!(pools, [(String::new(), 250), (pool.to_string(), 661)]);
    }
}
