//! Messages hashed to G2, and products of pairings.

use blst::{blst_fp12, blst_p1_affine, blst_p2, blst_p2_affine};

use super::{G1, G2};

/// The ciphersuite's domain separation tag (Ethereum consensus specification, phase0).
const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Miller loops that share their squarings: as many as in `blst` itself, which takes more in turn.
const LOOPS_MAX: usize = 16;

/// A message hashed to G2; hashing once serves any number of verifications.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashedMessage(blst_p2_affine);

impl HashedMessage {
    pub(crate) fn new(message: &[u8; 32]) -> Self {
        let mut hash = blst_p2::default();
        let mut affine = blst_p2_affine::default();
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
            blst::blst_p2_to_affine(&raw mut affine, &raw const hash);
        }
        Self(affine)
    }

    /// Whether e(key, H(m)) = e(g1, signature).
    pub(crate) fn is_signed_by(&self, key: &G1, signature: &G2) -> bool {
        PairingProduct::of(&[(*key, *self)], Some(signature)).is_one()
    }

    /// The part of [`HashedMessage::is_signed_by`] that needs no signature.
    pub(crate) fn paired_with(&self, key: &G1) -> HalfPairing {
        HalfPairing(blst_fp12::miller_loop(&self.0, &key.0))
    }
}

/// The Miller loop of e(key, H(m)), to which the final exponentiation is still to come.
#[derive(Debug, Clone)]
pub(crate) struct HalfPairing(blst_fp12);

impl HalfPairing {
    /// Whether e(key, H(m)) = e(g1, signature): one Miller loop, and one final exponentiation of
    /// both.
    pub(crate) fn is_signed_by(&self, signature: &G2) -> bool {
        // SAFETY: a constant of the library.
        let generator = unsafe { blst::BLS12_381_G1 };
        let other = blst_fp12::miller_loop(&signature.0, &generator);
        blst_fp12::finalverify(&self.0, &other)
    }
}

/// Π e(key, H(m)) / e(g1, signature): 1 if the signature is that of the keys over their messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairingProduct(blst_fp12);

impl PairingProduct {
    /// One Miller loop for each key and one for the signature (`None`: infinity), which share their
    /// squarings, and one final exponentiation.
    pub(crate) fn of(keys: &[(G1, HashedMessage)], signature: Option<&G2>) -> Self {
        // SAFETY: a constant of the library.
        let minus_generator = unsafe { blst::BLS12_381_NEG_G1 };
        let (mut in_g1, mut in_g2): (Vec<blst_p1_affine>, Vec<blst_p2_affine>) =
            keys.iter().map(|(key, message)| (key.0, message.0)).unzip();
        if let Some(signature) = signature {
            in_g1.push(minus_generator);
            in_g2.push(signature.0);
        }
        let together = in_g2.chunks(LOOPS_MAX).zip(in_g1.chunks(LOOPS_MAX));
        let loops = together.map(|(in_g2, in_g1)| {
            courtesy::offer();
            blst_fp12::miller_loop_n(in_g2, in_g1)
        });
        let product = loops.reduce(|product, next| product * next);
        Self(product.map_or_else(blst_fp12::default, |product| product.final_exp()))
    }

    /// Whether it is the neutral element.
    pub(crate) fn is_one(&self) -> bool {
        self.0 == blst_fp12::default()
    }

    /// self / part: the product of the pairings of self that are not in `part`.
    pub(crate) fn without(&self, part: &Self) -> Self {
        let mut inverse = part.0;
        // SAFETY: changes one initialised value in place. After the final exponentiation an
        // element's conjugate is its inverse.
        unsafe { blst::blst_fp12_conjugate(&raw mut inverse) };
        Self(self.0 * inverse)
    }
}
