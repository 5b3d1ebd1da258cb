//! A ledger's store in memory, for deterministic simulations of the production ledger: one thread,
//! tokio's paused time, and a [`Weather`] that decides what becomes of each step.
//!
//! Everything above the store is what runs in production: queue, worker, batches, the rule, lease,
//! anchor, quarantine. A [`MemoryStore`] is one disk, with the database and the anchor on it. Each
//! [`MemoryStore::open`] is one run of one process; a weather that never answers stops that run
//! for ever. To be used within a runtime only: what was in doubt ends by the runtime's clock.

use std::{fmt, future::Future, io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use duty::{Claim, PublicKey, SigningRoot};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    anchor::{Anchor, AnchorError, Found, Mark},
    database::{Database, SqliteDatabase},
    ledger::{
        InitialHistory, Ledger, LedgerLimits, OpenError, Opening, Origin, Question, Time,
        memory::Tables,
    },
    rules::Ratchet,
};

/// When a simulated machine first starts: any time that is not 1970.
const BEGINNING: Duration = Duration::from_secs(1_600_000_000);

/// What a process is about to do with its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Connect, and read who holds the ledger.
    Connect,
    /// Read: what is foreseen, or ordered.
    Read,
    /// Take the ledger.
    Take,
    /// Say that the holder lives.
    Renew,
    /// Begin the transaction of a batch.
    Decide,
    /// The rows are written, and COMMIT leaves.
    Commit,
    /// What came of it is on its way back; of reads and of taking the ledger, too.
    Answer,
    /// Ask whose rows are in no transaction any more.
    Settle,
    /// Open the anchor, or write it.
    Anchor,
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes as it should.
    Goes,
    /// Nothing happened, and the connection is lost. Of an answer: it is lost; what it was about
    /// has happened.
    Fails,
    /// The database refuses, and nothing is committed.
    Rejected,
    /// Another process writes; nothing happened.
    Busy,
    /// Of [`Step::Commit`] and [`Step::Take`]: the connection is lost, and nothing is known.
    /// Elsewhere as [`Fate::Fails`].
    Unknown(Outcome),
}

/// What becomes of a commit that nobody hears of. Until then its rows are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// After this time it is rolled back.
    Never(Duration),
    /// After this time it is committed.
    Happens(Duration),
}

/// The future of a [`Fate`].
pub type Deciding = Pin<Box<dyn Future<Output = Fate> + Send>>;

/// Decides what becomes of one run's steps.
pub trait Weather: Send + Sync {
    /// What becomes of this step. It may take time, or never end.
    fn step(&self, step: Step) -> Deciding;

    /// How far the run's wall clock is ahead of the time that has passed. The anchor's times, and
    /// the look for clocks that jump, are by that clock; [`Time`] is not.
    fn clock_ahead(&self) -> Duration {
        Duration::ZERO
    }
}

/// One disk: a database and an anchor. It survives its processes; clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

struct Disk {
    tables: Tables,
    anchor: AnchorFile,
    /// Runs so far.
    runs: u64,
    /// Since when time is counted.
    began: Option<Instant>,
}

impl Disk {
    /// The time since the store was first used.
    fn elapsed(&mut self) -> Duration {
        self.began.get_or_insert_with(Instant::now).elapsed()
    }
}

/// The anchor's file.
#[derive(Clone)]
struct AnchorFile {
    found: Found,
    /// The number of the last record written.
    sequence: u64,
    /// By the writer's wall clock.
    changed: Duration,
    /// The run that has it open: the last one that opened it, as locks go with their process.
    open_in: u64,
}

/// A copy of what is on a disk.
#[derive(Clone)]
pub struct Snapshot {
    tables: Tables,
    anchor: AnchorFile,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// What of a snapshot is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// The database; the anchor stays as it is, and tells.
    Database,
    /// Database and anchor: nothing on the disk tells.
    DatabaseAndAnchor,
}

impl MemoryStore {
    /// A store in which these validators are registered. With a watermark that is none, none is.
    #[must_use]
    pub fn new(validators: impl IntoIterator<Item = PublicKey>, history: InitialHistory) -> Self {
        let mut tables = Tables::new();
        for validator in validators {
            // A watermark that is none makes no row: the validator is then not registered.
            let _registered = tables.register(validator, &history);
        }
        Self {
            disk: Arc::new(Mutex::new(Disk {
                tables,
                anchor: AnchorFile {
                    found: Found::Nothing,
                    sequence: 0,
                    changed: Duration::ZERO,
                    open_in: 0,
                },
                runs: 0,
                began: None,
            })),
        }
    }

