//! Throw-away PostgreSQL clusters for tests: real servers, one shared cluster per process, one
//! database per test.
//!
//! It promises that a server dies with the process that started it, even if that is killed, and
//! that what a dead process left in the temporary directory is removed at a later start. Servers
//! run with PostgreSQL's defaults for durability (`fsync`, `synchronous_commit` and
//! `full_page_writes` on), so that what is tested is what is run; only `initdb` skips its fsync.
//!
//! For tests only: whatever goes wrong is a panic that says what to do.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a test without its database has failed, and should say why"
)]

use std::{
    path::Path,
    process::Child,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use directory::Directory;
use installation::Installation;
use settings::Settings;

mod directory;

mod installation;

mod packages;

mod keeper;

mod replication;

mod settings;

mod snapshot;

pub use packages::program;
pub use snapshot::Snapshot;

/// How long a server may take to start, to stop or to answer.
const SERVER_WAIT: Duration = Duration::from_secs(60);
/// The pause between two looks at whether it has.
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// The URL of a fresh, empty database in this process's shared cluster, which is made when it is
/// first needed.
///
/// # Panics
/// If there is no PostgreSQL and it can not be installed, or the server does not start.
pub async fn database() -> String {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    SHARED.get_or_init(Cluster::start).await.database().await
}

/// A cluster of its own, for tests that stop it. Dropped, it is killed and removed.
#[derive(Debug)]
pub struct Cluster {
    installation: Installation,
    settings: Settings,
    port: u16,
    server: Option<Child>,
    databases: AtomicU32,
    // The last field: removed when the server is gone.
    directory: Directory,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    /// If there is no PostgreSQL and it can not be installed, or the server does not start.
    pub async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// As [`Cluster::start`], with further settings of the server, and with files by name and
    /// content that only the server may read; a setting names them as `../name`.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_with(settings: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let mut cluster = Self::empty().await;
        for (name, content) in files {
            let owner = cluster.installation.owner();
            cluster.directory.write(name, content, owner);
        }
        cluster.settings.change(settings);
        cluster.init().await;
        cluster.restart().await;
        cluster
    }

    /// A directory and a port, and nothing in or at them.
    async fn empty() -> Self {
        let (installation, directory) = keeper::run(|| {
            let installation = Installation::find();
            let directory = Directory::make(installation.owner());
            (installation, directory)
        })
        .await;
        Self {
            installation,
            settings: Settings::default(),
            port: free_port(),
            server: None,
            databases: AtomicU32::new(0),
            directory,
        }
    }

    /// The URL of a fresh, empty database of this cluster.
    ///
    /// # Panics
    /// If the server does not make it.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run_sql(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await;
        self.url(&name)
    }

    /// Runs SQL as the superuser, and returns the first column of what its last row holds.
    async fn run_sql(&self, sql: &str) -> Option<String> {
        let url = self.url("postgres");
        let connecting = tokio_postgres::connect(&url, NoTls);
        let (client, connection) = connecting.await.expect("the cluster takes connections");
        let driver = tokio::spawn(connection);
        let done = client.simple_query(sql).await;
        driver.abort();
        let messages = done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let value = |message: &SimpleQueryMessage| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            row.get(0).map(str::to_owned)
        };
        messages.iter().rev().find_map(value)
    }

    /// The URL of a database by its name.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops the server in an orderly way, ending what its clients do.
    ///
    /// # Panics
    /// If it does not stop.
    pub async fn stop(&mut self) {
        self.end(Signal::INT).await;
    }

    /// Ends the server without any order, as a crash of its machine would end its processes.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn crash(&mut self) {
        let children = self.server_id().map(children).unwrap_or_default();
        self.signal_all(Signal::KILL);
        self.end(Signal::KILL).await;
        // A server that starts while one of them holds on to the shared memory refuses to.
        let deadline = Instant::now() + SERVER_WAIT;
        while children.iter().any(|child| is_running(*child)) {
            assert!(Instant::now() < deadline, "postgres does not end");
            sleep(POLL_PAUSE).await;
        }
    }

    /// Starts the server again, at the same URLs, after it was stopped or crashed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn restart(&mut self) {
        let mut command = self.installation.command("postgres", &self.directory.path);
        command.arg("-D").arg(self.directory.data());
        for (name, value) in [
            ("listen_addresses", "127.0.0.1".into()),
            ("port", self.port.to_string()),
            (
                "unix_socket_directories",
                self.directory.path.display().to_string(),
            ),
            ("max_connections", "200".into()),
            ("shared_buffers", "32MB".into()),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.write_settings();
        let (output, errors) = self.directory.log();
        command.stdout(output).stderr(errors);
        let spawned = keeper::run(move || command.spawn()).await;
        self.server = Some(spawned.expect("postgres can be started"));
        self.wait_until_ready().await;
    }

    /// Stops all processes of the server where they are (SIGSTOP): connections stay open, the
    /// kernel takes new ones, and nothing ever answers.
    ///
    /// # Panics
    /// If the server does not run.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets a frozen server go on.
    ///
    /// # Panics
    /// If the server does not run.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// The port, which stays the same.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server's first process, if it runs.
    #[must_use]
    pub fn server_id(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// The directory that holds everything of this cluster.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    async fn init(&self) {
        let mut command = self.installation.command("initdb", &self.directory.path);
        command
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C", "-D"])
            .arg(self.directory.data());
        let output = keeper::run(move || command.output())
            .await
            .expect("initdb can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb failed: {errors}");
        self.include_settings();
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + SERVER_WAIT;
        let url = self.url("postgres");
        loop {
            let connecting = timeout(SERVER_WAIT, tokio_postgres::connect(&url, NoTls)).await;
            if let Ok(Ok(_connected)) = connecting {
                return;
            }
            let server = self.server.as_mut().expect("the server was started");
            let ended = server.try_wait().expect("the server can be waited for");
            let log = self.directory.log_text();
            assert!(ended.is_none(), "postgres ended at its start: {log}");
            assert!(Instant::now() < deadline, "postgres does not answer: {log}");
            sleep(POLL_PAUSE).await;
        }
    }

    async fn end(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        // It may have ended by itself.
        let _gone = kill_process(pid(server.id()), signal);
        let deadline = Instant::now() + SERVER_WAIT;
        while server
            .try_wait()
            .expect("the server can be waited for")
            .is_none()
        {
            assert!(Instant::now() < deadline, "postgres does not stop");
            sleep(POLL_PAUSE).await;
        }
    }

    /// Signals the first process and then its children; to go on, the children first.
    fn signal_all(&self, signal: Signal) {
        let server = self.server_id().expect("the server runs");
        signal_family(server, signal);
    }
}

