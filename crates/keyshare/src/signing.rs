//! Shares that are loaded for signing, alone or many at once.

use std::{borrow::Borrow, collections::BTreeMap, num::NonZeroU64};

use duty::{Permit, SigningRoot};
use threshold::PartialSignature;

use crate::{
    SecretShare,
    bls::{SecretScalar, comb::Comb, digits::Digits},
};

/// A share that is loaded for signing: share/scale mod r, and the digits of that for a comb.
///
/// **Invariant:** it signs nothing without a permit, which the ledger mints after its commit;
/// the types of its methods and of [`sign_all`] keep it.
pub struct SigningShare {
    scale: NonZeroU64,
    scaled: SecretScalar,
    digits: Digits,
}

impl SecretShare {
    /// Loads the share for signing. `scale` is the committee's; 1 is always right.
    #[must_use]
    pub fn into_signing(self, scale: NonZeroU64) -> SigningShare {
        let scaled = if scale == NonZeroU64::MIN {
            self.0
        } else {
            self.0.divided_by(scale)
        };
        SigningShare {
            scale,
            digits: Digits::of(&scaled),
            scaled,
        }
    }
}

impl SigningShare {
    /// Signs the permit's root in the scaled form. The caller has looked this share up by the
    /// permit's validator.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is evidence that is used up by signing"
    )]
    pub fn sign(&self, permit: Permit) -> PartialSignature {
        self.partial(self.scaled.sign_uncompressed(permit.root().as_bytes()))
    }

    /// Signs the permit's root in the plain form, for a caller that knows no other.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is evidence that is used up by signing"
    )]
    pub fn sign_plain(&self, permit: Permit) -> PartialSignature {
        let share = self.scaled.times(self.scale);
        PartialSignature::Plain(share.sign(permit.root().as_bytes()))
    }

    const fn partial(&self, point: [u8; 192]) -> PartialSignature {
        PartialSignature::Scaled {
            point,
            scale: self.scale,
        }
    }
}

/// Signs many permits' roots in the scaled form, each with the share beside it; the answers are
/// in the order of the items. Of a hundred over one root, each costs about an eighth of one alone.
#[must_use]
pub fn sign_all<S: Borrow<SigningShare>>(items: Vec<(S, Permit)>) -> Vec<PartialSignature> {
    let mut by_root: BTreeMap<SigningRoot, Vec<(usize, S)>> = BTreeMap::new();
    for (position, (share, permit)) in items.into_iter().enumerate() {
        by_root
            .entry(permit.root())
            .or_default()
            .push((position, share));
    }
    let mut partials = Vec::new();
    for (root, shares) in by_root {
        let points = points(
            root,
            &shares
                .iter()
                .map(|(_, share)| share.borrow())
                .collect::<Vec<_>>(),
        );
        let signed = shares.iter().zip(points);
        partials.extend(
            signed.map(|((position, share), point)| (*position, share.borrow().partial(point))),
        );
    }
    partials.sort_unstable_by_key(|(position, _)| *position);
    partials.into_iter().map(|(_, partial)| partial).collect()
}

fn points(root: SigningRoot, shares: &[&SigningShare]) -> Vec<[u8; 192]> {
    match window_bits(shares.len()) {
        None => shares
            .iter()
            .map(|share| share.scaled.sign_uncompressed(root.as_bytes()))
            .collect(),
        Some(bits) => {
            let digits: Vec<&Digits> = shares.iter().map(|share| &share.digits).collect();
            Comb::of_hash(root.as_bytes(), bits).multiply(&digits)
        }
    }
}

/// How many bits wide a comb's windows best are for so many shares (`benches/signing`); `None`
/// where no comb pays.
const fn window_bits(shares: usize) -> Option<usize> {
    match shares {
        0..2 => None,
        2..8 => Some(4),
        8..40 => Some(5),
        40..512 => Some(6),
        _ => Some(7),
    }
}
