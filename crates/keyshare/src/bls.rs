//! Secret scalars, as `blst` computes with them. This file and [`field`] alone name `blst`.
//!
//! Every pointer handed to `blst` comes from a reference or a slice that lives through the call,
//! and every output is a value that was initialised before; `blst` keeps no pointer and writes
//! nothing but its output. That is the safety argument of every block below. `blst`'s functions
//! on secret scalars are constant-time.
#![expect(
    unsafe_code,
    reason = "blst's scalar arithmetic has no safe interface without Clone and Debug"
)]

mod additions;
pub(crate) mod comb;
pub(crate) mod digits;
mod field;
pub(crate) mod joint;

use std::num::NonZeroU64;

use blst::{blst_p1, blst_p2, blst_scalar};
use zeroize::Zeroizing;

/// The ciphersuite's domain separation tag (Ethereum consensus specification, phase0).
const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// A secret scalar mod r. On the heap, so that moving it leaves no copy behind; `blst_scalar`
/// wipes itself when it is dropped.
pub(crate) struct SecretScalar(Box<blst_scalar>);

impl SecretScalar {
    fn zero() -> Self {
        Self(Box::default())
    }

    /// 32 bytes, the greatest first; `None` unless 0 < value < r.
    pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let mut scalar = Self::zero();
        // SAFETY: reads exactly 32 bytes.
        unsafe { blst::blst_scalar_from_bendian(&raw mut *scalar.0, bytes.as_ptr()) };
        // SAFETY: reads one initialised scalar.
        unsafe { blst::blst_sk_check(&raw const *scalar.0) }.then_some(scalar)
    }

    /// 48 bytes reduced mod r: from uniform bytes it is uniform but for a bias of 2^-129.
    /// `None` if that is 0.
    pub(crate) fn from_wide(bytes: &[u8; 48]) -> Option<Self> {
        let mut scalar = Self::zero();
        // SAFETY: reads as many bytes as it is told.
        unsafe { blst::blst_scalar_from_be_bytes(&raw mut *scalar.0, bytes.as_ptr(), bytes.len()) }
            .then_some(scalar)
    }

    /// A key from 32 bytes of entropy (`KeyGen` of draft-irtf-cfrg-bls-signature-05).
    pub(crate) fn from_entropy(entropy: &[u8; 32]) -> Self {
        let mut scalar = Self::zero();
        // SAFETY: reads as many bytes as it is told, at least 32; there is no key information.
        unsafe {
            blst::blst_keygen(
                &raw mut *scalar.0,
                entropy.as_ptr(),
                entropy.len(),
                std::ptr::null(),
                0,
            );
        }
        scalar
    }

    /// 32 bytes, the greatest first.
    pub(crate) fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        // SAFETY: writes exactly 32 bytes.
        unsafe { blst::blst_bendian_from_scalar(bytes.as_mut_ptr(), &raw const *self.0) };
        bytes
    }

    /// Σ coefficients[j]·x^j by Horner's rule; `None` if that is 0.
    pub(crate) fn evaluate(coefficients: &[Self], x: u64) -> Option<Self> {
        let mut position = Self::zero();
        let limbs = [x, 0, 0, 0];
        // SAFETY: reads exactly four limbs.
        unsafe { blst::blst_scalar_from_uint64(&raw mut *position.0, limbs.as_ptr()) };
        let mut sum = Self::zero();
        let mut nonzero = false;
        for coefficient in coefficients.iter().rev() {
            let mut product = Self::zero();
            // SAFETY: reads initialised scalars. Whether an intermediate value is 0 is of no
            // interest, whether the last one is, is the outcome.
            unsafe {
                blst::blst_sk_mul_n_check(
                    &raw mut *product.0,
                    &raw const *sum.0,
                    &raw const *position.0,
                );
                nonzero = blst::blst_sk_add_n_check(
                    &raw mut *sum.0,
                    &raw const *product.0,
                    &raw const *coefficient.0,
                );
            }
        }
        nonzero.then_some(sum)
    }

    /// From four limbs below r, the least first.
    fn from_limbs(limbs: [u64; 4]) -> Self {
        let mut scalar = Self::zero();
        // SAFETY: reads exactly four limbs.
        unsafe { blst::blst_scalar_from_uint64(&raw mut *scalar.0, limbs.as_ptr()) };
        scalar
    }

    /// Four limbs, the least first.
    fn to_limbs(&self) -> Zeroizing<[u64; 4]> {
        let mut limbs = Zeroizing::new([0; 4]);
        // SAFETY: writes exactly four limbs.
        unsafe { blst::blst_uint64_from_scalar(limbs.as_mut_ptr(), &raw const *self.0) };
        limbs
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = Self::zero();
        // SAFETY: reads initialised scalars. Whether the sum is 0 is of no interest.
        unsafe {
            blst::blst_sk_add_n_check(&raw mut *sum.0, &raw const *self.0, &raw const *other.0);
        }
        sum
    }

    fn multiplied(&self, other: &Self) -> Self {
        let mut product = Self::zero();
        // SAFETY: reads initialised scalars. Whether the product is 0 is of no interest.
        unsafe {
            blst::blst_sk_mul_n_check(&raw mut *product.0, &raw const *self.0, &raw const *other.0);
        }
        product
    }

    /// self·factor mod r.
    pub(crate) fn times(&self, factor: NonZeroU64) -> Self {
        self.multiplied(&Self::from_limbs([factor.get(), 0, 0, 0]))
    }

    /// self/divisor mod r.
    pub(crate) fn divided_by(&self, divisor: NonZeroU64) -> Self {
        let divisor = Self::from_limbs([divisor.get(), 0, 0, 0]);
        let mut inverse = Self::zero();
        // SAFETY: reads one initialised scalar.
        unsafe { blst::blst_sk_inverse(&raw mut *inverse.0, &raw const *divisor.0) };
        self.multiplied(&inverse)
    }

    /// The compressed point g1·self.
    pub(crate) fn public_point(&self) -> [u8; 48] {
        let mut point = blst_p1::default();
        let mut bytes = [0; 48];
        // SAFETY: reads one initialised scalar; writes one point, then exactly 48 bytes.
        unsafe {
            blst::blst_sk_to_pk_in_g1(&raw mut point, &raw const *self.0);
            blst::blst_p1_compress(bytes.as_mut_ptr(), &raw const point);
        }
        bytes
    }

    /// The compressed point H(message)·self.
    pub(crate) fn sign(&self, message: &[u8; 32]) -> [u8; 96] {
        let signature = self.multiply_hash(message);
        let mut bytes = [0; 96];
        // SAFETY: reads one initialised point; writes exactly 96 bytes.
        unsafe { blst::blst_p2_compress(bytes.as_mut_ptr(), &raw const signature) };
        bytes
    }

    /// The uncompressed point H(message)·self.
    pub(crate) fn sign_uncompressed(&self, message: &[u8; 32]) -> [u8; 192] {
        let signature = self.multiply_hash(message);
        let mut bytes = [0; 192];
        // SAFETY: reads one initialised point; writes exactly 192 bytes.
        unsafe { blst::blst_p2_serialize(bytes.as_mut_ptr(), &raw const signature) };
        bytes
    }

    fn multiply_hash(&self, message: &[u8; 32]) -> blst_p2 {
        let hash = hash_to_g2(message);
        let mut signature = blst_p2::default();
        // SAFETY: reads an initialised point and scalar.
        unsafe {
            blst::blst_sign_pk_in_g1(&raw mut signature, &raw const hash, &raw const *self.0);
        }
        signature
    }
}

fn hash_to_g2(message: &[u8; 32]) -> blst_p2 {
    let mut hash = blst_p2::default();
    // SAFETY: reads the message and the tag, each with its own length; the augmentation is
    // empty, so its pointer is never read.
    unsafe {
        blst::blst_hash_to_g2(
            &raw mut hash,
            message.as_ptr(),
            message.len(),
            CIPHERSUITE.as_ptr(),
            CIPHERSUITE.len(),
            std::ptr::null(),
            0,
        );
    }
    hash
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroize;

    use super::*;

    #[test]
    fn scalars_wipe_themselves() {
        // Looking at freed memory is undefined behaviour, so the two halves are looked at: the
        // library's scalar runs something when it is dropped, and what it runs leaves zeros.
        assert!(std::mem::needs_drop::<blst_scalar>());
        let mut scalar = SecretScalar::from_wide(&[7; 48]).unwrap();
        assert_ne!(scalar.0.b, [0; 32]);
        scalar.0.zeroize();
        assert_eq!(scalar.0.b, [0; 32]);
    }
}
