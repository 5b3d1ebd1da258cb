//! Whether what waits in a cosigner's lane will have its turn.

use std::time::Duration;

use tokio::time::Instant;

use super::{lane::Lane, latency::Ended, link::Link};

/// Who answers nothing for longer than this lets nobody wait for a turn.
const TURN_WITHIN: Duration = Duration::from_millis(300);

impl Link {
    /// Whether it has answered lately what it was asked lately in the same lane: the turn of what waits
    /// there will come.
    pub(crate) fn takes_turns(&self, lane: Lane, now: Instant) -> bool {
        let queue = self.queue(lane);
        queue.is_some_and(|queue| queue.quiet().lock().lasts(now) <= TURN_WITHIN)
    }

    /// A batch is sent; [`Self::ended`] must follow.
    pub(super) fn began(&self, lane: Lane, now: Instant) {
        self.latency().began(lane.work(), now);
        if let Some(queue) = self.queue(lane) {
            queue.quiet().lock().began(now);
        }
    }

    pub(super) fn ended(&self, lane: Lane, now: Instant, how: Ended) {
        self.latency().ended(lane.work(), now, how);
        if let Some(queue) = self.queue(lane) {
            queue.quiet().lock().ended(now, how);
        }
    }
}
