//! The rule, EIP-3076's minimal strategy: a ratchet per validator that only rises.
//!
//! Pure: values in, values out.
//!
//! **Invariant:** whatever sequence of claims is put to [`decide`], no two of those it advanced or
//! repeated are slashable together; kept by
//! `tests::exhaustive::no_history_that_was_allowed_is_slashable`.

use std::fmt;

use duty::{Claim, Epoch, SigningRoot, Slot};

/// The greatest epoch or slot that is taken: what a database's signed 64-bit integer holds.
pub const HEIGHT_MAX: u64 = i64::MAX.unsigned_abs();

/// What one validator has signed at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ratchet {
    /// The attestation side; `None` if nothing was ever attested.
    pub attested: Option<Attested>,
    /// The block side; `None` if nothing was ever proposed.
    pub proposed: Option<Proposed>,
}

/// The highest source and the highest target epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attested {
    /// The highest source epoch.
    pub source: Epoch,
    /// The highest target epoch.
    pub target: Epoch,
    /// The root of the one message with exactly this source and target that this ledger decided;
    /// `None` where an import set either of the two, so that nothing can repeat it.
    pub root: Option<SigningRoot>,
}

/// The highest slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Proposed {
    /// The highest slot.
    pub slot: Slot,
    /// The root of the block at that slot that this ledger decided; `None` where an import set it.
    pub root: Option<SigningRoot>,
}

/// What the rule says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may be signed once the ratchet is written as given.
    Advance(Ratchet),
    /// It is the very message at the top of the ratchet, and may be signed again.
    Repeat,
    /// It must not be signed.
    Conflict(Conflict),
}

/// Which rule a claim breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Conflict {
    /// Epochs and slots above [`HEIGHT_MAX`] are not taken.
    #[error("{0} {1} does not fit a signed 64-bit integer")]
    OutOfRange(Height, u64),
    /// An attestation's source must not be after its target.
    #[error("source epoch {source_epoch} is after target epoch {target}")]
    SourceAfterTarget {
        /// The claimed source.
        source_epoch: Epoch,
        /// The claimed target.
        target: Epoch,
    },
    /// A source must not be below the highest one.
    #[error("source epoch {source_epoch} is below the highest source epoch {highest}")]
    SourceBelow {
        /// The claimed source.
        source_epoch: Epoch,
        /// The ratchet's source.
        highest: Epoch,
    },
    /// A target must be above the highest one.
    #[error("target epoch {target} is not above the highest target epoch {highest}")]
    TargetNotAbove {
        /// The claimed target.
        target: Epoch,
        /// The ratchet's target.
        highest: Epoch,
    },
    /// A slot must be above the highest one.
    #[error("slot {slot} is not above the highest slot {highest}")]
    SlotNotAbove {
        /// The claimed slot.
        slot: Slot,
        /// The ratchet's slot.
        highest: Slot,
    },
}

/// What a number of a claim measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Height {
    /// An attestation's source epoch.
    Source,
    /// An attestation's target epoch.
    Target,
    /// A block's slot.
    Slot,
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source epoch",
            Self::Target => "target epoch",
            Self::Slot => "slot",
        })
    }
}

/// Whether the message with this claim and root may be signed.
#[must_use]
pub fn decide(ratchet: &Ratchet, claim: &Claim, root: SigningRoot) -> Verdict {
    let verdict = match *claim {
        Claim::Attest { source, target } => attest(ratchet, source, target, root),
        Claim::Propose { slot } => propose(ratchet, slot, root),
    };
    verdict.unwrap_or_else(Verdict::Conflict)
}

fn attest(
    ratchet: &Ratchet,
    source: Epoch,
    target: Epoch,
    root: SigningRoot,
) -> Result<Verdict, Conflict> {
    in_range(Height::Source, source.0)?;
    in_range(Height::Target, target.0)?;
    if source > target {
        return Err(Conflict::SourceAfterTarget {
            source_epoch: source,
            target,
        });
    }
    let claimed = Attested {
        source,
        target,
        root: Some(root),
    };
    if let Some(highest) = ratchet.attested {
        if highest == claimed {
            return Ok(Verdict::Repeat);
        }
        if source < highest.source {
            return Err(Conflict::SourceBelow {
                source_epoch: source,
                highest: highest.source,
            });
        }
        if target <= highest.target {
            return Err(Conflict::TargetNotAbove {
                target,
                highest: highest.target,
            });
        }
    }
    Ok(Verdict::Advance(Ratchet {
        attested: Some(claimed),
        ..*ratchet
    }))
}

fn propose(ratchet: &Ratchet, slot: Slot, root: SigningRoot) -> Result<Verdict, Conflict> {
    in_range(Height::Slot, slot.0)?;
    let claimed = Proposed {
        slot,
        root: Some(root),
    };
    if let Some(highest) = ratchet.proposed {
        if highest == claimed {
            return Ok(Verdict::Repeat);
        }
        if slot <= highest.slot {
            return Err(Conflict::SlotNotAbove {
                slot,
                highest: highest.slot,
            });
        }
    }
    Ok(Verdict::Advance(Ratchet {
        proposed: Some(claimed),
        ..*ratchet
    }))
}

fn in_range(height: Height, value: u64) -> Result<(), Conflict> {
    if value > HEIGHT_MAX {
        return Err(Conflict::OutOfRange(height, value));
    }
    Ok(())
}

/// What others are known to have signed at most: it raises a ratchet and licenses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watermark {
    source: Epoch,
    target: Epoch,
    slot: Slot,
}

impl Watermark {
    /// A watermark below which, and at whose target and slot, nothing will be signed.
    ///
    /// # Errors
    /// A source after the target, or a value above [`HEIGHT_MAX`].
    pub fn new(source: Epoch, target: Epoch, slot: Slot) -> Result<Self, Conflict> {
        in_range(Height::Source, source.0)?;
        in_range(Height::Target, target.0)?;
        in_range(Height::Slot, slot.0)?;
        if source > target {
            return Err(Conflict::SourceAfterTarget {
                source_epoch: source,
                target,
            });
        }
        Ok(Self {
            source,
            target,
            slot,
        })
    }

    /// Its source epoch, target epoch and slot.
    #[must_use]
    pub const fn heights(&self) -> (Epoch, Epoch, Slot) {
        (self.source, self.target, self.slot)
    }
}

impl Ratchet {
    /// This ratchet, raised to at least the watermark. A side that the watermark raised has no
    /// known root: its top is no message that this ledger decided. Nothing is ever lowered.
    #[must_use]
    pub fn raised_to(&self, watermark: &Watermark) -> Self {
        let attested = match self.attested {
            Some(own) if own.source >= watermark.source && own.target >= watermark.target => own,
            own => Attested {
                source: own.map_or(watermark.source, |own| own.source.max(watermark.source)),
                target: own.map_or(watermark.target, |own| own.target.max(watermark.target)),
                root: None,
            },
        };
        let proposed = match self.proposed {
            Some(own) if own.slot >= watermark.slot => own,
            _ => Proposed {
                slot: watermark.slot,
                root: None,
            },
        };
        Self {
            attested: Some(attested),
            proposed: Some(proposed),
        }
    }
}

#[cfg(test)]
mod tests;
