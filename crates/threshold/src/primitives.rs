//! Share indices, and the bytes of partials, signatures and public shares.

use std::{fmt, str::FromStr};

use duty::HexError;

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

macro_rules! point_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// `0x` and lower-case hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&const_hex::encode_prefixed(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            /// Takes hexadecimal digits of either case, with or without `0x`, of the exact length.
            fn from_str(text: &str) -> Result<Self, HexError> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                if digits.len() != 2 * $length {
                    return Err(HexError::Length { expected: 2 * $length, got: digits.len() });
                }
                let mut bytes = [0; $length];
                const_hex::decode_to_slice(digits, &mut bytes).map_err(|_| HexError::Digit)?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = HexError;

            /// Takes exactly the type's length of bytes.
            fn try_from(bytes: &[u8]) -> Result<Self, HexError> {
                bytes.try_into().map(Self).map_err(|_| HexError::Length {
                    expected: 2 * $length,
                    got: bytes.len().saturating_mul(2),
                })
            }
        }
    };
}

point_bytes!(
    /// One member's contribution to a signature: 96 bytes as they came, nothing checked.
    PartialSignature, 96
);
point_bytes!(
    /// A BLS signature: 96 bytes, a compressed point of G2. Checked if [`crate::Committee::combine`]
    /// made it.
    Signature, 96
);
point_bytes!(
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
