//! How ratchets rise: by files and by takings, and what triggers refuse.

use duty::{Claim, Epoch};

use crate::rules::{Attested, Proposed, Ratchet, Watermark};

/// The higher of each: a watermark, as both are.
pub(super) fn higher(one: Watermark, other: Watermark) -> Watermark {
    let (source, target, slot) = one.heights();
    let (other_source, other_target, other_slot) = other.heights();
    Watermark::new(
        source.max(other_source),
        target.max(other_target),
        slot.max(other_slot),
    )
    .unwrap_or(other)
}

/// A side that rises has no root from then on: its top is no message of this ledger's.
pub(super) fn raised_by(old: &Ratchet, claim: &Claim) -> Ratchet {
    match *claim {
        Claim::Attest { source, target } => raised_by_vote(old, source, target.max(source)),
        Claim::Propose { slot } => Ratchet {
            proposed: Some(match old.proposed {
                Some(own) if own.slot >= slot => own,
                Some(_) | None => Proposed { slot, root: None },
            }),
            ..*old
        },
    }
}

fn raised_by_vote(old: &Ratchet, source: Epoch, target: Epoch) -> Ratchet {
    let attested = match old.attested {
        Some(own) if own.source >= source && own.target >= target => own,
        own => Attested {
            source: own.map_or(source, |own| own.source.max(source)),
            target: own.map_or(target, |own| own.target.max(target)),
            root: None,
        },
    };
    Ratchet {
        attested: Some(attested),
        ..*old
    }
}

/// Whether a row may become the other: neither side falls, and no height gets another root.
pub(super) fn only_rises(old: &Ratchet, new: &Ratchet) -> bool {
    let attested = match (old.attested, new.attested) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => {
            let falls = new.source < old.source || new.target < old.target;
            let twice = new.target == old.target && new.root.is_some() && new != old;
            !falls && !twice
        }
    };
    let proposed = match (old.proposed, new.proposed) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => {
            let twice = new.slot == old.slot && new.root.is_some() && new != old;
            new.slot >= old.slot && !twice
        }
    };
    attested && proposed
}
