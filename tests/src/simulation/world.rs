//! Who is there, what they are connected by, and what goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use duty::{PublicKey, SigningRoot};
use parking_lot::Mutex;
use signer_api::seams::Conductor;
use slashing::{
    Question,
    ledger::InitialHistory,
    simulation::{MemoryStore, Snapshot},
};
use threshold::{Signature, round::Peer};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{
    Counts,
    chance::Chance,
    curve::Remembered,
    life::Life,
    member::Endpoint,
    network::Way,
    plan::{EPOCH, Fault, Lie, Plan, SLOTS_PER_EPOCH, Tempo},
    witness::Witness,
};

/// When the simulated chain began, in seconds since 1970.
pub(super) const GENESIS_S: u64 = 1_500_000_000;
pub(super) const SLOT: Duration = Duration::from_secs(12);
/// By how far clocks can be behind without being before the start.
pub(super) const CLOCKS: i64 = 100_000_000;

/// Where a message comes from, or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Api(usize),
    Member(usize),
}

/// One cosigner: its disk, and the process on it, if one runs.
pub(super) struct Seat {
    pub(super) store: MemoryStore,
    pub(super) life: Arc<Life>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) calls: Vec<AbortHandle>,
    /// By how many milliseconds its clock is off.
    pub(super) clock_off_ms: i64,
    pub(super) snapshots: Vec<Snapshot>,
    /// An import is not confirmed yet.
    pub(super) importing: bool,
}

/// One signer-api.
pub(super) struct Api {
    pub(super) life: Arc<Life>,
    pub(super) conductor: Option<Arc<Conductor>>,
    pub(super) arithmetic: Arc<Remembered>,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) chance: Chance,
    pub(super) witness: Mutex<Witness>,
    pub(super) counts: Mutex<Counts>,
    pub(super) seats: Vec<Mutex<Seat>>,
    pub(super) apis: Vec<Mutex<Api>>,
    pub(super) closed: Mutex<BTreeSet<(Node, Node)>>,
    pub(super) answered: Mutex<BTreeMap<(PublicKey, SigningRoot), Signature>>,
    healed: AtomicBool,
    /// Nobody lacks room for promises.
    roomy: AtomicBool,
    began: Instant,
}

impl World {
    pub(super) fn new(seed: u64, tells: bool) -> Arc<Self> {
        let chance = Chance::new(seed);
        let plan = Plan::new(&chance);
        let keys: Vec<PublicKey> = plan.families.iter().map(|family| family.key()).collect();
        let seat = |_| {
            let store = MemoryStore::new(keys.iter().copied(), InitialHistory::NeverSigned);
            Mutex::new(Seat {
                store,
                life: Arc::default(),
                endpoint: None,
                calls: Vec::new(),
                clock_off_ms: 0,
                snapshots: Vec::new(),
                importing: false,
            })
        };
        let api = |_| {
            Mutex::new(Api {
                life: Arc::default(),
                conductor: None,
                arithmetic: Arc::default(),
            })
        };
        let mut witness = Witness::new(plan.t, plan.tolerated(), tells);
        plan.liars.keys().for_each(|liar| witness.faulty(*liar));
        witness.note("plan", 0, || {
            format!(
                "{}-of-{}, {} signer-apis, faults {:?}, liars {:?}",
                plan.t, plan.n, plan.apis, plan.faults, plan.liars
            )
        });
        Arc::new(Self {
            seats: (0..plan.n).map(seat).collect(),
            apis: (0..plan.apis).map(api).collect(),
            closed: Mutex::default(),
            answered: Mutex::default(),
            healed: AtomicBool::new(false),
            roomy: AtomicBool::new(!plan.has(Fault::FewPromises)),
            began: Instant::now(),
            witness: Mutex::new(witness),
            counts: Mutex::default(),
            plan,
            chance,
        })
    }

    // What goes wrong.

    /// Whether this kind of fault may happen now.
    pub(super) fn may(&self, fault: Fault) -> bool {
        self.plan.has(fault) && !self.healed.load(Ordering::Relaxed)
    }

    /// Whether it happens now.
    pub(super) fn happens(&self, fault: Fault, percent: u64) -> bool {
        self.may(fault) && self.chance.percent(percent)
    }

