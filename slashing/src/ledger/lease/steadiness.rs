//! Whether the machine stood still without knowing it: a virtual machine that is resumed from a
//! snapshot goes on with a process and a ledger of then, and a clock of now.

use std::time::Duration;

use crate::machine::Machine;

/// How far the wall clock may run ahead of the time that has passed. A clock that is set by more
/// looks the same, and is treated the same.
const JUMP_MAX: Duration = Duration::from_secs(60);

/// The wall clock against the clock that counts since the machine's start, sleep included.
#[derive(Clone)]
pub(in crate::ledger) struct Steadiness {
    machine: Machine,
    /// When the machine started, by the wall clock at the last look.
    started: Duration,
}

impl Steadiness {
    pub(in crate::ledger) fn of(machine: Machine) -> Self {
        let started = machine.started();
        Self { machine, started }
    }

    /// By how much the wall clock has jumped ahead since the last look, if that is too much.
    pub(in crate::ledger) fn jump(&mut self) -> Option<Duration> {
        let started = self.machine.started();
        let jump = started.saturating_sub(self.started);
        if jump > JUMP_MAX {
            return Some(jump);
        }
        self.started = started;
        None
    }
}
