//! Feldman commitments: g1·a_j for every coefficient of a sharing polynomial.

use std::sync::OnceLock;

use duty::PublicKey;

use crate::{
    CommitteeSize,
    bls::{G1, InvalidPoint},
};

/// The public image of a sharing polynomial (P. Feldman, 1987): it fixes the group key, every
/// member's public share and the threshold.
#[derive(Debug, Clone)]
pub struct Commitments {
    compressed: Box<[[u8; 48]]>,
    group_key: PublicKey,
    group_point: G1,
    /// All of them, the group key's included, or what is wrong with one.
    points: OnceLock<Result<Box<[G1]>, InvalidCommitments>>,
}

/// Why bytes are no commitments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommitments {
    /// There is none, so not even a group key.
    #[error("no commitment")]
    Empty,
    /// A threshold greater than the largest committee.
    #[error("{got} commitments, more than {}", CommitteeSize::MEMBERS_MAX)]
    TooMany {
        /// How many were given.
        got: usize,
    },
    /// A point that cannot be the image of a coefficient.
    #[error("commitment {position} is {reason}")]
    Point {
        /// Which commitment, counted from 0 (the group key).
        position: usize,
        /// What is wrong with it.
        reason: InvalidPoint,
    },
}

impl Commitments {
    /// Decodes compressed points of G1, the group key first; as many as the threshold.
    ///
    /// # Errors
    /// [`InvalidCommitments`] unless each is on the curve, in the subgroup, and not infinity.
    pub fn new(compressed: Vec<[u8; 48]>) -> Result<Self, InvalidCommitments> {
        let commitments = Self::deferred(compressed)?;
        commitments.check()?;
        Ok(commitments)
    }

    /// As [`Self::new`], but only the group key is checked now, and the others when they are first
    /// needed, that is to verify a single partial: for who has thousands of committees from members
    /// that checked each when they took their shares. A signature needs only the group key.
    ///
    /// # Errors
    /// [`InvalidCommitments`] unless the group key is on the curve, in the subgroup, and not
    /// infinity.
    pub fn deferred(compressed: Vec<[u8; 48]>) -> Result<Self, InvalidCommitments> {
        let Some(first) = compressed.first() else {
            return Err(InvalidCommitments::Empty);
        };
        if compressed.len() > CommitteeSize::MEMBERS_MAX {
            return Err(InvalidCommitments::TooMany {
                got: compressed.len(),
            });
        }
        Ok(Self {
            group_key: PublicKey(*first),
            group_point: decode((0, first))?,
            compressed: compressed.into_boxed_slice(),
            points: OnceLock::new(),
        })
    }

    /// Checks what [`Self::deferred`] put off.
    ///
    /// # Errors
    /// As [`Self::new`], the first time as later.
    pub fn check(&self) -> Result<(), InvalidCommitments> {
        self.points().map(|_| ())
    }

    /// t: how many partials make a signature.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.compressed.len()
    }

    /// The key whose secret is shared.
    #[must_use]
    pub const fn group_key(&self) -> PublicKey {
        self.group_key
    }

    /// The compressed points.
    #[must_use]
    pub fn as_slice(&self) -> &[[u8; 48]] {
        &self.compressed
    }

    /// The points, decoded at the first need.
    pub(crate) fn points(&self) -> Result<&[G1], InvalidCommitments> {
        let points = self.points.get_or_init(|| {
            let others = self.compressed.iter().enumerate().skip(1).map(decode);
            std::iter::once(Ok(self.group_point))
                .chain(others)
                .collect()
        });
        points.as_deref().map_err(|invalid| *invalid)
    }

    pub(crate) const fn group_point(&self) -> &G1 {
        &self.group_point
    }
}

fn decode((position, bytes): (usize, &[u8; 48])) -> Result<G1, InvalidCommitments> {
    G1::decode(bytes).map_err(|reason| InvalidCommitments::Point { position, reason })
}

impl PartialEq for Commitments {
    fn eq(&self, other: &Self) -> bool {
        self.compressed == other.compressed
    }
}

impl Eq for Commitments {}
