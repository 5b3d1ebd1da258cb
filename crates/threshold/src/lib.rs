//! The public half of threshold BLS: committees, partial signatures, combining, verifying, and
//! the rounds by which a coordinator gets enough of them.
//!
//! This crate is pure: no I/O, no clock, no randomness, no secret. It promises that a
//! [`Signature`] that [`Committee::combine`] returns is valid for the root under the committee's
//! group key, that a partial that spoils a combination is blamed on its member, and that a
//! committee in which two conflicting messages could both be signed (2t ≤ n) does not exist.
//!
//! The scheme is that of consensus clients: public keys in G1, signatures in G2, ciphersuite
//! `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_` (draft-irtf-cfrg-bls-signature-05), shares by
//! Shamir over the scalar field, commitments by Feldman.

mod bls;
mod combine;
mod commitments;
mod committee;
mod primitives;
pub mod round;
mod size;

pub use bls::InvalidPoint;
pub use combine::{BadPartial, BadSignature, CombineError, VerifiedPartial, verify};
pub use commitments::{Commitments, InvalidCommitments};
pub use committee::Committee;
pub use primitives::{InvalidShareIndex, PartialSignature, PublicShare, ShareIndex, Signature};
pub use round::Ballot;
pub use size::{CommitteeSize, InvalidCommitteeSize, UnsafeCommittee};

#[cfg(test)]
mod tests;
