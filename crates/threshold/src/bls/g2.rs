//! Points of G2: partials and signatures.

use std::num::NonZeroU64;

use blst::{BLST_ERROR, MultiPoint, blst_fp, blst_fp2, blst_p2, blst_p2_affine};

use super::{InvalidPoint, MULTIPLIER_BITS, SCALAR_BITS, Scalar};

/// The flags in the first byte of an encoded point (the ZCash serialisation of BLS12-381).
const COMPRESSED: u8 = 0x80;

/// A point on the curve of G2, not infinity; in the subgroup or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CurvePoint(blst_p2_affine);

impl CurvePoint {
    /// Decodes 96 compressed bytes.
    pub(crate) fn decode(bytes: &[u8; 96]) -> Result<Self, InvalidPoint> {
        let mut point = blst_p2_affine::default();
        // SAFETY: 96 readable bytes are what the compressed form has; it never reads further.
        let outcome = unsafe { blst::blst_p2_uncompress(&raw mut point, bytes.as_ptr()) };
        Self::decoded(outcome, point)
    }

    /// Decodes 192 uncompressed bytes.
    pub(crate) fn decode_uncompressed(bytes: &[u8; 192]) -> Result<Self, InvalidPoint> {
        let [first, ..] = bytes;
        // `blst` would take a compressed point here, with anything after it.
        if first & COMPRESSED != 0 {
            return Err(InvalidPoint::NotOnCurve);
        }
        let mut point = blst_p2_affine::default();
        // SAFETY: 192 readable bytes are what the uncompressed form has; it never reads further.
        let outcome = unsafe { blst::blst_p2_deserialize(&raw mut point, bytes.as_ptr()) };
        Self::decoded(outcome, point)
    }

