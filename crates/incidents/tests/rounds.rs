//! A rule or a statement that fails keeps no other from being seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use domain::{Amount, OfferId, RequestId, TenantId, clock::UnixMs};
use incidents::{
    Evidence, Failure, Filter, Kind, NewStatement, OutageRule, RestartedLog, Rules, Scan, Substitution,
    SubstitutionRule, compare_statements, enter_statement, list, list_statements, resolve, run_round,
};
use store::{Database, DatabaseSettings, StoreError, Tx, apply_migrations, audit::Actor};
use uuid::Uuid;

/// Rows of which some cannot be read.
#[derive(Default)]
struct Torn {
    substitutions: bool,
    failures: bool,
    /// A provider whose sum takes too long.
    sum_of: &'static str,
    /// The request that failed.
    failed: Option<RequestId>,
    /// Pages of substitutions that are there, when there are many.
    pages: usize,
    /// How many of them were read.
    read: AtomicUsize,
    /// Logs that began anew.
    restarted: Vec<RestartedLog>,
    /// How many charges were asked for.
    charges: AtomicUsize,
}

fn torn<T>(is_torn: bool, rows: T) -> Result<T, StoreError> {
    if is_torn {
        Err(StoreError::damaged("a row"))
    } else {
        Ok(rows)
    }
}

#[async_trait]
impl Evidence for Torn {
    async fn substitutions(
        &self,
        _: UnixMs,
        after: Option<RequestId>,
        _: u32,
    ) -> Result<Vec<Substitution>, StoreError> {
        let row = Substitution {
            request: RequestId::generate(),
            tenant: TenantId::generate(),
            admitted_at: UnixMs(1),
            offer: OfferId::generate(),
            provider: "p".repeat(63),
            model: "m".repeat(200),
            reported: "other".to_owned(),
        };
        if self.pages > 0 {
            let place = self.read.fetch_add(1, Ordering::Relaxed);
            assert_eq!(after.is_some(), place > 0, "it goes on where it stopped");
            return Ok(if place < self.pages { vec![row] } else { vec![] });
        }
        torn(self.substitutions, if after.is_some() { vec![] } else { vec![row] })
    }

    async fn failures(&self, _: UnixMs, before: Option<RequestId>, _: u32) -> Result<Vec<Failure>, StoreError> {
        let row = Failure {
            request: self.failed.unwrap_or_else(RequestId::generate),
            tenant: TenantId::generate(),
            ended_at: UnixMs(i64::MAX),
            providers: vec![("p".to_owned(), false)],
        };
        torn(self.failures, if before.is_some() { vec![] } else { vec![row] })
    }

