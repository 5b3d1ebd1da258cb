//! Combining and blaming, against values that py_ecc and Python's integers gave, which share no
//! code with `blst`; in the modules, against plain `blst` with shares made for the purpose.

mod anticipation;
mod batches;
mod dealer;
mod encodings;
mod subsets;
mod vectors;

use std::collections::BTreeSet;

use duty::{PublicKey, SigningRoot};

use self::vectors::*;
use super::*;

fn root() -> SigningRoot {
    ROOT.parse().unwrap()
}

fn index(value: u64) -> ShareIndex {
    ShareIndex::new(value).unwrap()
}

fn commitments() -> Commitments {
    let points = COMMITMENTS.map(|hex| const_hex::decode_to_array(hex).unwrap());
    Commitments::new(points.to_vec()).unwrap()
}

fn committee() -> Committee {
    let members = MEMBERS.map(|(member, ..)| index(member));
    Committee::new(commitments(), BTreeSet::from(members)).unwrap()
}

fn partial(position: usize) -> (ShareIndex, PartialSignature) {
    let (member, _, hex) = MEMBERS[position];
    (index(member), plain(hex))
}

fn plain(hex: &str) -> PartialSignature {
    PartialSignature::Plain(bytes(hex))
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    const_hex::decode_to_array(hex).unwrap()
}

fn infinity() -> [u8; 96] {
    let mut bytes = [0; 96];
    bytes[0] = 0xc0;
    bytes
}

#[test]
fn every_three_of_four_partials_in_any_order_make_the_expected_signature() {
    let committee = committee();
    for absent in 0..4 {
        let mut partials: Vec<_> = (0..4).filter(|&i| i != absent).map(partial).collect();
        for _ in 0..3 {
            partials.rotate_left(1);
            let signature = committee.combine(root(), &partials).unwrap();
            assert_eq!(signature.to_string(), SIGNATURE, "without {absent}");
            verify(&committee.group_key(), root(), &signature).unwrap();
        }
    }
}

#[test]
fn the_draft_of_distributed_signing_gives_the_same_shares() {
    // remote-signing-api, pull request 29: f(x) = 1 + 2x, shares 3, 5, 7.
    let points = [
        "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb",
        "a572cbea904d67468808c8eb50a9450c9721db309128012543902d0ac358a62ae28f75bb8f1c7c42c39a8c5529bf0f4e",
    ];
    let partials = [
        "b507fa251a28dec4d7b361ebb879d51096196ff3261ba0ac1894d1257b1efea1cfc7fe30c3c01c1739303bdb4e074f9e045323b268381bbdae0b3deb90984841c014f3bde377b0190f9f6863015b13da21e5b169da69d694608f5977be0ef524",
        "868ce6232d4317bcc8b98814da1f438938507fd5c2cdd70c6fd1a2e0a73a0d7d2931df86969e8a41813a0a12af057fac13496d0cec22dd3baf3a6beb45b6aebe1360c6e66cbbd075d529c6016fb6979ab0ab468a25fa70f163ad15f479e9e82f",
        "8ef43c09eb34f7ccb0fd8acffc7e233d11aa626029b47bf3c00b77e91c8dddb28821079ca4d4a04d075bcd0473942e4017dab358f0af78639304fb6e4c33c202e4a1df15a51e6e750c58d45cf368e89cbc11038b81f34c7a2045e683b8cc6e94",
    ];
    let expected = "0xb131741608acf022a3a6dd990edbc081fbff69fe724585f3ba17a49c4e3e0ff2f6d83834309c2d6935a48e24276261ba01df93553aedd73cc8a9a3aee65a608a6785691ce6859686192ec7a5135b03ecaaa52e99baa243b7a49ff79e06574c4d";
    let points = points.map(|hex| const_hex::decode_to_array(hex).unwrap());
    let committee = Committee::new(
        Commitments::new(points.to_vec()).unwrap(),
        BTreeSet::from([1, 2, 3].map(index)),
    )
    .unwrap();
    let partials: Vec<(ShareIndex, PartialSignature)> =
        (1..).map(index).zip(partials.map(plain)).collect();
    for pair in [[0, 1], [0, 2], [2, 1]] {
        let signature = committee
            .combine(SigningRoot([0x2a; 32]), &pair.map(|i| partials[i]))
            .unwrap();
        assert_eq!(signature.to_string(), expected, "{pair:?}");
    }
}

