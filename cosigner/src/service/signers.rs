//! Threads that sign. A batch of 128 signatures holds one for tens of milliseconds, so no async thread
//! does it, and what is urgent has threads that bulk never takes.

use std::{sync::Arc, thread::available_parallelism};

use tokio::sync::Semaphore;

/// Which threads a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Proposals and what belongs to them.
    Proposal,
    /// What a slot's deadline waits for.
    Prompt,
    /// What comes in bursts and can wait.
    Bulk,
}

/// As many batches at once, per urgency, as there are processors; the others wait in their order.
pub struct Signers(Threads);

enum Threads {
    Pool {
        proposal: Arc<Semaphore>,
        prompt: Arc<Semaphore>,
        bulk: Arc<Semaphore>,
    },
    /// The caller's.
    #[cfg(feature = "test-seams")]
    None,
}

impl Default for Signers {
    fn default() -> Self {
        Self::new()
    }
}

impl Signers {
    /// Threads of the runtime's that may be held.
    #[must_use]
    pub fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self(Threads::Pool {
            proposal: Arc::new(Semaphore::new(processors)),
            prompt: Arc::new(Semaphore::new(processors)),
            bulk: Arc::new(Semaphore::new(processors)),
        })
    }

    /// No threads: batches are signed where they are, in an order that repeats.
    #[cfg(feature = "test-seams")]
    #[must_use]
    pub const fn inline() -> Self {
        Self(Threads::None)
    }

    /// Runs `work` on a thread that may be held. `None` if the process is stopping.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let places = match (&self.0, urgency) {
            (Threads::Pool { proposal, .. }, Urgency::Proposal) => proposal,
            (Threads::Pool { prompt, .. }, Urgency::Prompt) => prompt,
            (Threads::Pool { bulk, .. }, Urgency::Bulk) => bulk,
            #[cfg(feature = "test-seams")]
            (Threads::None, _) => return Some(work()),
        };
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        let work = tokio::task::spawn_blocking(move || {
            courtesy::begin();
            let done = work();
            drop(place);
            done
        });
        work.await.ok()
    }
}
