//! Types of their own for what would otherwise be a bare `u64` or `[u8; 32]`.

use std::fmt;

use tree_hash::{Hash256, PackedEncoding, TreeHash, TreeHashType};

/// Why a hexadecimal value was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The number of hexadecimal digits is wrong.
    #[error("expected {expected} hexadecimal digits, got {got}")]
    Length {
        /// Digits that the type has.
        expected: usize,
        /// Digits that were given, without a `0x`.
        got: usize,
    },
    /// A character is no hexadecimal digit.
    #[error("not hexadecimal")]
    Digit,
}

/// A type that hashes exactly as the value it wraps.
macro_rules! hashes_as_inner {
    ($name:ident, $inner:ty) => {
        impl TreeHash for $name {
            fn tree_hash_type() -> TreeHashType {
                <$inner>::tree_hash_type()
            }

            fn tree_hash_packed_encoding(&self) -> PackedEncoding {
                self.0.tree_hash_packed_encoding()
            }

            fn tree_hash_packing_factor() -> usize {
                <$inner>::tree_hash_packing_factor()
            }

            fn tree_hash_root(&self) -> Hash256 {
                self.0.tree_hash_root()
            }
        }
    };
}

/// A type of bytes of a fixed length whose text is hexadecimal: `Display`, `Debug`, `FromStr`,
/// `TryFrom<&[u8]>`. The calling crate must depend on `const-hex`.
#[macro_export]
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            /// `0x` and lower-case hexadecimal digits.
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&const_hex::encode_prefixed(self.0))
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::HexError;

            /// Takes hexadecimal digits of either case, with or without `0x`, of the exact length.
            fn from_str(text: &str) -> Result<Self, $crate::HexError> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                if digits.len() != 2 * $length {
                    let (expected, got) = (2 * $length, digits.len());
                    return Err($crate::HexError::Length { expected, got });
                }
                let mut bytes = [0; $length];
                const_hex::decode_to_slice(digits, &mut bytes)
                    .map_err(|_| $crate::HexError::Digit)?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = $crate::HexError;

            /// Takes exactly the type's length of bytes.
            fn try_from(bytes: &[u8]) -> Result<Self, $crate::HexError> {
                bytes.try_into().map(Self).map_err(|_| $crate::HexError::Length {
                    expected: 2 * $length,
                    got: bytes.len().saturating_mul(2),
                })
            }
        }
    };
}

/// Bytes that stand in SSZ objects and in JSON.
macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        hex_bytes!($(#[$doc])* $name, $length);
        hashes_as_inner!($name, [u8; $length]);

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

bytes_type!(
    /// A 32-byte SSZ hash tree root, or another 32-byte value of the consensus specification.
    Root, 32
);
bytes_type!(
    /// The 32 bytes that a BLS signature covers: `compute_signing_root` of the consensus
    /// specification.
    SigningRoot, 32
);
bytes_type!(
    /// A compressed BLS12-381 G1 point, 48 bytes. Not checked to be on the curve.
    PublicKey, 48
);
bytes_type!(
    /// A fork version, 4 bytes.
    ForkVersion, 4
);
bytes_type!(
    /// An execution-layer address, 20 bytes.
    Address, 20
);

impl Root {
    /// 32 zero bytes.
    pub const ZERO: Self = Self([0; 32]);
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        hashes_as_inner!($name, u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type!(
    /// A slot number since genesis.
    Slot
);
number_type!(
    /// An epoch number since genesis.
    Epoch
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_taken_with_and_without_prefix_in_any_case() {
        for text in ["0x0a0B0c0D", "0A0b0C0d"] {
            assert_eq!(text.parse(), Ok(ForkVersion([10, 11, 12, 13])), "{text}");
        }
        assert_eq!(ForkVersion([10, 11, 12, 13]).to_string(), "0x0a0b0c0d");
    }

    #[test]
    fn odd_short_long_and_foreign_digits_are_refused() {
        for (text, error) in [
            (
                "0x0a0b0c0",
                HexError::Length {
                    expected: 8,
                    got: 7,
                },
            ),
            (
                "",
                HexError::Length {
                    expected: 8,
                    got: 0,
                },
            ),
            (
                "0x0a0b0c0d0e",
                HexError::Length {
                    expected: 8,
                    got: 10,
                },
            ),
            ("0x0a0b0cxx", HexError::Digit),
            ("0x0x0a0b0c", HexError::Digit),
        ] {
            assert_eq!(text.parse::<ForkVersion>(), Err(error), "{text}");
        }
    }
}
