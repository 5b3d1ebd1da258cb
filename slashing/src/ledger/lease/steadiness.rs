//! Whether the machine stood still without knowing it: a virtual machine that is resumed from a
//! snapshot goes on with a process and a ledger of then, and a clock of now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// How far the wall clock may run ahead of the time that has passed. A clock that is set by more
/// looks the same, and is treated the same.
const JUMP_MAX: Duration = Duration::from_secs(60);

/// The wall clock against the clock that counts since the machine's start, sleep included.
#[derive(Debug, Clone, Copy)]
pub(in crate::ledger) struct Steadiness {
    /// When the machine started, by the wall clock at the last look.
    started: Duration,
}

impl Steadiness {
    pub(in crate::ledger) fn new() -> Self {
        Self {
            started: machine_started(),
        }
    }

    /// By how much the wall clock has jumped ahead since the last look, if that is too much.
    pub(in crate::ledger) fn jump(&mut self) -> Option<Duration> {
        let started = machine_started();
        let jump = started.saturating_sub(self.started);
        if jump > JUMP_MAX {
            return Some(jump);
        }
        self.started = started;
        None
    }
}

fn machine_started() -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let up = clock_gettime(ClockId::Boottime);
    let up = Duration::try_from(up).unwrap_or_default();
    now.saturating_sub(up)
}
