//! From a configuration to an open, checked database: the data folder, the keys, the schema. In the order in which
//! each may be wrong, so that nothing is made before what it depends on is known to be right.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use domain::secret::SecretText;
use store::{Backend, Database, DatabaseSettings, apply_migrations, keyring::Keyring, refuse_unknown_schema};
use transparency::LogKey;

use crate::{
    config::Config,
    data_folder::{DataFolder, FolderLock},
    keys::{Missing, check_given_keys, load_keyring, process_variable},
    runtimes::run_on,
    signing_key::{check_signing_key, load_signing_key},
};

/// What a server runs on. The folder stays this process's own as long as this lives.
pub struct Opened {
    /// The node's folder.
    pub folder: DataFolder,
    /// Proof that it is ours.
    pub lock: FolderLock,
    /// Open, with the schema of this release.
    pub database: Database,
    /// Checked against the database.
    pub keyring: Keyring,
    /// Signs heads of the transparency log.
    pub signing_key: LogKey,
}

/// What a command runs on, beside a server or without one.
pub struct OpenedForCommand {
    /// Open, with the schema of this release.
    pub database: Database,
    /// Checked against the database.
    pub keyring: Keyring,
    /// Held when no server runs, so that none starts meanwhile.
    _lock: Option<FolderLock>,
}

/// Checks the keys that a server would start with, as far as can be known without making or opening anything.
///
/// # Errors
/// When a given key is malformed or given twice, or one is missing that must be given.
pub fn check_keys(config: &Config) -> anyhow::Result<()> {
    check_given_keys(config, !is_embedded(config), &process_variable)?;
    check_signing_key(config, !is_embedded(config), &process_variable)
}

/// Opens everything for a server. The database's connections live on `runtime`.
///
/// # Errors
/// When the folder is in use, a key or the schema is not right, or the database cannot be reached.
pub async fn open_for_serving(config: &Config, runtime: &tokio::runtime::Handle) -> anyhow::Result<Opened> {
    let folder = DataFolder::create(&config.data.folder)?;
    let lock = folder.lock()?;
    let keyring = load_keyring(
        config,
        &folder,
        missing_keys(config, Missing::ReadOrMake),
        &process_variable,
    )?;
    let signing_key = load_signing_key(config, &folder, is_embedded(config), &process_variable)?;
    let settings = database_settings(config, &folder);
    let database = run_on(runtime, async move { Database::open(&settings).await })
        .await?
        .context(CANNOT_OPEN)?;
    if is_embedded(config) || config.database.migrate_on_start {
        apply_migrations(&database).await?;
    } else {
        refuse_unknown_schema(&database).await?;
    }
    keyring.verify(&database).await?;
    Ok(Opened {
        folder,
        lock,
        database,
        keyring,
        signing_key,
    })
}

/// Opens the database for a command that writes. On the embedded default it sets up what a first start would, unless
/// a server has done so and runs.
///
/// # Errors
/// As [`open_for_serving`], but a folder that a server uses is fine.
pub async fn open_for_command(config: &Config) -> anyhow::Result<OpenedForCommand> {
    let folder = DataFolder::create(&config.data.folder)?;
    let lock = if is_embedded(config) {
        lock_or_wait_for_server(&folder).await?
    } else {
        None
    };
    let when_missing = if lock.is_some() {
        Missing::ReadOrMake
    } else {
        Missing::Read
    };
    let keyring = load_keyring(config, &folder, missing_keys(config, when_missing), &process_variable)?;
    let database = Database::open(&database_settings(config, &folder))
        .await
        .context(CANNOT_OPEN)?;
    if lock.is_some() {
        apply_migrations(&database).await?;
    } else {
        refuse_unknown_schema(&database).await?;
    }
    keyring.verify(&database).await?;
    Ok(OpenedForCommand {
        database,
        keyring,
        _lock: lock,
    })
}

