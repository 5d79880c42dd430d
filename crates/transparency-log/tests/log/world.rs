//! A database with a schema, and what puts batches into it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use domain::secret::SecretText;
use sea_orm::ConnectionTrait;
use store::{Backend, Database, DatabaseSettings};
use tempfile::TempDir;
use transparency::{Hash, LeafKind, LogKey, leaf_hash, proof};
use transparency_log::{
    BatchDraft, CopySettings, Finding, HeadRow, LogAudit, Sequencer, SequencerSettings, leaf_proof, movement_batch,
};
use uuid::Uuid;

pub struct World {
    pub database: Database,
    folder: TempDir,
    next: std::cell::Cell<u128>,
}

impl World {
    /// One on SQLite, and one on PostgreSQL where there is a server for tests.
    pub async fn all() -> Vec<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relay.db");
        let mut all = vec![Self::open(DatabaseSettings::Sqlite { file }, folder).await];
        if let Ok(server) = std::env::var("TRUERELAY_TEST_POSTGRES_URL") {
            let name = format!("l_{}", Uuid::now_v7().simple());
            let connection = sea_orm::Database::connect(server.as_str()).await.unwrap();
            let create = format!("CREATE DATABASE {name}");
            connection.execute_unprepared(&create).await.unwrap();
            let (base, _) = server.rsplit_once('/').unwrap();
            let settings = DatabaseSettings::Postgres {
                url: SecretText::new(format!("{base}/{name}")),
                max_connections: 6,
            };
            all.push(Self::open(settings, tempfile::tempdir().unwrap()).await);
        }
        all
    }

    async fn open(settings: DatabaseSettings, folder: TempDir) -> Self {
        let database = Database::open(&settings).await.unwrap();
        store::apply_migrations(&database).await.unwrap();
        Self {
            database,
            folder,
            next: std::cell::Cell::new(1),
        }
    }

    pub fn copies(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sequencer(&self, copies: &str, seed: u8) -> Sequencer {
        let settings = SequencerSettings {
            key: LogKey::from_seed(&[seed; 32]),
            copies: CopySettings {
                folder: self.copies(copies),
                keep: Duration::from_secs(3_600),
                file_bytes: 4_096,
            },
            boot: Uuid::now_v7(),
        };
        Sequencer::new(self.database.clone(), settings).unwrap()
    }

    /// Commits so many batches of three leaves, and answers their ids.
    pub async fn commit(&self, count: usize) -> Vec<Uuid> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let number = self.next.get();
            self.next.set(number + 1);
            let batch = movement_batch(Uuid::from_u128(number));
            let mut draft = BatchDraft::new(batch, 3);
            for leaf in 0..3 {
                draft.push(LeafKind::Request, leaf_id(batch, leaf), "{}");
            }
            let tx = self.database.begin().await.unwrap();
            let now = tx.now().await.unwrap();
            tx.execute_together(&draft.stored(now.0).changes()).await.unwrap();
            tx.commit().await.unwrap();
            ids.push(batch);
        }
        ids
    }

    pub async fn newest(&self) -> HeadRow {
        transparency_log::newest_head(&self.database)
            .await
            .unwrap()
            .expect("a head")
    }

    /// Whether every leaf of a batch leads to a head.
    pub async fn is_proven(&self, batch: Uuid) -> bool {
        for leaf in 0..3 {
            let proof = leaf_proof(&self.database, batch, LeafKind::Request, leaf_id(batch, leaf)).await;
            let Some(found) = proof.unwrap() else { return false };
            let leaf = leaf_hash(&found.value.0);
            let root = proof::root_of_path(&leaf, found.batch.index, found.batch.size, &found.batch.path);
            assert_eq!(root, Some(found.batch.root));
            let entry = transparency::entry_hash(batch, found.batch.size, &found.batch.root);
            let head = found.head.head;
            let root = proof::root_of_path(&entry, found.log.index, head.size, &found.log.path);
            assert_eq!(root, Some(head.root));
        }
        true
    }

    pub async fn is_consistent(&self, old: &HeadRow) -> bool {
        let new = self.newest().await;
        assert_eq!(old.head.log, new.head.log);
        let (from, to) = (old.head, new.head);
        let path = transparency_log::consistency(&self.database, new.log_no, from.size, to.size).await;
        let path: Vec<Hash> = path.unwrap().expect("it is older");
        proof::is_consistent(from.size, &from.root, to.size, &to.root, &path)
    }

    pub async fn audit(&self, copies: &str) -> Vec<Finding> {
        let copies = self.copies(copies);
        LogAudit::run(&self.database, self.database.readers(), &copies)
            .await
            .unwrap()
    }

    /// Switches off what keeps signatures and retirements as they were written.
    pub async fn let_anything_change(&self) {
        for table in ["log_signature", "log_key_retirement"] {
            if self.database.backend() == Backend::Postgres {
                self.change(&format!("ALTER TABLE {table} DISABLE TRIGGER {table}_insert_only"))
                    .await;
            } else {
                self.change(&format!("DROP TRIGGER {table}_no_UPDATE")).await;
                self.change(&format!("DROP TRIGGER {table}_no_DELETE")).await;
            }
        }
    }

    /// Changes the database past the product.
    pub async fn change(&self, sql: &str) {
        let tx = self.database.begin().await.unwrap();
        tx.connection().execute_unprepared(sql).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// What the audit finds has this word.
    pub async fn assert_named(&self, copies: &str, word: &str) {
        let findings = self.audit(copies).await;
        let offenders: Vec<String> = findings.into_iter().filter_map(|finding| finding.offender).collect();
        assert!(offenders.iter().any(|what| what.contains(word)), "{offenders:?}");
    }

    pub async fn assert_clean(&self, copies: &str) {
        for finding in self.audit(copies).await {
            assert_eq!(finding.offender, None, "{}", finding.statement);
        }
    }
}

fn leaf_id(batch: Uuid, leaf: u128) -> Uuid {
    Uuid::from_u128(batch.as_u128().wrapping_add(leaf))
}

/// The files of copies in a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
