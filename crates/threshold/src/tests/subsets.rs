//! Every subset of every committee, in every form, gives what the whole key signs with plain `blst`.

use std::num::NonZeroU64;

use super::{dealer::*, *};

const ROOT: SigningRoot = SigningRoot([7; 32]);

fn number(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

/// All t-subsets of all committees that may exist of the first 1 to 10 of `indices`.
fn check_all_committees_of(indices: [u64; 10]) {
    for n in 1..=10 {
        for t in (n / 2 + 1)..=n {
            check_all_subsets(&deal(t * 11, t, &indices[..n]));
        }
    }
}

fn check_all_subsets(dealt: &Dealt) {
    let committee = &dealt.committee;
    let own = dealt.scaled(ROOT);
    let plain = dealt.partials(ROOT, None);
    let foreign = dealt.partials(ROOT, Some(number(97)));
    let huge = dealt.partials(ROOT, Some(number(u64::MAX)));
    let mixed: Vec<_> = (0..own.len())
        .map(|i| [own[i], plain[i], foreign[i], huge[i]][i % 4])
        .collect();
    let mut given = Vec::new();
    for chosen in 0..1_usize << committee.size() {
        if usize::try_from(chosen.count_ones()) != Ok(committee.threshold()) {
            continue;
        }
        // In an order that is not always the indices' own.
        let mut members: Vec<usize> = (0..committee.size())
            .filter(|member| chosen >> member & 1 == 1)
            .collect();
        members.rotate_left(chosen % committee.threshold());
        let subset = |all: &[(ShareIndex, PartialSignature)]| -> Vec<_> {
            members.iter().map(|&member| all[member]).collect()
        };
        given.push(subset(&own));
        // Full-width weights take long: of each subset one such form, each form of many subsets.
        given.push(subset([&plain, &foreign, &huge, &mixed][chosen % 4]));
    }
    let jobs: Vec<Combination<'_>> = given
        .iter()
        .map(|partials| Combination {
            committee,
            root: ROOT,
            partials,
            anticipated: None,
        })
        .collect();
    let expected = dealt.signature(ROOT);
    for (job, combined) in jobs.iter().zip(combine_all(&jobs, &[1; 32])) {
        assert_eq!(combined, Ok(expected), "{job:?}");
    }
    let last = jobs.last().unwrap();
    assert_eq!(committee.combine(ROOT, last.partials), Ok(expected));
}

#[test]
fn of_small_indices() {
    check_all_committees_of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn of_indices_without_order() {
    check_all_committees_of([60, 3, 30, 5, 20, 6, 15, 10, 12, 7]);
}

#[test]
fn of_large_indices_with_small_proportions() {
    check_all_committees_of(std::array::from_fn(|i| {
        1_000_000_000_000_000_000 * (u64::try_from(i).unwrap() + 1)
    }));
}

#[test]
fn of_indices_that_have_no_scale() {
    check_all_committees_of(std::array::from_fn(|i| {
        u64::MAX - 3 * u64::try_from(i).unwrap()
    }));
}

#[test]
fn of_small_and_large_indices_together() {
    check_all_committees_of([
        1,
        u64::MAX,
        2,
        1 << 63,
        3,
        1 << 32,
        (1 << 32) + 1,
        4,
        u64::MAX - 1,
        5,
    ]);
}

#[test]
fn the_scale_is_the_least_common_denominator_or_1_where_a_weight_would_be_too_large() {
    // By Python's fractions, which told L and the largest |L·λ| of all subsets.
    let exa = 1_000_000_000_000_000_000;
    for (threshold, members, expected) in [
        (1, &[1][..], 1),
        (2, &[1, 2], 1),
        (2, &[1, 2, 3], 2),
        (2, &[2, 4, 6], 2),
        (3, &[1, 2, 3, 4], 3),
        (3, &[1, 2, 3, 4, 5], 24),
        (4, &[1, 2, 3, 4, 5, 6], 60),
        (5, &[1, 2, 3, 4, 5, 6, 7], 360),
        (6, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 181_440),
        (7, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 90_720),
        (10, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 1),
        (4, &[3, 5, 6, 10, 12, 15, 20], 1_428),
        (3, &[exa, 2 * exa, 3 * exa, 4 * exa], 3),
        (3, &[1 << 63, 1 << 62, 1 << 61, 1 << 60], 21),
        // L or L·λ of 2^31 and above.
        (2, &[1, (1 << 31) - 1], (1 << 31) - 2),
        (2, &[1, 1 << 31], 1),
        (2, &[1, (1 << 31) + 1], 1),
        (3, &[7, 19, 101, 255], 1),
        (3, &[1, 7, 1 << 32, u64::MAX], 1),
        (6, &[3, 5, 6, 10, 12, 15, 20, 30, 60, 7], 1),
        // A numerator of −2^127, whose negative no integer of this width is.
        (
            5,
            &[1 << 41, (1 << 41) + 1, 1 << 42, 1 << 44, 1 << 45, 7, 9],
            1,
        ),
        (5, &[1 << 41, (1 << 41) + 1, 1 << 42, 1 << 44, 1 << 45], 1),
        // Too many, too few, none.
        (6, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 1),
        (10, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 1),
        (3, &[1, 2], 1),
        (0, &[1, 2], 1),
        (0, &[], 1),
    ] {
        let indices: BTreeSet<ShareIndex> = members.iter().copied().map(index).collect();
        assert_eq!(
            scale(threshold, &indices),
            number(expected),
            "{threshold} of {members:?}"
        );
        assert_eq!(scale(threshold, &indices), number(expected), "again");
    }
}

#[test]
fn a_scale_that_is_not_the_committees_is_as_good_and_one_that_is_not_the_points_is_blamed() {
    let dealt = deal(3, 3, &[1, 2, 3, 4]);
    let committee = &dealt.committee;
    assert_eq!(committee.scale(), number(3));
    let honest = dealt.scaled(ROOT);
    for (scale, claimed, good) in [
        (3, 3, true),
        (7, 7, true),
        (1, 1, true),
        (3, 6, false),
        (6, 3, false),
        (3, 1, false),
    ] {
        let (member, partial) = dealt.partials(ROOT, Some(number(scale)))[0];
        let PartialSignature::Scaled { point, .. } = partial else {
            panic!("{partial}");
        };
        let claim = PartialSignature::Scaled {
            point,
            scale: number(claimed),
        };
        let partials = [(member, claim), honest[1], honest[2]];
        let combined = committee.combine(ROOT, &partials);
        let verified = committee.verify_partial(member, ROOT, &claim);
        if good {
            assert_eq!(
                combined,
                Ok(dealt.signature(ROOT)),
                "{scale}, said {claimed}"
            );
            assert_eq!(verified.unwrap().partial(), claim);
        } else {
            assert_eq!(
                combined,
                Err(CombineError::Blame(vec![member])),
                "{scale}, said {claimed}"
            );
            assert_eq!(verified, Err(BadPartial::Mismatch));
        }
    }
}
