//! A PostgreSQL server of a test's own, to be killed, stopped and starved without harm to other tests.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::{SmallDisk, free_port, process_tree};

/// The name under which tests connect.
const USER: &str = "truerelay";

/// A running server. It is killed with its owner.
pub struct PrivatePostgres {
    server: Mutex<Child>,
    port: u16,
    settings: Vec<String>,
    data: PathBuf,
    _folder: TempDir,
}

impl PrivatePostgres {
    /// Starts a fresh server with these settings beside the ordinary ones, such as `max_connections=20`.
    pub async fn start(settings: &[&str]) -> Self {
        let folder = open_folder();
        let data = folder.path().join("data");
        copy_template(&data);
        Self::start_on(folder, data, settings).await
    }

    /// As [`PrivatePostgres::start`], on a disk that a test may fill.
    pub async fn start_on_disk(disk: &SmallDisk) -> Self {
        let data = disk.path().join("data");
        copy_template(&data);
        Self::start_on(open_folder(), data, &[]).await
    }

    async fn start_on(folder: TempDir, data: PathBuf, settings: &[&str]) -> Self {
        let port = free_port();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let server = Self {
            server: Mutex::new(spawn(&data, port, &settings)),
            port,
            settings,
            data,
            _folder: folder,
        };
        server.wait_ready().await;
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection beside the product's.
    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database))
            .await
            .expect("PostgreSQL answers")
    }

    /// Ends every process of it at once, as a power cut would.
    pub fn kill(&self) {
        let mut server = self.server();
        process_tree::signal_all(server.id(), "KILL");
        server.wait().ok();
    }

    /// Starts it again on the same files and port, and waits until it has recovered.
    pub async fn restart(&self) {
        *self.server() = spawn(&self.data, self.port, &self.settings);
        self.wait_ready().await;
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        !matches!(self.server().try_wait(), Ok(None))
    }

    fn server(&self) -> MutexGuard<'_, Child> {
        self.server.lock().expect("nobody panics with it")
    }

    /// Stops every process of it where it stands: its sockets stay open and say nothing.
    pub fn pause(&self) {
        process_tree::signal_all(self.server().id(), "STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        process_tree::signal_all(self.server().id(), "CONT");
    }

    async fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(mut connection) = PgConnection::connect(&self.url("postgres")).await
                && connection.execute("SELECT 1").await.is_ok()
            {
                return;
            }
            let log = || fs::read_to_string(self.data.join("server.log")).unwrap_or_default();
            if self.has_ended() {
                // what was killed may take a moment to give its shared memory back
                *self.server() = spawn(&self.data, self.port, &self.settings);
            }
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // asked to leave at once, it takes its shared memory along
        process_tree::signal_all(self.server().id(), "CONT");
        process_tree::signal(self.server().id(), "QUIT");
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

fn spawn(data: &Path, port: u16, settings: &[String]) -> Child {
    let log = fs::File::create(data.join("server.log")).expect("a log file");
    let mut command = as_server_user("postgres");
    command
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", data.display()))
        .args(settings.iter().flat_map(|setting| ["-c", setting]));
    command
        .current_dir(data)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .spawn()
        .expect("PostgreSQL starts")
}

/// A folder that the server's user may pass through.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("an open folder");
    folder
}

/// Making a cluster takes seconds, copying one does not: it is made once in a run.
fn copy_template(data: &Path) {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let folder = open_folder();
        let data = folder.path().join("data");
        make_data_folder(&data);
        let mut initdb = as_server_user("initdb");
        initdb.arg("--pgdata").arg(&data).args([
            &format!("--username={USER}"),
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--wal-segsize=1",
        ]);
        let made = initdb.current_dir(&data).output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    });
    make_data_folder(data);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(template.path().join("data/."))
        .arg(data)
        .status()
        .expect("cp runs");
    assert!(copied.success(), "the cluster can be copied");
}

fn make_data_folder(data: &Path) {
    fs::create_dir(data).expect("a data folder");
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).expect("a closed folder");
    if let Some((user, group)) = server_user() {
        chown(data, Some(user), Some(group)).expect("a folder of the server's user");
    }
}

/// One of PostgreSQL's programs, under a user that it accepts: it refuses to run as root.
fn as_server_user(program: &str) -> Command {
    let mut command = Command::new(programs().join(program));
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
}

/// User and group for the server when this process is root's.
fn server_user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").ok()?;
    if own.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the users");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(
        ids("postgres")
            .or_else(|| ids("nobody"))
            .expect("a user for PostgreSQL"),
    )
}

/// The folder of PostgreSQL's programs: the newest version of the distribution, or what the path knows.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = versions.max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
        let packaged = newest.map(|version| version.path().join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        packaged
            .into_iter()
            .chain(["/usr/local/pgsql/bin".into()])
            .chain(std::env::split_paths(&path))
            .find(|folder| folder.join("initdb").exists())
            .expect("PostgreSQL is installed: run the tests by `make test`")
    })
}
