//! Turns: different messages for one duty wait for each other.

use std::{collections::HashMap, sync::Arc};

use duty::{Claim, Epoch, PublicKey, Slot};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

/// What can be signed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Contest {
    Attest(PublicKey, Epoch),
    Propose(PublicKey, Slot),
}

type Contests = Arc<Mutex<HashMap<Contest, Arc<Turns<()>>>>>;

/// The duties under way.
#[derive(Default)]
pub(super) struct Duties(Contests);

/// A place in the queue of one duty.
pub(super) struct Turn {
    contests: Contests,
    contest: Contest,
    turns: Option<Arc<Turns<()>>>,
}

/// The duty is this request's until it is dropped.
pub(super) struct Held {
    _held: OwnedMutexGuard<()>,
    _place: Turn,
}

impl Duties {
    /// A place in the queue of the duty that a claim belongs to.
    pub(super) fn turn(&self, validator: PublicKey, claim: Claim) -> Turn {
        let contest = match claim {
            Claim::Attest { target, .. } => Contest::Attest(validator, target),
            Claim::Propose { slot } => Contest::Propose(validator, slot),
        };
        let turns = Arc::clone(self.0.lock().entry(contest).or_default());
        Turn {
            contests: Arc::clone(&self.0),
            contest,
            turns: Some(turns),
        }
    }
}

impl Turn {
    /// Waits until nobody else works on the duty. First come, first served.
    pub(super) async fn wait(self) -> Option<Held> {
        let turns = Arc::clone(self.turns.as_ref()?);
        let held = turns.lock_owned().await;
        Some(Held {
            _held: held,
            _place: self,
        })
    }
}

impl Drop for Turn {
    /// The last one out removes the queue. Queues are joined under the same lock.
    fn drop(&mut self) {
        let mut contests = self.contests.lock();
        drop(self.turns.take());
        // One is the map's own; a guard of this turn is dropped before the turn is.
        if contests
            .get(&self.contest)
            .is_some_and(|turns| Arc::strong_count(turns) == 1)
        {
            contests.remove(&self.contest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_for_one_duty_wait_for_each_other_and_nothing_stays() {
        let duties = Duties::default();
        let key = PublicKey([1; 48]);
        let attest = |source| Claim::Attest {
            source: Epoch(source),
            target: Epoch(9),
        };
        let held = duties.turn(key, attest(1)).wait().await;
        let other = duties
            .turn(key, Claim::Propose { slot: Slot(9) })
            .wait()
            .await;
        let second = tokio::spawn(duties.turn(key, attest(2)).wait());
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(held);
        let second = second.await;
        assert!(second.is_ok());
        drop((second, other));
        // Who gave up waiting leaves nothing behind either.
        let first = duties.turn(key, attest(1)).wait().await;
        let waiting = duties.turn(key, attest(1));
        drop((waiting, first));
        assert!(duties.0.lock().is_empty());
    }
}
