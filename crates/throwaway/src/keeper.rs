//! A thread that lives as long as the process and starts all children: the kernel ends a child
//! that asked for it (`PR_SET_PDEATHSIG`) when the *thread* that started it ends.

use std::{
    sync::{OnceLock, mpsc},
    thread,
};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the keeper's thread, one after the other. What it may block on is bounded by the
/// commands that it runs.
pub(crate) async fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    static KEEPER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let body = move || waiting.into_iter().for_each(|job| job());
        thread::Builder::new()
            .name("throwaway-keeper".to_owned())
            .spawn(body)
            .expect("a thread can be started");
        jobs
    });
    let (done, value) = oneshot::channel();
    let job: Job = Box::new(move || {
        // A test that ended meanwhile has no use for it.
        let _unheard = done.send(job());
    });
    keeper
        .send(job)
        .expect("the keeper lives as long as the process");
    value.await.expect("the keeper's job has not panicked")
}
