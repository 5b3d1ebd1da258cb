//! One life of one process. What it does reaches others only through the boundaries, and each
//! asks here first: a process that has ended does nothing more, one that stands still does it later.

use std::{
    future::pending,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

#[derive(Default)]
pub(super) struct Life {
    ended: AtomicBool,
    frozen_until: Mutex<Option<Instant>>,
    bell: Notify,
}

impl Life {
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.bell.notify_waiters();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn freeze(&self, lasting: Duration) {
        *self.frozen_until.lock() = Some(Instant::now() + lasting);
    }

    /// Returns when the process has ended: whoever is connected to it notices.
    pub(super) async fn end_of_it(&self) {
        let mut ring = std::pin::pin!(self.bell.notified());
        ring.as_mut().enable();
        if !self.has_ended() {
            ring.await;
        }
    }

    /// Returns when the process gets to do what it is about to do: for one that has ended, never.
    pub(super) async fn goes_on(&self) {
        loop {
            if self.has_ended() {
                pending::<()>().await;
            }
            let thaw = *self.frozen_until.lock();
            match thaw {
                Some(thaw) if thaw > Instant::now() => sleep_until(thaw).await,
                Some(_) | None => return,
            }
        }
    }
}