    fn decoded(outcome: BLST_ERROR, point: blst_p2_affine) -> Result<Self, InvalidPoint> {
        if outcome != BLST_ERROR::BLST_SUCCESS {
            return Err(InvalidPoint::NotOnCurve);
        }
        finite(point).ok_or(InvalidPoint::Infinity)
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

    /// −self: (x, −y).
    fn negated(&self) -> blst_p2_affine {
        let mut negated = self.0;
        // SAFETY: reads one initialised field element.
        unsafe { blst::blst_fp2_cneg(&raw mut negated.y, &raw const self.0.y, true) };
        negated
    }
}

/// A point of G2: on the curve, in the subgroup, not infinity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct G2(pub(super) blst_p2_affine);

impl G2 {
    /// The 96 compressed bytes.
    pub(crate) fn compress(&self) -> [u8; 96] {
        let mut bytes = [0; 96];
        // SAFETY: writes exactly 96 bytes.
        unsafe { blst::blst_p2_affine_compress(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }

    /// Σ multiplier·point; `None` if that is infinity (or there is no term).
    pub(crate) fn multiplied<'a>(
        terms: impl Iterator<Item = (NonZeroU64, &'a Self)>,
    ) -> Option<Self> {
        let (weights, points): (Vec<[u8; 8]>, Vec<blst_p2_affine>) = terms
            .map(|(weight, point)| (weight.get().to_le_bytes(), point.0))
            .unzip();
        let sum = multiply(&points, weights.as_flattened(), MULTIPLIER_BITS);
        // Sums in the subgroup stay there.
        sum.normalise().map(|CurvePoint(point)| Self(point))
    }
}

/// A sum of points on the curve of G2, infinity included, not yet brought to affine coordinates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct G2Sum(blst_p2);

impl G2Sum {
    pub(crate) const INFINITY: Self = {
        let zero = blst_fp2 {
            fp: [blst_fp { l: [0; 6] }; 2],
        };
        Self(blst_p2 {
            x: zero,
            y: zero,
            z: zero,
        })
    };

    /// Σ weight·point, mod r: right only for points in the subgroup. The caller checks what comes
    /// out.
    pub(crate) fn weighted(terms: &[(Scalar, CurvePoint)]) -> Self {
        let points: Vec<blst_p2_affine> = terms.iter().map(|(_, point)| point.0).collect();
        let weights = terms.iter().flat_map(|(weight, _)| weight.to_le_bytes());
        multiply(&points, &weights.collect::<Vec<_>>(), SCALAR_BITS)
    }

    /// Σ weight·point with short weights, which are public: one chain of doublings for all terms,
    /// and for each an addition where its weight's non-adjacent form has a digit (about every third
    /// bit). Right for every point on the curve.
    pub(crate) fn weighted_briefly(terms: &[(i32, CurvePoint)]) -> Self {
        let terms: Vec<_> = terms
            .iter()
            .map(|(weight, point)| (non_adjacent(*weight), point.0, point.negated()))
            .collect();
        let places = terms.iter().map(|((plus, minus), ..)| plus | minus);
        let all = places.fold(0, |all, digits| all | digits);
        let mut sum = blst_p2::default();
        for place in (0..u64::BITS - all.leading_zeros()).rev() {
            let before = sum;
            // SAFETY: reads one initialised point.
            unsafe { blst::blst_p2_double(&raw mut sum, &raw const before) };
            for ((plus, minus), point, negated) in &terms {
                let term = if plus >> place & 1 == 1 {
                    point
                } else if minus >> place & 1 == 1 {
                    negated
                } else {
                    continue;
                };
                let before = sum;
                // SAFETY: reads two initialised points; this addition also doubles.
                unsafe {
                    blst::blst_p2_add_or_double_affine(
                        &raw mut sum,
                        &raw const before,
                        &raw const *term,
                    );
                }
            }
        }
        Self(sum)
    }

    /// Each in affine coordinates, `None` for infinity: one field inversion for all.
    pub(crate) fn normalise_all(sums: &[Self]) -> Vec<Option<CurvePoint>> {
        let projective: Vec<blst_p2> = sums.iter().map(|sum| sum.0).collect();
        let mut affine = vec![blst_p2_affine::default(); projective.len()];
        if !projective.is_empty() {
            let rows = [projective.as_ptr(), std::ptr::null()];
            // SAFETY: after its first pointer the list ends, so that the rest follows on the first:
            // as many points are read, and written, as both vectors hold.
            unsafe {
                blst::blst_p2s_to_affine(affine.as_mut_ptr(), rows.as_ptr(), projective.len());
            }
        }
        affine.into_iter().map(finite).collect()
    }

    fn normalise(&self) -> Option<CurvePoint> {
        let mut affine = blst_p2_affine::default();
        // SAFETY: reads one initialised point.
        unsafe { blst::blst_p2_to_affine(&raw mut affine, &raw const self.0) };
        finite(affine)
    }
}

/// The places of the digits 1 and −1 of a number's non-adjacent form: w = (3w − w) / 2, bit by bit
/// (G. W. Reitwiesner, 1960).
fn non_adjacent(weight: i32) -> (u64, u64) {
    let size = u64::from(weight.unsigned_abs());
    let threefold = size * 3;
    let (plus, minus) = ((threefold & !size) >> 1, (size & !threefold) >> 1);
    if weight < 0 {
        (minus, plus)
    } else {
        (plus, minus)
    }
}

fn finite(affine: blst_p2_affine) -> Option<CurvePoint> {
    // SAFETY: reads one initialised point.
    let infinite = unsafe { blst::blst_p2_affine_is_inf(&raw const affine) };
    (!infinite).then_some(CurvePoint(affine))
}

/// Of no terms, infinity. The scalars lie one after the other, the least byte first.
fn multiply(points: &[blst_p2_affine], scalars: &[u8], bits: usize) -> G2Sum {
    G2Sum(if points.is_empty() {
        blst_p2::default()
    } else {
        points.mult(scalars, bits)
    })
}
