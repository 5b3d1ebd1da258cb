//! What the specifications say about signed messages. Written from their text, not from the rule
//! under test: nothing here knows a ratchet.

use duty::{Claim, SigningRoot};

/// A signed message. Its root is all that tells messages with the same numbers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Attestation { source: u64, target: u64, root: u8 },
    Block { slot: u64, root: u8 },
}

impl Signed {
    pub(super) fn claim(self) -> Claim {
        match self {
            Self::Attestation { source, target, .. } => super::attest(source, target),
            Self::Block { slot, .. } => super::propose(slot),
        }
    }

    pub(super) fn root(self) -> SigningRoot {
        match self {
            Self::Attestation { root, .. } | Self::Block { root, .. } => SigningRoot([root; 32]),
        }
    }
}

/// Whether whoever signed both can be slashed: consensus specification, phase0,
/// `process_attester_slashing` and `process_proposer_slashing`.
pub(super) fn slashable(first: Signed, second: Signed) -> bool {
    slashable_as_ordered(first, second) || slashable_as_ordered(second, first)
}

/// `is_slashable_attestation_data`, which looks at one order only, and the conditions on the two
/// headers of a `ProposerSlashing`.
fn slashable_as_ordered(first: Signed, second: Signed) -> bool {
    let differ = first != second;
    match (first, second) {
        (
            Signed::Attestation {
                source: s1,
                target: t1,
                ..
            },
            Signed::Attestation {
                source: s2,
                target: t2,
                ..
            },
        ) => {
            let double_vote = differ && t1 == t2;
            let surround_vote = s1 < s2 && t2 < t1;
            double_vote || surround_vote
        }
        (Signed::Block { slot: slot1, .. }, Signed::Block { slot: slot2, .. }) => {
            slot1 == slot2 && differ
        }
        (Signed::Attestation { .. }, Signed::Block { .. })
        | (Signed::Block { .. }, Signed::Attestation { .. }) => false,
    }
}

/// Conditions 2, 4 and 5 of EIP-3076 as its minimal strategy has them, over the messages that were
/// signed: whether it refuses to sign this one as well. (Conditions 1 and 3, on the minimum, are
/// implied where the maximum is looked at.) It knows no repeats.
pub(super) fn refused_by_eip_3076(signed: &[Signed], message: Signed) -> bool {
    signed.iter().any(|earlier| match (*earlier, message) {
        (
            Signed::Attestation {
                source: s1,
                target: t1,
                ..
            },
            Signed::Attestation {
                source: s2,
                target: t2,
                ..
            },
        ) => s2 < s1 || t2 <= t1,
        (Signed::Block { slot: slot1, .. }, Signed::Block { slot: slot2, .. }) => slot2 <= slot1,
        (Signed::Attestation { .. }, Signed::Block { .. })
        | (Signed::Block { .. }, Signed::Attestation { .. }) => false,
    })
}

/// Whether no chain takes such a message: `is_valid_attestation_data` wants a source that is not
/// after the target.
pub(super) fn impossible(message: Signed) -> bool {
    match message {
        Signed::Attestation { source, target, .. } => source > target,
        Signed::Block { .. } => false,
    }
}
