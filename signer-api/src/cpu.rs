//! Threads for curve arithmetic and long parsing, so that no reactor thread is held by them.

use std::{collections::VecDeque, io, sync::Arc, thread};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// What runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Proposals and what belongs to them.
    Prompt,
    /// Everything else.
    Usual,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queues {
    prompt: VecDeque<Job>,
    usual: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
}

/// As many threads as the machine has processors. Its queues are bounded by admission: each
/// request has at most one job at a time. Ends with its last clone.
#[derive(Clone)]
pub(crate) struct Cpu(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    threads: usize,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queues.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Cpu {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let cpu = Self(Arc::new(Owner {
            shared: Arc::clone(&shared),
            threads,
        }));
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("cpu-{number}"))
                .spawn(move || work(&shared))?;
        }
        Ok(cpu)
    }

    /// Without threads: each job is run where it is given, in an order that repeats.
    #[cfg(feature = "test-seams")]
    pub(crate) fn inline() -> Self {
        Self(Arc::new(Owner {
            shared: Arc::default(),
            threads: 0,
        }))
    }

    /// Runs `job`; `None` only if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.submit(urgency, move || {
            // Nobody waits any more for a result whose request was given up: skip the work.
            if !done.is_closed() {
                let _ = done.send(job());
            }
        });
        result.await.ok()
    }

    /// Runs `job`, whoever waits for it.
    pub(crate) fn submit(&self, urgency: Urgency, job: impl FnOnce() + Send + 'static) {
        if self.0.threads == 0 {
            return job();
        }
        let job: Job = Box::new(job);
        {
            let mut queues = self.0.shared.queues.lock();
            match urgency {
                Urgency::Prompt => queues.prompt.push_back(job),
                Urgency::Usual => queues.usual.push_back(job),
            }
        }
        self.0.shared.work.notify_one();
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queues = shared.queues.lock();
            loop {
                if queues.closed {
                    return;
                }
                if let Some(job) = queues
                    .prompt
                    .pop_front()
                    .or_else(|| queues.usual.pop_front())
                {
                    break job;
                }
                shared.work.wait(&mut queues);
            }
        };
        // Where panics unwind (not in a release), one job must not take the thread with it.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_and_a_panic_takes_no_thread() {
        let cpu = Cpu::start().unwrap();
        for _ in 0..64 {
            let panicked: Option<()> = cpu.run(Urgency::Usual, || panic!("a job's")).await;
            assert_eq!(panicked, None);
        }
        assert_eq!(cpu.run(Urgency::Prompt, || 1 + 1).await, Some(2));
    }
}
