//! Feldman commitments: g1·a_j for every coefficient of a sharing polynomial.

use duty::PublicKey;

use crate::{
    CommitteeSize,
    bls::{G1, InvalidPoint},
};

/// The public image of a sharing polynomial (P. Feldman, 1987): it fixes the group key, every
/// member's public share and the threshold.
#[derive(Debug, Clone)]
pub struct Commitments {
    compressed: Vec<[u8; 48]>,
    points: Vec<G1>,
    group_key: PublicKey,
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
        let Some(group_key) = compressed.first().copied().map(PublicKey) else {
            return Err(InvalidCommitments::Empty);
        };
        if compressed.len() > CommitteeSize::MEMBERS_MAX {
            return Err(InvalidCommitments::TooMany {
                got: compressed.len(),
            });
        }
        let points = compressed
            .iter()
            .enumerate()
            .map(|(position, bytes)| {
                G1::decode(bytes).map_err(|reason| InvalidCommitments::Point { position, reason })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            compressed,
            points,
            group_key,
        })
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

    pub(crate) fn points(&self) -> &[G1] {
        &self.points
    }
}

impl PartialEq for Commitments {
    fn eq(&self, other: &Self) -> bool {
        self.compressed == other.compressed
    }
}

impl Eq for Commitments {}
