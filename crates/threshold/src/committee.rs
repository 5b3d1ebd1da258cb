//! Committees: who holds a share of which key, and what each share's public key is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use duty::PublicKey;

use crate::{
    Commitments, CommitteeSize, PublicShare, ShareIndex, UnsafeCommittee,
    bls::{G1, Scalar},
};

/// The members that share one validator's key, and the commitments to their shares.
///
/// **Invariant:** 2t > n, so that two conflicting messages never both find t honest signers;
/// kept by `tests::committees_without_a_majority_do_not_exist`.
#[derive(Debug, Clone)]
pub struct Committee {
    size: CommitteeSize,
    members: BTreeSet<ShareIndex>,
    commitments: Commitments,
    // Computed at the first need: only blaming and importing need them, and a signer-api makes
    // thousands of committees at its start.
    public_shares: OnceLock<BTreeMap<ShareIndex, G1>>,
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
        Ok(Self {
            size: CommitteeSize::new(commitments.threshold(), members.len())?,
            members,
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
    pub const fn members(&self) -> &BTreeSet<ShareIndex> {
        &self.members
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
    /// everywhere. If that value is 0 it is infinity, which no share and no partial matches.
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
        if self.members.contains(&index) {
            self.member_key(index).copied()
        } else {
            G1::evaluate(self.commitments.points(), index.value())
        }
    }

    /// The point behind a member's public share; `None` for others, and for infinity.
    pub(crate) fn member_key(&self, index: ShareIndex) -> Option<&G1> {
        self.public_shares
            .get_or_init(|| {
                let points = self.commitments.points();
                self.members
                    .iter()
                    .filter_map(|&member| Some((member, G1::evaluate(points, member.value())?)))
                    .collect()
            })
            .get(&index)
    }

    /// The point behind the group key.
    pub(crate) fn group_point(&self) -> Option<&G1> {
        self.commitments.points().first()
    }
}

impl PartialEq for Committee {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members && self.commitments == other.commitments
    }
}

impl Eq for Committee {}

/// λ_i = Π_{j≠i} x_j / (x_j − x_i) mod r, in the order of the indices, which are distinct: the
/// weights with which values at the indices give the value at zero.
pub(crate) fn lagrange_at_zero(indices: &[ShareIndex]) -> Vec<Scalar> {
    let points: Vec<Scalar> = indices
        .iter()
        .map(|index| Scalar::from_u64(index.value()))
        .collect();
    points
        .iter()
        .map(|&x| {
            let mut numerator = Scalar::from_u64(1);
            let mut denominator = Scalar::from_u64(1);
            for &other in points.iter().filter(|&&other| other != x) {
                numerator = numerator.times(other);
                denominator = denominator.times(other.minus(x));
            }
            numerator.times(denominator.inverse())
        })
        .collect()
}
