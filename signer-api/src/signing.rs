//! The conductor of one signature: coalesce, round, combine, verify.
//!
//! It promises that no signature is returned that was not verified; that equal requests at once get
//! the same bytes and cost the cosigners once; that different messages for one duty never race
//! within this process; and that a request is answered by its deadline. A request whose client went
//! away goes on: half a duty is worth less than a whole one, and the client may ask again.
//!
//! It remembers no signature: a repeat is the cosigners' to allow or refuse, each time, so that a
//! freeze holds for the next request. **Invariant:** kept by
//! `tests::a_repeat_gets_its_bytes_from_the_cosigners_until_they_freeze_it`.

mod anticipation;
#[cfg_attr(
    not(feature = "test-seams"),
    expect(unreachable_pub, reason = "public for the simulation")
)]
mod arithmetic;
mod combiner;
mod conductor;
mod duties;
mod leading;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use daemon::bulk::Bulk;
use duty::{Claim, PublicKey, SigningOrder, SigningRoot};
use parking_lot::Mutex;
use rand::RngExt;
use threshold::{
    Signature,
    round::{Failure, FailureReason, Verdict},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    admission::Place,
    cosigners::Cosigners,
    cpu::Cpu,
    metrics::{Metrics, Stage},
    validators::Validator,
};
#[cfg(feature = "test-seams")]
pub use arithmetic::Arithmetic;
#[cfg(not(feature = "test-seams"))]
use arithmetic::Arithmetic;
use arithmetic::Plain;
use combiner::Combiner;
use duties::Duties;
use leading::Leading;

/// A request that was parsed, and whose validator was found.
pub(crate) struct Task {
    /// What shall be signed.
    pub(crate) order: SigningOrder,
    /// Its signing root.
    pub(crate) root: SigningRoot,
    /// Whose it is.
    pub(crate) validator: Arc<Validator>,
    /// When the answer must be there.
    pub(crate) deadline: Instant,
    /// Its place among the requests; kept until the work is done, whoever still waits for it.
    pub(crate) place: Place,
    /// Where its like are worked on, if it is one of many.
    pub(crate) among: Bulk,
}

/// What became of a request.
pub(crate) type Outcome = Result<Signature, Verdict>;

type Key = (PublicKey, SigningRoot);

/// Signs.
pub(crate) struct Signing {
    shared: Arc<Shared>,
}

struct Shared {
    cosigners: Arc<Cosigners>,
    cpu: Cpu,
    metrics: Arc<Metrics>,
    /// Requests under way, and who waits for their outcomes: told in the order in which they came.
    under_way: Mutex<HashMap<Key, Vec<oneshot::Sender<Outcome>>>>,
    duties: Duties,
    combiner: Combiner,
    arithmetic: Arc<dyn Arithmetic>,
    chance: Arc<Chance>,
    /// Nothing if this is not to lead.
    leading: Option<Arc<Leading>>,
}

/// A number from 0 up to 1, never the same twice in a row: callers that race must not keep step.
pub(crate) type Chance = Box<dyn Fn() -> f64 + Send + Sync>;

/// Takes a request from those under way when its work ends, however it ends, and then tells its
/// outcome, if there is one: who comes later than that asks anew.
struct UnderWay {
    shared: Arc<Shared>,
    key: Key,
    outcome: Option<Outcome>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let waiting = self.shared.under_way.lock().remove(&self.key);
        if let Some(outcome) = &self.outcome {
            for waits in waiting.into_iter().flatten() {
                // Its caller may have gone away.
                let _ = waits.send(outcome.clone());
            }
        }
    }
}

/// A request's part in the work: it does it, or waits for who does.
enum Part {
    Begun(oneshot::Receiver<Outcome>),
    Joined(oneshot::Receiver<Outcome>),
}

impl Signing {
    /// Leads the cosigners if that is given: the smallest threshold that there is. Must be called within a
    /// runtime.
    pub(crate) fn new(
        cosigners: Arc<Cosigners>,
        cpu: Cpu,
        metrics: Arc<Metrics>,
        leads: Option<usize>,
    ) -> Self {
        let chance = Box::new(|| rand::rng().random());
        Self::with(cosigners, cpu, metrics, Arc::new(Plain), chance, leads)
    }

