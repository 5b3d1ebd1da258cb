//! Public scalars, and random multipliers.

use std::num::NonZeroU64;

use blst::{blst_fr, blst_scalar};

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

/// The multipliers of a random linear combination: SHA-256 of a seed and a counter, 64 bits each.
///
/// Who knows them beforehand can give values whose errors cancel; who does not succeeds once in
/// 2^64 attempts.
pub(crate) struct Multipliers {
    seed: [u8; 32],
    drawn: u64,
}

impl Multipliers {
    pub(crate) const fn new(seed: &[u8; 32]) -> Self {
        Self {
            seed: *seed,
            drawn: 0,
        }
    }

    /// The next one.
    pub(crate) fn draw(&mut self) -> NonZeroU64 {
        loop {
            let mut message = [0; 40];
            let (seed, counter) = message.split_at_mut(32);
            seed.copy_from_slice(&self.seed);
            counter.copy_from_slice(&self.drawn.to_le_bytes());
            self.drawn = self.drawn.wrapping_add(1);
            let mut digest = [0; 32];
            // SAFETY: reads the message, with its length, and writes exactly 32 bytes.
            unsafe {
                blst::blst_sha256(digest.as_mut_ptr(), message.as_ptr(), message.len());
            }
            let [a, b, c, d, e, f, g, h, ..] = digest;
            if let Some(drawn) = NonZeroU64::new(u64::from_le_bytes([a, b, c, d, e, f, g, h])) {
                return drawn;
            }
        }
    }
}
