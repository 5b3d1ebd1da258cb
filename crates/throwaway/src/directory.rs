//! A cluster's directory: locked while its process lives, removed by whoever finds it unlocked.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::Signal;

use crate::{installation::Owner, signal_family};

const PREFIX: &str = "countersign-throwaway-";
/// Younger directories are left alone: their process may not have locked them yet.
const SETTLED_AGE: Duration = Duration::from_secs(60);

/// A directory that is removed when it is dropped, or later if this process is killed.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes a directory that `owner` may write to, and removes those of dead processes.
    pub(crate) fn make(owner: Option<Owner>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir();
        sweep(&root);
        let path = root.join(format!("{PREFIX}{}-{count}", process::id()));
        // A process with the same id may have died here less than a minute ago.
        bury(&path);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lock = File::create(lock_path(&path)).expect("a new directory takes a file");
        lock.lock().expect("a new file can be locked");
        give(&path, owner);
        Self { path, _lock: lock }
    }

    /// Where `initdb` puts the cluster.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a file that only `owner` may read.
    pub(crate) fn write(&self, name: &str, content: &str, owner: Option<Owner>) {
        let path = self.path.join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let written = written.and_then(|mut file| file.write_all(content.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        give(&path, owner);
    }

    /// Writes a file that only `owner` may read, in place of the one of that name if there is one.
    pub(crate) fn replace(&self, name: &str, content: &str, owner: Option<Owner>) {
        // A server that reads it meanwhile must find all of it, or all of the old one.
        let fresh = format!("{name}.new");
        // One may have been left by a process that was killed.
        let _none = fs::remove_file(self.path.join(&fresh));
        self.write(&fresh, content, owner);
        fs::rename(self.path.join(&fresh), self.path.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Where the server writes its log, twice: for output and errors.
    pub(crate) fn log(&self) -> (File, File) {
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.path.join("log"))
        };
        (
            open().expect("a log can be written"),
            open().expect("a log can be written"),
        )
    }

    /// What the server has logged.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(self.path.join("log")).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is removed at a later start.
        let _kept = fs::remove_dir_all(&self.path);
    }
}

fn give(path: &Path, owner: Option<Owner>) {
    if let Some(Owner { user, group }) = owner {
        chown(path, Some(user), Some(group)).expect("root may give its files away");
    }
}

fn lock_path(directory: &Path) -> PathBuf {
    directory.join("lock")
}

/// Removes what dead processes left.
fn sweep(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_settled = || {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            changed.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SETTLED_AGE))
        };
        if is_ours && is_settled() && is_dead(&entry.path()) {
            bury(&entry.path());
        }
    }
}

fn is_dead(directory: &Path) -> bool {
    match File::open(lock_path(directory)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => true,
    }
}

/// Ends a server that outlived its process (it was frozen), and removes its directory.
fn bury(directory: &Path) {
    let started = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
    if let Some(id) = started.lines().next().and_then(|line| line.parse().ok()) {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        // Ids are used again: only a process that was given this directory is ours.
        if String::from_utf8_lossy(&arguments).contains(&*directory.to_string_lossy()) {
            signal_family(id, Signal::KILL);
        }
    }
    // Another process that starts now may be removing it, too.
    let _kept = fs::remove_dir_all(directory);
}
