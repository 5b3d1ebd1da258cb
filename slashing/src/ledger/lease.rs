//! Who holds the ledger, and what this process knows of it: one cosigner at a time, and none that
//! takes an older state of the ledger for the whole of it.

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use duty::{Epoch, PublicKey, Slot};
use parking_lot::{Mutex, RwLock};

use super::{
    LedgerLimits, Question, Refused, Unavailable,
    batch::Rule,
    session::{Authority, Ordered, Renewal},
    standing::{Doubt, Orders, Standing},
};
use crate::anchor::{Anchor, AnchorError, Found, Highest, Holder, LedgerId, Mark, ServerMark};
use crate::{administration::Stop, database::Known, machine::Machine};
use steadiness::{Jump, Steadiness};

pub(super) mod quarantine;

pub(super) mod take;

mod retake;

pub(super) mod steadiness;

/// How often the holder says that it lives.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Where the chain's clock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The current epoch.
    pub epoch: Epoch,
    /// The current slot.
    pub slot: Slot,
}

/// Asks the clock; `None` if claims are not held against one.
pub type Time = Arc<dyn Fn() -> Option<Position> + Send + Sync>;

/// How a ledger is opened.
#[derive(Clone)]
pub struct Opening {
    /// Its bounds.
    pub limits: LedgerLimits,
    /// The anchor's file; made if it does not exist. Its directory must exist.
    pub anchor: PathBuf,
    /// The clock that claims are held against.
    pub time: Time,
    /// What the operator says of the database.
    pub origin: Origin,
}

/// What an operator says of the database that a ledger is opened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Nothing: the anchor tells.
    #[default]
    AsLeft,
    /// It was restored, from wherever: quarantine, whatever the anchor says.
    Restored,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("limits", &self.limits)
            .field("anchor", &self.anchor)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Validators for which nothing is signed, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frozen {
    /// All of them.
    pub all: bool,
    /// One by one.
    pub validators: HashSet<PublicKey>,
}

impl Frozen {
    /// Whether nothing is signed for this validator.
    #[must_use]
    pub fn holds(&self, validator: &PublicKey) -> bool {
        self.all || self.validators.contains(validator)
    }

    /// Whoever is frozen by either.
    fn and(mut self, other: &Self) -> Self {
        self.all |= other.all;
        self.validators.extend(&other.validators);
        self
    }
}

/// Slashable duties are refused until what may have been forgotten can not be contradicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// The epoch in which they are signed again.
    pub until: Epoch,
    /// Why.
    pub reason: String,
}

/// What is true of the ledger as a whole, as this process knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which ledger; a copy has the same.
    pub ledger_id: LedgerId,
    /// The number of its last commit: it rises with each, and leaps when the ledger is taken.
    pub commits: u64,
    /// Set while it lasts.
    pub quarantine: Option<Quarantine>,
    /// The heights at which signing stops.
    pub stop: Stop,
    /// For whom nothing is signed.
    pub frozen: Arc<Frozen>,
    /// Another cosigner has taken the ledger: this process decides nothing any more.
    pub taken_by: Option<String>,
    pub(super) orders: u64,
    /// What was ordered before the ledger was put back, until that is committed again: it holds
    /// besides whatever the ledger says.
    owed: Option<Owed>,
}

/// Orders that a ledger lacks which was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owed {
    stop: Stop,
    frozen: Arc<Frozen>,
}

/// Why a database's ledger is not the one that this process holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    /// It may be an older state of it.
    #[error("{0}")]
    Stale(Doubt),
    /// It is, and another holds it.
    #[error("another cosigner ({0}) has taken the ledger")]
    Taken(String),
}

/// This process's hold on the ledger.
pub(super) struct Lease {
    pub(super) holder: Holder,
    pub(super) name: String,
    time: Time,
    rule: Rule,
    machine: Machine,
    anchor: Arc<Mutex<Anchor>>,
    steadiness: Arc<Steadiness>,
    state: RwLock<State>,
    /// Commits known of, also by whoever gives orders over the same database.
    known: Known,
    /// The number of the last commit that was tried, whatever became of it.
    attempted: AtomicU64,
}

