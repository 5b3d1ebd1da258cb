//! Which claims lie so far ahead that one of them would poison a ratchet (agreement, limits).
//!
//! Pure: the time is an argument. Nothing overflows, at any genesis, slot or epoch.

use std::time::Duration;

use duty::{Claim, Epoch, Slot};

/// The chain's time, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Claims are held against the chain's time.
    Checked(ChainTime),
    /// Every claim passes: only for replaying recorded requests.
    Unchecked,
}

/// How a chain divides its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainTime {
    /// Seconds since 1970.
    pub genesis_s: u64,
    /// Length of a slot.
    pub slot: Duration,
    /// Slots of an epoch.
    pub slots_per_epoch: u64,
}

/// A claim lies beyond this cosigner's clock. The clock may be the one that is wrong, so this is
/// an abstention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeyondClock {
    /// The target is after the next epoch.
    #[error("target epoch {target} lies beyond the epoch after {now}")]
    Target {
        /// The claim's target.
        target: Epoch,
        /// Where the clock stands.
        now: Now,
    },
    /// The source cannot be justified yet.
    #[error("source epoch {source_epoch} cannot be justified at {now}")]
    Source {
        /// The claim's source.
        source_epoch: Epoch,
        /// Where the clock stands.
        now: Now,
    },
    /// The slot is after the next one.
    #[error("slot {slot} lies beyond the slot after {now}")]
    Slot {
        /// The claim's slot.
        slot: Slot,
        /// Where the clock stands.
        now: Now,
    },
}

/// Where a clock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// Before the first slot.
    BeforeGenesis,
    /// In a slot.
    At {
        /// The slot.
        slot: Slot,
        /// Its epoch.
        epoch: Epoch,
    },
}

impl std::fmt::Display for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BeforeGenesis => f.write_str("a time before genesis"),
            Self::At { slot, epoch } => write!(f, "slot {slot} of epoch {epoch}"),
        }
    }
}

impl Clock {
    /// Holds a claim against the time since 1970.
    ///
    /// A target may be at most the next epoch's, a slot the next one; a source lies before the
    /// current epoch, except the genesis epoch's, which is justified from the start. Before
    /// genesis the next epoch and slot are number 0.
    ///
    /// # Errors
    /// [`BeyondClock`] names the number that is too large.
    pub fn check(&self, claim: &Claim, since_1970: Duration) -> Result<(), BeyondClock> {
        let Self::Checked(chain) = self else {
            return Ok(());
        };
        let now = chain.at(since_1970);
        let (next_slot, next_epoch, first_unjustified) = match now {
            Now::BeforeGenesis => (0, 0, 0),
            Now::At { slot, epoch } => {
                (slot.0.saturating_add(1), epoch.0.saturating_add(1), epoch.0)
            }
        };
        match *claim {
            Claim::Attest { target, .. } if target.0 > next_epoch => {
                Err(BeyondClock::Target { target, now })
            }
            Claim::Attest { source, .. } if source.0 > 0 && source.0 >= first_unjustified => {
                Err(BeyondClock::Source {
                    source_epoch: source,
                    now,
                })
            }
            Claim::Propose { slot } if slot.0 > next_slot => Err(BeyondClock::Slot { slot, now }),
            Claim::Attest { .. } | Claim::Propose { .. } => Ok(()),
        }
    }

    /// Where the clock stands; an unchecked clock stands nowhere.
    #[must_use]
    pub fn now(&self, since_1970: Duration) -> Option<Now> {
        match self {
            Self::Checked(chain) => Some(chain.at(since_1970)),
            Self::Unchecked => None,
        }
    }
}

impl ChainTime {
    fn at(&self, since_1970: Duration) -> Now {
        let Some(since_genesis) = since_1970.checked_sub(Duration::from_secs(self.genesis_s))
        else {
            return Now::BeforeGenesis;
        };
        let slots = since_genesis.as_nanos() / self.slot.as_nanos().max(1);
        let slot = u64::try_from(slots).unwrap_or(u64::MAX);
        Now::At {
            slot: Slot(slot),
            epoch: Epoch(slot / self.slots_per_epoch.max(1)),
        }
    }
}

impl Now {
    /// Whether a duty is so old that the chain takes it no more: an attestation after the epoch
    /// that follows its target (EIP-7045), a block after an epoch's length of slots.
    #[must_use]
    pub fn is_past(self, claim: &Claim, slots_per_epoch: u64) -> bool {
        match (self, *claim) {
            (Self::BeforeGenesis, _) => false,
            (Self::At { epoch, .. }, Claim::Attest { target, .. }) => {
                target.0.saturating_add(1) < epoch.0
            }
            (Self::At { slot: now, .. }, Claim::Propose { slot }) => {
                slot.0.saturating_add(slots_per_epoch) < now.0
            }
        }
    }
}
