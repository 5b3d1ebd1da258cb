//! The curve, as `blst` computes it. The one file of this crate that names `blst`.
//!
//! Every pointer handed to `blst` comes from a reference or a slice that lives through the call,
//! and every output is a value that was initialised before; `blst` keeps no pointer and writes
//! nothing but its output. That is the safety argument of every block below.
#![expect(
    unsafe_code,
    reason = "blst's curve arithmetic has no safe interface for points"
)]

use blst::{
    BLST_ERROR, MultiPoint, blst_fp12, blst_fr, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine,
    blst_scalar,
};

/// The ciphersuite's domain separation tag (Ethereum consensus specification, phase0).
const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Bits of a scalar: r < 2^255.
const SCALAR_BITS: usize = 255;

/// Why bytes are no usable point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPoint {
    /// Not the compressed form of a field element with a point.
    #[error("not a compressed point on the curve")]
    NotOnCurve,
    /// The neutral element, which everything would be "signed" with.
    #[error("the point at infinity")]
    Infinity,
    /// On the curve, but not in the subgroup of order r.
    #[error("a point outside the subgroup")]
    OutsideSubgroup,
}

/// A point of G1: on the curve, in the subgroup, not infinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct G1(blst_p1_affine);

impl G1 {
    /// Decodes 48 compressed bytes.
    pub(crate) fn decode(bytes: &[u8; 48]) -> Result<Self, InvalidPoint> {
        let mut point = blst_p1_affine::default();
        // SAFETY: 48 readable bytes are what the compressed form has; it never reads further.
        let outcome = unsafe { blst::blst_p1_uncompress(&raw mut point, bytes.as_ptr()) };
        if outcome != BLST_ERROR::BLST_SUCCESS {
            return Err(InvalidPoint::NotOnCurve);
        }
        // SAFETY: reads one initialised point.
        if unsafe { blst::blst_p1_affine_is_inf(&raw const point) } {
            return Err(InvalidPoint::Infinity);
        }
        // SAFETY: reads one initialised point.
        if unsafe { blst::blst_p1_affine_in_g1(&raw const point) } {
            Ok(Self(point))
        } else {
            Err(InvalidPoint::OutsideSubgroup)
        }
    }

