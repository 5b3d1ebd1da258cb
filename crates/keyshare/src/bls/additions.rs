//! Many additions of affine points in one step, which share one inversion (P. Montgomery, "Speeding
//! the Pollard and elliptic curve methods of factorization", 1987): 5 multiplications and a square
//! each, where Jacobian coordinates take twice that. A doubling takes another square.
//!
//! The formulas fail for P − P and for infinity, which must not occur, and each but the last one for
//! P + P: whoever adds says why they do not occur. One that fails spoils all of its step.

use zeroize::Zeroizing;

use super::field::{Affine, Fp2};

/// The line that gives a sum: its slope is rise/run.
pub(super) trait Line {
    /// Through `a` and `b`.
    fn run(a: &Affine, b: &Affine) -> Fp2;
    /// Through `a` and `b`.
    fn rise(a: &Affine, b: &Affine) -> Fp2;
}

/// For two points that are neither equal nor opposite.
pub(super) struct Chord;

/// For two points that are equal.
pub(super) struct Tangent;

/// For two points that are not opposite.
pub(super) struct ChordOrTangent;

impl Line for Chord {
    fn run(a: &Affine, b: &Affine) -> Fp2 {
        b.x.minus(&a.x)
    }

    fn rise(a: &Affine, b: &Affine) -> Fp2 {
        b.y.minus(&a.y)
    }
}

impl Line for Tangent {
    fn run(a: &Affine, _: &Affine) -> Fp2 {
        a.y.plus(&a.y)
    }

    fn rise(a: &Affine, _: &Affine) -> Fp2 {
        let square = a.x.squared();
        square.plus(&square).plus(&square)
    }
}

impl Line for ChordOrTangent {
    fn run(a: &Affine, b: &Affine) -> Fp2 {
        let mut run = Chord::run(a, b);
        let equal = run.is_zero();
        run.replace_if(equal, &Tangent::run(a, b));
        run
    }

    fn rise(a: &Affine, b: &Affine) -> Fp2 {
        let mut rise = Chord::rise(a, b);
        let equal = Chord::run(a, b).is_zero();
        rise.replace_if(equal, &Tangent::rise(a, b));
        rise
    }
}

/// sums[i] += addends[i] for all i, with one inversion.
pub(super) fn add_each<L: Line>(sums: &mut [Affine], addends: &[Affine]) {
    let mut product = Fp2::ONE;
    let mut products = Zeroizing::new(Vec::with_capacity(sums.len()));
    for (sum, addend) in sums.iter().zip(addends) {
        products.push(product);
        product = product.times(&L::run(sum, addend));
    }
    let mut inverse = product.inverse();
    for ((sum, addend), product) in sums.iter_mut().zip(addends).zip(&*products).rev() {
        let slope = L::rise(sum, addend).times(&inverse.times(product));
        inverse = inverse.times(&L::run(sum, addend));
        let x = slope.squared().minus(&sum.x).minus(&addend.x);
        sum.y = slope.times(&sum.x.minus(&x)).minus(&sum.y);
        sum.x = x;
    }
}
