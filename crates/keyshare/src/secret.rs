//! Keys, which can only be split, and shares, which can only sign what is permitted.

use duty::{Permit, PublicKey};
use threshold::{Committee, PartialSignature, PublicShare, ShareIndex};
use zeroize::Zeroizing;

use crate::bls::SecretScalar;

/// Bytes that are no secret key and no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number from 1 to the group's order less 1")]
pub struct InvalidSecret;

/// A validator's whole key. It cannot sign: it is split, and gone.
pub struct SecretKey(pub(crate) SecretScalar);

impl SecretKey {
    /// The key of 32 bytes, the greatest first (as in EIP-2335).
    ///
    /// # Errors
    /// [`InvalidSecret`] for 0 and for what is not below the group's order.
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidSecret> {
        SecretScalar::from_be_bytes(bytes)
            .map(Self)
            .ok_or(InvalidSecret)
    }

    /// A new key from 32 uniformly random bytes, which the caller wipes.
    #[must_use]
    pub fn from_entropy(entropy: &[u8; 32]) -> Self {
        Self(SecretScalar::from_entropy(entropy))
    }

    /// The validator's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_point())
    }
}

/// One member's share of a key.
///
/// **Invariant:** it signs nothing without a permit, which the ledger mints after its commit;
/// the type of [`SecretShare::sign`] keeps it.
pub struct SecretShare(pub(crate) SecretScalar);

impl SecretShare {
    /// The share of 32 bytes, the greatest first.
    ///
    /// # Errors
    /// [`InvalidSecret`] for 0 and for what is not below the group's order.
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidSecret> {
        SecretScalar::from_be_bytes(bytes)
            .map(Self)
            .ok_or(InvalidSecret)
    }

    /// The 32 bytes, the greatest first: for sealing.
    #[must_use]
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.to_be_bytes()
    }

    /// The share's public key.
    #[must_use]
    pub fn public_share(&self) -> PublicShare {
        PublicShare(self.0.public_point())
    }

    /// Signs the permit's root. The caller has looked this share up by the permit's validator.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is evidence that is used up by signing"
    )]
    pub fn sign(&self, permit: Permit) -> PartialSignature {
        PartialSignature::Plain(self.0.sign(permit.root().as_bytes()))
    }
}

/// Why a share does not belong where it was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareMismatch {
    /// The index is not in the committee.
    #[error("the share's index {0} is not in the committee")]
    NotAMember(ShareIndex),
    /// The share is not the polynomial's value at the index.
    #[error("the share does not match the commitments at the index {0}")]
    Commitments(ShareIndex),
}

/// Whether `share` is the committee's share at `index`, by the commitments.
///
/// # Errors
/// [`ShareMismatch`] if it is not.
pub fn check_share(
    share: &SecretShare,
    index: ShareIndex,
    committee: &Committee,
) -> Result<(), ShareMismatch> {
    if !committee.members().contains(&index) {
        Err(ShareMismatch::NotAMember(index))
    } else if share.public_share() != committee.public_share(index) {
        Err(ShareMismatch::Commitments(index))
    } else {
        Ok(())
    }
}
