//! The ledger: decides claims in batches, each batch in one transaction, and mints the permits.
//!
//! One decision locks its validator's row, applies the rule, writes the row (repeats included, so
//! that there is always something whose commit waits for disk and replicas) and appends to the
//! history. A permit is made only from a row that the write returned, after COMMIT has returned.

use std::{fmt, sync::Arc, time::Duration};

use duty::{Claim, Epoch, Permit, PublicKey, SigningRoot, Slot};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    database::{Database, DatabaseError},
    rules::{self, Conflict},
};
use lease::Lease;
pub use lease::{
    Frozen, Opening, Origin, Position, Quarantine, State, Time, quarantine::Unraisable,
    take::OpenError,
};
pub use prune::Pruning;
use queue::{Lane, Queue};
pub use standing::Doubt;

mod lease;

mod standing;

mod queue;

mod prune;

mod worker;

mod session;

mod batch;

pub(crate) mod columns;

pub mod postgres;

pub mod sqlite;

#[cfg(feature = "test-seams")]
pub(crate) mod memory;

/// How long a start waits for what an operator has ordered: nobody asks anything yet.
const START_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked whether another has taken the ledger.
const LOST_LOOK_EVERY: Duration = Duration::from_secs(1);

/// A claim to be decided.
pub struct Ask {
    /// Whose key would sign.
    pub validator: PublicKey,
    /// The slashable part of the duty.
    pub claim: Claim,
    /// The root that would be signed.
    pub root: SigningRoot,
    /// Dropped when it is **known** whether the decision was committed, also after the asker gave
    /// up: on a connection lost during a commit it lives on until the rows could be locked again.
    pub fence: Box<dyn Send>,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("validator", &self.validator)
            .field("claim", &self.claim)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A claim that is asked about, without deciding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Whose key would sign.
    pub validator: PublicKey,
    /// The slashable part of the duty.
    pub claim: Claim,
    /// The root that would be signed.
    pub root: SigningRoot,
}

/// What the ledger holds about a duty: a validator's target epoch, or its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// Nothing is signed for it, and the claim would be permitted now.
    Free,
    /// This root is signed for it already.
    Signed(SigningRoot),
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Final: asking again is useless.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The same claim may be asked again. Whether it was committed may be unknown.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a claim must not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It might be slashable together with what was signed.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The validator was never registered with a history.
    #[error("the validator is not registered in this ledger")]
    NotRegistered,
    /// The validator's row says so.
    #[error("the validator is frozen in this ledger")]
    Disabled,
    /// An operator has stopped signing at a height that the claim reaches.
    #[error("the claim is at or above the heights at which an operator stopped signing")]
    Stopped,
}

/// Why the ledger could not decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// As many wait as may.
    #[error("the ledger is busy: its queue is full")]
    Busy,
    /// It took longer than `ledger_wait`.
    #[error("the ledger did not decide within {} ms", .0.as_millis())]
    Slow(Duration),
    /// There is no connection.
    #[error("the ledger's database cannot be reached: {0}")]
    Unreachable(String),
    /// The database answered with an error.
    #[error("the ledger's database failed: {0}")]
    Failed(String),
    /// It may have forgotten something, and waits until that is harmless.
    #[error(
        "the ledger is quarantined until epoch {0}: it may have forgotten what it decided, and that \
         must not be contradicted"
    )]
    Quarantined(Epoch),
    /// The machine's clock jumped ahead while the process stood still, by so much, and the ratchets
    /// could not be raised yet. More than 30 days they never are: only a start ends it.
    #[error("{}", jumped(*.0))]
    ClockJumped(Duration),
    /// Another process holds it now.
    #[error("another cosigner ({0}) has taken the ledger")]
    Taken(String),
    /// The ledger's task has ended with its runtime.
    #[error("the ledger has stopped")]
    Stopped,
}

/// What an operator is told of a clock that has jumped.
fn jumped(by: Duration) -> String {
    let what_to_do = match by > lease::take::AWAY_MAX {
        true => "check the clock, and if it is right, start once with --restored",
        false => "the ledger is to be quarantined",
    };
    let by_s = by.as_secs();
    format!("the clock jumped ahead by {by_s} s, as that of a resumed snapshot does: {what_to_do}")
}

