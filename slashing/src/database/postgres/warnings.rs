//! What a server warns of. A cancelled wait for replication reports success with a warning: from
//! when it is armed, a connection believes no reply that comes after one.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Warnings {
    fatal: AtomicBool,
    last: Mutex<Option<String>>,
}

impl Warnings {
    /// Notes a warning; whether the connection must end now, its pending replies unread.
    pub(super) fn poisoned_by(&self, message: &str) -> bool {
        let fatal = self.fatal.load(Ordering::Relaxed);
        if fatal {
            tracing::warn!(
                warning = message,
                "the server warned; the connection is ended, and what it was doing is not believed"
            );
        }
        *self.last.lock() = Some(message.to_owned());
        fatal
    }

    pub(super) fn take(&self) -> Option<String> {
        self.last.lock().take()
    }

    /// From now on a warning ends the connection. What came with the greeting (that a collation's
    /// version is another, for one) is about no commit, and is forgotten.
    pub(super) fn arm(&self) {
        self.fatal.store(true, Ordering::Relaxed);
        *self.last.lock() = None;
    }
}
