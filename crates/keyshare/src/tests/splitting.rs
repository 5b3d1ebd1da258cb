//! From a key to shares to partials to the whole key's signature.

use std::collections::{BTreeMap, BTreeSet};

use duty::{Duty, Epoch, ForkVersion, PublicKey, Root, SigningOrder, SigningRoot};
use proptest::prelude::*;
use threshold::{
    BadPartial, CombineError, PartialSignature, ShareIndex, Signature, UnsafeCommittee, verify,
};

use super::{EXAMPLES, KEY, PUBLIC_KEY, bytes, indices, key, partial, split_seeded, subsets};
use crate::{InvalidSecret, SecretKey, SecretShare, ShareMismatch, SplitError, check_share, split};

/// Every subset of `threshold` of `members` makes exactly the whole key's signatures.
fn check_every_subset(threshold: usize, members: &BTreeSet<ShareIndex>, seed: u64) {
    let split = split_seeded(threshold, members, seed).unwrap();
    assert_eq!(split.committee.group_key().to_string(), PUBLIC_KEY);
    assert_eq!(split.committee.members(), members);
    for (root, expected) in EXAMPLES {
        let root: SigningRoot = root.parse().unwrap();
        let partials: BTreeMap<ShareIndex, PartialSignature> = split
            .shares
            .iter()
            .map(|(&index, share)| (index, partial(share, root)))
            .collect();
        for (&index, partial) in &partials {
            split
                .committee
                .verify_partial(index, root, partial)
                .unwrap();
        }
        for subset in subsets(members, threshold) {
            let given: Vec<_> = subset.iter().map(|&i| (i, partials[&i])).collect();
            let signature = split.committee.combine(root, &given).unwrap();
            assert_eq!(signature.to_string(), expected, "{subset:?} seed {seed}");
        }
    }
}

#[test]
fn every_subset_of_two_of_three_makes_the_whole_keys_signature() {
    check_every_subset(2, &indices(1..=3), 1);
}

#[test]
fn every_subset_of_three_of_four_makes_the_whole_keys_signature() {
    check_every_subset(3, &indices(1..=4), 2);
}

#[test]
fn every_subset_of_five_of_seven_makes_the_whole_keys_signature() {
    check_every_subset(5, &indices(1..=7), 3);
}

#[test]
fn indices_may_be_any_numbers() {
    let members = indices([3, 1 << 20, 0x0123_4567_89ab_cdef, u64::MAX - 1, u64::MAX]);
    check_every_subset(3, &members, 4);
    check_every_subset(1, &indices([u64::MAX]), 5);
    check_every_subset(2, &indices([5, 6]), 6);
}