    /// Starts a run: takes the ledger, whoever had it, as [`Ledger::open`] does.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn open(
        &self,
        weather: Arc<dyn Weather>,
        limits: LedgerLimits,
        time: Time,
        origin: Origin,
    ) -> Result<Ledger, OpenError> {
        let run = {
            let mut disk = self.disk.lock();
            disk.runs += 1;
            disk.runs
        };
        let process = Process {
            store: self.clone(),
            weather,
            run,
        };
        let opening = Opening {
            limits,
            anchor: anchor_path(),
            time,
            origin,
        };
        Ledger::open(
            Database::Sqlite(SqliteDatabase::simulated(process)),
            opening,
        )
        .await
    }

    /// Whether the ledger has committed exactly this decision.
    #[must_use]
    pub fn has_row(&self, validator: &PublicKey, claim: &Claim, root: SigningRoot) -> bool {
        self.with(|tables, _| tables.has(validator, claim, root))
    }

    /// All decisions that the ledger has committed about a validator: its attestations by target,
    /// then its blocks by slot.
    #[must_use]
    pub fn rows(&self, validator: &PublicKey) -> Vec<(Claim, SigningRoot)> {
        self.with(|tables, _| tables.decided(validator))
    }

    /// What was decided and committed since this was asked last, repeats included.
    #[must_use]
    pub fn take_receipts(&self) -> Vec<(PublicKey, SigningRoot)> {
        self.with(|tables, _| tables.take_receipts())
    }

    /// Whether a transaction whose end is in doubt holds a validator's row: an import would wait.
    #[must_use]
    pub fn is_locked(&self, validator: &PublicKey) -> bool {
        self.with(|tables, _| tables.is_locked(validator))
    }

    /// A validator's ratchet; `None` if it is not registered.
    #[must_use]
    pub fn ratchet(&self, validator: &PublicKey) -> Option<Ratchet> {
        self.with(|tables, _| tables.ratchet(validator))
    }

    /// Whether a decision now would permit this: by the rule, the ledger's own history, and what
    /// was ordered. Not while the row is in a transaction whose end is in doubt. A quarantine is
    /// the process's: [`Ledger::state`].
    #[must_use]
    pub fn would_permit(&self, question: &Question) -> bool {
        self.with(|tables, _| tables.would_permit(question))
    }

    /// Takes a row of an interchange file in: it raises, and licenses nothing. Its root is not kept,
    /// as no decision looks at it.
    pub fn import(&self, validator: PublicKey, claim: Claim, _root: Option<SigningRoot>) {
        self.with(|tables, _| tables.import(validator, &claim));
    }

    /// Copies what is on the disk. What was not committed is not in it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let tables = self.with(|tables, _| tables.committed());
        let anchor = self.disk.lock().anchor.clone();
        Snapshot { tables, anchor }
    }

    /// Puts a copy back, under whatever runs. Transactions in doubt never happen, then.
    pub fn put_back(&self, snapshot: &Snapshot, whole: Whole) {
        let mut disk = self.disk.lock();
        disk.tables.put_back(&snapshot.tables);
        match whole {
            Whole::Database => {}
            Whole::DatabaseAndAnchor => {
                let open_in = disk.anchor.open_in;
                disk.anchor = AnchorFile {
                    open_in,
                    ..snapshot.anchor.clone()
                };
            }
        }
    }

    /// Works on the tables as they are now, by the disk's clock.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Tables, Duration) -> T) -> T {
        let mut disk = self.disk.lock();
        let now = disk.elapsed();
        disk.tables.end_what_is_due(now);
        work(&mut disk.tables, now)
    }
}

fn anchor_path() -> PathBuf {
    PathBuf::from("a simulated anchor")
}

/// One run of a process on a store.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) store: MemoryStore,
    weather: Arc<dyn Weather>,
    run: u64,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl Process {
    pub(crate) async fn step(&self, step: Step) -> Fate {
        self.weather.step(step).await
    }

    /// When the machine started, by this run's wall clock.
    pub(crate) fn started(&self) -> Duration {
        BEGINNING.saturating_add(self.weather.clock_ahead())
    }

    /// The time since the machine started.
    pub(crate) fn up(&self) -> Duration {
        self.store.disk.lock().elapsed()
    }

    /// The time since 1970, by this run's wall clock.
    pub(crate) fn wall_clock(&self) -> Duration {
        self.started().saturating_add(self.up())
    }

    /// Another for each run, and the same whenever it is replayed.
    pub(crate) fn fresh(&self) -> [u8; 16] {
        u128::from(self.run).to_be_bytes()
    }

    pub(crate) async fn open_anchor(&self) -> Result<Anchor, AnchorError> {
        let process = self.clone();
        self.write_anchor(move || {
            let mut disk = process.store.disk.lock();
            disk.anchor.open_in = process.run;
            let file = disk.anchor.clone();
            drop(disk);
            let changed_s = i64::try_from(file.changed.as_secs()).unwrap_or(i64::MAX);
            let (found, sequence) = (file.found, file.sequence);
            Ok(Anchor::simulated(
                process,
                anchor_path(),
                found,
                sequence,
                changed_s,
            ))
        })
        .await
    }

    /// Runs what writes the anchor, if the weather lets it.
    pub(crate) async fn write_anchor<T>(
        &self,
        work: impl FnOnce() -> Result<T, AnchorError>,
    ) -> Result<T, AnchorError> {
        let failed = || AnchorError::File {
            path: anchor_path(),
            error: io::Error::other("the disk failed"),
        };
        match self.step(Step::Anchor).await {
            Fate::Goes => work(),
            // It is written, and the error comes after.
            Fate::Unknown(Outcome::Happens(_)) => work().and_then(|_| Err(failed())),
            Fate::Fails | Fate::Rejected | Fate::Busy | Fate::Unknown(Outcome::Never(_)) => {
                Err(failed())
            }
        }
    }

    /// Writes a record of the anchor.
    pub(crate) fn put_anchor(&self, sequence: u64, mark: &Mark) -> io::Result<()> {
        let changed = self.wall_clock();
        let mut disk = self.store.disk.lock();
        if disk.anchor.open_in != self.run {
            // Two processes can not have it open. The one that had it is dead, and writes nothing.
            return Err(io::Error::other("a later run has the anchor"));
        }
        disk.anchor.found = Found::Mark(mark.clone());
        disk.anchor.sequence = sequence;
        disk.anchor.changed = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
