//! Threads for curve arithmetic and long parsing, so that no reactor thread is held by them. A batch of
//! a burst holds one for ten milliseconds; what is prompt has threads that such batches never take, and
//! those that they take offer the processor in between.

use std::{collections::VecDeque, io, sync::Arc, thread};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Whose threads a job takes.
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
    /// Done on the others' threads, only if there is nothing else.
    spare: Option<Job>,
    /// Threads of all that wait for a job.
    at_rest: usize,
    closed: bool,
}

impl Queues {
    fn of(&mut self, urgency: Urgency) -> &mut VecDeque<Job> {
        match urgency {
            Urgency::Prompt => &mut self.prompt,
            Urgency::Usual => &mut self.usual,
        }
    }

    fn next(&mut self, urgency: Urgency) -> Option<Job> {
        let first = self.of(urgency).pop_front();
        first.or_else(|| match urgency {
            Urgency::Prompt => None,
            Urgency::Usual => self.spare.take(),
        })
    }

    /// Whether all of so many threads are at rest, and leave nothing waiting but a spare job.
    fn is_idle(&self, threads: usize) -> bool {
        self.at_rest == threads && self.prompt.is_empty() && self.usual.is_empty()
    }

    /// Takes a spare job if nothing runs or waits; what is not taken, and what is given up for it,
    /// comes back.
    fn offer(&mut self, job: Job, threads: usize) -> [Option<Job>; 2] {
        let is_idle = self.is_idle(threads);
        match self.spare.take() {
            None if is_idle => {
                self.spare = Some(job);
                [None, None]
            }
            other => [other, Some(job)],
        }
    }
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    prompt: Condvar,
    usual: Condvar,
}

impl Shared {
    const fn work(&self, urgency: Urgency) -> &Condvar {
        match urgency {
            Urgency::Prompt => &self.prompt,
            Urgency::Usual => &self.usual,
        }
    }
}

/// As many threads per urgency as the machine has processors. Its queues are bounded by admission:
/// each request has at most two jobs at a time. Ends with its last clone.
#[derive(Clone)]
pub(crate) struct Cpu(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    /// Of all urgencies.
    threads: usize,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queues.lock().closed = true;
        self.shared.prompt.notify_all();
        self.shared.usual.notify_all();
    }
}

impl Cpu {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let each = thread::available_parallelism().map_or(1, usize::from);
        let cpu = Self(Arc::new(Owner {
            shared: Arc::clone(&shared),
            threads: each.saturating_mul(2),
        }));
        for (urgency, name) in [(Urgency::Prompt, "prompt"), (Urgency::Usual, "usual")] {
            for number in 0..each {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("{name}-{number}"))
                    .spawn(move || work(&shared, urgency))?;
            }
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
        self.0.shared.queues.lock().of(urgency).push_back(job);
        self.0.shared.work(urgency).notify_one();
    }

    /// Runs `job` ahead of its need. What is prompt has threads that are mostly idle: one of them does
    /// it. What is usual is done only if no thread has anything to do, and nothing else comes before it
    /// is begun; else it is dropped, and of two at once, both are. So what is usual waits for at most
    /// one such job, and only where that was begun before. Without threads, none is ever run.
    pub(crate) fn spare(&self, urgency: Urgency, job: impl FnOnce() + Send + 'static) {
        if self.0.threads == 0 {
            return;
        }
        if urgency == Urgency::Prompt {
            return self.submit(urgency, job);
        }
        let job: Job = Box::new(job);
        let dropped = self.0.shared.queues.lock().offer(job, self.0.threads);
        if let [None, None] = dropped {
            self.0.shared.usual.notify_one();
        }
    }
}

