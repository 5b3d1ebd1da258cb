//! strace, which attaches to a running process and kills, stops or fails it at a chosen system call.
//!
//! It counts the calls of each thread by itself, from when it attached. Cosigners forbid other
//! processes to look into them, so attaching takes root: as another user, `sudo` without a password.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// System calls that change something outside of the process: a file, a directory, or what another
/// process reads. A `?` is for those that not every architecture has.
pub const WRITES: &[&str] = &[
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "msync",
    "ftruncate",
    "fallocate",
    "openat",
    "?open",
    "?creat",
    "?rename",
    "renameat",
    "renameat2",
    "?link",
    "linkat",
    "?unlink",
    "unlinkat",
    "?mkdir",
    "mkdirat",
];

/// How long strace may take to attach, and to let go.
const STRACE_WAIT: Duration = Duration::from_secs(20);

/// Which calls of a thread, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This one alone.
    Nth(usize),
    /// All.
    Always,
}

/// What happens at a call, instead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: the call is made, and its thread does not go on from there.
    Stop,
    /// The call fails with this error, such as `EIO`.
    Error(&'static str),
}

/// What goes wrong, and when.
#[derive(Debug, Clone)]
pub struct Injection<'a> {
    /// The system calls, with commas.
    pub calls: &'a str,
    /// Which of them.
    pub when: When,
    /// What happens then.
    pub fault: Fault,
}

/// A strace that is attached. Dropped, it is killed, and what it was attached to goes on.
pub struct Strace {
    child: Child,
    _says: Lines<BufReader<ChildStderr>>,
    log: PathBuf,
}

impl Strace {
    /// Writes the [`WRITES`] of processes, and of all their threads, into a file as they happen.
    pub async fn record(processes: &[u32], log: &Path) -> Self {
        let calls = format!("trace={}", WRITES.join(","));
        Self::attach(processes, log, &["-f", "-y", "-e", &calls]).await
    }

    /// Injects a fault into these threads alone; a process' id is that of its first thread.
    pub async fn inject(threads: &[u32], injection: &Injection<'_>, log: &Path) -> Self {
        let calls = injection.calls;
        let fault = match injection.fault {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Stop => "signal=STOP".to_owned(),
            Fault::Error(name) => format!("error={name}"),
        };
        let when = match injection.when {
            When::Nth(number) => format!("when={number}"),
            When::Always => "when=1+".to_owned(),
        };
        // Only what is traced can be injected into.
        let trace = format!("trace={calls}");
        let inject = format!("inject={calls}:{fault}:{when}");
        Self::attach(threads, log, &["-e", &trace, "-e", &inject]).await
    }

    async fn attach(ids: &[u32], log: &Path, arguments: &[&str]) -> Self {
        assert!(!ids.is_empty(), "nothing to attach to");
        let mut command = strace();
        command.arg("-o").arg(log).args(arguments);
        for id in ids {
            command.arg("-p").arg(id.to_string());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut says = BufReader::new(child.stderr.take().unwrap()).lines();
        let attached = async {
            let (mut left, mut all) = (ids.len(), String::new());
            while left > 0 {
                let line = says.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("strace can not attach: {all}"));
                left -= usize::from(line.contains(" attached"));
                all.push_str(&line);
                all.push('\n');
            }
        };
        timeout(STRACE_WAIT, attached)
            .await
            .expect("strace attaches");
        Self {
            child,
            _says: says,
            log: log.to_owned(),
        }
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lets go of what still runs; everything that it has written.
    pub async fn detach(mut self) -> String {
        if let Some(id) = self.child.id() {
            let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
            // It has ended by itself if what it was attached to has.
            let _gone = kill_process(id, Signal::TERM);
        }
        timeout(STRACE_WAIT, self.child.wait())
            .await
            .expect("strace lets go")
            .unwrap();
        self.log()
    }
}

/// The calls in a log, with the thread that made each, if more than one was watched. A call that
/// was interrupted by others' is there once.
pub fn calls(log: &str) -> impl DoubleEndedIterator<Item = (Option<u32>, &str)> {
    log.lines().filter_map(|line| {
        let (head, _) = line.split_once('(')?;
        let mut words = head.split_whitespace().rev();
        let call = words.next()?;
        let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = words.next().map(str::parse).transpose().ok()?;
        is_name.then_some((id, call))
    })
}

/// Whether a log says that a thread came to its `nth` call.
#[must_use]
pub fn has_struck(log: &str, nth: usize) -> bool {
    let mut counts = BTreeMap::<_, usize>::new();
    for (id, _) in calls(log) {
        *counts.entry(id).or_default() += 1;
    }
    counts.values().any(|count| *count >= nth)
}

/// How strace is started here; it is installed if it is not there and we are root.
fn strace() -> Command {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let program = FOUND.get_or_init(|| throwaway::program("strace"));
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

/// The threads of a process with their names.
#[must_use]
pub fn threads(process: u32) -> Vec<(u32, String)> {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((id, name.trim().to_owned()))
        })
        .collect()
}

/// Whether everything that was written to files is on disk whenever something is said on a socket,
/// as far as a recorded log shows. `of` says which files count.
///
/// # Errors
/// The line that says something, and the file that was not synced before.
pub fn syncs_before_it_tells(log: &str, of: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut unsynced = BTreeSet::new();
    let mut syncing = BTreeMap::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        if rest.contains("sync resumed>") {
            if let Some(file) = syncing.remove(thread) {
                unsynced.remove(file);
            }
            continue;
        }
        let Some((call, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        // The first argument is a file's number with its name, by strace's -y.
        let file = arguments.split_once('<').and_then(|(_, name)| {
            let (name, _) = name.split_once('>')?;
            Some(name)
        });
        let Some(file) = file else { continue };
        match call {
            "fsync" | "fdatasync" if rest.ends_with("<unfinished ...>") => {
                syncing.insert(thread, file);
            }
            "fsync" | "fdatasync" => {
                unsynced.remove(file);
            }
            _ if file.starts_with("socket:") => {
                if let Some(file) = unsynced.first() {
                    return Err(format!("{file} is not synced at {line}"));
                }
            }
            _ if file.starts_with('/') && of(file) => {
                unsynced.insert(file);
            }
            _ => {}
        }
    }
    Ok(())
}
