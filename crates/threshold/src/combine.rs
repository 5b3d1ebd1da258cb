//! From partial signatures to a signature, and from a bad signature to who is to blame.

use std::collections::BTreeSet;

use duty::{PublicKey, SigningRoot};

use crate::{
    Committee, InvalidCommitments, PartialSignature, ShareIndex, Signature,
    bls::{CurvePoint, G1, G2, G2Sum, HashedMessage, InvalidPoint, Scalar},
    lagrange::lagrange_at_zero,
    together::{Combination, combine},
};

/// A partial signature that its member's share made, over this root: evidence by move.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedPartial {
    index: ShareIndex,
    root: SigningRoot,
    partial: PartialSignature,
}

impl VerifiedPartial {
    /// Whose it is.
    #[must_use]
    pub const fn index(&self) -> ShareIndex {
        self.index
    }

    /// What it signs.
    #[must_use]
    pub const fn root(&self) -> SigningRoot {
        self.root
    }

    /// Its bytes.
    #[must_use]
    pub const fn partial(&self) -> PartialSignature {
        self.partial
    }
}

/// Why a partial signature is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPartial {
    /// The index is not in the committee.
    #[error("{0} is no member of the committee")]
    NotAMember(ShareIndex),
    /// The bytes are no usable point.
    #[error("the partial signature is {0}")]
    Point(InvalidPoint),
    /// A point that the member's share did not make over this root.
    #[error("the partial signature does not verify under the member's public share")]
    Mismatch,
    /// The member's public share is not known, so that the partial may be good: not to be blamed.
    #[error("the member has no public share, because {0}")]
    Commitments(InvalidCommitments),
}

/// Why partials make no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Fewer partials than the threshold.
    #[error("{got} partial signatures, fewer than the threshold of {threshold}")]
    TooFew {
        /// How many were given.
        got: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// One index twice.
    #[error("two partial signatures with the index {0}")]
    Duplicate(ShareIndex),
    /// An index that is not in the committee.
    #[error("{0} is no member of the committee")]
    NotAMember(ShareIndex),
    /// These members' partials are bad. The others' are good and may be combined again.
    #[error("bad partial signatures of the members {}", Listed(.0))]
    Blame(Vec<ShareIndex>),
    /// The partials make no signature, and who is to blame cannot be told.
    #[error("bad partial signatures, and the members have no public shares, because {0}")]
    Commitments(InvalidCommitments),
    /// Each partial verifies, their combination does not: mathematics excludes it, so this
    /// machine computes wrongly.
    #[error("good partial signatures combined to a bad signature: this machine computes wrongly")]
    Unexplained,
}

struct Listed<'a>(&'a [ShareIndex]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, index) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{index}")?;
        }
        Ok(())
    }
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The public key is no usable point.
    #[error("the public key is {0}")]
    Key(InvalidPoint),
    /// The signature is no usable point.
    #[error("the signature is {0}")]
    Signature(InvalidPoint),
    /// Two points that do not belong together over this root.
    #[error("the signature does not verify under the public key")]
    Mismatch,
}

/// Whether `signature` is `key`'s over `root`: both points decoded, on the curve, in their
/// subgroups and not infinity, and the pairing holds.
///
/// # Errors
/// [`BadSignature`] says which of that fails.
pub fn verify(
    key: &PublicKey,
    root: SigningRoot,
    signature: &Signature,
) -> Result<(), BadSignature> {
    let key = G1::decode(key.as_bytes()).map_err(BadSignature::Key)?;
    let signature = CurvePoint::decode(signature.as_bytes())
        .and_then(CurvePoint::in_subgroup)
        .map_err(BadSignature::Signature)?;
    if HashedMessage::new(root.as_bytes()).is_signed_by(&key, &signature) {
        Ok(())
    } else {
        Err(BadSignature::Mismatch)
    }
}

