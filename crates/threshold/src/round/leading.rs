//! Leading: what one caller was promised once for all (agreement, leading).

use std::num::NonZeroU64;

use duty::{Claim, Epoch, Slot};

/// One caller's time as the one who leads, by a number that nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lead(pub NonZeroU64);

/// How high the duties go that were promised or signed. All above, of every validator, are untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Horizon {
    /// The highest target epoch.
    pub target: Epoch,
    /// The highest slot of a block.
    pub slot: Slot,
}

impl Horizon {
    /// Whether a claim's duty lies above.
    #[must_use]
    pub fn is_below(&self, claim: &Claim) -> bool {
        match *claim {
            Claim::Attest { target, .. } => self.target < target,
            Claim::Propose { slot } => self.slot < slot,
        }
    }

    /// Where it lies when a claim's duty is touched.
    #[must_use]
    pub fn with(self, claim: &Claim) -> Self {
        match *claim {
            Claim::Attest { target, .. } => Self {
                target: self.target.max(target),
                ..self
            },
            Claim::Propose { slot } => Self {
                slot: self.slot.max(slot),
                ..self
            },
        }
    }

    /// The higher of both, number by number.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            target: self.target.max(other.target),
            slot: self.slot.max(other.slot),
        }
    }
}