    /// From now on nothing goes wrong any more, and clocks are right.
    pub(super) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        self.closed.lock().clear();
        for seat in &self.seats {
            seat.lock().clock_off_ms = 0;
        }
        self.note("heals", 0);
    }

    /// Promises that were given and never used keep their places for some minutes. Members that had
    /// few places have many now and then, as after a change of their configuration.
    pub(super) fn make_room(self: &Arc<Self>) {
        if self.plan.has(Fault::FewPromises) && self.chance.percent(50) {
            (0..self.plan.n).for_each(|member| self.restart(member));
            self.roomy.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nobody need be refused a promise for want of room.
    pub(super) fn has_room(&self) -> bool {
        self.roomy.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, what: &str, who: usize) {
        self.witness.lock().note(what, who, String::new);
    }

    /// The time that a message takes, and whether it arrives.
    pub(super) async fn travel(&self, from: Node, to: Node, signs: bool) -> bool {
        let closed = || self.closed.lock().contains(&(from, to));
        let lost = closed() || self.happens(Fault::Losses, 6);
        let (least, most) = match (self.may(Fault::Delays), self.plan.tempo) {
            (false, _) => (0, 2),
            (true, Tempo::Crowd) if self.plan.long_ways.is_empty() => {
                match self.chance.percent(50) {
                    true => (20, 250),
                    false => (0, 5),
                }
            }
            (true, Tempo::Restarts | Tempo::Crowd) => match (from, to) {
                (Node::Api(api), Node::Member(member))
                    if self.plan.long_ways.contains(&(api, member, signs)) =>
                {
                    (20, 250)
                }
                (Node::Api(_) | Node::Member(_), _) => (0, 4),
            },
            (true, _) if self.chance.percent(15) => (0, 1_200),
            (true, _) => (0, 12),
        };
        sleep(self.chance.ms(least, most)).await;
        !lost && !closed()
    }

    // Clocks.

    /// The time since 1970 by a member's clock.
    pub(super) fn clock(&self, member: usize) -> Duration {
        let right = GENESIS_S + EPOCH * SLOTS_PER_EPOCH * SLOT.as_secs() + 5;
        let off = self.clock_ahead(member);
        let far = Duration::from_millis(u64::try_from(CLOCKS).unwrap());
        Duration::from_secs(right) + self.began.elapsed() + off - far
    }

    /// How far a member's clock is ahead of the time that has passed, and a constant.
    pub(super) fn clock_ahead(&self, member: usize) -> Duration {
        let off = self.seats[member].lock().clock_off_ms + CLOCKS;
        Duration::from_millis(u64::try_from(off).unwrap())
    }

    // Members.

    /// Tells the witness what a member has committed.
    pub(super) fn collect(&self, member: usize) {
        let receipts = self.seats[member].lock().store.take_receipts();
        let mut witness = self.witness.lock();
        for (validator, root) in receipts {
            witness.committed(member, validator, root);
        }
    }

    pub(super) fn is_liar(&self, member: usize) -> bool {
        self.plan.liars.contains_key(&member)
    }

    /// Whether an honest member would sign this now, if it were asked in the proper way.
    pub(super) fn would_sign(&self, member: usize, question: &Question) -> bool {
        let now = self.clock(member);
        let seat = self.seats[member].lock();
        let Some(Endpoint::Honest { clock, ledger, .. }) = &seat.endpoint else {
            return false;
        };
        ledger.state().quarantine.is_none()
            && clock.check(&question.claim, now).is_ok()
            && seat.store.would_permit(question)
    }

    /// Ends a member's process where it is.
    pub(super) fn end_member(&self, member: usize) {
        self.note("ends", member);
        self.counts.lock().ends += 1;
        self.replace_life(member, None);
    }

    /// What runs in a member's place ends; what is about to run there, if anything, is another life.
    pub(super) fn replace_life(&self, member: usize, next: Option<&Arc<Life>>) {
        let mut seat = self.seats[member].lock();
        seat.life.end();
        if let Some(next) = next {
            seat.life = Arc::clone(next);
        }
        seat.calls.drain(..).for_each(|call| call.abort());
        // Its last handle of the service must not be dropped under the lock.
        let gone = seat.endpoint.take();
        drop(seat);
        drop(gone);
    }

    // signer-apis.

    /// Starts a signer-api.
    pub(super) fn start_api(self: &Arc<Self>, number: usize) {
        self.note("starts an api", number);
        let life = Arc::new(Life::default());
        let way = |member| Way::to(self, number, &life, member);
        let networks = (0..self.plan.n).map(|member| (format!("cosigner-{member}"), way(member)));
        let committees = self.plan.families.iter().map(|family| {
            let members = (0..self.plan.n)
                .map(|member| (Peer(member), family.indices[self.claimed_place(member)]));
            (family.committee.clone(), members.collect())
        });
        let chance = Chance::new(self.chance.next());
        let arithmetic = Arc::new(Remembered::default());
        let conductor = Conductor::new(
            networks.collect(),
            committees.collect(),
            Arc::clone(&arithmetic) as _,
            Box::new(move || chance.fraction()),
        );
        let leads = match self.plan.tempo {
            Tempo::Led => number == 0,
            _ => self.chance.percent(60),
        };
        if leads {
            conductor.lead();
        }
        *self.apis[number].lock() = Api {
            life,
            conductor: Some(Arc::new(conductor)),
            arithmetic,
        };
    }

    /// Whose index a member says that it has.
    pub(super) fn claimed_place(&self, member: usize) -> usize {
        match self.plan.liars.get(&member) {
            Some(Lie::AnotherMember) => (member + 1) % self.plan.n,
            Some(_) | None => member,
        }
    }

    pub(super) fn end_api(&self, number: usize) {
        self.note("ends an api", number);
        let mut api = self.apis[number].lock();
        api.life.end();
        let gone = api.conductor.take();
        drop(api);
        drop(gone);
    }
}
