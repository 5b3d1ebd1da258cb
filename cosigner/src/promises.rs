//! The ballots of the agreement (agreement, The protocol): which caller may ask this cosigner to
//! sign which duty.
//!
//! Pure: time is an argument. Promises carry liveness, never safety: they are not persisted.
//! What keeps racing callers from spoiling a duty:
//!
//! - a duty is signed only under exactly the ballot that is held, at most [`SIGN_WITHIN`] after it
//!   was promised;
//! - from that check until the ledger's outcome is known, promises for the duty wait;
//! - a held ballot is a floor. It goes when the ratchet has retired the duty, or when the clock
//!   has and nobody could still act on it; when the table is full, new promises are refused;
//! - nothing is promised in the first [`START_PAUSE`]: what a restart forgot is void by then;
//! - who leads needs no promise for a duty above its horizon of which nobody else holds one;
//! - a ballot beyond [`ROUND_FAR`] is one that no honest caller began. It is held like any other,
//!   but void after [`START_PAUSE`], so that the last number there is does not hold a duty for ever.
//!
//! **Invariant:** in no order of events can honest coordinators leave a duty that nobody can sign;
//! kept by `tests::no_interleaving_leaves_a_duty_stuck`.

mod book;
mod leading;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use duty::{Claim, Epoch, PublicKey, Slot};
use threshold::{
    Ballot,
    round::{Horizon, LEAD_WINDOW, SIGN_WINDOW},
};

pub use book::{Fence, PromiseBook};
use leading::Leader;
pub use leading::SILENCE_MAX;

/// How long after a promise a cosigner signs under it.
pub const SIGN_WITHIN: Duration = Duration::from_secs(1);

/// How long a cosigner promises nothing after its start. A coordinator sends no sign request later
/// than [`SIGN_WITHIN`] after it began its ballot; the rest is for messages on their way.
pub const START_PAUSE: Duration = Duration::from_secs(2);

// Who is led after a restart has forgotten promises whose ballots are over, and not begun together with one
// that was led before these were promised.
const _: () = assert!(
    START_PAUSE.as_millis() > SIGN_WINDOW.as_millis() + LEAD_WINDOW.as_millis()
        && SIGN_WITHIN.as_millis() == SIGN_WINDOW.as_millis()
);

/// Honest rounds rise one by one, after pauses: nobody gets here within the life of a duty.
pub const ROUND_FAR: u64 = 1_000_000;

/// What can be signed once: a target epoch's vote, or a slot's block, of one validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DutyId {
    validator: PublicKey,
    contest: Contest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Contest {
    Attest(Epoch),
    Propose(Slot),
}

impl DutyId {
    /// The duty that a claim of a validator belongs to.
    #[must_use]
    pub const fn new(validator: PublicKey, claim: &Claim) -> Self {
        let contest = match *claim {
            Claim::Attest { target, .. } => Contest::Attest(target),
            Claim::Propose { slot } => Contest::Propose(slot),
        };
        Self { validator, contest }
    }

    /// A claim on this duty, with the lowest source.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        match self.contest {
            Contest::Attest(target) => Claim::Attest {
                source: Epoch(0),
                target,
            },
            Contest::Propose(slot) => Claim::Propose { slot },
        }
    }

    /// A number that spreads duties: keys are as good as random, and which there are is not up to
    /// whoever asks.
    fn spread(&self) -> u64 {
        let number = match self.contest {
            Contest::Attest(Epoch(number)) | Contest::Propose(Slot(number)) => number,
        };
        let tail = self.validator.0.last_chunk::<8>();
        tail.map_or(0, |tail| u64::from_le_bytes(*tail)) ^ number
    }

    /// The validator's first duty of the same kind.
    const fn first(&self) -> Self {
        let contest = match self.contest {
            Contest::Attest(_) => Contest::Attest(Epoch(0)),
            Contest::Propose(_) => Contest::Propose(Slot(0)),
        };
        Self {
            validator: self.validator,
            contest,
        }
    }
}

/// The answer to a promise request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromiseAnswer {
    /// The ballot is held now.
    Held,
    /// This higher ballot is held.
    Outbid(Ballot),
    /// The duty is being signed; ask again when the ledger's outcome is known.
    Fenced,
    /// There is no room, and nothing is evicted.
    Full,
    /// The start pause is not over.
    Starting,
}

/// The answer to a sign request. After [`SignAnswer::Begun`], [`Promises::end_sign`] must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignAnswer {
    /// Exactly this ballot is held; promises for the duty wait from now on.
    Begun,
    /// This higher ballot is held.
    Outbid(Ballot),
    /// No promise to this ballot is held; or, for who leads, another one, or there is no room.
    NotPromised,
    /// The promise is older than [`SIGN_WITHIN`].
    TooLate,
    /// The caller does not lead, or not in duties as low as this one.
    NotLed,
}