/// The bounds of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLimits {
    /// How long an ask or a question may take before it is [`Unavailable`].
    pub ledger_wait: Duration,
    /// Claims that one transaction decides at most.
    pub batch_max: usize,
    /// Asks that wait at most, and, separately, questions under way; about blocks a sixteenth more
    /// of each (at least a batch), which attestations cannot take.
    pub queue_max: usize,
    /// How long databases that hold an older state of the ledger are passed over, for one of their
    /// servers that holds the current one, before the ledger quarantines itself.
    pub stale_wait: Duration,
    /// How long a holder of the ledger that says nothing counts as alive: several times as long as
    /// the two seconds after which it says something.
    pub holder_wait: Duration,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self {
            ledger_wait: Duration::from_secs(1),
            batch_max: 128,
            queue_max: 16_384,
            stale_wait: Duration::from_secs(5),
            holder_wait: Duration::from_secs(10),
        }
    }
}

/// The ledger of one cosigner. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub struct Ledger {
    queue: Arc<Queue>,
    reader: session::Reader,
    questions: Arc<Semaphore>,
    /// Questions about blocks alone, which are few.
    questions_of_blocks: Arc<Semaphore>,
    limits: LedgerLimits,
    lease: Arc<Lease>,
    database: Database,
    running: Arc<Mutex<Option<JoinHandle<()>>>>,
    // The last field, so that the queue closes when nobody is left to ask.
    _closes_queue: Arc<queue::Closes>,
}

impl Ledger {
    /// Takes the ledger for this process and starts deciding on the current runtime. A ledger that
    /// may have forgotten something is quarantined first ([`State::quarantine`]).
    ///
    /// # Errors
    /// [`OpenError`]: another process holds the ledger or its anchor, the database or the file
    /// failed, or nothing says how much was forgotten.
    pub async fn open(database: Database, opening: Opening) -> Result<Self, OpenError> {
        let (lease, session) = lease::take::open(&database, &opening).await?;
        let ledger = Self::start(database, opening.limits, lease, Some(session));
        let loaded = ledger.load_orders(START_WAIT).await;
        loaded.map_err(|error| DatabaseError::Unavailable(error.to_string()))?;
        if let Some(quarantine) = ledger.state().quarantine {
            let (until, reason) = (quarantine.until.0, quarantine.reason);
            tracing::error!(
                until_epoch = until,
                reason,
                "THE LEDGER IS QUARANTINED: attestations and blocks are refused until then"
            );
        }
        Ok(ledger)
    }

    fn start(
        database: Database,
        limits: LedgerLimits,
        lease: Arc<Lease>,
        session: Option<session::Session>,
    ) -> Self {
        let queue = Arc::new(Queue::new(limits));
        let (tasks_queue, tasks_lease) = (Arc::clone(&queue), Arc::clone(&lease));
        let worker = worker::Worker::new(database.clone(), tasks_queue, tasks_lease, limits);
        let running = tokio::spawn(worker.run(session));
        Self {
            reader: session::Reader::new(database.clone(), Arc::clone(&lease)),
            questions: Arc::new(Semaphore::new(limits.queue_max)),
            questions_of_blocks: Arc::new(Semaphore::new(limits.blocks_max())),
            _closes_queue: Arc::new(queue::Closes(Arc::clone(&queue))),
            queue,
            limits,
            lease,
            database,
            running: Arc::new(Mutex::new(Some(running))),
        }
    }

    /// A second worker under the same lease, with connections of its own.
    #[cfg(test)]
    pub(crate) fn twin(&self, database: Database) -> Self {
        Self::start(database, self.limits, Arc::clone(&self.lease), None)
    }

    /// The database that the ledger is in.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// What is true of the ledger as a whole, as this process knows it.
    #[must_use]
    pub fn state(&self) -> State {
        self.lease.state()
    }

    /// For whom nothing is to be signed, of whatever kind.
    #[must_use]
    pub fn frozen(&self) -> Arc<Frozen> {
        self.lease.frozen()
    }

