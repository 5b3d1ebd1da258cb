//! A Postgres server for one cluster's ledgers, with Postgres's own defaults: every commit is on
//! disk before it returns.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::{Client, Config, NoTls};

/// Where Debian and its children put the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whom the server runs as if we are root, which Postgres refuses to be.
const USER: &str = "postgres";
/// How long the server may take to start.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Installed programs, and who may run them.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    programs: PathBuf,
    /// User and group, if not our own.
    owner: Option<(u32, u32)>,
}

/// A server. It is stopped, and its files are removed, when this is dropped.
pub(super) struct Postgres {
    port: u16,
    server: Child,
    // The last field: removed when the server is gone.
    dir: TempDir,
}

impl Installation {
    /// The programs in the PATH, or the newest that the system has; or why there is none to use.
    pub(super) fn find() -> Result<Self, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(VERSIONS)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let version = path.file_name()?.to_str()?.parse().ok()?;
                Some((version, path.join("bin")))
            })
            .collect();
        versions.sort();
        let newest_first = versions.into_iter().rev().map(|(_, path)| path);
        let programs = env::split_paths(&path)
            .chain(newest_first)
            .find(|path| path.join("initdb").exists() && path.join("postgres").exists())
            .ok_or("no Postgres")?;
        let is_root = rustix::process::geteuid().is_root();
        let owner = if is_root { Some(owner()?) } else { None };
        Ok(Self { programs, owner })
    }

    fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
            .current_dir(dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Makes a cluster in a new directory within `place`, and starts its server.
    ///
    /// # Errors
    /// If Postgres does not want to; its own words.
    pub(super) async fn start(&self, place: &Path) -> anyhow::Result<Postgres> {
        let kept = tempfile::Builder::new()
            .prefix("countersign-bench-postgres-")
            .tempdir_in(place)?;
        let dir = kept.path();
        if let Some((user, group)) = self.owner {
            std::os::unix::fs::chown(dir, Some(user), Some(group))?;
        }
        let data = dir.join("data");
        let made = self
            .command("initdb", dir)
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .await
            .context("initdb could not be started")?;
        ensure!(
            made.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr).trim_end()
        );
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = fs::File::create(dir.join("log"))?;
        let server = self
            .command("postgres", dir)
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c"])
            .arg(format!("port={port}"))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", dir.display()))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("postgres could not be started")?;
        let mut server = Postgres {
            port,
            server,
            dir: kept,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }
}

impl Postgres {
    /// The superuser's URL.
    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Vacuums every database, and writes to the disk what was committed: what comes in minutes here comes
    /// in years elsewhere, and has been vacuumed by then.
    ///
    /// # Errors
    /// What Postgres says.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let names = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate";
        let server = self.connect("postgres").await?;
        for name in server.query(names, &[]).await? {
            let client = self.connect(name.try_get(0)?).await?;
            client.batch_execute("VACUUM (ANALYZE)").await?;
        }
        server.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    async fn connect(&self, database: &str) -> anyhow::Result<Client> {
        let mut config: Config = self.url().parse()?;
        let (client, connection) = config.dbname(database).connect(NoTls).await?;
        // It ends with its client.
        tokio::spawn(connection);
        Ok(client)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WAIT;
        while tokio_postgres::connect(&self.url(), NoTls).await.is_err() {
            let ended = self.server.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                let said = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("postgres does not start: {}", said.trim_end());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    /// Has the server end what its clients do, and waits: killed, it would leave shared memory behind.
    fn drop(&mut self) {
        let id = self.server.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _gone = kill_process(pid, Signal::INT);
        }
        let deadline = Instant::now() + STOP_WAIT;
        while matches!(self.server.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The user and the group that servers run as.
fn owner() -> Result<(u32, u32), String> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == USER).then_some(())?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some((user, group))
    });
    found.ok_or_else(|| format!("no user named {USER} that a server could run as"))
}