impl Committee {
    /// Verifies one member's partial signature under its public share.
    ///
    /// # Errors
    /// [`BadPartial`] says what is wrong with it.
    pub fn verify_partial(
        &self,
        index: ShareIndex,
        root: SigningRoot,
        partial: &PartialSignature,
    ) -> Result<VerifiedPartial, BadPartial> {
        let (key, signature) = self.statement(index, partial)?;
        if !HashedMessage::new(root.as_bytes()).is_signed_by(&key, &signature) {
            return Err(BadPartial::Mismatch);
        }
        Ok(VerifiedPartial {
            index,
            root,
            partial: *partial,
        })
    }

    /// Combines the first t of `partials` to the group's signature over `root`, and verifies it.
    /// Only if it does not verify is each of all the partials verified, to name the bad ones.
    ///
    /// # Errors
    /// [`CombineError`]; after [`CombineError::Blame`] the partials of the other members are good.
    pub fn combine(
        &self,
        root: SigningRoot,
        partials: &[(ShareIndex, PartialSignature)],
    ) -> Result<Signature, CombineError> {
        let job = Combination {
            committee: self,
            root,
            partials,
            anticipated: None,
        };
        let mut combined = Err(CombineError::Unexplained);
        combine(&[job], None, |_, result| combined = result);
        combined
    }

    pub(crate) fn check_indices(
        &self,
        partials: &[(ShareIndex, PartialSignature)],
    ) -> Result<(), CombineError> {
        let mut seen = BTreeSet::new();
        for (index, _) in partials {
            if !self.members().contains(index) {
                return Err(CombineError::NotAMember(*index));
            }
            if !seen.insert(*index) {
                return Err(CombineError::Duplicate(*index));
            }
        }
        if partials.len() < self.threshold() {
            return Err(CombineError::TooFew {
                got: partials.len(),
                threshold: self.threshold(),
            });
        }
        Ok(())
    }

    /// Σ λ_i·scale_i·σ_i over the first t; `None` if one of them is no point. Their subgroup is not
    /// checked here, because the sum's is, and its pairing: only a valid signature leaves.
    pub(crate) fn weighted_sum(
        &self,
        partials: &[(ShareIndex, PartialSignature)],
    ) -> Option<G2Sum> {
        let first = partials.get(..self.threshold())?;
        let points = first.iter().map(|(_, partial)| partial.decode().ok());
        let points: Vec<CurvePoint> = points.collect::<Option<_>>()?;
        let indices: Vec<ShareIndex> = first.iter().map(|(index, _)| *index).collect();
        let (_, one) = first.first()?;
        let is_uniform = first.iter().all(|(_, other)| other.scale() == one.scale());
        if is_uniform && let Some(weights) = self.indices().short_weights(&indices, one.scale()) {
            let terms: Vec<(i32, CurvePoint)> = weights.into_iter().zip(points).collect();
            return Some(G2Sum::weighted_briefly(&terms));
        }
        let scales = first.iter().map(|(_, partial)| partial.scale().get());
        let weights = lagrange_at_zero(&indices).into_iter().zip(scales);
        let weights = weights.map(|(weight, scale)| weight.times(Scalar::from_u64(scale)));
        Some(G2Sum::weighted(&weights.zip(points).collect::<Vec<_>>()))
    }

    /// What is claimed of the pairing by saying that this partial is the member's.
    pub(crate) fn statement(
        &self,
        index: ShareIndex,
        partial: &PartialSignature,
    ) -> Result<(G1, G2), BadPartial> {
        if !self.members().contains(&index) {
            return Err(BadPartial::NotAMember(index));
        }
        let point = partial.decode().and_then(CurvePoint::in_subgroup);
        let point = point.map_err(BadPartial::Point)?;
        let key = self.member_key(index).map_err(BadPartial::Commitments)?;
        let key = key.ok_or(BadPartial::Mismatch)?;
        let scaled = || G2::multiplied([(partial.scale(), &point)].into_iter());
        let whole = match partial {
            PartialSignature::Plain(_) => Some(point),
            PartialSignature::Scaled { .. } => scaled(),
        };
        Ok((*key, whole.ok_or(BadPartial::Mismatch)?))
    }
}

impl PartialSignature {
    fn decode(&self) -> Result<CurvePoint, InvalidPoint> {
        match self {
            Self::Plain(point) => CurvePoint::decode(point),
            Self::Scaled { point, .. } => CurvePoint::decode_uncompressed(point),
        }
    }
}
