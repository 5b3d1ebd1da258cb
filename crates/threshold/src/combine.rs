//! From partial signatures to a signature, and from a bad signature to who is to blame.

use duty::{PublicKey, SigningRoot};

use crate::{
    Committee, PartialSignature, ShareIndex, Signature,
    bls::{CurvePoint, G1, HashedMessage, InvalidPoint},
    committee::lagrange_at_zero,
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
        self.verify_hashed(index, &HashedMessage::new(root.as_bytes()), partial)?;
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
        self.check_indices(partials)?;
        let message = HashedMessage::new(root.as_bytes());
        if let Some(signature) = self.combine_first(&message, partials) {
            return Ok(signature);
        }
        let bad: Vec<ShareIndex> = partials
            .iter()
            .filter(|(index, partial)| self.verify_hashed(*index, &message, partial).is_err())
            .map(|(index, _)| *index)
            .collect();
        if bad.is_empty() {
            Err(CombineError::Unexplained)
        } else {
            Err(CombineError::Blame(bad))
        }
    }

    fn check_indices(
        &self,
        partials: &[(ShareIndex, PartialSignature)],
    ) -> Result<(), CombineError> {
        let mut seen = std::collections::BTreeSet::new();
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

    /// Σ λ_i·σ_i over the first t, if that is the group's signature. The partials' subgroup is
    /// not checked here, because the sum's is, and its pairing: only a valid signature leaves.
    fn combine_first(
        &self,
        message: &HashedMessage,
        partials: &[(ShareIndex, PartialSignature)],
    ) -> Option<Signature> {
        let first = partials.get(..self.threshold())?;
        let indices: Vec<ShareIndex> = first.iter().map(|(index, _)| *index).collect();
        let terms = lagrange_at_zero(&indices)
            .into_iter()
            .zip(first)
            .map(|(weight, (_, partial))| {
                Some((weight, CurvePoint::decode(partial.as_bytes()).ok()?))
            })
            .collect::<Option<Vec<_>>>()?;
        let sum = CurvePoint::weighted_sum(&terms)?.in_subgroup().ok()?;
        message
            .is_signed_by(self.group_point()?, &sum)
            .then(|| Signature(sum.compress()))
    }

    fn verify_hashed(
        &self,
        index: ShareIndex,
        message: &HashedMessage,
        partial: &PartialSignature,
    ) -> Result<(), BadPartial> {
        if !self.members().contains(&index) {
            return Err(BadPartial::NotAMember(index));
        }
        let point = CurvePoint::decode(partial.as_bytes())
            .and_then(CurvePoint::in_subgroup)
            .map_err(BadPartial::Point)?;
        match self.member_key(index) {
            Some(key) if message.is_signed_by(key, &point) => Ok(()),
            _ => Err(BadPartial::Mismatch),
        }
    }
}
