//! Threads that work for bursts let others have the processor.
//!
//! A batch of a burst keeps a thread busy for tens of milliseconds, and so do hundreds of requests that
//! come at once. When a block is asked for meanwhile, the threads that it needs are woken one after
//! the other, and each may wait until the kernel thinks that the one that runs has had its share:
//! some milliseconds each. So who works for bursts comes by [`offer`] between two pieces of its
//! work, and there yields. If nobody waits for the processor, it goes on at once.
//!
//! When there is more than can be done, courtesy does harm: what can be refused quickly would be refused
//! all the time, and what was taken on would not be done. So who turns work away says [`rush`].
//!
//! What is computed does not depend on any of that.

use std::{
    cell::Cell,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a thread keeps the processor before it offers it. Whoever yields gives up a share of the time
/// to come as well (Linux' EEVDF): with 0.1 ms, ten times the load on one machine left a quarter of
/// the signatures, with this it leaves as many as without any courtesy (docs/PERFORMANCE.md).
const PIECE: Duration = Duration::from_micros(300);

/// For how long nothing is offered after work was turned away.
const RUSH: Duration = Duration::from_secs(1);

/// When this process first came by.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Until when nothing is offered, in microseconds since the start.
static RUSH_UNTIL_US: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Since when this thread has had the processor to itself, if it is one that offers it.
    static KEPT_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static PASSED: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread offers the processor. Others do not, wherever they come by.
pub fn always() {
    KEPT_SINCE.set(Some(Instant::now()));
}

/// This thread has just been woken: what it has kept the processor for begins now.
pub fn begin() {
    if KEPT_SINCE.get().is_some() {
        always();
    }
}

/// Between two pieces of work of about 0.1 ms: lets others have the processor, if this thread is one that
/// offers it, and has had it for long enough.
pub fn offer() {
    offered();
}

/// As [`offer`]: whether the processor was offered.
fn offered() -> bool {
    let Some(since) = KEPT_SINCE.get() else {
        return false;
    };
    PASSED.set(PASSED.get().wrapping_add(1));
    if since.elapsed() < PIECE {
        return false;
    }
    let is_courteous = !is_rushing();
    if is_courteous {
        thread::yield_now();
    }
    always();
    is_courteous
}

/// This process has turned work away: for a second its threads keep the processor.
pub fn rush() {
    let until = START.elapsed().saturating_add(RUSH).as_micros();
    RUSH_UNTIL_US.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Whether this process has turned work away lately.
#[must_use]
pub fn is_rushing() -> bool {
    START.elapsed().as_micros() < RUSH_UNTIL_US.load(Ordering::Relaxed).into()
}

/// How often this thread came by [`offer`] since it offers the processor: for tests of what takes long.
#[must_use]
pub fn passed() -> u64 {
    PASSED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(work).join().unwrap()
    }

    /// How long the processor was kept until now.
    fn kept() -> Option<Duration> {
        KEPT_SINCE.get().map(|since| since.elapsed())
    }

    #[test]
    fn only_who_said_so_offers_anything() {
        let (kept, passed) = on_a_thread(|| {
            begin();
            offer();
            (kept(), passed())
        });
        assert_eq!((kept, passed), (None, 0));
    }

    #[test]
    fn what_was_kept_for_long_is_offered_but_not_for_a_second_after_work_was_turned_away() {
        on_a_thread(|| {
            always();
            let offered_when_due = || {
                while kept() < Some(PIECE) {}
                offered()
            };
            let since = KEPT_SINCE.get();
            assert!(offered_when_due());
            assert!(KEPT_SINCE.get() > since);
            let before = Instant::now();
            rush();
            while !offered_when_due() {}
            assert!(before.elapsed() >= RUSH);
            assert!(passed() > 1);
        });
    }

    #[test]
    fn who_was_asleep_has_kept_nothing() {
        on_a_thread(|| {
            always();
            let since = KEPT_SINCE.get();
            thread::sleep(PIECE);
            begin();
            assert!(KEPT_SINCE.get() > since);
        });
    }
}
