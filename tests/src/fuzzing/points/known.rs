//! Committees whose secrets are known, and what their members honestly say.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{LazyLock, Mutex},
};

use bls12_381_plus::Scalar;
use duty::{Duty, Epoch, ForkVersion, PublicKey, Root, SigningOrder, SigningRoot};
use keyshare::{SecretKey, SecretShare, Split, split};
use threshold::{Commitments, Committee, PartialSignature, ShareIndex, Signature};

/// Partials that are remembered: an input makes few, and most make the same.
const REMEMBERED_MAX: usize = 4_096;

/// Different things to sign.
pub(super) const ROOTS: usize = 3;

/// Whose committees they are: two have the same key.
pub(in crate::fuzzing) const COMMITTEES: u8 = 4;

/// A committee, its members in ascending order, and their shares.
pub(super) struct Known {
    pub(super) committee: Committee,
    pub(super) indices: Vec<ShareIndex>,
    pub(super) signatures: [Signature; ROOTS],
    key: Scalar,
    shares: Vec<Scalar>,
}

/// Of the second no integers of few bits are the weights: it has no scale.
pub(super) static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let sizes: [(u8, usize, &[u64]); COMMITTEES as usize] = [
        (7, 2, &[1, 2, 3]),
        (7, 3, &[1, 2, 7, u64::MAX]),
        (8, 5, &[1, 2, 3, 4, 5, 6, 7]),
        (9, 3, &[1, 2, 3, 4]),
    ];
    sizes
        .map(|(key, threshold, members)| Known::new(key, threshold, members))
        .into()
});

impl Known {
    fn new(key: u8, threshold: usize, members: &[u64]) -> Self {
        let members = members.iter().map(|&value| ShareIndex::new(value).unwrap());
        let mut state = u64::from(key);
        let mut entropy = |slice: &mut [u8]| {
            for byte in slice {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
        };
        let bytes = [key; 32];
        let whole = SecretKey::from_be_bytes(&bytes).unwrap();
        let made = split(whole, threshold, &members.collect(), &mut entropy).unwrap();
        let Split { committee, shares } = made;
        let key = scalar(&bytes);
        let signature = |root| match signed(key, root, None) {
            PartialSignature::Plain(point) => Signature(point),
            PartialSignature::Scaled { .. } => panic!("plain signing gives the plain form"),
        };
        Self {
            indices: shares.keys().copied().collect(),
            signatures: std::array::from_fn(signature),
            shares: shares
                .values()
                .map(|share| scalar(&share.to_be_bytes()))
                .collect(),
            key,
            committee,
        }
    }

    pub(super) fn position(&self, index: ShareIndex) -> Option<usize> {
        self.indices.iter().position(|known| *known == index)
    }

    /// The one partial of a member in that form: of the scale, or plain.
    pub(super) fn honest(
        &self,
        at: usize,
        root: usize,
        scale: Option<NonZeroU64>,
    ) -> PartialSignature {
        signed(self.shares[at], root, scale)
    }

    /// What a member with another share would give.
    pub(super) fn dishonest(
        &self,
        at: usize,
        share: &Share,
        root: usize,
        scale: Option<NonZeroU64>,
    ) -> PartialSignature {
        let own = self.shares[at];
        let share = match share {
            Share::Negated => -own,
            Share::Above => own + Scalar::ONE,
            Share::Below => own - Scalar::ONE,
            Share::Whole => self.key,
        };
        signed(share, root, scale)
    }

    /// Whether these are the bytes that this member alone makes: in each form a partial has one
    /// encoding.
    pub(super) fn is_honest(
        &self,
        index: ShareIndex,
        root: usize,
        partial: PartialSignature,
    ) -> bool {
        let scale = match partial {
            PartialSignature::Plain(_) => None,
            PartialSignature::Scaled { scale, .. } => Some(scale),
        };
        let own = self.position(index).map(|at| self.honest(at, root, scale));
        own == Some(partial)
    }

    /// The same committee as a signer-api makes it, which checks no more than the key; or, of
    /// `Faith::Misplaced`, one that has a commitment which is none.
    pub(super) fn with(&self, faith: Faith) -> Committee {
        let mut points = self.committee.commitments().as_slice().to_vec();
        let commitments = match faith {
            Faith::Checked => return self.committee.clone(),
            Faith::Deferred => Commitments::deferred(points),
            Faith::Misplaced => {
                *points.last_mut().unwrap() = [0xff; 48];
                Commitments::deferred(points)
            }
        };
        Committee::new(commitments.unwrap(), self.committee.members().clone()).unwrap()
    }
}

/// A share that is not the member's own: its negative, one more, one less, or the whole key.
pub(super) enum Share {
    Negated,
    Above,
    Below,
    Whole,
}

/// When a committee's commitments are checked, and whether they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faith {
    Checked,
    Deferred,
    Misplaced,
}

pub(super) fn root(number: usize) -> SigningRoot {
    order(number).signing_root()
}

fn order(number: usize) -> SigningOrder {
    SigningOrder {
        validator: PublicKey([0; 48]),
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root::ZERO,
        duty: Duty::RandaoReveal(Epoch(u64::try_from(number).unwrap() + 1)),
    }
}

fn scalar(bytes: &[u8; 32]) -> Scalar {
    Option::from(Scalar::from_be_bytes(bytes)).unwrap()
}

/// Plain signing with the share, divided in other arithmetic than the product's.
fn signed(share: Scalar, root: usize, scale: Option<NonZeroU64>) -> PartialSignature {
    type Made = BTreeMap<([u8; 32], usize, Option<NonZeroU64>), PartialSignature>;
    static MADE: Mutex<Made> = Mutex::new(BTreeMap::new());

    let key = (share.to_be_bytes(), root, scale);
    if let Some(known) = MADE.lock().unwrap().get(&key) {
        return *known;
    }
    let permit = order(root).permit_without_claim().unwrap();
    let partial = match scale {
        None => SecretShare::from_be_bytes(&key.0).unwrap().sign(permit),
        Some(scale) => {
            let inverse: Scalar = Option::from(Scalar::from(scale.get()).invert()).unwrap();
            let divided = (share * inverse).to_be_bytes();
            let divided = SecretShare::from_be_bytes(&divided).unwrap();
            match divided.into_signing(NonZeroU64::MIN).sign(permit) {
                PartialSignature::Scaled { point, .. } => PartialSignature::Scaled { point, scale },
                PartialSignature::Plain(_) => panic!("a loaded share gives the scaled form"),
            }
        }
    };
    let mut made = MADE.lock().unwrap();
    if made.len() < REMEMBERED_MAX {
        made.insert(key, partial);
    }
    partial
}
