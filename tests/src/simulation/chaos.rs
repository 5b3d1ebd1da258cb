//! What goes wrong in the meantime.

use std::{sync::Arc, time::Duration};

use duty::Claim;
use slashing::simulation::Whole;
use tokio::time::{Instant, sleep};

use super::{
    member::Endpoint,
    plan::{EPOCH, Fault, Tempo},
    world::{Node, World},
};

/// What happens to somebody, of its own.
const EVENTS: [Fault; 9] = [
    Fault::Partitions,
    Fault::CosignersCrash,
    Fault::ApisCrash,
    Fault::Freezes,
    Fault::Skew,
    Fault::Jumps,
    Fault::Restores,
    Fault::Rollbacks,
    Fault::Imports,
];

/// By how much a clock is off that is still in its epoch.
const SECONDS_OFF_MS: u64 = 3_000;

impl World {
    /// Lets things go wrong, until it is over.
    pub(super) async fn chaos(self: &Arc<Self>) {
        let end = Instant::now() + self.plan.chaos;
        let mut events = EVENTS.into_iter().filter(|event| self.may(*event));
        let events: Vec<Fault> = events.by_ref().collect();
        while Instant::now() < end && !self.witness.lock().is_broken() {
            let most = match self.plan.tempo {
                Tempo::Mixed => 250,
                Tempo::Race | Tempo::Crowd => 40,
                Tempo::Restarts | Tempo::PutBack => 100,
                Tempo::Led => 800,
            };
            sleep(self.chance.ms(1, most)).await;
            self.take_snapshot();
            if !events.is_empty() {
                self.strike(self.chance.pick(&events));
            }
        }
    }

    fn take_snapshot(&self) {
        let member = self.chance.index(self.plan.n);
        self.collect(member);
        let mut seat = self.seats[member].lock();
        let snapshot = seat.store.snapshot();
        seat.snapshots.push(snapshot);
    }

    fn strike(self: &Arc<Self>, fault: Fault) {
        let member = self.chance.index(self.plan.n);
        let api = self.chance.index(self.plan.apis);
        match fault {
            Fault::Partitions => self.partition(Node::Api(api), Node::Member(member)),
            Fault::CosignersCrash => self.restart(member),
            Fault::ApisCrash => {
                self.end_api(api);
                let (world, pause) = (Arc::clone(self), self.chance.ms(0, 500));
                tokio::spawn(async move {
                    sleep(pause).await;
                    world.start_api(api);
                });
            }
            Fault::Freezes => {
                let lasting = self.chance.ms(50, 1_200);
                self.note("freezes", member);
                match self.chance.percent(75) {
                    true => self.seats[member].lock().life.freeze(lasting),
                    false => self.apis[api].lock().life.freeze(lasting),
                }
            }
            Fault::Skew => self.set_clock(member, SECONDS_OFF_MS),
            Fault::Jumps => self.set_clock(member, 2_000_000),
            Fault::Restores if !self.is_liar(member) => {
                self.put_back(member, Whole::Database);
                // Whoever has started promises nothing at first, and forgets what it promised.
                let restarts = match self.plan.tempo {
                    Tempo::PutBack => 25,
                    Tempo::Mixed | Tempo::Race | Tempo::Restarts | Tempo::Crowd | Tempo::Led => 75,
                };
                if self.chance.percent(restarts) {
                    self.restart(member);
                }
            }
            Fault::Rollbacks if self.may_roll_back(member) => {
                self.end_member(member);
                self.put_back(member, Whole::DatabaseAndAnchor);
                tokio::spawn(Arc::clone(self).start_member(member, self.chance.ms(0, 500)));
            }
            Fault::Imports if !self.is_liar(member) => self.import(member),
            Fault::Restores
            | Fault::Rollbacks
            | Fault::Imports
            | Fault::Delays
            | Fault::Losses
            | Fault::Duplicates
            | Fault::Cancellations
            | Fault::LedgersFail
            | Fault::Ambiguity
            | Fault::FewPromises
            | Fault::Liars => {}
        }
    }

    pub(super) fn restart(self: &Arc<Self>, member: usize) {
        self.end_member(member);
        let most = match self.plan.tempo {
            Tempo::Mixed => 1_500,
            Tempo::Race | Tempo::Crowd | Tempo::PutBack | Tempo::Led => 30,
            Tempo::Restarts => 4,
        };
        tokio::spawn(Arc::clone(self).start_member(member, self.chance.ms(0, most)));
    }

    /// Closes a way in one direction or both, or opens all.
    fn partition(&self, api: Node, member: Node) {
        let mut closed = self.closed.lock();
        match self.chance.below(4) {
            0 => {
                closed.insert((api, member));
            }
            1 => {
                closed.insert((member, api));
            }
            2 => {
                closed.extend([(api, member), (member, api)]);
            }
            _ => closed.clear(),
        }
    }

    fn set_clock(&self, member: usize, most_ms: u64) {
        let off = i64::try_from(self.chance.below(2 * most_ms)).unwrap();
        let off = off - i64::try_from(most_ms).unwrap();
        self.note("has another clock", member);
        self.seats[member].lock().clock_off_ms = off;
    }

    /// Votes that prove nothing count as faulty: not more of them than safety tolerates, and none
    /// where it is checked that nobody lies.
    fn may_roll_back(&self, member: usize) -> bool {
        let witness = self.witness.lock();
        let faulty = witness.all_faulty();
        !faulty.contains(&member) && faulty.len() < self.plan.tolerated()
    }

    /// Gives a running member the votes of another signer, as an operator does: confirmed when the
    /// process counts them.
    fn import(self: &Arc<Self>, member: usize) {
        let wish = &self.plan.wishes[self.chance.index(self.plan.wishes.len())];
        let Some(claim) = wish.claim else { return };
        // What lies in the future nobody has signed.
        let signed = match claim {
            Claim::Attest { target, .. } => target.0 <= EPOCH + 1,
            Claim::Propose { .. } => true,
        };
        let validator = wish.order.validator;
        self.collect(member);
        let mut seat = self.seats[member].lock();
        let Some(Endpoint::Honest { ledger, .. }) = seat.endpoint.clone() else {
            return;
        };
        // An import into a ledger that was put back under its process is refused: not simulated.
        let intact = self.witness.lock().is_as_it_was(member);
        // Under a clock that is behind it would lie in the future, and the anchor not know of it.
        let behind = seat.clock_off_ms < -i64::try_from(SECONDS_OFF_MS).unwrap();
        if !signed || !intact || behind || seat.importing || seat.store.is_locked(&validator) {
            return;
        }
        seat.importing = true;
        let own = seat
            .store
            .rows(&validator)
            .into_iter()
            .map(|(_, root)| root);
        let own = own.collect();
        seat.store.import(validator, claim, Some(wish.root));
        drop(seat);
        self.note("imports", member);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let confirmed = ledger.refresh().await.is_ok();
            world.seats[member].lock().importing = false;
            if confirmed {
                world.witness.lock().imported(member, validator, claim, own);
            }
        });
    }
}

/// How long a process that stands still does so at most, and then some.
pub(super) const THAWED: Duration = Duration::from_secs(2);
