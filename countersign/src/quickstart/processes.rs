//! The operating-system processes that quickstart starts, watches and stops.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::process::{Child, ChildStdin, Command};

/// How long a process may take to drain and stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// One running process. It stops by itself when its standard input closes, so that nothing is left
/// behind even if this process is killed.
pub(crate) struct Running {
    name: String,
    log: PathBuf,
    child: Child,
    /// Open as long as the process shall run; `Child` would close it in `wait`.
    stdin: Option<ChildStdin>,
}

/// This executable, run as one of the two servers (`countersign cosigner …`).
fn ourselves(arguments: &[OsString]) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("this program's own path is not known")?;
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    Ok(command)
}

/// Runs one server command to its end and takes its complaint if it fails.
pub(super) async fn run_to_end(arguments: &[OsString]) -> anyhow::Result<()> {
    let output = ourselves(arguments)?
        .stdin(Stdio::null())
        .output()
        .await
        .context("a process could not be started")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

impl Running {
    /// Starts one server whose output goes to `log`, with `environment` added to this process's own.
    pub(super) fn start(
        name: &str,
        arguments: &[OsString],
        log: &Path,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{} cannot be written", log.display()))?;
        let mut child = ourselves(arguments)?
            // A group of its own: Ctrl-C on the terminal is for quickstart, which stops them in order.
            .process_group(0)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{name} could not be started"))?;
        let stdin = child.stdin.take();
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
            stdin,
        })
    }

    /// The process's id, if it still runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails, with the end of its log, if the process has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Waits until the process ends by itself, which it should not; whether it is a cosigner, and the
    /// end of its log.
    pub(super) async fn watch(&mut self) -> (bool, anyhow::Error) {
        let error = match self.child.wait().await {
            Ok(status) => self.ended(status),
            Err(error) => error.into(),
        };
        (self.name.starts_with("cosigner"), error)
    }

    /// Lets the process drain and waits for its end; kills it only if it does not come.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_WAIT, self.child.wait())
            .await
            .is_err()
        {
            let _ = self.child.kill().await;
        }
    }

    /// Kills the process, as a crash would end it.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .context("a process could not be killed")
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(5)..)
            .unwrap_or_default()
            .join("\n  ");
        anyhow::anyhow!(
            "{} ended with {status}; the end of {}:\n  {tail}",
            self.name,
            self.log.display()
        )
    }
}
