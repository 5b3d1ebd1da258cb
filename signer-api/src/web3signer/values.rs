//! The values of section 2: numbers, roots, and other bytes in hexadecimal digits.

use std::{fmt, marker::PhantomData};

use duty::{Epoch, Root, Slot};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use tree_hash::{Hash256, PackedEncoding, TreeHash, TreeHashType};

use super::progressive;

/// A type that hashes exactly as the value it wraps.
macro_rules! hashes_as_inner {
    ($name:ident $(<const $n:ident: usize>)?, $inner:ty) => {
        impl $(<const $n: usize>)? TreeHash for $name $(<$n>)? {
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

/// A uint64: a decimal string, or a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct U64(pub(super) u64);

hashes_as_inner!(U64, u64);

impl U64 {
    pub(super) const fn slot(self) -> Slot {
        Slot(self.0)
    }

    pub(super) const fn epoch(self) -> Epoch {
        Epoch(self.0)
    }
}

impl<'de> Deserialize<'de> for U64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = U64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a uint64 as a decimal string")
            }

            fn visit_u64<E>(self, number: u64) -> Result<U64, E> {
                Ok(U64(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<U64, E> {
                match text.parse() {
                    // `parse` would also take a sign.
                    Ok(number) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                        Ok(U64(number))
                    }
                    Ok(_) | Err(_) => Err(E::custom("expected a uint64 as a decimal string")),
                }
            }
        }
        from.deserialize_any(Digits)
    }
}

/// A uint256 as its 32 bytes, little-endian: a decimal string, or a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct U256([u8; 32]);

/// A uint256 is one chunk as it stands, and so is a root of 32 bytes.
impl U256 {
    pub(super) fn root(self) -> Hash256 {
        Hash256::from(self.0)
    }

    fn from_decimal(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let mut bytes = [0; 32];
        for digit in text.bytes() {
            let mut carry = u16::from(digit.checked_sub(b'0').filter(|value| *value < 10)?);
            for byte in &mut bytes {
                let [low, high] = (u16::from(*byte) * 10 + carry).to_le_bytes();
                *byte = low;
                carry = u16::from(high);
            }
            if carry != 0 {
                return None;
            }
        }
        Some(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for U256 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = U256;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a uint256 as a decimal string")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<U256, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<U256, E> {
                /// Digits of 2^256 − 1: more cannot be meant, zeros before it apart.
                const DIGITS_MAX: usize = 78;
                let number = (text.len() <= DIGITS_MAX).then(|| U256::from_decimal(text));
                number
                    .flatten()
                    .ok_or_else(|| E::custom("expected a uint256 as a decimal string"))
            }
        }
        from.deserialize_any(Digits)
    }
}

/// Calls `take` with the digits of a string, without `0x`.
fn hexadecimal<'de, D: Deserializer<'de>, T>(
    from: D,
    take: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Digits<F, T>(F, PhantomData<T>);
    impl<F: FnOnce(&str) -> Result<T, String>, T> Visitor<'_> for Digits<F, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string of hexadecimal digits")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text.strip_prefix("0x").unwrap_or(text)).map_err(E::custom)
        }
    }
    from.deserialize_str(Digits(take, PhantomData))
}

fn decoded(digits: &str) -> Result<Vec<u8>, String> {
    if !digits.len().is_multiple_of(2) {
        return Err(format!(
            "{} hexadecimal digits, which is an odd number",
            digits.len()
        ));
    }
    // `decode` would take a second prefix.
    if digits.starts_with("0x") {
        return Err("not hexadecimal".to_owned());
    }
    const_hex::decode(digits).map_err(|_| "not hexadecimal".to_owned())
}

/// A bytes32, from 64 digits or fewer: what is missing on the left is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LenientRoot(pub(super) Root);

hashes_as_inner!(LenientRoot, Root);

impl<'de> Deserialize<'de> for LenientRoot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        hexadecimal(from, |digits| {
            if digits.len() > 64 {
                return Err(format!(
                    "expected at most 64 hexadecimal digits, got {}",
                    digits.len()
                ));
            }
            let bytes = decoded(digits)?;
            let mut root = [0; 32];
            if let Some(right) = root.get_mut(32_usize.saturating_sub(bytes.len())..) {
                right.copy_from_slice(&bytes);
            }
            Ok(Self(Root(root)))
        })
    }
}

/// Exactly `N` bytes: signatures, keys, commitments, blooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed<const N: usize>(pub(super) [u8; N]);

hashes_as_inner!(Fixed<const N: usize>, [u8; N]);

/// A compressed signature, not checked to be on the curve.
pub(super) type Signature = Fixed<96>;

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        hexadecimal(from, |digits| {
            if digits.len() != 2 * N {
                return Err(format!(
                    "expected {} hexadecimal digits, got {}",
                    2 * N,
                    digits.len()
                ));
            }
            let bytes = decoded(digits)?.try_into();
            bytes.map(Self).map_err(|_| "not hexadecimal".to_owned())
        })
    }
}

/// Any number of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        hexadecimal(from, |digits| decoded(digits).map(Self))
    }
}

/// At most `MAX` bytes, as the SSZ root of such a byte list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteListRoot<const MAX: usize>(pub(super) Hash256);

impl<'de, const MAX: usize> Deserialize<'de> for ByteListRoot<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        hexadecimal(from, |digits| {
            let bytes = decoded(digits)?;
            if bytes.len() > MAX {
                return Err(format!("expected at most {MAX} bytes, got {}", bytes.len()));
            }
            let root = tree_hash::merkle_root(&bytes, MAX.div_ceil(tree_hash::BYTES_PER_CHUNK));
            Ok(Self(tree_hash::mix_in_length(&root, bytes.len())))
        })
    }
}

/// Any number of bytes, as the SSZ root of a progressive byte list: of a payload's megabytes of
/// transactions nothing else is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProgressiveBytesRoot(pub(super) Hash256);

impl<'de> Deserialize<'de> for ProgressiveBytesRoot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        hexadecimal(from, |digits| {
            let bytes = decoded(digits)?;
            let root = progressive::merkle_root(&bytes);
            Ok(Self(tree_hash::mix_in_length(&root, bytes.len())))
        })
    }
}
