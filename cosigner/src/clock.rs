//! Which claims lie so far ahead that one of them would poison a ratchet (agreement, limits).
//!
//! Pure: the time is an argument. Nothing overflows, at any genesis, slot or epoch.

use std::time::Duration;

use duty::{Claim, Epoch, Slot};
use slashing::Position;

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
        let (next_epoch, next_slot) = now.next();
        let first_unjustified = match now {
            Now::BeforeGenesis => 0,
            Now::At { epoch, .. } => epoch.0,
        };
        match *claim {
            Claim::Attest { target, .. } if target > next_epoch => {
                Err(BeyondClock::Target { target, now })
            }
            Claim::Attest { source, .. } if source.0 > 0 && source.0 >= first_unjustified => {
                Err(BeyondClock::Source {
                    source_epoch: source,
                    now,
                })
            }
            Claim::Propose { slot } if slot > next_slot => Err(BeyondClock::Slot { slot, now }),
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

impl Clock {
    /// Where the clock stands at a time since 1970; before genesis at its first slot. `None` if it
    /// is unchecked.
    #[must_use]
    pub fn position(&self, since_1970: Duration) -> Option<Position> {
        self.now(since_1970).map(|now| match now {
            Now::BeforeGenesis => Position {
                epoch: Epoch(0),
                slot: Slot(0),
            },
            Now::At { slot, epoch } => Position { epoch, slot },
        })
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
    /// The next epoch and the next slot, the highest that anyone signs by this clock. Before
    /// genesis these are number 0.
    #[must_use]
    pub fn next(self) -> (Epoch, Slot) {
        match self {
            Self::BeforeGenesis => (Epoch(0), Slot(0)),
            Self::At { slot, epoch } => (
                Epoch(epoch.0.saturating_add(1)),
                Slot(slot.0.saturating_add(1)),
            ),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS_S: u64 = 1_606_824_023;
    const CHAIN: ChainTime = ChainTime {
        genesis_s: GENESIS_S,
        slot: Duration::from_secs(12),
        slots_per_epoch: 32,
    };

    fn attest(source: u64, target: u64) -> Claim {
        Claim::Attest {
            source: Epoch(source),
            target: Epoch(target),
        }
    }

    fn propose(slot: u64) -> Claim {
        Claim::Propose { slot: Slot(slot) }
    }

    /// At the start of a slot, less a nanosecond if `before`.
    fn at(slot: u64, before: u32) -> Duration {
        Duration::from_secs(GENESIS_S + slot * 12) - Duration::from_nanos(before.into())
    }

    #[test]
    fn claims_are_held_against_the_epoch_and_the_slot_of_the_clock() {
        let epoch_10 = at(320, 0);
        for (now, claim, taken) in [
            (epoch_10, attest(9, 10), true),
            (epoch_10, attest(9, 11), true),
            (epoch_10, attest(9, 12), false),
            (epoch_10, attest(10, 11), false),
            (epoch_10, attest(11, 11), false),
            (epoch_10, attest(0, 1), true),
            (at(320, 1), attest(9, 10), false),
            (at(320, 1), attest(8, 10), true),
            (epoch_10, propose(320), true),
            (epoch_10, propose(321), true),
            (epoch_10, propose(322), false),
            (at(320, 1), propose(321), false),
            (epoch_10, propose(0), true),
        ] {
            let answer = Clock::Checked(CHAIN).check(&claim, now);
            assert_eq!(answer.is_ok(), taken, "{claim:?}: {answer:?}");
        }
    }

    #[test]
    fn the_genesis_epoch_is_justified_from_the_start() {
        for (now, claim, taken) in [
            (at(0, 0), attest(0, 0), true),
            (at(0, 0), attest(0, 1), true),
            (at(0, 0), attest(0, 2), false),
            (at(0, 0), attest(1, 1), false),
            (at(0, 0), propose(1), true),
            (at(0, 0), propose(2), false),
            (at(0, 1), attest(0, 0), true),
            (at(0, 1), attest(0, 1), false),
            (at(0, 1), propose(0), true),
            (at(0, 1), propose(1), false),
            (Duration::ZERO, attest(0, 0), true),
            (Duration::ZERO, attest(1, 0), false),
        ] {
            let answer = Clock::Checked(CHAIN).check(&claim, now);
            assert_eq!(answer.is_ok(), taken, "{claim:?}: {answer:?}");
        }
    }

    #[test]
    fn nothing_overflows_at_any_edge() {
        let edges = [0, 1, u64::MAX - 1, u64::MAX];
        let lengths = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
        for (genesis_s, slots_per_epoch) in edges.iter().flat_map(|g| edges.map(|s| (*g, s))) {
            for slot in lengths {
                let clock = Clock::Checked(ChainTime {
                    genesis_s,
                    slot,
                    slots_per_epoch,
                });
                for now in [Duration::ZERO, Duration::from_secs(u64::MAX), Duration::MAX] {
                    for claim in edges.iter().flat_map(|a| edges.map(|b| attest(*a, b))) {
                        let _any = clock.check(&claim, now);
                    }
                    for number in edges {
                        let _any = clock.check(&propose(number), now);
                        let now = clock.now(now).unwrap();
                        let _any = now.is_past(&propose(number), slots_per_epoch);
                        let _any = now.is_past(&attest(0, number), slots_per_epoch);
                    }
                }
            }
        }
        assert!(
            Clock::Checked(CHAIN)
                .check(&attest(0, u64::MAX), at(320, 0))
                .is_err()
        );
        assert!(
            Clock::Checked(CHAIN)
                .check(&attest(u64::MAX, 1), at(320, 0))
                .is_err()
        );
        assert!(
            Clock::Checked(CHAIN)
                .check(&propose(u64::MAX), at(320, 0))
                .is_err()
        );
    }

    #[test]
    fn an_unchecked_clock_takes_everything() {
        let claim = attest(u64::MAX, u64::MAX);
        assert_eq!(Clock::Unchecked.check(&claim, Duration::ZERO), Ok(()));
        assert_eq!(Clock::Unchecked.now(Duration::MAX), None);
    }

    #[test]
    fn duties_are_past_when_the_chain_takes_them_no_more() {
        let now = Clock::Checked(CHAIN).now(at(320, 0)).unwrap();
        for (claim, past) in [
            (attest(0, 8), true),
            (attest(0, 9), false),
            (attest(0, 10), false),
            (propose(287), true),
            (propose(288), false),
        ] {
            assert_eq!(now.is_past(&claim, 32), past, "{claim:?}");
        }
        assert!(!Now::BeforeGenesis.is_past(&propose(0), 32));
    }
}
