//! A runtime of its own for what comes in bursts.
//!
//! Tasks of one runtime run in the order in which they become ready: a block that is asked for behind a
//! thousand attestations would be read, sent and answered behind them, one step after the other. So
//! the runtime that reads and writes hands a burst's requests over when it knows what they are, and
//! keeps what a proposal needs. The threads of the other one, also those that it lends to work that
//! blocks, are courteous ([`courtesy`]).

use std::{future::Future, io, thread};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinSet,
};

/// Makes the runtime. To be dropped, or shut down, outside of any.
///
/// # Errors
/// When the system gives no thread.
pub fn runtime() -> io::Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .thread_name("bulk")
        .worker_threads(processors.div_ceil(2))
        .on_thread_start(courtesy::always)
        .on_thread_unpark(courtesy::begin)
        .enable_all()
        .build()
}

/// Where what comes in bursts is handed over.
#[derive(Debug, Clone)]
pub struct Bulk(Option<Handle>);

impl Bulk {
    /// Hands over to `runtime`.
    #[must_use]
    pub fn on(runtime: &Runtime) -> Self {
        Self(Some(runtime.handle().clone()))
    }

    /// Hands nothing over: what is to be done is done where it is, in an order that repeats.
    #[must_use]
    pub const fn inline() -> Self {
        Self(None)
    }

    /// Does `work` there. `None` if it panicked, or that runtime has ended. Who does not wait for the end
    /// gives it up, as if the work were its own.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let Some(runtime) = &self.0 else {
            return Some(work.await);
        };
        // Dropped, it aborts.
        let mut tasks = JoinSet::new();
        tasks.spawn_on(work, runtime);
        tasks.join_next().await?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_done_on_threads_that_are_courteous() {
        let (main, other) = runtimes();
        let bulk = Bulk::on(&other);
        let passes = || {
            courtesy::offer();
            courtesy::passed()
        };
        let done = main.block_on(async {
            let held = bulk.run(async move {
                let held = tokio::task::spawn_blocking(passes).await;
                (passes(), held.unwrap())
            });
            (held.await, passes())
        });
        assert_eq!(done, (Some((1, 1)), 0));
    }

    #[test]
    fn a_panic_there_is_told_here() {
        let (main, other) = runtimes();
        let bulk = Bulk::on(&other);
        let panicked: Option<()> = main.block_on(bulk.run(async { panic!("a task's") }));
        assert_eq!(panicked, None);
    }

    #[test]
    fn what_nobody_waits_for_is_given_up() {
        let (main, other) = runtimes();
        let bulk = Bulk::on(&other);
        let (kept, is_dropped) = tokio::sync::oneshot::channel::<()>();
        main.block_on(async {
            let mut work = Box::pin(bulk.run(async move {
                let _kept = kept;
                std::future::pending::<()>().await;
            }));
            tokio::select! {
                biased;
                _ = &mut work => panic!("it has no end"),
                () = std::future::ready(()) => {}
            }
            drop(work);
            assert!(is_dropped.await.is_err());
        });
    }

    #[test]
    fn inline_is_here() {
        let (main, _) = runtimes();
        let here = std::thread::current().id();
        let bulk = Bulk::inline();
        let there = main.block_on(bulk.run(async { std::thread::current().id() }));
        assert_eq!(there, Some(here));
    }

    fn runtimes() -> (Runtime, Runtime) {
        let main = Builder::new_current_thread().build().unwrap();
        (main, runtime().unwrap())
    }
}
