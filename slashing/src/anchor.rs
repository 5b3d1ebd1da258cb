//! The anchor: what a cosigner remembers of its ledger outside of the ledger's database.
//!
//! A ledger that was restored, copied or replaced by a standby that had less looks whole. The
//! anchor, a small file beside the process, knows how far the ledger had come: it is written and
//! synced after each commit and **before** any permit of that commit is given away.
//!
//! **Invariant:** every decision that left this process is within what the anchor counts; kept by
//! `ledger::tests::trust::nothing_leaves_that_the_anchor_does_not_count`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use duty::{Claim, Epoch, Slot};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::machine::wall_clock;

pub mod offline;

mod slots;

/// How long a predecessor that still ends may keep the file.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long ago a process that did not end in an orderly way may have lived, in seconds, before what
/// it kept counts as possibly restored: a crash and a start take less, a restored image mostly more.
pub(crate) const UNCLEAN_GAP_S: u64 = 60;
/// How much later than the process last said that it lives its files may have been written, in
/// seconds: it says so, then writes.
pub(crate) const TOUCH_GAP_S: u64 = 10;
/// The pause between two attempts to lock it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Which ledger: a copy has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerId(#[serde(with = "slots::hex16")] pub [u8; 16]);

/// One run of one cosigner: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder(#[serde(with = "slots::hex16")] pub [u8; 16]);

impl Holder {
    /// In the anchor of a ledger that a tool has made and no cosigner has held.
    pub const NOBODY: Self = Self([0; 16]);
}

/// The highest of all validators: decided since the anchor was made, or found in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Highest {
    /// The highest source epoch.
    pub source: Epoch,
    /// The highest target epoch.
    pub target: Epoch,
    /// The highest slot.
    pub slot: Slot,
}

impl Highest {
    /// How high claims go.
    #[must_use]
    pub fn of(claims: impl Iterator<Item = Claim>) -> Self {
        claims.fold(Self::default(), |highest, claim| match claim {
            Claim::Attest { source, target } => highest.max(Self {
                source,
                target,
                slot: Slot(0),
            }),
            Claim::Propose { slot } => highest.max(Self {
                slot,
                ..Self::default()
            }),
        })
    }

    /// The lower of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            source: self.source.min(other.source),
            target: self.target.min(other.target),
            slot: self.slot.min(other.slot),
        }
    }

    /// The higher of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            source: self.source.max(other.source),
            target: self.target.max(other.target),
            slot: self.slot.max(other.slot),
        }
    }
}

/// Where a PostgreSQL server's log stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerMark {
    /// Made by `initdb`; standbys and physical copies have the same.
    pub system_identifier: i64,
    /// Another one after each promotion.
    pub timeline: u32,
    /// The position in the log, in bytes.
    pub lsn: u64,
}

/// What the anchor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Who held it.
    pub holder: Holder,
    /// Who was about to hold it.
    pub next: Option<Holder>,
    /// The ledger's count of commits: it has come at least so far.
    pub commits: u64,
    /// How high the ledger has come: decisions, and what was imported.
    pub highest: Highest,
    /// The server's log, for PostgreSQL.
    pub server: Option<ServerMark>,
    /// When the process last said that it lives, in seconds since 1970.
    pub alive_at_s: u64,
    /// Whether the process ended in an orderly way.
    pub ended: bool,
    /// The anchor's own inode: a copy of the file has another.
    pub inode: u64,
}

impl Mark {
    /// Whether a holder is the one that wrote it, or the one that was about to hold.
    #[must_use]
    pub fn is_of(&self, holder: Holder) -> bool {
        self.holder == holder || self.next == Some(holder)
    }
}

/// What was found in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There was no file, or an empty one.
    Nothing,
    /// Neither of its two records can be read.
    Damaged,
    /// The last record.
    Mark(Mark),
}

/// Why the anchor can not be used.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Another process has locked the file.
    #[error(
        "another process uses the anchor {}: two cosigners must never have one identity; stop it, \
         or give this one its own database, key shares and anchor",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file system refused.
    #[error("the anchor {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The runtime that writes it has ended.
    #[error("the process is stopping")]
    Stopping,
}

