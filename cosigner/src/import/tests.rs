//! Packages that are refused, each for its own reason.

use keyshare::{SecretKey, Split, split};

use super::*;

fn entropy(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

fn index(value: u64) -> ShareIndex {
    ShareIndex::new(value).unwrap()
}

/// 2-of-3 among 1, 2, 3.
fn new_split() -> Split {
    let mut seed = [0; 32];
    entropy(&mut seed);
    let members = [1, 2, 3].map(index).into();
    split(SecretKey::from_entropy(&seed), 2, &members, &mut entropy).unwrap()
}

fn packaged(split: &Split, at: u64) -> PackagedShare {
    PackagedShare {
        commitments: split.committee.commitments().as_slice().to_vec(),
        share: SecretShare::from_be_bytes(&split.shares[&index(at)].to_be_bytes()).unwrap(),
    }
}

fn package(shares: Vec<PackagedShare>) -> Package {
    Package {
        members: [1, 2, 3].map(index).to_vec(),
        index: index(1),
        shares,
    }
}

fn check_refused(package: Package, says: &str) {
    let error = verify(package).err().unwrap().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn verified_shares_are_reported_with_their_committee() {
    let splits = [new_split(), new_split()];
    let newcomers = verify(package(
        splits.iter().map(|split| packaged(split, 1)).collect(),
    ))
    .unwrap();
    for (newcomer, split) in newcomers.iter().zip(&splits) {
        assert_eq!(newcomer.report.validator, split.committee.group_key());
        assert_eq!(newcomer.report.members, [1, 2, 3]);
        assert_eq!(newcomer.report.index, index(1));
    }
    assert_eq!(newcomers.len(), 2);
}

#[test]
fn a_share_of_another_member_or_another_key_is_refused() {
    let (one, two) = (new_split(), new_split());
    let good = || packaged(&one, 1);
    check_refused(
        package(vec![good(), packaged(&two, 2)]),
        "share 2 of the package",
    );
    let foreign = PackagedShare {
        commitments: good().commitments,
        ..packaged(&two, 1)
    };
    check_refused(package(vec![foreign]), "does not match the commitments");
}

#[test]
fn commitments_that_are_no_points_and_unsafe_committees_are_refused() {
    let split = new_split();
    let with = |commitments| {
        package(vec![PackagedShare {
            commitments,
            ..packaged(&split, 1)
        }])
    };
    check_refused(with(vec![]), "no commitment");
    check_refused(with(vec![[0xff; 48]]), "commitments are malformed");
    let first = packaged(&split, 1).commitments[0];
    check_refused(with(vec![first]), "more than half");
}

#[test]
fn the_same_validator_twice_and_malformed_members_are_refused() {
    let split = new_split();
    let shares = || vec![packaged(&split, 1)];
    check_refused(
        package(vec![packaged(&split, 1), packaged(&split, 1)]),
        "two shares of",
    );
    check_refused(package(vec![]), "no share");
    let twice = Package {
        members: [1, 2, 2].map(index).to_vec(),
        ..package(shares())
    };
    check_refused(twice, "listed twice");
    check_refused(
        Package {
            index: index(9),
            ..package(shares())
        },
        "not among the members",
    );
}

#[test]
fn an_operator_says_what_keys_have_signed_exactly_once() {
    let watermark = InitialHistory::Watermark {
        source: duty::Epoch(1),
        target: duty::Epoch(2),
        slot: duty::Slot(3),
    };
    assert_eq!(history(true, None).unwrap(), InitialHistory::NeverSigned);
    assert_eq!(history(false, Some(watermark)).unwrap(), watermark);
    for (never_signed, watermark) in [(false, None), (true, Some(watermark))] {
        let error = history(never_signed, watermark).unwrap_err().to_string();
        assert!(
            error.contains("--never-signed") && error.contains("slashed"),
            "{error}"
        );
    }
}
