//! Combining together what waits: signatures of a burst are verified with one product of pairings.
//!
//! No timer: while the threads compute, what comes in is the next batch.

use std::{collections::VecDeque, sync::Arc};

use duty::SigningRoot;
use parking_lot::Mutex;
use threshold::{Combination, CombineError, PartialSignature, ShareIndex, Signature};
use tokio::sync::oneshot;

use super::arithmetic::Arithmetic;
use crate::{
    cpu::{Cpu, Urgency},
    validators::Validator,
};

/// Combined at once at most: more gains little, and what comes next waits for it.
const BATCH_MAX: usize = 128;

type Combined = Result<Signature, CombineError>;

/// Partials that wait to be combined.
struct Waiting {
    validator: Arc<Validator>,
    root: SigningRoot,
    partials: Vec<(ShareIndex, PartialSignature)>,
    answer: oneshot::Sender<Combined>,
}

#[derive(Default)]
struct Queues {
    prompt: Mutex<VecDeque<Waiting>>,
    usual: Mutex<VecDeque<Waiting>>,
}

/// Combines, away from the reactor. Its queues are bounded by admission.
pub(super) struct Combiner {
    queues: Arc<Queues>,
    cpu: Cpu,
    arithmetic: Arc<dyn Arithmetic>,
}

impl Combiner {
    pub(super) fn new(cpu: Cpu, arithmetic: Arc<dyn Arithmetic>) -> Self {
        Self {
            queues: Arc::default(),
            cpu,
            arithmetic,
        }
    }

    /// Combines and verifies; `None` only if that panicked. Dropped while it waits, it is not done.
    pub(super) async fn combine(
        &self,
        urgency: Urgency,
        validator: Arc<Validator>,
        root: SigningRoot,
        partials: Vec<(ShareIndex, PartialSignature)>,
    ) -> Option<Combined> {
        let (answer, combined) = oneshot::channel();
        self.queues.of(urgency).lock().push_back(Waiting {
            validator,
            root,
            partials,
            answer,
        });
        if urgency == Urgency::Usual {
            // A cosigner's answer wakes many requests: those that are ready at this moment come along.
            tokio::task::yield_now().await;
        }
        let (queues, arithmetic) = (Arc::clone(&self.queues), Arc::clone(&self.arithmetic));
        // One job for each that waits: the first takes all, the others find nothing to do.
        self.cpu.submit(urgency, move || {
            let batch = queues.take(urgency);
            if !batch.is_empty() {
                answer_all(batch, &*arithmetic);
            }
        });
        combined.await.ok()
    }
}

impl Queues {
    const fn of(&self, urgency: Urgency) -> &Mutex<VecDeque<Waiting>> {
        match urgency {
            Urgency::Prompt => &self.prompt,
            Urgency::Usual => &self.usual,
        }
    }

    /// The next batch, without those for whom nobody waits any more.
    fn take(&self, urgency: Urgency) -> Vec<Waiting> {
        let mut queue = self.of(urgency).lock();
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Some(waiting) = queue.pop_front()
        {
            if !waiting.answer.is_closed() {
                batch.push(waiting);
            }
        }
        batch
    }
}

fn answer_all(batch: Vec<Waiting>, arithmetic: &dyn Arithmetic) {
    let jobs = batch.iter().map(|waiting| Combination {
        committee: &waiting.validator.committee,
        root: waiting.root,
        partials: &waiting.partials,
    });
    let combined = arithmetic.combine(&jobs.collect::<Vec<_>>());
    for (waiting, combined) in batch.into_iter().zip(combined) {
        // Nobody waits any more for a request that was given up.
        let _ = waiting.answer.send(combined);
    }
}
