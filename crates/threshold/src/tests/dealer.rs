//! A dealer for the tests: shares a made-up key, and signs as plain `blst` does.

use std::num::NonZeroU64;

use blst::min_pk;

use super::*;
use crate::bls::Scalar;

const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// A committee, and what its members hold.
pub(super) struct Dealt {
    pub(super) committee: Committee,
    key: Scalar,
    shares: Vec<(ShareIndex, Scalar)>,
}

pub(super) fn deal(seed: usize, threshold: usize, members: &[u64]) -> Dealt {
    let seed = u64::try_from(seed).unwrap();
    let mut state = Scalar::from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
    let coefficients: Vec<Scalar> = (0..threshold)
        .map(|_| {
            state = plus(state.times(state).times(state), Scalar::from_u64(seed | 1));
            state
        })
        .collect();
    let compressed = coefficients.iter();
    let compressed = compressed.map(|coefficient| secret(*coefficient).sk_to_pk().to_bytes());
    let commitments = Commitments::new(compressed.collect()).unwrap();
    let shares: Vec<(ShareIndex, Scalar)> = members
        .iter()
        .map(|&member| {
            let x = Scalar::from_u64(member);
            let terms = coefficients.iter().rev();
            let share = terms.fold(Scalar::from_u64(0), |sum, coefficient| {
                plus(sum.times(x), *coefficient)
            });
            (index(member), share)
        })
        .collect();
    let members = shares.iter().map(|(member, _)| *member).collect();
    Dealt {
        committee: Committee::new(commitments, members).unwrap(),
        key: coefficients[0],
        shares,
    }
}

impl Dealt {
    /// What the whole key signs.
    pub(super) fn signature(&self, root: SigningRoot) -> Signature {
        Signature(sign(self.key, root).to_bytes())
    }

    /// Every member's partial, in the form of `scale`, or plain.
    pub(super) fn partials(
        &self,
        root: SigningRoot,
        scale: Option<NonZeroU64>,
    ) -> Vec<(ShareIndex, PartialSignature)> {
        let partial =
            |(member, share): &(ShareIndex, Scalar)| (*member, partial(*share, root, scale));
        self.shares.iter().map(partial).collect()
    }

    /// In the committee's own scale.
    pub(super) fn scaled(&self, root: SigningRoot) -> Vec<(ShareIndex, PartialSignature)> {
        self.partials(root, Some(self.committee.scale()))
    }

    /// The partial that the member at `position` would give if its share were `error` more.
    pub(super) fn off_by(
        &self,
        position: usize,
        error: Scalar,
        root: SigningRoot,
    ) -> PartialSignature {
        let share = plus(self.shares[position].1, error);
        partial(share, root, Some(self.committee.scale()))
    }
}

fn partial(share: Scalar, root: SigningRoot, scale: Option<NonZeroU64>) -> PartialSignature {
    match scale {
        None => PartialSignature::Plain(sign(share, root).to_bytes()),
        Some(scale) => {
            let divided = share.times(Scalar::from_u64(scale.get()).inverse());
            let point = sign(divided, root).serialize();
            PartialSignature::Scaled { point, scale }
        }
    }
}

pub(super) fn negated(scalar: Scalar) -> Scalar {
    Scalar::from_u64(0).minus(scalar)
}

fn plus(a: Scalar, b: Scalar) -> Scalar {
    a.minus(negated(b))
}

fn sign(secret_scalar: Scalar, root: SigningRoot) -> min_pk::Signature {
    secret(secret_scalar).sign(root.as_bytes(), CIPHERSUITE, &[])
}

fn secret(scalar: Scalar) -> min_pk::SecretKey {
    let mut bytes = scalar.to_le_bytes();
    bytes.reverse();
    min_pk::SecretKey::from_bytes(&bytes).unwrap()
}