#[test]
fn public_shares_are_the_values_of_the_committed_polynomial() {
    for (member, public_share, _) in MEMBERS {
        assert_eq!(
            committee().public_share(index(member)),
            public_share.parse().unwrap()
        );
    }
    // Of no member, yet a value of the polynomial: with only the first commitment, the key itself.
    let first = COMMITMENTS[..1].iter();
    let constant = Commitments::new(
        first
            .map(|hex| const_hex::decode_to_array(hex).unwrap())
            .collect(),
    );
    let alone = Committee::new(constant.unwrap(), BTreeSet::from([index(9)])).unwrap();
    for i in [9, 10] {
        assert_eq!(alone.public_share(index(i)).0, alone.group_key().0);
    }
}

#[test]
fn the_group_key_follows_from_any_t_public_shares_and_from_no_fewer() {
    let committee = committee();
    let of = |members: &[u64]| {
        committee.interpolated_group_key(&members.iter().copied().map(index).collect())
    };
    for members in [&[1, 7, 1 << 32][..], &[7, 1 << 32, u64::MAX], &[1, 2, 3, 4]] {
        assert_eq!(of(members), Some(committee.group_key()), "{members:?}");
    }
    assert_ne!(of(&[1, 7]), Some(committee.group_key()));
    assert_eq!(of(&[]), None);
}

/// A partial of the first member that is `bad` is blamed on it, for `reason`, whoever else signs;
/// the others' partials still make the signature.
fn check_blame(bad: PartialSignature, reason: BadPartial) {
    let committee = committee();
    let culprit = index(1);
    assert_eq!(
        committee.verify_partial(culprit, root(), &bad),
        Err(reason),
        "{bad}"
    );
    let mut partials = vec![partial(1), (culprit, bad), partial(2)];
    assert_eq!(
        committee.combine(root(), &partials),
        Err(CombineError::Blame(vec![culprit])),
        "{bad}"
    );
    partials.push(partial(3));
    partials.retain(|(member, _)| *member != culprit);
    let signature = committee.combine(root(), &partials).unwrap();
    assert_eq!(signature.to_string(), SIGNATURE);
}

#[test]
fn a_bad_partial_is_blamed_on_its_member_and_the_others_still_sign() {
    let own: [u8; 96] = bytes(MEMBERS[0].2);
    let mut negated = own;
    negated[0] ^= 0x20;
    let mut one_bit = own;
    one_bit[95] ^= 1;
    let mut uncompressed = own;
    uncompressed[0] &= 0x7f;
    let mut above_the_modulus = own;
    above_the_modulus[..48].fill(0xff);
    above_the_modulus[0] = 0x9f;
    let mut crooked_infinity = infinity();
    crooked_infinity[95] = 1;
    let of_another_key_and_root = "b131741608acf022a3a6dd990edbc081fbff69fe724585f3ba17a49c4e3e0ff2f6d83834309c2d6935a48e24276261ba01df93553aedd73cc8a9a3aee65a608a6785691ce6859686192ec7a5135b03ecaaa52e99baa243b7a49ff79e06574c4d";

    let point = BadPartial::Point;
    let not_on_curve = point(InvalidPoint::NotOnCurve);
    let outside = point(InvalidPoint::OutsideSubgroup);
    for (bad, reason) in [
        (bytes(MEMBERS[1].2), BadPartial::Mismatch),
        (bytes(SIGNATURE), BadPartial::Mismatch),
        (bytes(of_another_key_and_root), BadPartial::Mismatch),
        (negated, BadPartial::Mismatch),
        ([0; 96], not_on_curve),
        ([0xff; 96], not_on_curve),
        ([0xa5; 96], not_on_curve),
        (bytes(NOT_ON_CURVE), not_on_curve),
        (uncompressed, not_on_curve),
        (above_the_modulus, not_on_curve),
        (crooked_infinity, not_on_curve),
        (infinity(), point(InvalidPoint::Infinity)),
        (bytes(OUTSIDE_SUBGROUP), outside),
        (bytes(ORDER_13), outside),
        (bytes(GOOD_PLUS_ORDER_13), outside),
    ] {
        check_blame(PartialSignature::Plain(bad), reason);
    }
    // One bit: whether that x has a point is chance, that it is bad is not.
    assert!(
        committee()
            .verify_partial(index(1), root(), &PartialSignature::Plain(one_bit))
            .is_err()
    );
}

#[test]
fn all_the_bad_are_named_and_none_of_the_good() {
    let (first, second) = (partial(0).1, partial(1).1);
    // Swapped: each is a good partial, of the other member.
    let partials = [
        (index(1), second),
        (index(7), first),
        partial(2),
        partial(3),
    ];
    assert_eq!(
        committee().combine(root(), &partials),
        Err(CombineError::Blame(vec![index(1), index(7)]))
    );
    let error = committee().combine(root(), &partials).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad partial signatures of the members 1, 7"
    );
}

