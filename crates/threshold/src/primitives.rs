//! Share indices, and the bytes of partials, signatures and public shares.

use std::{fmt, num::NonZeroU64};

/// Where a member's share lies on the polynomial: not 0, where the key lies. Any other `u64` is
/// smaller than the group's order, so different indices are different points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareIndex(u64);

/// The share index 0 was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share index of 0, where the whole key lies")]
pub struct InvalidShareIndex;

impl ShareIndex {
    /// The index `value`.
    ///
    /// # Errors
    /// [`InvalidShareIndex`] for 0.
    pub const fn new(value: u64) -> Result<Self, InvalidShareIndex> {
        if value == 0 {
            Err(InvalidShareIndex)
        } else {
            Ok(Self(value))
        }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ShareIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One member's contribution to a signature, as it came: nothing checked. It says which form it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PartialSignature {
    /// H(m)·share: a compressed point of G2.
    Plain([u8; 96]),
    /// H(m)·share/scale: an uncompressed point of G2.
    Scaled {
        /// The point.
        point: [u8; 192],
        /// What the share was divided by, mod r; see [`crate::Committee::scale`].
        scale: NonZeroU64,
    },
}

impl PartialSignature {
    /// What the share was divided by: 1 for the plain form.
    #[must_use]
    pub const fn scale(&self) -> NonZeroU64 {
        match self {
            Self::Plain(_) => NonZeroU64::MIN,
            Self::Scaled { scale, .. } => *scale,
        }
    }
}

impl fmt::Display for PartialSignature {
    /// `0x` and lower-case hexadecimal digits; of the scaled form, `7 × 0x…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(point) => f.write_str(&const_hex::encode_prefixed(point)),
            Self::Scaled { point, scale } => {
                write!(f, "{scale} × {}", const_hex::encode_prefixed(point))
            }
        }
    }
}

impl fmt::Debug for PartialSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

duty::hex_bytes!(
    /// A BLS signature: 96 bytes, a compressed point of G2. Checked if [`crate::Committee::combine`]
    /// made it.
    Signature, 96
);
duty::hex_bytes!(
    /// The public key of one share: 48 bytes, a compressed point of G1.
    PublicShare, 48
);

impl PublicShare {
    /// The compressed point at infinity: the public key of no share.
    pub(crate) const INFINITY: Self = {
        let mut bytes = [0; 48];
        let [first, ..] = &mut bytes;
        *first = 0xc0;
        Self(bytes)
    };
}