#[test]
fn the_largest_committee_signs() {
    // More points than the small-sum path of the library takes.
    let split = split_seeded(40, &indices(1..=64), 7).unwrap();
    let (root, expected) = EXAMPLES[0];
    let root: SigningRoot = root.parse().unwrap();
    let partials: Vec<_> = split
        .shares
        .iter()
        .rev()
        .map(|(&index, share)| (index, partial(share, root)))
        .collect();
    let signature = split.committee.combine(root, &partials).unwrap();
    assert_eq!(signature.to_string(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_safe_committee_signs_as_the_whole_key(
        (members, threshold) in prop::collection::btree_set(1..=u64::MAX, 1..=9)
            .prop_flat_map(|members| {
                let size = members.len();
                (Just(members), size / 2 + 1..=size)
            }),
        seed: u64,
        root: [u8; 32],
    ) {
        let members = indices(members);
        let root = SigningRoot(root);
        let whole = Signature(key().0.sign(root.as_bytes()));
        let split = split_seeded(threshold, &members, seed).unwrap();
        let mut partials: Vec<_> = split.shares.iter().map(|(&i, s)| (i, partial(s, root))).collect();
        prop_assert_eq!(split.committee.combine(root, &partials), Ok(whole));
        partials.reverse();
        partials.truncate(threshold);
        prop_assert_eq!(split.committee.combine(root, &partials), Ok(whole));

        // One liar spoils the combination and is named; with a spare, the honest rest signs.
        partials[0].1 = partial(&split.shares[&partials[0].0], SigningRoot([7; 32]));
        let blamed = CombineError::Blame(vec![partials[0].0]);
        prop_assert_eq!(split.committee.combine(root, &partials), Err(blamed));
    }

    #[test]
    fn random_bytes_are_no_partial(noise in prop::collection::vec(any::<u8>(), 96)) {
        let split = split_seeded(2, &indices(1..=3), 9).unwrap();
        let noise = PartialSignature::Plain(noise.try_into().unwrap());
        let first = ShareIndex::new(1).unwrap();
        prop_assert!(split.committee.verify_partial(first, SigningRoot([1; 32]), &noise).is_err());
    }
}

#[test]
fn a_share_signs_what_its_permit_names() {
    let order = SigningOrder {
        validator: PUBLIC_KEY.parse().unwrap(),
        fork_version: ForkVersion([6, 0, 0, 0]),
        genesis_validators_root: Root([0x4b; 32]),
        duty: Duty::RandaoReveal(Epoch(421_875)),
    };
    let root = order.signing_root();
    let split = split_seeded(2, &indices(1..=3), 10).unwrap();
    let partials: Vec<_> = split
        .shares
        .iter()
        .map(|(&index, share)| (index, share.sign(order.permit_without_claim().unwrap())))
        .collect();
    let signature = split.committee.combine(root, &partials).unwrap();
    assert_eq!(verify(&order.validator, root, &signature), Ok(()));
    assert_eq!(signature.0, key().0.sign(root.as_bytes()));
}

#[test]
fn one_share_less_than_the_threshold_makes_nothing() {
    let members = indices(1..=4);
    let split = split_seeded(3, &members, 11).unwrap();
    let root = SigningRoot([3; 32]);
    let two: Vec<_> = split
        .shares
        .iter()
        .take(2)
        .map(|(&index, share)| (index, partial(share, root)))
        .collect();
    assert_eq!(
        split.committee.combine(root, &two),
        Err(CombineError::TooFew {
            got: 2,
            threshold: 3
        })
    );
    // Nor do two as if the threshold were two: the polynomial has degree two.
    let pairs = subsets(&members, 2);
    for pair in pairs {
        let key = split
            .committee
            .interpolated_group_key(&pair.iter().copied().collect());
        assert_ne!(key, Some(split.committee.group_key()), "{pair:?}");
    }
}

#[test]
fn a_partial_under_another_members_index_is_bad() {
    let split = split_seeded(2, &indices([4, 9, 11]), 12).unwrap();
    let root = SigningRoot([5; 32]);
    let members: Vec<ShareIndex> = split.committee.members().iter().copied().collect();
    for &claimed in &members {
        for (&index, share) in &split.shares {
            let outcome = split
                .committee
                .verify_partial(claimed, root, &partial(share, root));
            if index == claimed {
                assert!(outcome.is_ok());
            } else {
                assert_eq!(outcome, Err(BadPartial::Mismatch));
            }
        }
    }
}

#[test]
fn another_split_of_the_same_key_has_other_shares_which_do_not_mix() {
    let members = indices(1..=3);
    let (one, other) = (
        split_seeded(2, &members, 13).unwrap(),
        split_seeded(2, &members, 14).unwrap(),
    );
    assert_eq!(one.committee.group_key(), other.committee.group_key());
    assert_ne!(one.committee, other.committee);
    for (&index, share) in &one.shares {
        assert_eq!(check_share(share, index, &one.committee), Ok(()));
        assert_eq!(
            check_share(share, index, &other.committee),
            Err(ShareMismatch::Commitments(index))
        );
    }
    let stranger = ShareIndex::new(4).unwrap();
    let (&first, share) = one.shares.first_key_value().unwrap();
    assert_eq!(
        check_share(share, stranger, &one.committee),
        Err(ShareMismatch::NotAMember(stranger))
    );
    let second = ShareIndex::new(first.value() + 1).unwrap();
    assert_eq!(
        check_share(share, second, &one.committee),
        Err(ShareMismatch::Commitments(second))
    );
}

#[test]
fn unsafe_committees_are_not_split_for() {
    for (threshold, members, error) in [
        (
            0,
            3,
            UnsafeCommittee::NoMajority {
                threshold: 0,
                members: 3,
            },
        ),
        (
            2,
            4,
            UnsafeCommittee::NoMajority {
                threshold: 2,
                members: 4,
            },
        ),
        (
            1,
            2,
            UnsafeCommittee::NoMajority {
                threshold: 1,
                members: 2,
            },
        ),
        (
            4,
            3,
            UnsafeCommittee::TooFewMembers {
                threshold: 4,
                members: 3,
            },
        ),
        (
            1,
            0,
            UnsafeCommittee::TooFewMembers {
                threshold: 1,
                members: 0,
            },
        ),
        (40, 65, UnsafeCommittee::TooManyMembers { members: 65 }),
    ] {
        let outcome = split_seeded(threshold, &indices(1..=members), 0);
        assert_eq!(outcome.err(), Some(SplitError::Unsafe(error)));
    }
}

#[test]
fn entropy_of_zeros_or_of_repetitions_is_refused() {
    let members = indices(1..=4);
    let with = |entropy: &mut dyn FnMut(&mut [u8])| split(key(), 3, &members, entropy).err();
    assert_eq!(with(&mut |_| {}), Some(SplitError::Entropy));
    assert_eq!(with(&mut |slice| slice.fill(9)), Some(SplitError::Entropy));
    // The key itself as a coefficient.
    let mut own = [0; 48];
    own[16..].copy_from_slice(&bytes(KEY));
    assert_eq!(
        with(&mut |slice| slice.copy_from_slice(&own)),
        Some(SplitError::Entropy)
    );
    // f(x) = key − key·x is 0 at 1: a member would hold nothing.
    let mut order_minus_key = [0; 48];
    let order = bytes("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001");
    let mut borrow = 0;
    for i in (0..32).rev() {
        let difference = i32::from(order[i]) - i32::from(bytes(KEY)[i]) - borrow;
        borrow = i32::from(difference < 0);
        order_minus_key[16 + i] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let outcome = split(key(), 2, &indices(1..=3), &mut |slice| {
        slice.copy_from_slice(&order_minus_key);
    });
    assert_eq!(outcome.err(), Some(SplitError::Entropy));
}

#[test]
fn secrets_are_numbers_from_one_to_the_order_less_one() {
    let order = bytes("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001");
    let mut largest = order;
    largest[31] = 0;
    let mut one = [0; 32];
    one[31] = 1;
    for (value, valid) in [
        ([0; 32], false),
        (one, true),
        (largest, true),
        (order, false),
        ([0xff; 32], false),
    ] {
        assert_eq!(SecretKey::from_be_bytes(&value).is_ok(), valid);
        let share = SecretShare::from_be_bytes(&value);
        match share {
            Ok(share) => assert_eq!(*share.to_be_bytes(), value),
            Err(error) => assert_eq!((valid, error), (false, InvalidSecret)),
        }
    }
    assert_eq!(key().public_key().to_string(), PUBLIC_KEY);
}

#[test]
fn a_new_key_is_a_function_of_its_entropy() {
    let public =
        |entropy: [u8; 32]| -> PublicKey { SecretKey::from_entropy(&entropy).public_key() };
    assert_eq!(public([1; 32]), public([1; 32]));
    assert_ne!(public([1; 32]), public([2; 32]));
}
