//! Points of G1: keys.

use std::num::NonZeroU64;

use blst::{BLST_ERROR, MultiPoint, blst_p1, blst_p1_affine};

use super::{InvalidPoint, MULTIPLIER_BITS, SCALAR_BITS, Scalar};

/// A point of G1: on the curve, in the subgroup, not infinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct G1(pub(super) blst_p1_affine);

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
        G1Sum(sum).normalise()
    }

    /// Σ weight·point; `None` if that is infinity (or there is no term).
    pub(crate) fn weighted_sum(terms: &[(Scalar, Self)]) -> Option<Self> {
        let points: Vec<blst_p1_affine> = terms.iter().map(|(_, point)| point.0).collect();
        let weights = terms.iter().flat_map(|(weight, _)| weight.to_le_bytes());
        multiply(&points, &weights.collect::<Vec<_>>(), SCALAR_BITS).normalise()
    }
}

/// A sum of points of G1, infinity included, that is not yet brought to affine coordinates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct G1Sum(blst_p1);

impl G1Sum {
    /// Σ multiplier·point.
    pub(crate) fn multiplied<'a>(terms: impl Iterator<Item = (NonZeroU64, &'a G1)>) -> Self {
        let (weights, points): (Vec<[u8; 8]>, Vec<blst_p1_affine>) = terms
            .map(|(weight, point)| (weight.get().to_le_bytes(), point.0))
            .unzip();
        multiply(&points, weights.as_flattened(), MULTIPLIER_BITS)
    }

    /// Each in affine coordinates, `None` for infinity: one field inversion for all.
    pub(crate) fn normalise_all(sums: &[Self]) -> Vec<Option<G1>> {
        let projective: Vec<blst_p1> = sums.iter().map(|sum| sum.0).collect();
        let mut affine = vec![blst_p1_affine::default(); projective.len()];
        if !projective.is_empty() {
            let rows = [projective.as_ptr(), std::ptr::null()];
            // SAFETY: after its first pointer the list ends, so that the rest follows on the first:
            // as many points are read, and written, as both vectors hold.
            unsafe {
                blst::blst_p1s_to_affine(affine.as_mut_ptr(), rows.as_ptr(), projective.len());
            }
        }
        affine.into_iter().map(finite).collect()
    }

    fn normalise(&self) -> Option<G1> {
        let mut affine = blst_p1_affine::default();
        // SAFETY: reads one initialised point.
        unsafe { blst::blst_p1_to_affine(&raw mut affine, &raw const self.0) };
        finite(affine)
    }
}

fn finite(affine: blst_p1_affine) -> Option<G1> {
    // SAFETY: reads one initialised point.
    let infinite = unsafe { blst::blst_p1_affine_is_inf(&raw const affine) };
    (!infinite).then_some(G1(affine))
}

/// Of no terms, infinity. The scalars lie one after the other, the least byte first.
fn multiply(points: &[blst_p1_affine], scalars: &[u8], bits: usize) -> G1Sum {
    G1Sum(if points.is_empty() {
        blst_p1::default()
    } else {
        points.mult(scalars, bits)
    })
}
