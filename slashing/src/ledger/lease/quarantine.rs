//! What a ledger that may have forgotten something has to do before it may be believed again.
//!
//! Whatever was forgotten was decided by this cosigner, under its clock, or imported, and signed
//! under another's, so it lies at most at the clock's epoch and slot plus one, or, if the clock has
//! gone back since, where the anchor has seen the ledger. Every ratchet is raised to there, its
//! source too: nothing above surrounds or doubles anything below. That is committed before anything is decided, so the
//! quarantine's end is a matter of liveness only: attestations have such a source again about two
//! epochs later, and until then the cosigner abstains.

use duty::{Epoch, Slot};

use super::{Position, Quarantine};
use crate::{
    anchor::{Found, Highest},
    ledger::standing::Doubt,
    rules::{Conflict, Watermark},
};

/// The heights that every ratchet is raised to, and what is refused until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) struct Raising {
    pub(in crate::ledger) watermark: Watermark,
    pub(in crate::ledger) quarantine: Option<Quarantine>,
}

/// Why there is no way to tell how high to go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unraisable {
    /// There is no clock and no anchor of this ledger.
    #[error(
        "the ledger may have forgotten what it decided ({0}), and with clock = \"unchecked\" nothing \
         says how high that was: set clock = \"checked\" for one start"
    )]
    NoClock(Doubt),
    /// A height of clock or anchor is none.
    #[error("the ledger may have forgotten what it decided, and cannot be raised: {0}")]
    Impossible(#[from] Conflict),
}

impl Highest {
    /// As high as anybody can have signed by now, the next epoch and slot included.
    pub(super) const fn by(now: Position) -> Self {
        let next = Epoch(now.epoch.0.saturating_add(1));
        Self {
            source: next,
            target: next,
            slot: Slot(now.slot.0.saturating_add(1)),
        }
    }

    /// Of how high a ledger has come, what an anchor counts: what was imported is forgotten with a
    /// ledger that is put back, as what was decided is. What lies beyond the clock, such as a
    /// validator's ratchet that was raised for good, nobody has signed, and would raise all others.
    pub(crate) fn within(self, now: Option<Position>) -> Self {
        now.map_or(self, |now| self.min(Self::by(now)))
    }
}

/// How a ledger in doubt is raised.
pub(in crate::ledger) fn raising(
    doubt: &Doubt,
    found: &Found,
    now: Option<Position>,
) -> Result<Raising, Unraisable> {
    let highest = match (doubt, found) {
        // What the anchor says of another ledger says nothing of this one.
        (Doubt::AnotherLedger, _) | (_, Found::Nothing | Found::Damaged) => None,
        (_, Found::Mark(mark)) => Some(mark.highest),
    };
    let from_clock = now.map(Highest::by);
    let reach = match (from_clock, highest) {
        (Some(clock), Some(anchor)) => clock.max(anchor),
        (Some(only), None) => only,
        // Without a clock, only what the anchor has followed commit by commit is known.
        (None, Some(anchor)) if matches!(doubt, Doubt::Behind { .. } | Doubt::LogBehind) => anchor,
        (None, _) => return Err(Unraisable::NoClock(doubt.clone())),
    };
    let watermark = Watermark::new(reach.source, reach.target, reach.slot)?;
    let quarantine = now.map(|_| Quarantine {
        until: Epoch(reach.target.0.saturating_add(1)),
        reason: doubt.to_string(),
    });
    Ok(Raising {
        watermark,
        quarantine,
    })
}
