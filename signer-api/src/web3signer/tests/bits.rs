//! Bit lists, bit vectors and progressive trees against SSZ's definitions, worked by hand.

use ethereum_hashing::hash32_concat;

use crate::web3signer::{
    bits::{BitList, InvalidBits, bit_vector_root},
    progressive,
};

#[test]
fn a_bit_list_has_the_length_that_its_last_set_bit_marks() {
    for (bytes, bits) in [
        (vec![0b1], 0),
        (vec![0b11], 1),
        (vec![0b1000_0000], 7),
        (vec![0xff, 0b1], 8),
        (vec![0xff, 0b10], 9),
        (vec![0, 0, 0b1], 16),
    ] {
        let list = BitList::new(bytes.clone()).unwrap();
        assert!(list.root(bits).is_ok(), "{bytes:?}");
        if let Some(limit) = usize::checked_sub(bits, 1) {
            assert_eq!(
                list.root(limit),
                Err(InvalidBits::OverLimit { bits, limit })
            );
        }
    }
}

#[test]
fn a_bit_list_without_a_length_bit_is_refused() {
    for bytes in [vec![], vec![0], vec![1, 0], vec![0xff, 0xff, 0]] {
        assert_eq!(BitList::new(bytes), Err(InvalidBits::NoLengthBit));
    }
}

#[test]
fn a_bit_list_is_hashed_without_its_length_bit() {
    let mut bits = [0; 32];
    bits[0] = 0b101;
    let mut length = [0; 32];
    length[0] = 3;
    let list = BitList::new(vec![0b1101]).unwrap();
    assert_eq!(list.root(256).unwrap().0, hash32_concat(&bits, &length));
}

#[test]
fn a_bit_vector_has_exactly_its_bytes_and_no_bit_beyond() {
    assert!(bit_vector_root(&[0xff; 8], 64).is_ok());
    assert!(bit_vector_root(&[0x0f], 4).is_ok());
    assert_eq!(
        bit_vector_root(&[0x1f], 4),
        Err(InvalidBits::Padding { bits: 4 })
    );
    for got in [0, 7, 9] {
        let error = Err(InvalidBits::Length { expected: 8, got });
        assert_eq!(bit_vector_root(&vec![0; got], 64), error);
    }
}

/// The definition of section 6.1, word for word.
fn mp(chunks: &[[u8; 32]], leaves: usize) -> [u8; 32] {
    if chunks.is_empty() {
        return [0; 32];
    }
    let (first, rest) = chunks.split_at(leaves.min(chunks.len()));
    hash32_concat(&merkle(first, leaves), &mp(rest, 4 * leaves))
}

fn merkle(chunks: &[[u8; 32]], leaves: usize) -> [u8; 32] {
    if leaves == 1 {
        return chunks.first().copied().unwrap_or_default();
    }
    let (left, right) = chunks.split_at((leaves / 2).min(chunks.len()));
    hash32_concat(&merkle(left, leaves / 2), &merkle(right, leaves / 2))
}

#[test]
fn progressive_trees_are_those_of_the_definition() {
    for length in [0, 1, 2, 5, 6, 20, 21, 22, 84, 85, 86, 400] {
        let chunks: Vec<[u8; 32]> = (1..=length)
            .map(|at: u16| [at.to_le_bytes()[0]; 32])
            .collect();
        let root = progressive::merkle_root(chunks.as_flattened());
        assert_eq!(root.0, mp(&chunks, 1), "{length} chunks");
    }
    let mut padded = [0; 32];
    padded[..3].copy_from_slice(b"abc");
    assert_eq!(progressive::merkle_root(b"abc").0, mp(&[padded], 1));
}
