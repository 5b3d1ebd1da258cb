//! Threads that sign. A batch of 128 signatures holds one for tens of milliseconds, so no async thread
//! does it, and what is urgent has threads that bulk never takes.

use std::{sync::Arc, thread::available_parallelism};

use tokio::sync::Semaphore;

/// Which threads a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Prompt,
    Bulk,
}

/// As many batches at once, per urgency, as there are processors; the others wait in their order.
pub(super) struct Signers {
    prompt: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

impl Signers {
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            prompt: Arc::new(Semaphore::new(processors)),
            bulk: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Runs `work` on a thread that may be held. `None` if the process is stopping.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let places = match urgency {
            Urgency::Prompt => &self.prompt,
            Urgency::Bulk => &self.bulk,
        };
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        work.await.ok()
    }
}
