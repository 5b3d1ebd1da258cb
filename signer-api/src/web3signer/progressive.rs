//! Progressive merkleisation (EIP-7916, EIP-7495; section 6.1), which tree_hash 0.12 has not.

use ethereum_hashing::hash32_concat;
use tree_hash::{BYTES_PER_CHUNK, Hash256};

/// The root of `chunks`, 32 bytes each (the last one may be shorter): a subtree of 1 leaf, one of 4,
/// one of 16 and so on, each the left neighbour of all that follow.
pub(super) fn merkle_root(chunks: &[u8]) -> Hash256 {
    let mut subtrees = Vec::new();
    let mut rest = chunks;
    let mut leaves: usize = 1;
    while !rest.is_empty() {
        let bytes = leaves.saturating_mul(BYTES_PER_CHUNK).min(rest.len());
        let (taken, left) = rest.split_at(bytes);
        subtrees.push(tree_hash::merkle_root(taken, leaves));
        rest = left;
        leaves = leaves.saturating_mul(4);
    }
    subtrees.iter().rev().fold(Hash256::ZERO, |right, left| {
        Hash256::from(hash32_concat(left.as_slice(), right.as_slice()))
    })
}

/// The root of a container whose fields, at most 64, have those roots and are all active.
pub(super) fn container_root<const FIELDS: usize>(fields: [Hash256; FIELDS]) -> Hash256 {
    const { assert!(FIELDS <= 64, "the active fields have to fit into 64 bits") };
    let mut active = [0; BYTES_PER_CHUNK];
    for field in 0..FIELDS {
        if let Some(byte) = active.get_mut(field / 8) {
            *byte |= 1 << (field % 8);
        }
    }
    let chunks: Vec<u8> = fields.into_iter().flat_map(|root| root.0).collect();
    let root = merkle_root(&chunks);
    Hash256::from(hash32_concat(root.as_slice(), &active))
}

/// The root of a list whose elements have those roots.
pub(super) fn list_root(elements: impl ExactSizeIterator<Item = Hash256>) -> Hash256 {
    let length = elements.len();
    let chunks: Vec<u8> = elements.flat_map(|root| root.0).collect();
    tree_hash::mix_in_length(&merkle_root(&chunks), length)
}