impl Drop for Cluster {
    /// Has the server quit, frozen or not: killed, it would leave its shared memory behind.
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        // It may have ended by itself.
        let _gone = kill_process(pid(server.id()), Signal::QUIT);
        signal_family(server.id(), Signal::CONT);
        let deadline = Instant::now() + SERVER_WAIT;
        while !matches!(server.try_wait(), Ok(Some(_))) {
            if Instant::now() >= deadline {
                signal_family(server.id(), Signal::KILL);
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }
}

/// Signals a process and its children. The parent is stopped before its children are looked up, so
/// that it has no new ones; and it goes on after them.
pub(crate) fn signal_family(parent: u32, signal: Signal) {
    let signal_one = |id: u32, signal: Signal| {
        // Whatever ended meanwhile needs no signal.
        let _gone = kill_process(pid(id), signal);
    };
    signal_one(parent, Signal::STOP);
    for child in children(parent) {
        signal_one(child, signal);
    }
    signal_one(parent, signal);
}

fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("there is /proc");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(id: u32) -> Option<u32> {
    fields(id)?.split(' ').nth(1)?.parse().ok()
}

/// Whether a process is there and is no zombie that waits for its parent.
fn is_running(id: u32) -> bool {
    fields(id).is_some_and(|fields| !fields.starts_with('Z'))
}

/// The fields of `/proc/…/stat` after the name in parentheses: state, parent, and so on.
fn fields(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

fn pid(id: u32) -> Pid {
    i32::try_from(id)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

#[cfg(test)]
mod tests;
