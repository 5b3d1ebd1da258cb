//! Whether the machine stood still without knowing it: a virtual machine that is resumed from a
//! snapshot goes on with a process and a ledger of then, and a clock of now.
//!
//! The time at which this process says in the anchor that it lives is told here, too, and never by
//! a clock that has jumped. A snapshot may be resumed between any two instructions, so that no look
//! at the clock can come before every write. But what is written is the time that has passed since a
//! believed one, by the clock that stands still with the machine: whatever is written after the
//! resume says "then". A start that finds it, however the process ended, is in doubt, until the
//! ratchets were raised.
//!
//! **Invariant:** a jump at any instant is a doubt at the next start, or was made harmless; kept by
//! `simulation::tests::resumes::a_snapshot_resumed_at_any_instant_is_noticed_by_the_run_or_the_next`.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Time, take::AWAY_MAX};
use crate::machine::Machine;

/// How far the wall clock may run ahead of the time that has passed. A clock that is set by more
/// looks the same, and is treated the same.
const JUMP_MAX: Duration = Duration::from_secs(60);

/// A jump of the wall clock that nothing was done about yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) struct Jump {
    pub(in crate::ledger) by: Duration,
    /// When the machine started, by the clock that jumped.
    started: Duration,
}

/// The wall clock against the clock that counts since the machine's start, sleep included. Without
/// a clock that claims are held against, any wall clock is believed: nothing could be raised by it.
pub(in crate::ledger) struct Steadiness {
    machine: Machine,
    time: Time,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When the machine started, by the wall clock as far as it is believed.
    started: Duration,
    /// Stays until it is settled, even if the clock goes back.
    jump: Option<Jump>,
}

impl Jump {
    /// The ratchets may be raised by a clock that has jumped so far. Beyond, it may be wrong, and
    /// what is raised stays.
    pub(in crate::ledger) fn is_plausible(&self) -> bool {
        self.by <= AWAY_MAX
    }
}

impl Steadiness {
    pub(in crate::ledger) fn of(machine: Machine, time: Time) -> Self {
        let started = machine.started();
        Self {
            machine,
            time,
            seen: Mutex::new(Seen {
                started,
                jump: None,
            }),
        }
    }

    /// Looks at the clocks. Returns the farthest jump that is not settled.
    pub(in crate::ledger) fn jump(&self) -> Option<Jump> {
        let mut seen = self.seen.lock();
        self.look(&mut seen);
        seen.jump
    }

    /// The farthest jump that was seen by any look, and is not settled.
    pub(in crate::ledger) fn unsettled(&self) -> Option<Jump> {
        self.seen.lock().jump
    }

    /// Seconds since 1970, by the wall clock as far as it is believed.
    pub(in crate::ledger) fn now_s(&self) -> u64 {
        let mut seen = self.seen.lock();
        self.look(&mut seen);
        seen.started.saturating_add(self.machine.up()).as_secs()
    }

    /// Believes the clock as far as this jump: the ratchets were raised since it was seen. What it
    /// has jumped on since stays to be settled.
    pub(in crate::ledger) fn settle(&self, jump: Jump) {
        let mut seen = self.seen.lock();
        seen.started = jump.started;
        let later = seen.jump.take().map(|later| Jump {
            by: later.started.saturating_sub(jump.started),
            ..later
        });
        seen.jump = later.filter(|later| later.by > JUMP_MAX);
    }

    fn look(&self, seen: &mut Seen) {
        let started = self.machine.started();
        let by = started.saturating_sub(seen.started);
        if by > JUMP_MAX && (self.time)().is_some() {
            if seen.jump.is_none_or(|before| before.by < by) {
                seen.jump = Some(Jump { by, started });
            }
        } else if seen.jump.is_none() {
            seen.started = started;
        }
    }
}
