//! The field that G2's coordinates lie in, and affine points over it, as `blst` computes them.
//!
//! Every pointer handed to `blst` comes from a reference or a slice that lives through the call,
//! and every output is a value that was initialised before; `blst` keeps no pointer and writes
//! nothing but its output. That is the safety argument of every block below. `blst`'s field
//! arithmetic is constant-time and its results are fully reduced, so equal elements have equal
//! limbs.
#![expect(unsafe_code, reason = "blst's field arithmetic has no safe interface")]

use std::hint::black_box;

use blst::{blst_fp, blst_fp2, blst_p2, blst_p2_affine};
use zeroize::Zeroize;

use super::hash_to_g2;

/// All ones or all zeros: a choice without a branch. The compiler is not told that it is one of
/// the two, lest it put a branch there.
#[derive(Clone, Copy)]
pub(super) struct Mask(u64);

impl Mask {
    /// All ones for a set bit, of which only the lowest may be set.
    #[inline]
    pub(super) fn of_bit(bit: u64) -> Self {
        Self(black_box(bit.wrapping_neg()))
    }

    /// All ones if the two, below 2^63, are equal.
    #[inline]
    pub(super) fn equal(a: u64, b: u64) -> Self {
        Self::of_bit((a ^ b).wrapping_sub(1) >> 63)
    }

    /// `a` if all ones, else `b`.
    #[inline]
    pub(super) const fn choose(self, a: u64, b: u64) -> u64 {
        (a & self.0) | (b & !self.0)
    }
}

/// An element of F(p²).
#[derive(Clone, Copy, Default)]
pub(super) struct Fp2(blst_fp2);

impl Zeroize for Fp2 {
    fn zeroize(&mut self) {
        for half in &mut self.0.fp {
            half.l.zeroize();
        }
    }
}

impl Fp2 {
    pub(super) const ONE: Self = Self::of(
        [
            0x7609_0000_0002_fffd,
            0xebf4_000b_c40c_0002,
            0x5f48_9857_53c7_58ba,
            0x77ce_5853_7052_5745,
            0x5c07_1a97_a256_ec6d,
            0x15f6_5ec3_fa80_e493,
        ],
        [0; 6],
    );

    /// From limbs in Montgomery's form.
    const fn of(real: [u64; 6], imaginary: [u64; 6]) -> Self {
        Self(blst_fp2 {
            fp: [blst_fp { l: real }, blst_fp { l: imaginary }],
        })
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut sum = blst_fp2::default();
        // SAFETY: reads two initialised elements.
        unsafe { blst::blst_fp2_add(&raw mut sum, &raw const self.0, &raw const other.0) };
        Self(sum)
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut difference = blst_fp2::default();
        // SAFETY: reads two initialised elements.
        unsafe { blst::blst_fp2_sub(&raw mut difference, &raw const self.0, &raw const other.0) };
        Self(difference)
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut product = blst_fp2::default();
        // SAFETY: reads two initialised elements.
        unsafe { blst::blst_fp2_mul(&raw mut product, &raw const self.0, &raw const other.0) };
        Self(product)
    }

    pub(super) fn squared(&self) -> Self {
        let mut square = blst_fp2::default();
        // SAFETY: reads one initialised element.
        unsafe { blst::blst_fp2_sqr(&raw mut square, &raw const self.0) };
        Self(square)
    }

    /// 1/self; 0 for 0.
    pub(super) fn inverse(&self) -> Self {
        let mut inverse = blst_fp2::default();
        // SAFETY: reads one initialised element.
        unsafe { blst::blst_fp2_inverse(&raw mut inverse, &raw const self.0) };
        Self(inverse)
    }

    pub(super) fn negated(&self) -> Self {
        Self::default().minus(self)
    }

    fn conjugate(mut self) -> Self {
        let [_, imaginary] = &mut self.0.fp;
        let positive = *imaginary;
        // SAFETY: reads one initialised element.
        unsafe { blst::blst_fp_cneg(imaginary, &raw const positive, true) };
        self
    }