    async fn won(&self, _: &str, _: UnixMs, _: UnixMs, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn charged(&self, requests: &[RequestId]) -> Result<HashMap<RequestId, Amount>, StoreError> {
        self.charges.fetch_add(requests.len(), Ordering::Relaxed);
        Ok(HashMap::new())
    }

    async fn booked(&self, provider: &str, _: UnixMs, _: UnixMs) -> Result<Amount, StoreError> {
        torn(provider == self.sum_of, Amount::ZERO)
    }

    async fn put_back_at(&self, _: &Tx, _: OfferId, _: UnixMs) -> Result<Option<UnixMs>, StoreError> {
        Ok(None)
    }

    async fn restarted_logs(&self) -> Result<Vec<RestartedLog>, StoreError> {
        Ok(self.restarted.clone())
    }

    async fn take_out(&self, _: &Tx, _: &Actor, _: OfferId) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn taken_out(&self) {}
}

const RULES: Rules = Rules {
    substitution: SubstitutionRule {
        mismatches: 3,
        window: Duration::from_secs(60),
    },
    outage: OutageRule {
        percent: 50,
        recovered_percent: 10,
        attempts: 1,
        window: Duration::from_secs(60),
    },
    drift_basis_points: 100,
    longest_request: Duration::from_secs(60),
};

async fn fresh() -> (Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.db");
    let database = Database::open(&DatabaseSettings::Sqlite { file }).await.unwrap();
    apply_migrations(&database).await.unwrap();
    (database, folder)
}

async fn kinds(database: &Database) -> Vec<Kind> {
    let found = list(database.readers(), &Filter::default(), 10).await.unwrap();
    found.iter().map(|incident| incident.kind).collect()
}

#[tokio::test]
async fn each_rule_runs_whatever_the_other_does() {
    let (database, _folder) = fresh().await;
    let torn = Torn {
        substitutions: true,
        ..Torn::default()
    };
    // it will be asked again to look far back
    let mut scan = Scan::default();
    run_round(&database, &torn, &RULES, &mut scan).await.unwrap();
    assert!(!scan.has_caught_up());
    assert_eq!(kinds(&database).await, [Kind::Outage]);
    let torn = Torn {
        failures: true,
        ..Torn::default()
    };
    run_round(&database, &torn, &RULES, &mut scan).await.unwrap();
    assert!(scan.has_caught_up());
    // its provider and its model have the longest names that there may be
    assert_eq!(kinds(&database).await, [Kind::Substitution, Kind::Outage]);
}

#[tokio::test]
async fn each_statement_is_compared_whatever_becomes_of_the_others() {
    let (database, _folder) = fresh().await;
    let tx = database.begin().await.unwrap();
    for provider in ["slow", "other"] {
        let new = NewStatement {
            provider: provider.to_owned(),
            from: UnixMs(1),
            to: UnixMs(2),
            billed: Amount::from_usd(1),
            note: String::new(),
        };
        enter_statement(&tx, &Actor::system("test"), &new).await.unwrap();
    }
    tx.commit().await.unwrap();
    let unchecked = async || {
        let rows = list_statements(database.readers(), None, 10).await.unwrap();
        let waiting = rows.into_iter().filter(|row| row.checked_at.is_none());
        waiting.map(|row| row.provider).collect::<Vec<_>>()
    };
    let torn = Torn {
        sum_of: "slow",
        ..Torn::default()
    };
    assert!(!compare_statements(&database, &torn, &RULES).await.unwrap());
    assert_eq!(unchecked().await, ["slow"]);
    assert_eq!(kinds(&database).await, [Kind::BillingDrift]);
    assert!(compare_statements(&database, &Torn::default(), &RULES).await.unwrap());
    assert!(unchecked().await.is_empty());
}

#[tokio::test]
async fn a_request_of_an_outage_that_lasts_is_looked_up_once() {
    let (database, _folder) = fresh().await;
    let evidence = Torn {
        substitutions: true,
        failed: Some(RequestId::generate()),
        ..Torn::default()
    };
    for _ in 0..3 {
        run_round(&database, &evidence, &RULES, &mut Scan::default())
            .await
            .unwrap();
    }
    assert_eq!(evidence.charges.load(Ordering::Relaxed), 1);
    let found = list(database.readers(), &Filter::default(), 10).await.unwrap();
    assert_eq!((found.len(), found[0].requests), (1, 1));
}

#[tokio::test]
async fn a_month_is_not_read_in_one_round() {
    let (database, _folder) = fresh().await;
    let evidence = Torn {
        pages: 45,
        ..Torn::default()
    };
    let mut scan = Scan::default();
    for (read, has_caught_up) in [(20, false), (40, false), (46, true)] {
        run_round(&database, &evidence, &RULES, &mut scan).await.unwrap();
        assert_eq!(evidence.read.load(Ordering::Relaxed), read);
        assert_eq!(scan.has_caught_up(), has_caught_up);
    }
}

#[tokio::test]
async fn a_log_that_began_anew_is_told_once() {
    let (database, _folder) = fresh().await;
    let evidence = Torn {
        substitutions: true,
        failures: true,
        restarted: vec![RestartedLog {
            log: Uuid::from_u128(2),
            before: Uuid::from_u128(1),
            began_at: UnixMs(7),
            reason: "nothing is left of it".to_owned(),
        }],
        ..Torn::default()
    };
    let run = async || {
        run_round(&database, &evidence, &RULES, &mut Scan::default())
            .await
            .unwrap()
    };
    run().await;
    let told = list(database.readers(), &Filter::default(), 10)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (told.kind, told.is_public, told.started_at),
        (Kind::LogRestarted, true, UnixMs(7))
    );
    let tx = database.begin().await.unwrap();
    resolve(&tx, &Actor::system("test"), told.id, "It was a restore.")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    run().await;
    assert_eq!(kinds(&database).await, [Kind::LogRestarted]);
}
