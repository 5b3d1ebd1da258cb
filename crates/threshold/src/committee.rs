//! Committees: who holds a share of which key, and what each share's public key is.

use std::{
    collections::BTreeSet,
    num::NonZeroU64,
    sync::{Arc, OnceLock},
};

use duty::PublicKey;

use crate::{
    Commitments, CommitteeSize, InvalidCommitments, PublicShare, ShareIndex, UnsafeCommittee,
    bls::{G1, Scalar},
    lagrange::{IndexSet, lagrange_at_zero},
};

/// The members that share one validator's key, and the commitments to their shares.
///
/// **Invariant:** 2t > n, so that two conflicting messages never both find t honest signers;
/// kept by `tests::committees_without_a_majority_do_not_exist`.
#[derive(Debug, Clone)]
pub struct Committee {
    size: CommitteeSize,
    indices: Arc<IndexSet>,
    commitments: Commitments,
    // Computed at the first need: only blaming and importing need them, and a signer-api makes
    // thousands of committees at its start.
    public_shares: OnceLock<Box<[(ShareIndex, G1)]>>,
}

impl Committee {
    /// The committee of `members` whose shares lie on the polynomial behind `commitments`.
    ///
    /// # Errors
    /// [`UnsafeCommittee`] unless t ≤ n < 2t.
    pub fn new(
        commitments: Commitments,
        members: BTreeSet<ShareIndex>,
    ) -> Result<Self, UnsafeCommittee> {
        let size = CommitteeSize::new(commitments.threshold(), members.len())?;
        Ok(Self {
            size,
            indices: IndexSet::of(size.threshold(), members),
            commitments,
            public_shares: OnceLock::new(),
        })
    }

    /// t: how many partials make a signature.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.size.threshold()
    }

    /// n: how many members there are.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size.members()
    }

    /// The members' indices.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<ShareIndex> {
        self.indices.members()
    }

    /// What a member's share is divided by for partials that combine cheaply; 1 where that is not
    /// so. See [`crate::scale`]. Partials of other scales, and plain ones, combine as well.
    #[must_use]
    pub fn scale(&self) -> NonZeroU64 {
        self.indices.scale()
    }

    /// The commitments to the sharing polynomial.
    #[must_use]
    pub const fn commitments(&self) -> &Commitments {
        &self.commitments
    }

    /// The validator's public key.
    #[must_use]
    pub const fn group_key(&self) -> PublicKey {
        self.commitments.group_key()
    }

    /// 2t − n − 1: how many members may be faulty while no two conflicting messages can both be
    /// signed.
    #[must_use]
    pub const fn tolerated_faults(&self) -> usize {
        self.size.tolerated_faults()
    }

    /// n − t: how many members may be absent while signatures are still made.
    #[must_use]
    pub const fn tolerated_absences(&self) -> usize {
        self.size.tolerated_absences()
    }

    /// The public key of the share at `index`, of a member or not: the polynomial has a value
    /// everywhere. If that value is 0 it is infinity, which no share and no partial matches; so it
    /// is if the commitments turn out to be invalid, which [`Commitments::check`] tells.
    #[must_use]
    pub fn public_share(&self, index: ShareIndex) -> PublicShare {
        self.point_at(index)
            .map_or(PublicShare::INFINITY, |point| PublicShare(point.compress()))
    }

    /// The group key as it follows from the public shares at `indices`: the group key itself, if
    /// these are at least t. A check of a new committee, not a part of signing.
    #[must_use]
    pub fn interpolated_group_key(&self, indices: &BTreeSet<ShareIndex>) -> Option<PublicKey> {
        let indices: Vec<ShareIndex> = indices.iter().copied().collect();
        let terms: Option<Vec<(Scalar, G1)>> = lagrange_at_zero(&indices)
            .into_iter()
            .zip(&indices)
            .map(|(weight, index)| self.point_at(*index).map(|point| (weight, point)))
            .collect();
        G1::weighted_sum(&terms?).map(|point| PublicKey(point.compress()))
    }

    fn point_at(&self, index: ShareIndex) -> Option<G1> {
        if self.members().contains(&index) {
            self.member_key(index).ok().flatten().copied()
        } else {
            G1::evaluate(self.commitments.points().ok()?, index.value())
        }
    }

    /// The point behind a member's public share; `None` for others, and for infinity.
    ///
    /// # Errors
    /// [`InvalidCommitments`] if they were not checked before, and have no such points.
    pub(crate) fn member_key(&self, index: ShareIndex) -> Result<Option<&G1>, InvalidCommitments> {
        let points = self.commitments.points()?;
        let keys = self.public_shares.get_or_init(|| {
            self.members()
                .iter()
                .filter_map(|&member| Some((member, G1::evaluate(points, member.value())?)))
                .collect()
        });
        let own = keys.iter().find(|(member, _)| *member == index);
        Ok(own.map(|(_, key)| key))
    }

    /// What the weights of partials follow from.
    pub(crate) fn indices(&self) -> &IndexSet {
        &self.indices
    }

    /// The point behind the group key.
    pub(crate) const fn group_point(&self) -> &G1 {
        self.commitments.group_point()
    }
}

impl PartialEq for Committee {
    fn eq(&self, other: &Self) -> bool {
        self.indices == other.indices && self.commitments == other.commitments
    }
}

impl Eq for Committee {}