#[test]
fn partials_that_cancel_each_others_faults_make_a_valid_signature_or_none() {
    // Two liars who add the same point to their partials: the sum is off by (λ1 + λ2)·P.
    let partials = [
        (index(1), plain(GOOD_PLUS_ORDER_13)),
        (index(7), plain(ORDER_13)),
        partial(2),
    ];
    assert_eq!(
        committee().combine(root(), &partials),
        Err(CombineError::Blame(vec![index(1), index(7)]))
    );
}

#[test]
fn a_partial_for_another_root_is_blamed_on_everyone_who_gave_it() {
    let other = SigningRoot([1; 32]);
    let partials = [partial(0), partial(1), partial(2)];
    let members = partials.map(|(member, _)| member).to_vec();
    assert_eq!(
        committee().combine(other, &partials),
        Err(CombineError::Blame(members))
    );
}

#[test]
fn too_few_duplicates_and_strangers_are_refused() {
    let committee = committee();
    let stranger = (index(2), partial(0).1);
    for (partials, error) in [
        (
            vec![],
            CombineError::TooFew {
                got: 0,
                threshold: 3,
            },
        ),
        (
            vec![partial(0), partial(3)],
            CombineError::TooFew {
                got: 2,
                threshold: 3,
            },
        ),
        (
            vec![partial(0), partial(1), partial(0)],
            CombineError::Duplicate(index(1)),
        ),
        (
            vec![partial(0), partial(1), partial(2), partial(2)],
            CombineError::Duplicate(index(1 << 32)),
        ),
        (
            vec![partial(0), stranger, partial(1)],
            CombineError::NotAMember(index(2)),
        ),
    ] {
        assert_eq!(committee.combine(root(), &partials), Err(error));
    }
    assert_eq!(
        committee.verify_partial(stranger.0, root(), &stranger.1),
        Err(BadPartial::NotAMember(index(2)))
    );
}

#[test]
fn a_verified_partial_tells_what_was_verified() {
    let (member, given) = partial(2);
    let verified = committee().verify_partial(member, root(), &given).unwrap();
    assert_eq!(
        (verified.index(), verified.root(), verified.partial()),
        (member, root(), given)
    );
}

#[test]
fn commitments_are_points_of_the_subgroup_and_not_infinity() {
    let good: [u8; 48] = const_hex::decode_to_array(COMMITMENTS[0]).unwrap();
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    let mut outside = [0; 48];
    (outside[0], outside[47]) = (0x80, 4);
    let mut off_curve = [0; 48];
    (off_curve[0], off_curve[47]) = (0x80, 1);
    for (bad, reason) in [
        (infinity, InvalidPoint::Infinity),
        (outside, InvalidPoint::OutsideSubgroup),
        (off_curve, InvalidPoint::NotOnCurve),
        ([0; 48], InvalidPoint::NotOnCurve),
        ([0xff; 48], InvalidPoint::NotOnCurve),
    ] {
        for position in 0..3 {
            let mut points = vec![good; 3];
            points[position] = bad;
            assert_eq!(
                Commitments::new(points),
                Err(InvalidCommitments::Point { position, reason })
            );
        }
    }
    assert_eq!(Commitments::new(vec![]), Err(InvalidCommitments::Empty));
    assert_eq!(
        Commitments::new(vec![good; 65]),
        Err(InvalidCommitments::TooMany { got: 65 })
    );
    let commitments = commitments();
    assert_eq!(commitments.threshold(), 3);
    assert_eq!(commitments.group_key(), PublicKey(good));
    assert_eq!(commitments.as_slice().len(), 3);
    assert_eq!(commitments.check(), Ok(()));
}