/// What an anchor is written on.
#[derive(Debug)]
enum Medium {
    File(File),
    #[cfg(feature = "test-seams")]
    Simulated(crate::simulation::Process),
}

/// The open anchor, locked for this process alone.
#[derive(Debug)]
pub struct Anchor {
    medium: Medium,
    path: PathBuf,
    found: Found,
    /// The number of the last record written.
    sequence: u64,
    inode: u64,
    /// When the file was last changed before it was opened, in seconds since 1970.
    changed_s: i64,
}

impl Anchor {
    /// Opens the file, or makes it for its owner's eyes only, locks it and reads it. Waits a few
    /// seconds for a predecessor that still ends.
    ///
    /// # Errors
    /// [`AnchorError`], which names the file.
    pub fn open(path: &Path) -> Result<Self, AnchorError> {
        Self::open_within(path, LOCK_WAIT)
    }

    fn open_within(path: &Path, wait: Duration) -> Result<Self, AnchorError> {
        let failed = |error: io::Error| AnchorError::File {
            path: path.to_owned(),
            error,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        lock(&file, path, wait)?;
        let changed_s = file.metadata().map_err(failed)?.ctime();
        slots::allocate(&file).map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        let (found, sequence) = slots::read(&file).map_err(failed)?;
        let inode = file.metadata().map_err(failed)?.ino();
        Ok(Self {
            medium: Medium::File(file),
            path: path.to_owned(),
            found,
            sequence,
            inode,
            changed_s,
        })
    }

    /// A simulated one, open in this process, as it was found.
    #[cfg(feature = "test-seams")]
    pub(crate) const fn simulated(
        process: crate::simulation::Process,
        path: PathBuf,
        found: Found,
        sequence: u64,
        changed_s: i64,
    ) -> Self {
        Self {
            medium: Medium::Simulated(process),
            path,
            found,
            sequence,
            inode: 1,
            changed_s,
        }
    }

    /// What was found when it was opened, or written last.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// Whether a mark is about this very file, and not about one that it is a copy of.
    #[must_use]
    pub const fn is_of_this_file(&self, mark: &Mark) -> bool {
        mark.inode == self.inode
    }

    /// When the file was last changed before it was opened, in seconds since 1970.
    #[must_use]
    pub const fn changed_s(&self) -> i64 {
        self.changed_s
    }

    /// The mark of a process that lives now, in this file, on this machine.
    #[must_use]
    pub fn mark(&self, ledger_id: LedgerId, holder: Holder, commits: u64) -> Mark {
        Mark {
            ledger_id,
            holder,
            next: None,
            commits,
            highest: Highest::default(),
            server: None,
            alive_at_s: self.now_s(),
            ended: false,
            inode: self.inode,
        }
    }

    /// Writes a mark and returns when it is on disk. The one before stays readable until then.
    ///
    /// # Errors
    /// What the file system says. Nothing may then be given away that the mark counts.
    pub fn write(&mut self, mark: Mark) -> Result<(), AnchorError> {
        let sequence = self.sequence.saturating_add(1);
        let written = match &self.medium {
            Medium::File(file) => slots::write(file, sequence, &mark),
            #[cfg(feature = "test-seams")]
            Medium::Simulated(process) => process.put_anchor(sequence, &mark),
        };
        written.map_err(|error| AnchorError::File {
            path: self.path.clone(),
            error,
        })?;
        self.sequence = sequence;
        self.found = Found::Mark(mark);
        Ok(())
    }

    /// Seconds since 1970 by the clock of its machine.
    pub(crate) fn now_s(&self) -> u64 {
        match &self.medium {
            Medium::File(_) => now_s(),
            #[cfg(feature = "test-seams")]
            Medium::Simulated(process) => process.wall_clock().as_secs(),
        }
    }
}

/// Seconds since 1970; 0 for a clock before that.
pub(crate) fn now_s() -> u64 {
    wall_clock().as_secs()
}

fn lock(file: &File, path: &Path, wait: Duration) -> Result<(), AnchorError> {
    let deadline = Instant::now() + wait;
    while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return Err(AnchorError::InUse(path.to_owned()));
        }
        thread::sleep(LOCK_PAUSE);
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
