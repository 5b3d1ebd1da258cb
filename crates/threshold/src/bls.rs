//! The curve, as `blst` computes it: this file and its submodules are all of this crate that
//! names `blst`.
//!
//! Every pointer handed to `blst` comes from a reference or a slice that lives through the call,
//! and every output is a value that was initialised before; `blst` keeps no pointer and writes
//! nothing but its output. That is the safety argument of every block below. It is built without
//! threads of its own, so that no call starts any.
#![expect(
    unsafe_code,
    reason = "blst's curve arithmetic has no safe interface for points"
)]

mod g1;
mod g2;
mod pairing;
mod scalar;

pub(crate) use g1::{G1, G1Sum};
pub(crate) use g2::{CurvePoint, G2, G2Sum};
pub(crate) use pairing::{HalfPairing, HashedMessage, PairingProduct};
pub(crate) use scalar::{Multipliers, Scalar};

/// Bits of a scalar: r < 2^255.
const SCALAR_BITS: usize = 255;

/// Bits of a multiplier of [`Multipliers`].
const MULTIPLIER_BITS: usize = 64;

/// Why bytes are no usable point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPoint {
    /// Not the encoding, in the expected form, of a point that satisfies the curve's equation.
    #[error("not an encoded point on the curve")]
    NotOnCurve,
    /// The neutral element, which everything would be "signed" with.
    #[error("the point at infinity")]
    Infinity,
    /// On the curve, but not in the subgroup of order r.
    #[error("a point outside the subgroup")]
    OutsideSubgroup,
}