#[test]
fn of_deferred_commitments_only_the_group_key_is_checked_at_once_and_nobody_is_blamed_for_the_others()
 {
    let mut points = commitments().as_slice().to_vec();
    points[0][47] ^= 1;
    assert!(Commitments::deferred(points).is_err());
    assert_eq!(
        Commitments::deferred(vec![]),
        Err(InvalidCommitments::Empty)
    );
    let mut points = commitments().as_slice().to_vec();
    points[2] = [0; 48];
    let invalid = InvalidCommitments::Point {
        position: 2,
        reason: InvalidPoint::NotOnCurve,
    };
    assert_eq!(Commitments::new(points.clone()), Err(invalid));
    let deferred = Commitments::deferred(points).unwrap();
    let members = MEMBERS.map(|(member, ..)| index(member));
    let committee = Committee::new(deferred, BTreeSet::from(members)).unwrap();
    let mut partials = [partial(0), partial(1), partial(2)];
    let signature = committee.combine(root(), &partials).unwrap();
    assert_eq!(signature.to_string(), SIGNATURE);
    let (member, good) = partials[0];
    assert_eq!(
        committee.verify_partial(member, root(), &good),
        Err(BadPartial::Commitments(invalid))
    );
    partials[0].1 = partials[1].1;
    assert_eq!(
        committee.combine(root(), &partials),
        Err(CombineError::Commitments(invalid))
    );
    assert_eq!(committee.commitments().check(), Err(invalid));
    assert_eq!(committee.public_share(member), PublicShare::INFINITY);
    assert_eq!(committee.interpolated_group_key(committee.members()), None);
}

#[test]
fn committees_without_a_majority_do_not_exist() {
    for n in 0..=70 {
        for t in 0..=70 {
            let safe = 1 <= t && t <= n && n < 2 * t && n <= 64;
            let size = CommitteeSize::new(t, n);
            assert_eq!(size.is_ok(), safe, "{t}-of-{n}");
            if let Ok(size) = size {
                assert_eq!(size.tolerated_faults(), 2 * t - n - 1, "{size}");
                assert_eq!(size.tolerated_absences(), n - t, "{size}");
                assert_eq!(size.to_string().parse(), Ok(size));
            }
        }
    }
    for (n, safe) in [(2, false), (3, true), (4, true), (5, true), (6, false)] {
        let made = Committee::new(commitments(), (1..=n).map(index).collect());
        assert_eq!(made.is_ok(), safe, "3-of-{n}");
    }
    for text in [
        "",
        "3",
        "3-of",
        "3-of-",
        "-of-4",
        "3of4",
        "3-of-4-of-5",
        "a-of-b",
    ] {
        assert_eq!(
            text.parse::<CommitteeSize>(),
            Err(InvalidCommitteeSize::Form(text.to_owned()))
        );
    }
    assert_eq!(
        "2-of-4".parse::<CommitteeSize>().unwrap_err().to_string(),
        "a threshold of 2 of 4 members lets two conflicting messages be signed; \
         it must be more than half"
    );
}

#[test]
fn the_tolerances_are_those_of_the_architecture() {
    for (size, faults, absences) in [
        ("3-of-4", 1, 1),
        ("5-of-7", 2, 2),
        ("2-of-3", 0, 1),
        ("3-of-5", 0, 2),
        ("1-of-1", 0, 0),
    ] {
        let size: CommitteeSize = size.parse().unwrap();
        assert_eq!(size.tolerated_faults(), faults, "{size}");
        assert_eq!(size.tolerated_absences(), absences, "{size}");
    }
}

#[test]
fn verifying_refuses_every_wrong_part() {
    let key = committee().group_key();
    let signature: Signature = SIGNATURE.parse().unwrap();
    assert_eq!(verify(&key, root(), &signature), Ok(()));
    assert_eq!(
        verify(&key, SigningRoot([0; 32]), &signature),
        Err(BadSignature::Mismatch)
    );
    let other = PublicKey(committee().public_share(index(1)).0);
    assert_eq!(
        verify(&other, root(), &signature),
        Err(BadSignature::Mismatch)
    );
    let mut infinite_key = PublicKey([0; 48]);
    infinite_key.0[0] = 0xc0;
    assert_eq!(
        verify(&infinite_key, root(), &Signature(infinity())),
        Err(BadSignature::Key(InvalidPoint::Infinity))
    );
    for (bad, reason) in [
        (infinity(), InvalidPoint::Infinity),
        (bytes(ORDER_13), InvalidPoint::OutsideSubgroup),
        (bytes(NOT_ON_CURVE), InvalidPoint::NotOnCurve),
    ] {
        assert_eq!(
            verify(&key, root(), &Signature(bad)),
            Err(BadSignature::Signature(reason))
        );
    }
}

#[test]
fn indices_and_bytes_are_parsed_to_the_letter() {
    assert_eq!(ShareIndex::new(0), Err(InvalidShareIndex));
    assert_eq!(index(u64::MAX).to_string(), "18446744073709551615");
    assert!(Signature::try_from(&[0; 95][..]).is_err());
    assert!("0x00".parse::<Signature>().is_err());
}
