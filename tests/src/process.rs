//! One server as an operating-system process of a test: started, killed, frozen, watched.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// A running server. It is killed when this is dropped, and ends by itself when the test process does,
/// because its standard input closes then.
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Child,
}

/// A program of this workspace, as `cargo test --workspace` built it.
///
/// # Panics
/// If it is not there, or older than its sources.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let dir = test.parent().and_then(Path::parent).unwrap();
    let program = dir.join(name);
    let hint = "run the tests with `cargo test --workspace`, which builds the programs too";
    assert!(
        program.exists(),
        "{} is not built: {hint}",
        program.display()
    );
    program
}

impl Process {
    /// Starts a program of this workspace; its output is appended to `log`.
    #[must_use]
    pub fn start(name: &str, arguments: &[&str], log: &Path) -> Self {
        Self::start_with(name, arguments, &[], log)
    }

    /// As [`Process::start`], with further variables in its environment.
    #[must_use]
    pub fn start_with(
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Self {
        let program = program(name);
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let child = spawn(&program, &arguments, &environment, log);
        Self {
            program,
            arguments,
            environment,
            log: log.to_owned(),
            child,
        }
    }

    /// The process' id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Kills with SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it with SIGSTOP: it keeps its sockets and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again with the same arguments, after it was killed.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.program, &self.arguments, &self.environment, &self.log);
    }

    /// Waits for the process to end by itself and returns its exit code.
    #[must_use]
    pub fn wait(&mut self, at_most: Duration) -> Option<i32> {
        let deadline = std::time::Instant::now() + at_most;
        while std::time::Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "{} still runs after {at_most:?}:\n{}",
            self.program.display(),
            self.log()
        );
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Everything it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(
    program: &Path,
    arguments: &[String],
    environment: &[(String, String)],
    log: &Path,
) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(program)
        .args(arguments)
        .envs(environment.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits until `condition` holds.
///
/// # Panics
/// With `what`, if it does not hold within `at_most`.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    at_most: Duration,
    mut condition: impl FnMut() -> F,
) {
    let deadline = std::time::Instant::now() + at_most;
    while !condition().await {
        assert!(
            std::time::Instant::now() < deadline,
            "not within {at_most:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A loopback port that nobody listens on, handed out once. The range lies below the system's ephemeral
/// ports, so that no outgoing connection takes it before the server does.
#[must_use]
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = u16::try_from(std::process::id() % 180).unwrap() * 100;
        let port = 12_000 + (start + offset) % 18_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
