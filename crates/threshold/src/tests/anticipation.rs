//! What was computed beforehand makes a job cheaper, and changes no result.

use super::{dealer::*, *};

const SEED: [u8; 32] = [0xa7; 32];
const ROOT_A: SigningRoot = SigningRoot([0xaa; 32]);
const ROOT_B: SigningRoot = SigningRoot([0xbb; 32]);

type Partials = Vec<(ShareIndex, PartialSignature)>;

/// Combines the job alone, among others before and behind it, with that anticipation and without.
fn check(
    committee: &Committee,
    root: SigningRoot,
    partials: &[(ShareIndex, PartialSignature)],
    anticipated: &Anticipated,
    expected: &Result<Signature, CombineError>,
) {
    let job = Combination {
        committee,
        root,
        partials,
        anticipated: Some(anticipated),
    };
    let without = Combination {
        anticipated: None,
        ..job
    };
    let empty = Combination {
        partials: &[],
        ..job
    };
    let none = Err(CombineError::TooFew {
        got: 0,
        threshold: committee.threshold(),
    });
    for (jobs, place) in [
        (vec![job], 0),
        (vec![without], 0),
        (vec![empty, job, empty], 1),
        (vec![job, without], 0),
        (vec![without, job, job], 1),
    ] {
        let results = combine_all(&jobs, &SEED);
        assert_eq!(&results[place], expected, "{place} of {}", jobs.len());
        for (job, result) in jobs.iter().zip(results) {
            let is_empty = job.partials.is_empty() && !partials.is_empty();
            assert_eq!(&result, if is_empty { &none } else { expected });
        }
    }
}

fn families() -> [Dealt; 3] {
    [
        deal(1, 2, &[1, 2, 3]),
        deal(2, 3, &[4, 3, 2, 1]),
        deal(3, 3, &[1, 7, 1 << 32, u64::MAX]),
    ]
}

#[test]
fn the_expected_signatures_come_out() {
    let (committee, good) = (committee(), SIGNATURE.parse().unwrap());
    let anticipated = Anticipated::new(&committee, root());
    for absent in 0..4 {
        let partials: Vec<_> = (0..4).filter(|&i| i != absent).map(partial).collect();
        check(&committee, root(), &partials, &anticipated, &Ok(good));
    }
}

#[test]
fn good_partials_combine_and_bad_ones_are_blamed() {
    for dealt in families() {
        let committee = &dealt.committee;
        let anticipated = Anticipated::new(committee, ROOT_A);
        let good = Ok(dealt.signature(ROOT_A));
        for partials in [dealt.scaled(ROOT_A), dealt.partials(ROOT_A, None)] {
            check(committee, ROOT_A, &partials, &anticipated, &good);
            for position in 0..committee.threshold() {
                let mut partials = partials.clone();
                partials[position].1 = dealt.scaled(ROOT_B)[position].1;
                let blamed = Err(CombineError::Blame(vec![partials[position].0]));
                check(committee, ROOT_A, &partials, &anticipated, &blamed);
            }
        }
    }
}

#[test]
fn what_cannot_be_combined_fails_as_it_would() {
    let [dealt, ..] = families();
    let anticipated = Anticipated::new(&dealt.committee, ROOT_A);
    let partials = dealt.scaled(ROOT_A);
    let infinite: Partials = partials
        .iter()
        .map(|(member, _)| (*member, PartialSignature::Plain(infinity())))
        .collect();
    let all = partials.iter().map(|(member, _)| *member).collect();
    let stranger = (index(77), partials[0].1);
    for (partials, error) in [
        (
            vec![partials[0]],
            CombineError::TooFew {
                got: 1,
                threshold: 2,
            },
        ),
        (
            vec![partials[0], partials[0]],
            CombineError::Duplicate(partials[0].0),
        ),
        (
            vec![stranger, partials[0]],
            CombineError::NotAMember(stranger.0),
        ),
        (infinite, CombineError::Blame(all)),
    ] {
        check(
            &dealt.committee,
            ROOT_A,
            &partials,
            &anticipated,
            &Err(error),
        );
    }
}

#[test]
fn a_sum_outside_the_subgroup_is_caught() {
    let committee = committee();
    let anticipated = Anticipated::new(&committee, root());
    let mut partials = [partial(0), partial(1), partial(2)];
    partials[0].1 = plain(GOOD_PLUS_ORDER_13);
    let blamed = Err(CombineError::Blame(vec![index(1)]));
    check(&committee, root(), &partials, &anticipated, &blamed);
}

#[test]
fn what_was_anticipated_of_another_key_or_root_changes_no_result() {
    let [other, dealt, _] = families();
    let committee = &dealt.committee;
    let (partials, all) = (dealt.scaled(ROOT_A), dealt.scaled(ROOT_B));
    let members = all.iter().map(|(member, _)| *member).collect();
    let blamed = Err(CombineError::Blame(members));
    for wrong in [
        Anticipated::new(committee, ROOT_B),
        Anticipated::new(&other.committee, ROOT_A),
        Anticipated::new(&other.committee, ROOT_B),
    ] {
        let good = Ok(dealt.signature(ROOT_A));
        check(committee, ROOT_A, &partials, &wrong, &good);
        // What it was made for would hold over the other root.
        check(committee, ROOT_A, &all, &wrong, &blamed);
    }
    // Nor does the other key's signature pass for this one's, over the same root.
    let others = deal(9, 3, &[4, 3, 2, 1]);
    let wrong = Anticipated::new(&others.committee, ROOT_A);
    check(committee, ROOT_A, &others.scaled(ROOT_A), &wrong, &blamed);
}

#[test]
fn a_root_that_was_hashed_for_one_is_hashed_for_all() {
    let [first, second, _] = families();
    let anticipated = [&first, &second].map(|dealt| Anticipated::new(&dealt.committee, ROOT_A));
    let partials = [&first, &second].map(|dealt| dealt.scaled(ROOT_A));
    for known in [[true, false], [false, true], [true, true]] {
        let jobs = [&first, &second].map(|dealt| &dealt.committee);
        let jobs = [0, 1].map(|i| Combination {
            committee: jobs[i],
            root: ROOT_A,
            partials: &partials[i],
            anticipated: known[i].then_some(&anticipated[i]),
        });
        let good = [&first, &second].map(|dealt| Ok(dealt.signature(ROOT_A)));
        assert_eq!(combine_all(&jobs, &SEED), good);
    }
}