    /// Where arithmetic and chance are given.
    pub(crate) fn with(
        cosigners: Arc<Cosigners>,
        cpu: Cpu,
        metrics: Arc<Metrics>,
        arithmetic: Arc<dyn Arithmetic>,
        chance: Chance,
        leads: Option<usize>,
    ) -> Self {
        let chance = Arc::new(chance);
        let leading = leads.map(|threshold_min| {
            let (cosigners, metrics) = (Arc::clone(&cosigners), Arc::clone(&metrics));
            Leading::start(cosigners, metrics, Arc::clone(&chance), threshold_min)
        });
        let shared = Shared {
            combiner: Combiner::new(cpu.clone(), Arc::clone(&arithmetic)),
            arithmetic,
            chance,
            leading,
            cosigners,
            cpu,
            metrics,
            under_way: Mutex::default(),
            duties: Duties::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Leads, as if there had been something to lead for.
    #[cfg(feature = "test-seams")]
    pub(crate) fn lead(&self) {
        if let Some(leading) = &self.shared.leading {
            leading.want();
        }
    }

    /// Signs, or says why not, by the task's deadline.
    pub(crate) async fn sign(&self, task: Task) -> Outcome {
        let began = Instant::now();
        let outcome = self.answer(task).await;
        if outcome.is_ok() {
            self.shared.metrics.signed(began.elapsed());
        }
        self.shared.metrics.stage(Stage::Total, began.elapsed());
        outcome
    }

    async fn answer(&self, task: Task) -> Outcome {
        let key = (task.order.validator, task.root);
        let deadline = task.deadline;
        let mut task = Some(task);
        loop {
            let part = self.part(key, &mut task);
            let (outcome, joined) = match part {
                Some(Part::Begun(outcome)) => (outcome, false),
                Some(Part::Joined(outcome)) => (outcome, true),
                None => return Err(out_of_time()),
            };
            let Ok(outcome) = timeout_at(deadline, outcome).await else {
                return Err(out_of_time());
            };
            match outcome.ok() {
                // The other's deadline was earlier, or its luck worse: there is time left here.
                Some(Err(Verdict::Unavailable(_))) | None if joined => {}
                Some(outcome) => return outcome,
                None => return Err(broken()),
            }
        }
    }

    /// Joins an equal request, or begins. `None` if the task was used up already.
    fn part(&self, key: Key, task: &mut Option<Task>) -> Option<Part> {
        let (waits, outcome) = oneshot::channel();
        let mut under_way = self.shared.under_way.lock();
        if let Some(waiting) = under_way.get_mut(&key) {
            waiting.push(waits);
            self.shared.metrics.coalesced();
            return Some(Part::Joined(outcome));
        }
        let task = task.take()?;
        under_way.insert(key, vec![waits]);
        let entry = UnderWay {
            shared: Arc::clone(&self.shared),
            key,
            outcome: None,
        };
        tokio::spawn(work(entry, task));
        Some(Part::Begun(outcome))
    }
}

/// Does the work of all requests that are equal to `task`.
async fn work(mut entry: UnderWay, task: Task) {
    let shared = &entry.shared;
    let Task {
        order,
        root,
        validator,
        deadline,
        place,
        among,
    } = task;
    let (claim, owner) = (order.claim(), order.validator);
    let began = Instant::now();
    let conduct = conductor::conduct(shared, order, root, &validator, deadline, among);
    let outcome = match claim {
        None => conduct.await,
        Some(claim) => {
            let turn = shared.duties.turn(owner, claim);
            match timeout_at(deadline, turn.wait()).await {
                Ok(_turn) => conduct.await,
                Err(_) => Err(out_of_time()),
            }
        }
    };
    count_protection(&shared.metrics, claim, &outcome, began.elapsed());
    match &outcome {
        Err(Verdict::Unavailable(_)) => place.give_up(),
        Ok(_) | Err(Verdict::Refused(_)) => drop(place),
    }
    entry.outcome = Some(outcome);
}

fn count_protection(metrics: &Metrics, claim: Option<Claim>, outcome: &Outcome, took: Duration) {
    let operation = match claim {
        None => return,
        Some(Claim::Attest { .. }) => "attestation",
        Some(Claim::Propose { .. }) => "block",
    };
    match outcome {
        Ok(_) => metrics.permitted(operation, took),
        Err(Verdict::Refused(_)) => metrics.prevented(),
        Err(Verdict::Unavailable(_)) => {}
    }
}

fn out_of_time() -> Verdict {
    let message = "no signature could be made by the deadline".to_owned();
    Verdict::Unavailable(Failure {
        reason: FailureReason::Deadline,
        message,
    })
}

/// Only where panics unwind.
fn broken() -> Verdict {
    let message = "the work on this request ended without a result".to_owned();
    Verdict::Unavailable(Failure {
        reason: FailureReason::Faulty,
        message,
    })
}
