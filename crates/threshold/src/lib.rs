//! The public half of threshold BLS: committees, partial signatures, combining, verifying, and
//! the rounds by which a coordinator gets enough of them.
//!
//! This crate is pure: no I/O, no clock, no randomness, no secret but the seed of a batch. It
//! promises that a [`Signature`] that [`Committee::combine`], [`combine_all`] or [`combine_each`]
//! gives is valid for the root under the committee's group key (of the last two: but for one chance
//! in 2^64), that a partial that spoils a combination is blamed on its member, and that a committee
//! in which two conflicting messages could both be signed (2t ≤ n) does not exist.
//!
//! The scheme is that of consensus clients: public keys in G1, signatures in G2, ciphersuite
//! `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_` (draft-irtf-cfrg-bls-signature-05), shares by
//! Shamir over the scalar field, commitments by Feldman.

mod anticipated;
mod batch;
mod bls;
mod combine;
mod commitments;
mod committee;
mod lagrange;
mod primitives;
pub mod round;
mod size;
mod together;

pub use anticipated::Anticipated;
pub use bls::InvalidPoint;
pub use combine::{BadPartial, BadSignature, CombineError, VerifiedPartial, verify};
pub use commitments::{Commitments, InvalidCommitments};
pub use committee::Committee;
pub use lagrange::scale;
pub use primitives::{InvalidShareIndex, PartialSignature, PublicShare, ShareIndex, Signature};
pub use round::Ballot;
pub use size::{CommitteeSize, InvalidCommitteeSize, UnsafeCommittee};
pub use together::{Combination, combine_all, combine_each};

#[cfg(test)]
mod tests;
