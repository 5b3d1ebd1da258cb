//! Combining together what waits: signatures of a burst are verified with one product of pairings.
//!
//! No timer: while the threads compute, what comes in is the next batch. A request that is alone has
//! nobody to share with; of its verification idle threads compute a part before its partials are
//! there.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use duty::SigningRoot;
use parking_lot::Mutex;
use threshold::{Anticipated, Combination, CombineError, PartialSignature, ShareIndex, Signature};
use tokio::sync::oneshot;

use super::{
    anticipation::{ANTICIPATION_WAIT_MAX, Anticipation},
    arithmetic::Arithmetic,
};
use crate::{
    cpu::{Cpu, Urgency},
    validators::Validator,
};

/// Combined at once at most: more gains little, and what comes next waits for it.
const BATCH_MAX: usize = 128;

type Combined = Result<Signature, CombineError>;

/// Combines, away from the reactor. Its queues are bounded by admission.
pub(super) struct Combiner(Arc<Shared>);

struct Shared {
    queues: Queues,
    cpu: Cpu,
    arithmetic: Arc<dyn Arithmetic>,
    /// How many requests' partials are to come.
    expected: Expectations,
}

#[derive(Default)]
struct Expectations {
    prompt: AtomicUsize,
    usual: AtomicUsize,
}

impl Expectations {
    const fn of(&self, urgency: Urgency) -> &AtomicUsize {
        match urgency {
            Urgency::Prompt => &self.prompt,
            Urgency::Usual => &self.usual,
        }
    }

    /// Whether no other is expected that this one would share its threads with.
    fn is_one(&self, urgency: Urgency) -> bool {
        let prompt = self.prompt.load(Ordering::Relaxed);
        match urgency {
            Urgency::Prompt => prompt == 1,
            Urgency::Usual => prompt.saturating_add(self.usual.load(Ordering::Relaxed)) == 1,
        }
    }
}

/// A request whose partials are to come; it is over when this is dropped.
pub(super) struct Expected {
    shared: Arc<Shared>,
    urgency: Urgency,
    validator: Arc<Validator>,
    root: SigningRoot,
    anticipates: bool,
    anticipation: Arc<Anticipation>,
}

/// Partials that wait to be combined.
struct Waiting {
    validator: Arc<Validator>,
    root: SigningRoot,
    partials: Vec<(ShareIndex, PartialSignature)>,
    anticipation: Arc<Anticipation>,
    answer: oneshot::Sender<Combined>,
}

#[derive(Default)]
struct Queues {
    prompt: Mutex<VecDeque<Waiting>>,
    usual: Mutex<VecDeque<Waiting>>,
}

impl Combiner {
    pub(super) fn new(cpu: Cpu, arithmetic: Arc<dyn Arithmetic>) -> Self {
        Self(Arc::new(Shared {
            queues: Queues::default(),
            cpu,
            arithmetic,
            expected: Expectations::default(),
        }))
    }

    /// Announces partials over `root`.
    pub(super) fn expect(
        &self,
        urgency: Urgency,
        validator: Arc<Validator>,
        root: SigningRoot,
    ) -> Expected {
        self.0.expected.of(urgency).fetch_add(1, Ordering::Relaxed);
        Expected {
            shared: Arc::clone(&self.0),
            urgency,
            validator,
            root,
            anticipates: false,
            anticipation: Arc::new(Anticipation::new()),
        }
    }
}

impl Expected {
    /// The first time, if this request is alone and a thread has nothing to do: lets it compute what
    /// needs no partials. The first of a burst is alone until the second comes, and a proposal beside
    /// one is alone among its like.
    pub(super) fn anticipate(&mut self) {
        let urgency = self.urgency;
        if std::mem::replace(&mut self.anticipates, true) || !self.shared.expected.is_one(urgency) {
            return;
        }
        let (shared, validator) = (Arc::clone(&self.shared), Arc::clone(&self.validator));
        let (anticipation, root) = (Arc::clone(&self.anticipation), self.root);
        self.shared.cpu.spare(urgency, move || {
            anticipation.compute(|| {
                let is_alone = shared.expected.is_one(urgency);
                is_alone.then(|| shared.arithmetic.anticipate(&validator.committee, root))
            });
        });
    }

    /// Combines and verifies; `None` only if that panicked. Dropped while it waits, it is not done.
    pub(super) async fn combine(
        &self,
        partials: Vec<(ShareIndex, PartialSignature)>,
    ) -> Option<Combined> {
        let (answer, combined) = oneshot::channel();
        self.shared
            .queues
            .of(self.urgency)
            .lock()
            .push_back(Waiting {
                validator: Arc::clone(&self.validator),
                root: self.root,
                partials,
                anticipation: Arc::clone(&self.anticipation),
                answer,
            });
        if self.urgency == Urgency::Usual {
            // A cosigner's answer wakes many requests: those that are ready at this moment come along.
            tokio::task::yield_now().await;
        }
        // One job for each that waits: the first takes all, the others find nothing to do.
        self.shared.submit(self.urgency);
        combined.await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let expected = self.shared.expected.of(self.urgency);
        expected.fetch_sub(1, Ordering::Relaxed);
        self.anticipation.cancel();
    }
}

impl Shared {
    fn submit(self: &Arc<Self>, urgency: Urgency) {
        let shared = Arc::clone(self);
        self.cpu.submit(urgency, move || shared.work(urgency));
    }

    fn work(self: &Arc<Self>, urgency: Urgency) {
        let (batch, more) = self.queues.take(urgency);
        if more {
            // Who stands there may have had this job, and whose job would have come was dropped.
            self.submit(urgency);
        }
        if !batch.is_empty() {
            answer_all(batch, &*self.arithmetic);
        }
    }
}

impl Queues {
    const fn of(&self, urgency: Urgency) -> &Mutex<VecDeque<Waiting>> {
        match urgency {
            Urgency::Prompt => &self.prompt,
            Urgency::Usual => &self.usual,
        }
    }

    /// The next batch, without those for whom nobody waits any more, and whether there are more.
    fn take(&self, urgency: Urgency) -> (Vec<Waiting>, bool) {
        let mut queue = self.of(urgency).lock();
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Some(waiting) = queue.pop_front()
        {
            if !waiting.answer.is_closed() {
                batch.push(waiting);
            }
        }
        (batch, !queue.is_empty())
    }
}

fn answer_all(batch: Vec<Waiting>, arithmetic: &dyn Arithmetic) {
    let patience = match batch.as_slice() {
        [_] => ANTICIPATION_WAIT_MAX,
        _ => Duration::ZERO,
    };
    let anticipated = batch.iter().map(|it| it.anticipation.outcome(patience));
    let anticipated: Vec<Option<Arc<Anticipated>>> = anticipated.collect();
    let batch = batch.into_iter();
    let parts = batch.map(|it| ((it.validator, it.root, it.partials), Some(it.answer)));
    let (waiting, mut answers): (Vec<_>, Vec<_>) = parts.unzip();
    let jobs = waiting.iter().zip(&anticipated);
    let jobs = jobs.map(|((validator, root, partials), anticipated)| Combination {
        committee: &validator.committee,
        root: *root,
        partials,
        anticipated: anticipated.as_deref(),
    });
    arithmetic.combine(&jobs.collect::<Vec<_>>(), &mut |position, combined| {
        if let Some(answer) = answers.get_mut(position).and_then(Option::take) {
            // Nobody waits any more for a request that was given up.
            let _ = answer.send(combined);
        }
    });
}
