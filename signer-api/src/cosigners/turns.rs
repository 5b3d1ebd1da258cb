//! Whether what waits in a cosigner's lane will have its turn.

use std::time::Duration;

use duty::DutyKind;
use tokio::time::Instant;

use super::{lane::Lane, latency::Ended, link::Link};

/// Who answers nothing for longer than this lets nobody wait for a turn.
const TURN_WITHIN: Duration = Duration::from_millis(300);

/// What is asked of a cosigner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Promise(DutyKind),
    Signature(DutyKind),
}

impl Link {
    /// Whether it has answered lately what it was asked lately in the same lane: the turn of what waits
    /// there will come.
    pub(crate) fn takes_turns(&self, wanted: Wanted, now: Instant) -> bool {
        let lane = match wanted {
            Wanted::Promise(kind) => Lane::to_promise(kind),
            Wanted::Signature(kind) => Lane::to_sign(kind),
        };
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
