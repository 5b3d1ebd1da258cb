//! Partial signatures that are none, over a curve library that the product does not use.

use std::sync::LazyLock;

use bls12_381_plus::{G2Affine, G2Projective, Scalar};

/// The field's modulus, the greatest byte first.
const MODULUS: [u8; 48] = [
    0x1a, 0x01, 0x11, 0xea, 0x39, 0x7f, 0xe6, 0x9a, 0x4b, 0x1b, 0xa7, 0xb6, 0x43, 0x4b, 0xac, 0xd7,
    0x64, 0x77, 0x4b, 0x84, 0xf3, 0x85, 0x12, 0xbf, 0x67, 0x30, 0xd2, 0xa0, 0xf6, 0xb0, 0xf6, 0x24,
    0x1e, 0xab, 0xff, 0xfe, 0xb1, 0x53, 0xff, 0xff, 0xb9, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xaa, 0xab,
];

const COMPRESSED: u8 = 0x80;

/// The neutral element.
#[must_use]
pub fn infinity() -> [u8; 96] {
    G2Affine::identity().to_compressed()
}

/// An x to which the curve has no y.
#[must_use]
pub fn off_curve() -> [u8; 96] {
    static POINT: LazyLock<[u8; 96]> = LazyLock::new(|| {
        let mut candidates = (1..=u8::MAX).map(small);
        let is_none =
            |point: &[u8; 96]| bool::from(G2Affine::from_compressed_unchecked(point).is_none());
        candidates.find(is_none).unwrap()
    });
    *POINT
}

/// A point of the curve that is not in the subgroup.
#[must_use]
pub fn outside_subgroup() -> [u8; 96] {
    static POINT: LazyLock<[u8; 96]> = LazyLock::new(|| {
        let mut candidates = (1..=u8::MAX).map(small);
        let is_outside = |point: &[u8; 96]| {
            Option::from(G2Affine::from_compressed_unchecked(point))
                .is_some_and(|point: G2Affine| !bool::from(point.is_torsion_free()))
        };
        candidates.find(is_outside).unwrap()
    });
    *POINT
}

/// The point of these 96 bytes, with its y: 192 bytes. It may be outside the subgroup.
#[must_use]
pub fn uncompressed(point: &[u8; 96]) -> [u8; 192] {
    let point: G2Affine = Option::from(G2Affine::from_compressed_unchecked(point)).unwrap();
    point.to_uncompressed()
}

/// A good point of 192 bytes without its y.
#[must_use]
pub fn compressed(point: &[u8; 192]) -> [u8; 96] {
    let point: G2Affine = Option::from(G2Affine::from_uncompressed_unchecked(point)).unwrap();
    point.to_compressed()
}

/// The same point, its x written with the modulus added: the same number, and not its form.
#[must_use]
pub fn plus_modulus(point: &[u8; 96]) -> [u8; 96] {
    // The second half has no flags, and room.
    let mut bytes = *point;
    let mut carry = 0;
    for (byte, other) in bytes[48..].iter_mut().zip(MODULUS).rev() {
        let sum = u16::from(*byte) + u16::from(other) + carry;
        [_, *byte] = sum.to_be_bytes();
        carry = sum >> 8;
    }
    bytes
}

/// x = number + u, compressed.
fn small(number: u8) -> [u8; 96] {
    let mut bytes = [0; 96];
    bytes[0] = COMPRESSED;
    bytes[47] = 1;
    bytes[95] = number;
    bytes
}

/// The generator's signature, so to speak: a good point that nobody signed with.
#[must_use]
pub fn generator() -> [u8; 96] {
    G2Affine::generator().to_compressed()
}

/// A point and so many times the generator.
#[must_use]
pub fn plus(point: &[u8; 96], times: &Scalar) -> [u8; 96] {
    let point: G2Affine = Option::from(G2Affine::from_compressed_unchecked(point)).unwrap();
    (G2Projective::from(point) + G2Projective::GENERATOR * times).to_compressed()
}

/// The weight of `index` when the members `of` combine.
#[must_use]
pub fn weight(index: u64, of: &[u64]) -> Scalar {
    let at = Scalar::from(index);
    let others = of.iter().filter(|other| **other != index);
    others.fold(Scalar::ONE, |weight, other| {
        let other = Scalar::from(*other);
        weight * other * Option::<Scalar>::from((other - at).invert()).unwrap()
    })
}

/// The scalar 1.
#[must_use]
pub fn one() -> Scalar {
    Scalar::ONE
}