/// The promises of one cosigner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Promises {
    started: Instant,
    promises_max: usize,
    floors: BTreeMap<DutyId, Floor>,
    /// How high the duties go that were ever held here.
    reach: Horizon,
    leader: Option<Leader>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Floor {
    ballot: Ballot,
    promised_at: Instant,
    /// Sign requests whose outcome in the ledger is not known yet.
    under_way: usize,
    /// It was not promised: who leads signs under it. Every promise is higher.
    led: bool,
    /// The ratchet has passed this duty, so the floor goes when nothing is under way.
    retired: bool,
}

impl Floor {
    /// Whether a lower ballot may be held instead. Nobody can act on a promise that is as old as
    /// the start pause, for the same reason as after a restart.
    fn is_void(&self, now: Instant) -> bool {
        self.ballot.round > ROUND_FAR
            && now.saturating_duration_since(self.promised_at) >= START_PAUSE
    }
}

impl Promises {
    /// No promises yet, at most `promises_max` at any time, of a process that `started` then.
    #[must_use]
    pub const fn new(started: Instant, promises_max: usize) -> Self {
        Self {
            started,
            promises_max,
            floors: BTreeMap::new(),
            reach: Horizon {
                target: Epoch(0),
                slot: Slot(0),
            },
            leader: None,
        }
    }

    /// Promises a duty to a ballot, if it is at least what is held.
    pub fn promise(&mut self, duty: DutyId, ballot: Ballot, now: Instant) -> PromiseAnswer {
        if self.is_starting(now) {
            return PromiseAnswer::Starting;
        }
        if let Some(floor) = self.floors.get_mut(&duty) {
            if floor.under_way > 0 {
                return PromiseAnswer::Fenced;
            }
            if ballot < floor.ballot && !floor.led && !floor.is_void(now) {
                return PromiseAnswer::Outbid(floor.ballot);
            }
            floor.ballot = ballot;
            floor.promised_at = now;
            floor.led = false;
            return PromiseAnswer::Held;
        }
        match self.hold(duty, ballot, now) {
            Some(_) => PromiseAnswer::Held,
            None => PromiseAnswer::Full,
        }
    }

    /// Holds a duty of which nothing is held; `None` if there is no room.
    fn hold(&mut self, duty: DutyId, ballot: Ballot, now: Instant) -> Option<&mut Floor> {
        if self.floors.len() >= self.promises_max {
            return None;
        }
        self.reach = self.reach.with(&duty.claim());
        let floor = Floor {
            ballot,
            promised_at: now,
            under_way: 0,
            led: false,
            retired: false,
        };
        Some(self.floors.entry(duty).or_insert(floor))
    }

    /// Lets a duty be signed under exactly the ballot that is held.
    pub fn begin_sign(&mut self, duty: DutyId, ballot: Ballot, now: Instant) -> SignAnswer {
        let Some(floor) = self.floors.get_mut(&duty) else {
            return SignAnswer::NotPromised;
        };
        if floor.led {
            return SignAnswer::NotPromised;
        }
        if ballot < floor.ballot {
            return SignAnswer::Outbid(floor.ballot);
        }
        if ballot > floor.ballot {
            return SignAnswer::NotPromised;
        }
        if now.saturating_duration_since(floor.promised_at) > SIGN_WITHIN {
            return SignAnswer::TooLate;
        }
        floor.under_way = floor.under_way.saturating_add(1);
        SignAnswer::Begun
    }

    /// The ledger's outcome for a sign request that began is known.
    pub fn end_sign(&mut self, duty: DutyId) {
        let Some(floor) = self.floors.get_mut(&duty) else {
            return;
        };
        floor.under_way = floor.under_way.saturating_sub(1);
        if floor.under_way == 0 && floor.retired {
            self.floors.remove(&duty);
        }
    }

    /// The ratchet stands at this duty or beyond: it and all before it can change no more. What
    /// was signed for it is in the ledger, which every promise asks.
    pub fn retire(&mut self, duty: DutyId) {
        let mut gone = Vec::new();
        for (passed, floor) in self.floors.range_mut(duty.first()..=duty) {
            floor.retired = true;
            if floor.under_way == 0 {
                gone.push(*passed);
            }
        }
        for passed in gone {
            self.floors.remove(&passed);
        }
    }

    /// Forgets the duties that the clock has retired. Only those whose last promise is at least
    /// `settled_after` old, at least [`START_PAUSE`]: by then nobody can act on it, for the same
    /// reason as after a restart.
    pub fn forget_past(
        &mut self,
        now: Instant,
        settled_after: Duration,
        is_past: impl Fn(&DutyId) -> bool,
    ) {
        let settled_after = settled_after.max(START_PAUSE);
        let mut forgotten = Horizon::default();
        self.floors.retain(|duty, floor| {
            let stays = floor.under_way > 0
                || now.saturating_duration_since(floor.promised_at) < settled_after
                || !is_past(duty);
            if !stays {
                forgotten = forgotten.with(&duty.claim());
            }
            stays
        });
        self.touched(forgotten);
    }

    /// Whether the start pause is not over.
    #[must_use]
    pub fn is_starting(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) < START_PAUSE
    }

    /// How many promises are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.floors.len()
    }

    /// Whether no promise is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floors.is_empty()
    }
}

#[cfg(test)]
mod tests;
