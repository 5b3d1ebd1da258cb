//! Whether a connection has requests under way, and since when it has none.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One connection's requests. Clones are of the same connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    under_way: usize,
    changed: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        Activity(Arc::new(Mutex::new(State {
            under_way: 0,
            changed: Instant::now(),
        })))
    }
}

/// A request under way, until it is dropped: answered, or given up.
pub(super) struct UnderWay(Activity);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.changed = Instant::now();
    }
}

impl Activity {
    pub(super) fn begin(&self) -> UnderWay {
        let mut state = self.0.lock();
        state.under_way = state.under_way.saturating_add(1);
        UnderWay(self.clone())
    }

    /// Ends when nothing has been under way for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let left = {
                let state = self.0.lock();
                if state.under_way > 0 {
                    limit
                } else {
                    limit.saturating_sub(now.saturating_duration_since(state.changed))
                }
            };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}