impl Lease {
    pub(super) fn state(&self) -> State {
        self.state.read().clone()
    }

    /// For one attempt to commit.
    pub(super) fn authority(&self) -> Authority {
        let known = self.known();
        self.attempted
            .fetch_max(self.known.tried().max(known), Ordering::Relaxed);
        let before = self.attempted.fetch_add(1, Ordering::Relaxed);
        Authority {
            holder: self.holder,
            rule: self.rule,
            number: before.saturating_add(1),
            known,
        }
    }

    pub(super) fn renewal(&self, quarantine_is_over: bool) -> Renewal {
        Renewal {
            holder: self.holder,
            quarantine_is_over,
            known: self.known(),
        }
    }

    /// The number of the last commit that is known of.
    fn known(&self) -> u64 {
        self.known.commits().max(self.state.read().commits)
    }

    pub(super) fn frozen(&self) -> Arc<Frozen> {
        Arc::clone(&self.state.read().frozen)
    }

    /// Looks whether the machine stood still; nothing may be decided then before the ledger was
    /// taken again.
    pub(super) fn jump(&self) -> Option<Jump> {
        self.steadiness.jump()
    }

    /// The ledger was taken again since this jump was seen.
    pub(super) fn settle(&self, jump: Jump) {
        self.steadiness.settle(jump);
    }

    /// Why nothing is decided at all now.
    pub(super) fn barrier(&self) -> Option<Unavailable> {
        let state = self.state.read();
        if let Some(name) = &state.taken_by {
            return Some(Unavailable::Taken(name.clone()));
        }
        if let Some(jump) = self.steadiness.unsettled() {
            return Some(Unavailable::ClockJumped(jump.by));
        }
        let quarantine = state.quarantine.as_ref()?;
        (!self.is_over(quarantine)).then_some(Unavailable::Quarantined(quarantine.until))
    }

    /// What an operator's orders say about a claim, as this process knows them. The transaction
    /// that decides looks again.
    pub(super) fn forbids(&self, question: &Question) -> Option<Refused> {
        let state = self.state.read();
        if state.frozen.holds(&question.validator) {
            return Some(Refused::Disabled);
        }
        state
            .stop
            .forbids(&question.claim)
            .then_some(Refused::Stopped)
    }

    /// Whether the clock has come to the quarantine's end.
    fn is_over(&self, quarantine: &Quarantine) -> bool {
        (self.time)().is_some_and(|now| now.epoch >= quarantine.until)
    }

    /// Ends a quarantine that is over. Returns whether one has ended.
    pub(super) fn end_quarantine(&self) -> bool {
        if self.steadiness.unsettled().is_some() {
            // By that clock nothing ends.
            return false;
        }
        let mut state = self.state.write();
        let over = state.quarantine.as_ref().is_some_and(|q| self.is_over(q));
        if over {
            state.quarantine = None;
        }
        over
    }

    /// Whether a database's ledger is the one that this process holds, with all that it has
    /// decided.
    pub(super) fn accept(&self, standing: &Standing) -> Result<(), Rejection> {
        let state = self.state.read();
        if standing.ledger_id != state.ledger_id {
            return Err(Rejection::Stale(Doubt::AnotherLedger));
        }
        let known = state.commits.max(self.known.commits());
        if standing.commits < known {
            return Err(Rejection::Stale(Doubt::Behind {
                ledger: standing.commits,
                anchor: known,
            }));
        }
        match standing.holder == Some(self.holder) {
            true => Ok(()),
            false => Err(Rejection::Taken(standing.holder_name.clone())),
        }
    }

    /// Notes that another cosigner holds the ledger: for good, as it may have decided anything.
    pub(super) fn lose(&self, to: String) {
        self.state.write().taken_by = Some(to);
    }