    pub(super) fn is_zero(&self) -> Mask {
        let union = self.limbs().fold(0, |union, limb| union | limb);
        // The highest bit of x | −x is set unless x is 0.
        Mask::of_bit(((union | union.wrapping_neg()) >> 63) ^ 1)
    }

    /// `self` becomes `other` if the mask is all ones.
    #[inline]
    pub(super) fn replace_if(&mut self, mask: Mask, other: &Self) {
        for (half, other) in self.0.fp.iter_mut().zip(&other.0.fp) {
            for (limb, other) in half.l.iter_mut().zip(&other.l) {
                *limb = mask.choose(*other, *limb);
            }
        }
    }

    /// `self` takes `other`'s bits too if the mask is all ones.
    #[inline]
    pub(super) fn unite_if(&mut self, mask: Mask, other: &Self) {
        for (half, other) in self.0.fp.iter_mut().zip(&other.0.fp) {
            for (limb, other) in half.l.iter_mut().zip(&other.l) {
                *limb |= mask.choose(*other, 0);
            }
        }
    }

    fn limbs(&self) -> impl Iterator<Item = u64> {
        self.0.fp.iter().flat_map(|half| half.l)
    }
}

/// A point of G2 in affine coordinates.
#[derive(Clone, Copy, Default)]
pub(super) struct Affine {
    pub(super) x: Fp2,
    pub(super) y: Fp2,
}

impl Zeroize for Affine {
    fn zeroize(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
    }
}

impl Affine {
    /// H(message)·2^i for all `length` i from 0.
    pub(super) fn doublings_of_hash(message: &[u8; 32], length: usize) -> Vec<Self> {
        let mut point = Jacobian(hash_to_g2(message));
        let mut points = Vec::with_capacity(length);
        for _ in 0..length {
            points.push(point.0);
            point.double();
        }
        normalise_all(&points)
    }

    /// H(message) for each message.
    pub(super) fn hashes<'a>(messages: impl Iterator<Item = &'a [u8; 32]>) -> Vec<Self> {
        let hashed = messages.map(|message| {
            courtesy::offer();
            hash_to_g2(message)
        });
        normalise_all(&hashed.collect::<Vec<_>>())
    }

    /// psi(self): the endomorphism that multiplies by z, which is negative (M. Scott, "A note on
    /// group membership tests for G1, G2 and GT on BLS pairing-friendly curves", 2021).
    pub(super) fn times_z(&self) -> Self {
        Self {
            x: self.x.conjugate().times(&PSI_X),
            y: self.y.conjugate().times(&PSI_Y),
        }
    }

    /// psi(psi(self)).
    pub(super) fn times_z_squared(&self) -> Self {
        Self {
            x: self.x.times(&PSI_PSI_X),
            y: self.y.negated(),
        }
    }

    pub(super) fn negated(&self) -> Self {
        Self {
            x: self.x,
            y: self.y.negated(),
        }
    }

    const fn as_blst(&self) -> blst_p2_affine {
        blst_p2_affine {
            x: self.x.0,
            y: self.y.0,
        }
    }

    /// −self if the mask is all ones.
    #[inline]
    pub(super) fn negated_if(mut self, mask: Mask) -> Self {
        let opposite = self.y.negated();
        self.y.replace_if(mask, &opposite);
        self
    }

    /// The point at `index`. All are read.
    #[inline(never)]
    pub(super) fn gather(points: &[Self], index: u64) -> Self {
        let mut chosen = Self::default();
        for (place, point) in (0..).zip(points) {
            let mask = Mask::equal(place, index);
            chosen.x.unite_if(mask, &point.x);
            chosen.y.unite_if(mask, &point.y);
        }
        chosen
    }

    /// 192 bytes, as `blst_p2_affine_serialize` writes them.
    pub(super) fn serialize(&self) -> [u8; 192] {
        let point = self.as_blst();
        let mut bytes = [0; 192];
        // SAFETY: reads one initialised point; writes exactly 192 bytes.
        unsafe { blst::blst_p2_affine_serialize(bytes.as_mut_ptr(), &raw const point) };
        bytes
    }
}

/// A point of G2 in Jacobian coordinates.
#[derive(Clone, Copy)]
pub(super) struct Jacobian(blst_p2);