fn work(shared: &Shared, urgency: Urgency) {
    if urgency == Urgency::Usual {
        courtesy::always();
    }
    loop {
        let job = {
            let mut queues = shared.queues.lock();
            loop {
                if queues.closed {
                    return;
                }
                if let Some(job) = queues.next(urgency) {
                    break job;
                }
                queues.at_rest += 1;
                shared.work(urgency).wait(&mut queues);
                queues.at_rest -= 1;
            }
        };
        courtesy::begin();
        // Where panics unwind (not in a release), one job must not take the thread with it.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    impl Cpu {
        /// Waits until a spare job would be taken.
        pub(crate) fn rest(&self) {
            while !self.0.shared.queues.lock().is_idle(self.0.threads) {
                thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn jobs_run_and_a_panic_takes_no_thread() {
        let cpu = Cpu::start().unwrap();
        for _ in 0..64 {
            let panicked: Option<()> = cpu.run(Urgency::Usual, || panic!("a job's")).await;
            assert_eq!(panicked, None);
        }
        assert_eq!(cpu.run(Urgency::Prompt, || 1 + 1).await, Some(2));
    }

    #[tokio::test]
    async fn what_is_prompt_waits_for_nothing_usual() {
        let cpu = Cpu::start().unwrap();
        let gates: Vec<_> = (0..cpu.0.threads)
            .map(|_| {
                let (gate, closed) = mpsc::channel::<()>();
                cpu.submit(Urgency::Usual, move || {
                    let _ = closed.recv();
                });
                gate
            })
            .collect();
        // Nor does a thread that has done a prompt job go on with a usual one.
        for _ in 0..=cpu.0.threads {
            let job = cpu.run(Urgency::Prompt, || 1 + 1);
            let done = tokio::time::timeout(Duration::from_secs(10), job).await;
            assert_eq!(done, Ok(Some(2)));
        }
        drop(gates);
    }

    #[tokio::test]
    async fn a_prompt_job_ahead_of_its_need_is_done_beside_usual_ones() {
        let cpu = Cpu::start().unwrap();
        let (gate, closed) = mpsc::channel::<()>();
        cpu.submit(Urgency::Usual, move || {
            let _ = closed.recv();
        });
        let (done, is_done) = oneshot::channel();
        cpu.spare(Urgency::Prompt, move || done.send(()).unwrap());
        let waited = tokio::time::timeout(Duration::from_secs(10), is_done).await;
        assert_eq!(waited, Ok(Ok(())));
        drop(gate);
    }

    #[test]
    fn a_spare_job_comes_after_all_usual_ones_and_two_are_none() {
        let (done, what) = mpsc::channel();
        let job = |name: &'static str| -> Job {
            let done = done.clone();
            Box::new(move || done.send(name).unwrap())
        };
        let mut queues = Queues {
            at_rest: 2,
            ..Queues::default()
        };
        let taken = |dropped: [Option<Job>; 2]| 2 - dropped.iter().flatten().count();
        assert_eq!(taken(queues.offer(job("first"), 2)), 2);
        assert_eq!(taken(queues.offer(job("second"), 2)), 0);
        assert!(queues.next(Urgency::Usual).is_none());
        assert_eq!(taken(queues.offer(job("third"), 2)), 2);
        queues.usual.push_back(job("usual"));
        assert!(queues.next(Urgency::Prompt).is_none());
        while let Some(job) = queues.next(Urgency::Usual) {
            job();
        }
        assert_eq!(what.try_iter().collect::<Vec<_>>(), ["usual", "third"]);
    }

    #[test]
    fn a_spare_job_is_not_taken_while_anything_runs_or_waits() {
        let job = || -> Job { Box::new(|| ()) };
        let idle = || Queues {
            at_rest: 2,
            ..Queues::default()
        };
        let (mut running, mut prompt, mut usual) = (idle(), idle(), idle());
        running.at_rest = 1;
        prompt.prompt.push_back(job());
        usual.usual.push_back(job());
        for queues in [&mut running, &mut prompt, &mut usual] {
            let [_, refused] = queues.offer(job(), 2);
            assert!(refused.is_some() && queues.spare.is_none());
        }
    }

    #[test]
    fn an_idle_thread_does_a_spare_job() {
        let cpu = Cpu::start().unwrap();
        for _ in 0..64 {
            cpu.rest();
            let (done, is_done) = mpsc::channel();
            cpu.spare(Urgency::Usual, move || done.send(()).unwrap());
            assert_eq!(is_done.recv(), Ok(()));
        }
    }

    #[cfg(feature = "test-seams")]
    #[test]
    fn without_threads_no_spare_job_is_done() {
        let (done, is_done) = mpsc::channel();
        for urgency in [Urgency::Prompt, Urgency::Usual] {
            let done = done.clone();
            Cpu::inline().spare(urgency, move || done.send(()).unwrap());
        }
        drop(done);
        assert!(is_done.recv().is_err());
    }
}