/// Takes the folder; `None` when a server has it and its first start is over. A command is often typed in the moment
/// after the server's own, when keys and database are still being made.
async fn lock_or_wait_for_server(folder: &DataFolder) -> anyhow::Result<Option<FolderLock>> {
    let deadline = Instant::now() + FIRST_START;
    loop {
        let lock = folder.try_lock()?;
        if lock.is_some() || folder.has_node_id() || Instant::now() >= deadline {
            return Ok(lock);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Opens the database for a command that only reads. Needs no keys and makes nothing.
///
/// # Errors
/// When there is no database, it cannot be reached, or its schema is another release's.
pub async fn open_for_reading(config: &Config) -> anyhow::Result<Database> {
    let settings = if is_embedded(config) {
        let folder = DataFolder::existing(&config.data.folder)?;
        if !folder.database_file().exists() {
            bail!(
                "there is no database in {}: start the server first, or set data.folder",
                folder.path().display()
            );
        }
        database_settings(config, &folder)
    } else {
        postgres_settings(config)
    };
    let database = Database::open(&settings).await.context(CANNOT_OPEN)?;
    refuse_unknown_schema(&database).await?;
    Ok(database)
}

/// Opens the database and brings its schema up to date.
///
/// # Errors
/// When a server uses the embedded database, the database cannot be reached, or it is a newer release's.
pub async fn migrate(config: &Config) -> anyhow::Result<Backend> {
    let (settings, _lock) = if is_embedded(config) {
        let folder = DataFolder::create(&config.data.folder)?;
        let lock = folder.lock()?;
        // keys come before the database, or a first start would take the database for one whose keys are lost
        load_keyring(config, &folder, Missing::ReadOrMake, &process_variable)?;
        (database_settings(config, &folder), Some(lock))
    } else {
        (postgres_settings(config), None)
    };
    let database = Database::open(&settings).await.context(CANNOT_OPEN)?;
    apply_migrations(&database).await?;
    database.close().await;
    Ok(database.backend())
}

/// What a replay of archives runs on: the folder is its own, so no server of it runs.
pub struct OpenedForReplay {
    /// Open, with the schema of this release.
    pub database: Database,
    /// The node's folder.
    pub folder: DataFolder,
    /// Proof that it is ours.
    pub lock: FolderLock,
}

/// Opens a database that was restored from a backup. The embedded one is brought up to date, for a backup may be older
/// than this release.
///
/// # Errors
/// As [`open_for_serving`].
pub async fn open_for_replay(config: &Config) -> anyhow::Result<OpenedForReplay> {
    let folder = DataFolder::create(&config.data.folder)?;
    let lock = folder.lock()?;
    if is_embedded(config) {
        // as in `migrate`
        load_keyring(config, &folder, Missing::ReadOrMake, &process_variable)?;
    }
    let settings = database_settings(config, &folder);
    let database = Database::open(&settings).await.context(CANNOT_OPEN)?;
    if is_embedded(config) {
        apply_migrations(&database).await?;
    } else {
        refuse_unknown_schema(&database).await?;
    }
    Ok(OpenedForReplay { database, folder, lock })
}

/// The longest that a server's first start takes until its folder is complete.
const FIRST_START: Duration = Duration::from_secs(10);
const CANNOT_OPEN: &str = "cannot open the database";

/// Whether the node keeps its own database.
fn is_embedded(config: &Config) -> bool {
    config.database.url.get().is_none()
}

fn missing_keys(config: &Config, when_embedded: Missing) -> Missing {
    if is_embedded(config) {
        when_embedded
    } else {
        Missing::Refuse
    }
}

fn database_settings(config: &Config, folder: &DataFolder) -> DatabaseSettings {
    if is_embedded(config) {
        DatabaseSettings::Sqlite {
            file: folder.database_file(),
        }
    } else {
        postgres_settings(config)
    }
}

fn postgres_settings(config: &Config) -> DatabaseSettings {
    let url = config
        .database
        .url
        .get()
        .cloned()
        .unwrap_or_else(|| SecretText::new(String::new()));
    DatabaseSettings::Postgres {
        url,
        max_connections: config.database.max_connections,
    }
}