impl Zeroize for Jacobian {
    fn zeroize(&mut self) {
        for coordinate in [&mut self.0.x, &mut self.0.y, &mut self.0.z] {
            for half in &mut coordinate.fp {
                half.l.zeroize();
            }
        }
    }
}

impl Jacobian {
    pub(super) const fn of(point: &Affine) -> Self {
        Self(blst_p2 {
            x: point.x.0,
            y: point.y.0,
            z: Fp2::ONE.0,
        })
    }

    pub(super) fn double(&mut self) {
        let single = self.0;
        // SAFETY: reads one initialised point.
        unsafe { blst::blst_p2_double(&raw mut self.0, &raw const single) };
    }

    /// For two points that are neither equal nor opposite.
    pub(super) fn add(&mut self, addend: &Affine) {
        let (sum, addend) = (self.0, addend.as_blst());
        // SAFETY: reads two initialised points.
        unsafe {
            blst::blst_p2_add_affine(&raw mut self.0, &raw const sum, &raw const addend);
        }
    }

    pub(super) fn add_or_double(&mut self, addend: &Affine) {
        let (sum, addend) = (self.0, addend.as_blst());
        // SAFETY: reads two initialised points.
        unsafe {
            blst::blst_p2_add_or_double_affine(&raw mut self.0, &raw const sum, &raw const addend);
        }
    }

    /// 192 bytes, as `blst_p2_serialize` writes them.
    pub(super) fn serialize(&self) -> [u8; 192] {
        let mut bytes = [0; 192];
        // SAFETY: reads one initialised point; writes exactly 192 bytes.
        unsafe { blst::blst_p2_serialize(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }
}

/// With one inversion.
fn normalise_all(points: &[blst_p2]) -> Vec<Affine> {
    let mut affine = vec![blst_p2_affine::default(); points.len()];
    if !points.is_empty() {
        let consecutive = [points.as_ptr(), std::ptr::null()];
        // SAFETY: a null pointer after the first point says that the others follow it, of which
        // there are as many as it is told, as there are places to write.
        unsafe {
            blst::blst_p2s_to_affine(affine.as_mut_ptr(), consecutive.as_ptr(), points.len());
        }
    }
    let point = |point: blst_p2_affine| Affine {
        x: Fp2(point.x),
        y: Fp2(point.y),
    };
    affine.into_iter().map(point).collect()
}

/// 1/(1 + i)^((p − 1)/3), from `blst`'s e2.c.
const PSI_X: Fp2 = Fp2::of(
    [0; 6],
    [
        0x890d_c9e4_8675_45c3,
        0x2af3_2253_3285_a5d5,
        0x5088_0866_309b_7e2c,
        0xa20d_1b8c_7e88_1024,
        0x14e4_f04f_e2db_9068,
        0x14e5_6d3f_1564_853a,
    ],
);

/// 1/(1 + i)^((p − 1)/2), from `blst`'s e2.c.
const PSI_Y: Fp2 = Fp2::of(
    [
        0x3e2f_585d_a55c_9ad1,
        0x4294_213d_86c1_8183,
        0x3828_44c8_8b62_3732,
        0x92ad_2afd_1910_3e18,
        0x1d79_4e4f_ac7c_f0b9,
        0x0bd5_92fc_7d82_5ec8,
    ],
    [
        0x7bcf_a7a2_5aa3_0fda,
        0xdc17_dec1_2a92_7e7c,
        0x2f08_8dd8_6b4e_bef1,
        0xd1ca_2087_da74_d4a7,
        0x2da2_5966_96ce_bc1d,
        0x0e2b_7eed_bbfd_87d2,
    ],
);

/// `PSI_X` times its conjugate, a cube root of 1.
const PSI_PSI_X: Fp2 = Fp2::of(
    [
        0xcd03_c9e4_8671_f071,
        0x5dab_2246_1fcd_a5d2,
        0x5870_42af_d385_1b95,
        0x8eb6_0ebe_01ba_cb9e,
        0x03f9_7d6e_83d0_50d2,
        0x18f0_2065_5463_8741,
    ],
    [0; 6],
);