    /// Counts what was ordered, and how high the ledger has come by imports, in the anchor, and takes
    /// the orders up.
    pub(super) async fn take_up(&self, ordered: Ordered) -> Result<(), AnchorError> {
        let reach = ordered.reach.within((self.time)());
        self.count(ordered.commits, None, reach).await?;
        self.note_orders(&ordered.orders, ordered.frozen);
        Ok(())
    }

    /// Takes up orders, unless newer ones are known.
    fn note_orders(&self, orders: &Orders, frozen: Frozen) {
        let mut state = self.state.write();
        if orders.number >= state.orders {
            state.orders = orders.number;
            (state.stop, state.frozen) = match &state.owed {
                Some(owed) => (
                    orders.stop.lower(owed.stop),
                    Arc::new(frozen.and(&owed.frozen)),
                ),
                None => (orders.stop, Arc::new(frozen)),
            };
        }
    }

    /// Whether the known orders are older.
    pub(super) fn is_outdated(&self, orders: &Orders) -> bool {
        orders.number > self.state.read().orders
    }

    /// Counts a commit in the anchor, and returns when that is on disk. Only then may what the
    /// commit decided be given away.
    pub(super) async fn count(
        &self,
        commits: u64,
        lsn: Option<u64>,
        reach: Highest,
    ) -> Result<(), AnchorError> {
        let counter = self.counter();
        let written = self
            .machine
            .write(move || counter.count(commits, lsn, reach));
        written.await?;
        self.counted(commits);
        Ok(())
    }

    /// For a thread that may be held, and has the commit at hand: [`Self::count`] is this, and
    /// then [`Self::counted`].
    pub(super) fn counter(&self) -> Counter {
        Counter {
            anchor: Arc::clone(&self.anchor),
            steadiness: Arc::clone(&self.steadiness),
            ledger_id: self.state.read().ledger_id,
            holder: self.holder,
        }
    }

    /// Notes that the anchor counts so many commits.
    pub(super) fn counted(&self, commits: u64) {
        self.known.at_least(commits);
        let mut state = self.state.write();
        state.commits = state.commits.max(commits);
    }

    /// Notes where the server's log stands, after a connection was made.
    pub(super) async fn connected(&self, server: Option<ServerMark>) -> Result<(), AnchorError> {
        self.write_anchor(move |mark| mark.server = server).await
    }

    /// Says in the anchor that the process ends in an orderly way; not if the machine stood still
    /// and nothing was done about it, so that the next start does.
    pub(super) async fn end(&self) -> Result<(), AnchorError> {
        let steadiness = Arc::clone(&self.steadiness);
        self.write_anchor(move |mark| mark.ended = steadiness.jump().is_none())
            .await
    }

    async fn write_anchor(
        &self,
        change: impl FnOnce(&mut Mark) + Send + 'static,
    ) -> Result<(), AnchorError> {
        let counter = self.counter();
        self.machine.write(move || counter.write(change)).await
    }
}

/// The anchor, as the holder of a ledger writes it.
pub(super) struct Counter {
    anchor: Arc<Mutex<Anchor>>,
    steadiness: Arc<Steadiness>,
    ledger_id: LedgerId,
    holder: Holder,
}

impl Counter {
    /// Counts a commit, and returns when that is on disk.
    pub(super) fn count(
        self,
        commits: u64,
        lsn: Option<u64>,
        reach: Highest,
    ) -> Result<(), AnchorError> {
        self.write(move |mark| {
            mark.commits = mark.commits.max(commits);
            mark.highest = mark.highest.max(reach);
            if let (Some(server), Some(lsn)) = (&mut mark.server, lsn) {
                server.lsn = lsn;
            }
        })
    }

    fn write(self, change: impl FnOnce(&mut Mark)) -> Result<(), AnchorError> {
        let mut anchor = self.anchor.lock();
        let mut mark = match anchor.found() {
            Found::Mark(mark) => mark.clone(),
            // It was written when the lease was taken.
            Found::Nothing | Found::Damaged => anchor.mark(self.ledger_id, self.holder, 0),
        };
        mark.alive_at_s = self.steadiness.now_s();
        change(&mut mark);
        anchor.write(mark)
    }
}