    /// Takes up what an operator has ordered ([`crate::administration`]). When it returns, the
    /// orders that were committed before are in force, and the anchor counts them.
    ///
    /// # Errors
    /// [`Unavailable`] within `ledger_wait`.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        self.load_orders(self.limits.ledger_wait).await
    }

    async fn load_orders(&self, wait: Duration) -> Result<(), Unavailable> {
        let ordered = self.reader.orders(wait).await?;
        let taken_up = self.lease.take_up(ordered).await;
        taken_up.map_err(|error| Unavailable::Failed(error.to_string()))
    }

    /// Returns, with its name, when another cosigner has taken the ledger: this process decides
    /// nothing any more, and is best started anew.
    pub async fn lost(&self) -> String {
        loop {
            if let Some(name) = self.state().taken_by {
                return name;
            }
            sleep(LOST_LOOK_EVERY).await;
        }
    }

    /// Ends in an orderly way: nothing is decided any more, what is under way is, and the anchor
    /// says that this was no crash.
    pub async fn close(&self) {
        self.queue.close();
        let running = self.running.lock().take();
        if let Some(running) = running {
            // A worker that panicked has ended, too.
            let _ended = running.await;
            if let Err(error) = self.lease.end().await {
                tracing::warn!(%error, "the anchor can not be told of the orderly end");
            }
        }
    }

    /// Decides a claim. What waits while a batch is under way is the next batch, blocks first.
    ///
    /// # Errors
    /// [`Denial::Refused`] is final; [`Denial::Unavailable`] comes within `ledger_wait`, and the
    /// same claim may be asked again: if it was committed after all, that is a repeat.
    pub async fn decide(&self, ask: Ask) -> Result<Permit, Denial> {
        if let Some(barrier) = self.lease.barrier() {
            return Err(barrier.into());
        }
        let lane = match ask.claim {
            Claim::Propose { .. } => Lane::Blocks,
            Claim::Attest { .. } => Lane::Attestations,
        };
        let (reply, answer) = oneshot::channel();
        // Leaves the queue when this future ends, unless a batch has taken the ask by then.
        let _place = Queue::push(&self.queue, lane, ask, reply)?;
        match timeout(self.limits.ledger_wait, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Unavailable::Stopped.into()),
            Err(_) => Err(self.queue.why_late().into()),
        }
    }

    /// What the ledger holds about duties. A read: it waits for no decision, and permits nothing.
    ///
    /// # Errors
    /// [`Unavailable`] within `ledger_wait`.
    pub async fn foresee(
        &self,
        questions: Vec<Question>,
    ) -> Result<Vec<Result<Prospect, Refused>>, Unavailable> {
        if let Some(outage) = self.lease.barrier().or_else(|| self.queue.outage()) {
            return Err(outage);
        }
        let count = u32::try_from(questions.len()).map_err(|_| Unavailable::Busy)?;
        let is_block = |question: &Question| matches!(question.claim, Claim::Propose { .. });
        let room = if questions.iter().all(is_block) {
            &self.questions_of_blocks
        } else {
            &self.questions
        };
        let _room = room
            .try_acquire_many(count)
            .map_err(|_| Unavailable::Busy)?;
        let forbidden: Vec<_> = questions.iter().map(|q| self.lease.forbids(q)).collect();
        let foreseen = self
            .reader
            .foresee(questions, self.limits.ledger_wait)
            .await?;
        let merged = foreseen.into_iter().zip(forbidden);
        Ok(merged
            .map(|(prospect, forbidden)| forbidden.map_or(prospect, Err))
            .collect())
    }

    /// The highest of all ratchets: decided here, imported, or put there by an operator.
    ///
    /// # Errors
    /// [`Unavailable`] within `ledger_wait`.
    pub async fn highest(&self) -> Result<crate::anchor::Highest, Unavailable> {
        let ordered = self.reader.orders(self.limits.ledger_wait).await?;
        Ok(ordered.reach)
    }

    /// Whether the database answers and the ledger's task is connected to it.
    ///
    /// # Errors
    /// [`Unavailable`] within `ledger_wait`.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        self.foresee(Vec::new()).await.map(|_| ())
    }
}

/// What is known of a key's past when it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialHistory {
    /// The operator says that this key has never signed anything.
    NeverSigned,
    /// Nothing at or below this was signed by anyone but this ledger, or will be.
    Watermark {
        /// The highest source epoch.
        source: Epoch,
        /// The highest target epoch.
        target: Epoch,
        /// The highest slot.
        slot: Slot,
    },
}

impl InitialHistory {
    /// The ratchet of a key with this history; `existing` is never lowered.
    fn ratchet(&self, existing: rules::Ratchet) -> Result<rules::Ratchet, Conflict> {
        match *self {
            Self::NeverSigned => Ok(existing),
            Self::Watermark {
                source,
                target,
                slot,
            } => rules::Watermark::new(source, target, slot).map(|mark| existing.raised_to(&mark)),
        }
    }
}

/// Why a validator was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The watermark is none.
    #[error("the watermark is not possible: {0}")]
    Watermark(#[from] Conflict),
    /// The database failed; its transaction must not be committed.
    #[error("cannot register the validator: {0}")]
    Database(String),
}

#[cfg(test)]
mod tests;
