//! A scalar as digits for a comb: to the base |z|, and in every digit a sign for every bit.
//!
//! z = −0xd201000000010000 is the curve's parameter, r = z⁴ − z² + 1 < |z|⁴ the group's order. With
//! K = Σ_j Σ_i 2^i·|z|^j (j < 4, i < 64), a scalar s has one b = (s + K)/2 mod r and that has one
//! set of digits b_j < |z| < 2^64. So
//!
//! ```text
//! s ≡ 2b − K = Σ_j d_j·|z|^j (mod r),   d_j = Σ_i ±2^i, + where bit i of b_j is set
//! ```
//!
//! (M. Hamburg, "Fast and compact elliptic-curve cryptography", 2012, section 3.3). No sum of
//! neighbouring signed bits is 0: each is odd but for the power of 2 of its lowest. This is why
//! the comb needs no point at infinity and meets none.

use std::hint::black_box;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::SecretScalar;

/// |z|.
pub(super) const RADIX: u64 = 0xd201_0000_0001_0000;

/// Bits of a digit.
pub(super) const DIGIT_BITS: usize = 64;

/// 1/2 mod r, the least limb first.
const HALF: [u64; 4] = [
    0x7fff_ffff_8000_0001,
    0xa9de_d201_7fff_2dff,
    0x199c_ec04_04d0_ec02,
    0x39f6_d3a9_94ce_bea4,
];

/// K/2 mod r.
const HALF_OF_ALL_ONES: [u64; 4] = [
    0x96fe_ffff_ffff_7fff,
    0xf2fd_dbfd_44fe_ffff,
    0x6bde_7f96_7b2f_e395,
    0x0cb2_12bd_a632_c3c4,
];

/// b_0 to b_3: 32 bytes, as secret as the scalar. On the heap, so that moving them leaves no copy
/// behind.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Digits(Box<[u64; 4]>);

impl Digits {
    /// The digits of `scalar`, in constant time.
    pub(crate) fn of(scalar: &SecretScalar) -> Self {
        let half = scalar.multiplied(&SecretScalar::from_limbs(HALF));
        let shifted = half.plus(&SecretScalar::from_limbs(HALF_OF_ALL_ONES));
        let mut rest = shifted.to_limbs();
        let mut digits = Self(Box::default());
        for digit in digits.0.iter_mut() {
            *digit = divide(&mut rest);
        }
        digits
    }

    /// b_0 to b_3.
    pub(super) fn columns(&self) -> &[u64; 4] {
        &self.0
    }
}

/// Divides `value` (the least limb first) by |z| and returns the remainder: bit by bit, with no
/// branch on either.
fn divide(value: &mut [u64; 4]) -> u64 {
    let mut rest = 0_u64;
    for limb in value.iter_mut().rev() {
        let mut quotient = 0;
        for bit in (0..64).rev() {
            let beyond = rest >> 63;
            let longer = (rest << 1) | ((*limb >> bit) & 1);
            let (difference, borrow) = longer.overflowing_sub(RADIX);
            let keep = u64::from(borrow) & (beyond ^ 1);
            let mask = black_box(keep.wrapping_neg());
            rest = (longer & mask) | (difference & !mask);
            quotient = (quotient << 1) | (keep ^ 1);
        }
        *limb = quotient;
    }
    rest
}

/// A window of a digit: which odd multiple of the window's lowest power of 2 its signed bits make.
pub(super) struct Window {
    /// The multiple is ±(2·index + 1).
    pub(super) index: u64,
    /// 1 for minus, else 0.
    pub(super) minus: u64,
}

impl Window {
    /// The `width` bits (1 to 63) of `digit` from bit `offset` on.
    pub(super) const fn of(digit: u64, offset: usize, width: usize) -> Self {
        let bits = digit >> offset;
        let low = (1 << (width - 1)) - 1;
        let minus = ((bits >> (width - 1)) & 1) ^ 1;
        Self {
            index: (bits ^ minus.wrapping_neg()) & low,
            minus,
        }
    }
}