    /// The 48 compressed bytes.
    pub(crate) fn compress(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        // SAFETY: writes exactly 48 bytes.
        unsafe { blst::blst_p1_affine_compress(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }

    /// Σ points[j]·x^j, by Horner's rule; `None` if that is infinity (or there is no point).
    pub(crate) fn evaluate(points: &[Self], x: u64) -> Option<Self> {
        let mut sum = blst_p1::default();
        for point in points.iter().rev() {
            let shifted = sum;
            // SAFETY: reads one point and the 8 bytes that 64 bits are.
            unsafe {
                blst::blst_p1_mult(
                    &raw mut sum,
                    &raw const shifted,
                    x.to_le_bytes().as_ptr(),
                    64,
                );
            }
            let product = sum;
            // SAFETY: reads two initialised points; this addition also doubles.
            unsafe {
                blst::blst_p1_add_or_double_affine(
                    &raw mut sum,
                    &raw const product,
                    &raw const point.0,
                );
            }
        }
        Self::normalise(&sum)
    }

    /// Σ weight·point; `None` if that is infinity (or there is no term).
    pub(crate) fn weighted_sum(terms: &[(Scalar, Self)]) -> Option<Self> {
        if terms.is_empty() {
            return None;
        }
        let points: Vec<blst_p1_affine> = terms.iter().map(|(_, point)| point.0).collect();
        let sum = points.as_slice().mult(
            &weights(terms.iter().map(|(weight, _)| weight)),
            SCALAR_BITS,
        );
        Self::normalise(&sum)
    }

    fn normalise(point: &blst_p1) -> Option<Self> {
        let mut affine = blst_p1_affine::default();
        // SAFETY: reads one initialised point.
        unsafe { blst::blst_p1_to_affine(&raw mut affine, point) };
        // SAFETY: reads one initialised point.
        let infinite = unsafe { blst::blst_p1_affine_is_inf(&raw const affine) };
        (!infinite).then_some(Self(affine))
    }
}

/// A point on the curve of G2, not infinity; in the subgroup or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CurvePoint(blst_p2_affine);

impl CurvePoint {
    /// Decodes 96 compressed bytes.
    pub(crate) fn decode(bytes: &[u8; 96]) -> Result<Self, InvalidPoint> {
        let mut point = blst_p2_affine::default();
        // SAFETY: 96 readable bytes are what the compressed form has; it never reads further.
        let outcome = unsafe { blst::blst_p2_uncompress(&raw mut point, bytes.as_ptr()) };
        if outcome != BLST_ERROR::BLST_SUCCESS {
            return Err(InvalidPoint::NotOnCurve);
        }
        // SAFETY: reads one initialised point.
        if unsafe { blst::blst_p2_affine_is_inf(&raw const point) } {
            return Err(InvalidPoint::Infinity);
        }
        Ok(Self(point))
    }

    /// Σ weight·point; `None` if that is infinity (or there is no term). It is right only for
    /// points in the subgroup: the caller checks what comes out.
    pub(crate) fn weighted_sum(terms: &[(Scalar, Self)]) -> Option<Self> {
        if terms.is_empty() {
            return None;
        }
        let points: Vec<blst_p2_affine> = terms.iter().map(|(_, point)| point.0).collect();
        let sum = points.as_slice().mult(
            &weights(terms.iter().map(|(weight, _)| weight)),
            SCALAR_BITS,
        );
        let mut affine = blst_p2_affine::default();
        // SAFETY: reads one initialised point.
        unsafe { blst::blst_p2_to_affine(&raw mut affine, &raw const sum) };
        // SAFETY: reads one initialised point.
        let infinite = unsafe { blst::blst_p2_affine_is_inf(&raw const affine) };
        (!infinite).then_some(Self(affine))
    }

    /// The same point, once it is known to be in the subgroup.
    pub(crate) fn in_subgroup(self) -> Result<G2, InvalidPoint> {
        // SAFETY: reads one initialised point.
        if unsafe { blst::blst_p2_affine_in_g2(&raw const self.0) } {
            Ok(G2(self.0))
        } else {
            Err(InvalidPoint::OutsideSubgroup)
        }
    }
}

/// A point of G2: on the curve, in the subgroup, not infinity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct G2(blst_p2_affine);

impl G2 {
    /// The 96 compressed bytes.
    pub(crate) fn compress(&self) -> [u8; 96] {
        let mut bytes = [0; 96];
        // SAFETY: writes exactly 96 bytes.
        unsafe { blst::blst_p2_affine_compress(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }
}

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

    /// Whether e(key, H(m)) = e(g1, signature), as one product of two pairings.
    pub(crate) fn is_signed_by(&self, key: &G1, signature: &G2) -> bool {
        // SAFETY: a constant of the library.
        let minus_generator = unsafe { blst::BLS12_381_NEG_G1 };
        let product = blst_fp12::miller_loop_n(&[self.0, signature.0], &[key.0, minus_generator]);
        product.final_exp() == blst_fp12::default()
    }
}

/// A public scalar mod r (a Lagrange coefficient, never a key).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scalar(blst_fr);

impl Scalar {
    pub(crate) fn from_u64(value: u64) -> Self {
        let mut scalar = blst_fr::default();
        let limbs = [value, 0, 0, 0];
        // SAFETY: reads exactly four limbs.
        unsafe { blst::blst_fr_from_uint64(&raw mut scalar, limbs.as_ptr()) };
        Self(scalar)
    }

    pub(crate) fn times(self, other: Self) -> Self {
        let mut product = blst_fr::default();
        // SAFETY: reads two initialised scalars.
        unsafe { blst::blst_fr_mul(&raw mut product, &raw const self.0, &raw const other.0) };
        Self(product)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        let mut difference = blst_fr::default();
        // SAFETY: reads two initialised scalars.
        unsafe { blst::blst_fr_sub(&raw mut difference, &raw const self.0, &raw const other.0) };
        Self(difference)
    }

    /// 1/self; 0 for 0.
    pub(crate) fn inverse(self) -> Self {
        let mut inverse = blst_fr::default();
        // SAFETY: reads one initialised scalar. Not constant-time: these are public.
        unsafe { blst::blst_fr_eucl_inverse(&raw mut inverse, &raw const self.0) };
        Self(inverse)
    }

    /// 32 bytes, the least first.
    pub(crate) fn to_le_bytes(self) -> [u8; 32] {
        let mut scalar = blst_scalar::default();
        // SAFETY: reads one initialised scalar.
        unsafe { blst::blst_scalar_from_fr(&raw mut scalar, &raw const self.0) };
        scalar.b
    }
}

/// Scalars one after the other, as multiplication of many points takes them.
fn weights<'a>(scalars: impl Iterator<Item = &'a Scalar>) -> Vec<u8> {
    scalars.flat_map(|scalar| scalar.to_le_bytes()).collect()
}
