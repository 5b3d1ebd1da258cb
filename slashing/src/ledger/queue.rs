//! What waits to be decided: bounded, blocks first, left by whoever gives up.
//!
//! An ask that no batch has taken was not decided: when its asker goes, its fence goes with it. An
//! ask that a batch has taken belongs to the worker until its outcome is known.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use duty::Permit;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Duration, Instant, sleep_until},
};

use super::{Ask, Denial, LedgerLimits, Unavailable};

/// How long an ask whose row was locked stays out of the batches, so that they do not spin on it.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// A caller's batch, at most: one of blocks always has room.
const BATCH_OF_BLOCKS_MAX: usize = 128;

/// What goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Blocks,
    Attestations,
}

impl LedgerLimits {
    /// How many may wait for one of a lane to be let in: when attestations have filled the queue,
    /// there is room for blocks.
    fn room(&self, lane: Lane) -> usize {
        match lane {
            Lane::Blocks => self.queue_max.saturating_add(self.blocks_max()),
            Lane::Attestations => self.queue_max,
        }
    }

    /// What is kept for blocks besides `queue_max`.
    pub(super) fn blocks_max(&self) -> usize {
        (self.queue_max / 16).max(BATCH_OF_BLOCKS_MAX)
    }
}

/// A place in the queue: lanes in order, and first come, first served within each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Lane, u64);

pub(super) type Reply = oneshot::Sender<Result<Permit, Denial>>;

/// An ask on its way to an outcome.
pub(super) struct Entry {
    place: Place,
    pub(super) ask: Ask,
    reply: Reply,
    /// Not to be taken before: its row was locked.
    not_before: Option<Instant>,
    /// To be decided in a batch of its own: a batch with it was rejected.
    pub(super) alone: bool,
}

impl Entry {
    /// Whether nobody waits for the outcome any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Ends the ask with a **known** outcome: releases the fence, then answers.
    pub(super) fn end(self, outcome: Result<Permit, Denial>) {
        drop(self.ask);
        // An asker that gave up wants no answer; a permit that nobody takes signs nothing.
        let _unheard = self.reply.send(outcome);
    }
}

/// The queue between the askers and the worker.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    limits: LedgerLimits,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Place, Entry>,
    /// Asks whose commit may or may not have happened; the worker holds them.
    doubtful: usize,
    next: u64,
    outage: Option<Outage>,
    closed: bool,
}

struct Outage {
    since: Instant,
    reason: String,
}

impl Queue {
    pub(super) fn new(limits: LedgerLimits) -> Self {
        Self {
            state: Mutex::new(State::default()),
            wake: Notify::new(),
            limits,
        }
    }

    /// Queues an ask until the returned guard is dropped or a batch takes it.
    pub(super) fn push(
        queue: &Arc<Self>,
        lane: Lane,
        ask: Ask,
        reply: Reply,
    ) -> Result<Leaves, Unavailable> {
        let place = {
            let mut state = queue.state.lock();
            if state.closed {
                return Err(Unavailable::Stopped);
            }
            if let Some(outage) = state.outage(queue.limits.ledger_wait) {
                return Err(outage);
            }
            if state.waiting.len() + state.doubtful >= queue.limits.room(lane) {
                return Err(Unavailable::Busy);
            }
            let place = Place(lane, state.next);
            state.next += 1;
            let entry = Entry {
                place,
                ask,
                reply,
                not_before: None,
                alone: false,
            };
            state.waiting.insert(place, entry);
            place
        };
        queue.wake.notify_one();
        Ok(Leaves {
            queue: Arc::clone(queue),
            place,
        })
    }

    /// Returns when there is something to take, or at the latest at `deadline`.
    pub(super) async fn work(&self, deadline: Option<Instant>) {
        loop {
            let due = {
                let state = self.state.lock();
                if state.closed {
                    return;
                }
                let due = state.waiting.values().map(|entry| entry.not_before).min();
                match due {
                    Some(None) => return,
                    Some(Some(time)) => Some(deadline.map_or(time, |deadline| deadline.min(time))),
                    None => deadline,
                }
            };
            let pause = async {
                match due {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = pause => return,
            }
        }
    }

    /// The next batch: at most one ask per validator, blocks first; one that must be alone, alone.
    pub(super) fn take(&self) -> Vec<Entry> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut validators = HashSet::new();
        let mut places = Vec::new();
        for (place, entry) in &state.waiting {
            if places.len() >= self.limits.batch_max.max(1) {
                break;
            }
            if entry.not_before.is_some_and(|time| time > now) {
                continue;
            }
            if entry.alone {
                if places.is_empty() {
                    places.push(*place);
                    break;
                }
                continue;
            }
            if validators.insert(entry.ask.validator) {
                places.push(*place);
            }
        }
        places
            .iter()
            .filter_map(|place| state.waiting.remove(place))
            .collect()
    }

    /// Puts an ask back whose outcome is known: it was not decided. Its row was locked.
    pub(super) fn put_back_locked(&self, mut entry: Entry) {
        entry.not_before = Some(Instant::now() + LOCKED_PAUSE);
        self.put_back(entry);
    }

    /// Puts an ask back that may be decided at once, and is not in doubt.
    pub(super) fn put_back(&self, entry: Entry) {
        let mut state = self.state.lock();
        // Under the lock: an asker that gives up from now on finds its ask in its place.
        if entry.is_abandoned() {
            drop(state);
            drop(entry);
            return;
        }
        state.waiting.insert(entry.place, entry);
    }

    /// Tells how many asks are in doubt: they count as waiting.
    pub(super) fn set_doubtful(&self, count: usize) {
        self.state.lock().doubtful = count;
    }

    /// Notes that the database cannot be reached.
    pub(super) fn begin_outage(&self, reason: String) {
        let mut state = self.state.lock();
        let since = state
            .outage
            .as_ref()
            .map_or_else(Instant::now, |outage| outage.since);
        state.outage = Some(Outage { since, reason });
    }

    /// Notes that the database is there.
    pub(super) fn end_outage(&self) {
        self.state.lock().outage = None;
    }

    /// Why to fail at once: an outage that has lasted longer than anyone waits.
    pub(super) fn outage(&self) -> Option<Unavailable> {
        self.state.lock().outage(self.limits.ledger_wait)
    }

    /// Why nothing was decided in time.
    pub(super) fn why_late(&self) -> Unavailable {
        self.state
            .lock()
            .outage(Duration::ZERO)
            .unwrap_or(Unavailable::Slow(self.limits.ledger_wait))
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Whether nobody is left to ask.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl State {
    fn outage(&self, longer_than: Duration) -> Option<Unavailable> {
        self.outage
            .as_ref()
            .filter(|outage| outage.since.elapsed() >= longer_than)
            .map(|outage| Unavailable::Unreachable(outage.reason.clone()))
    }
}

/// Takes an ask out of the queue when its asker goes, if it still waits there.
pub(super) struct Leaves {
    queue: Arc<Queue>,
    place: Place,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        // The entry is dropped after the lock: its fence is not ours to run under it.
        let _left = self.queue.state.lock().waiting.remove(&self.place);
    }
}

/// Closes the queue when the last handle of the ledger goes.
pub(super) struct Closes(pub(super) Arc<Queue>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}
