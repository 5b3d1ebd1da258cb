//! Bit lists and bit vectors (SSZ, "Bitlist[N]" and "Bitvector[N]"), whose limits depend on the
//! network and on the fork.

use serde::{Deserialize, Deserializer, de::Error as _};
use tree_hash::{BYTES_PER_CHUNK, Hash256, PackedEncoding, TreeHash, TreeHashType};

use super::{progressive, values::Bytes};

const BITS_PER_CHUNK: usize = 8 * BYTES_PER_CHUNK;

/// Why bytes are no bit list or bit vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidBits {
    #[error("a bit list without the bit that marks its length")]
    NoLengthBit,
    #[error("{bits} bits, {limit} at most")]
    OverLimit { bits: usize, limit: usize },
    #[error("expected {expected} bytes, got {got}")]
    Length { expected: usize, got: usize },
    #[error("a bit beyond the {bits} bits is set")]
    Padding { bits: usize },
}

/// A bit list of any length: its bits without the one that marks the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BitList {
    bytes: Vec<u8>,
    bits: usize,
}

impl BitList {
    /// From the SSZ serialisation, whose last byte holds the length bit above the last bits.
    pub(super) fn new(mut bytes: Vec<u8>) -> Result<Self, InvalidBits> {
        let last = bytes.pop().ok_or(InvalidBits::NoLengthBit)?;
        let mark = last.checked_ilog2().ok_or(InvalidBits::NoLengthBit)?;
        let bits = bytes
            .len()
            .saturating_mul(8)
            .saturating_add(usize::try_from(mark).unwrap_or(0));
        if mark > 0 {
            bytes.push(last ^ (1 << mark));
        }
        Ok(Self { bytes, bits })
    }

    /// The root of a `Bitlist[limit]`.
    pub(super) fn root(&self, limit: usize) -> Result<Hash256, InvalidBits> {
        if self.bits > limit {
            return Err(InvalidBits::OverLimit {
                bits: self.bits,
                limit,
            });
        }
        let root = tree_hash::merkle_root(&self.bytes, limit.div_ceil(BITS_PER_CHUNK));
        Ok(tree_hash::mix_in_length(&root, self.bits))
    }

    /// The root of a `ProgressiveBitlist`, which has no limit.
    pub(super) fn progressive_root(&self) -> Hash256 {
        tree_hash::mix_in_length(&progressive::merkle_root(&self.bytes), self.bits)
    }
}

impl<'de> Deserialize<'de> for BitList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Bytes(bytes) = Bytes::deserialize(from)?;
        Self::new(bytes).map_err(D::Error::custom)
    }
}

/// A `Bitlist[LIMIT]`, where the limit is the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LimitedBitList<const LIMIT: usize>(Hash256);

impl<'de, const LIMIT: usize> Deserialize<'de> for LimitedBitList<LIMIT> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        BitList::deserialize(from)?
            .root(LIMIT)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl<const LIMIT: usize> TreeHash for LimitedBitList<LIMIT> {
    fn tree_hash_type() -> TreeHashType {
        TreeHashType::List
    }

    fn tree_hash_packed_encoding(&self) -> PackedEncoding {
        PackedEncoding::from_slice(self.0.as_slice())
    }

    fn tree_hash_packing_factor() -> usize {
        1
    }

    fn tree_hash_root(&self) -> Hash256 {
        self.0
    }
}

/// The root of a `Bitvector[bits]` with that SSZ serialisation.
pub(super) fn bit_vector_root(bytes: &[u8], bits: usize) -> Result<Hash256, InvalidBits> {
    let expected = bits.div_ceil(8);
    if bytes.len() != expected {
        return Err(InvalidBits::Length {
            expected,
            got: bytes.len(),
        });
    }
    let used = bits % 8;
    if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return Err(InvalidBits::Padding { bits });
    }
    Ok(tree_hash::merkle_root(bytes, bits.div_ceil(BITS_PER_CHUNK)))
}
