//! Packages that are refused, each for its own reason.

use duty::{Epoch, Slot};
use keyshare::{SecretKey, Split, split};

use super::*;
use crate::clock::ChainTime;

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
fn an_operator_says_exactly_one_thing_of_what_keys_have_signed() {
    let everything = [
        Said::Stated(InitialHistory::NeverSigned),
        Said::Stated(InitialHistory::Watermark {
            source: Epoch(1),
            target: Epoch(2),
            slot: Slot(3),
        }),
        Said::InFile("history.json".into()),
        Said::ByLostMember,
    ];
    for chosen in 0..1_usize << everything.len() {
        let is_said = |position: &usize| chosen & (1 << position) != 0;
        let positions = (0..everything.len()).filter(is_said);
        let said: Vec<Said> = positions.map(|at| everything[at].clone()).collect();
        let answer = history(said.clone());
        if let [only] = said.as_slice() {
            assert_eq!(answer.as_ref().unwrap(), only);
            continue;
        }
        let error = answer.unwrap_err().to_string();
        for part in [
            "--history",
            "--watermark-source",
            "--never-signed",
            "--replaces-lost-member",
            "can be slashed",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn a_member_that_replaces_a_lost_one_starts_beyond_all_that_it_can_have_signed() {
    let chain = ChainTime {
        genesis_s: 1_000_000,
        slot: Duration::from_secs(12),
        slots_per_epoch: 32,
    };
    let clock = Clock::Checked(chain);
    for (now_s, epoch, slot) in [
        (0, 0, 0),
        (999_999, 0, 0),
        (1_000_000, 1, 1),
        (1_000_000 + 12 * 319, 10, 320),
        (1_000_000 + 12 * 320, 11, 321),
    ] {
        let now = Duration::from_secs(now_s);
        let (source, target) = (Epoch(epoch), Epoch(epoch));
        let slot = Slot(slot);
        let start = after_lost_member(&clock, now).unwrap();
        let expected = InitialHistory::Watermark {
            source,
            target,
            slot,
        };
        assert_eq!(start, expected, "{now_s}");
        // Whatever the predecessor's clock let through is at most that.
        let reach = 0..epoch + 3;
        for (source, target) in reach
            .clone()
            .flat_map(|s| reach.clone().map(move |t| (s, t)))
        {
            let vote = duty::Claim::Attest {
                source: Epoch(source),
                target: Epoch(target),
            };
            if clock.check(&vote, now).is_ok() {
                assert!(source <= epoch && target <= epoch, "{vote:?}");
            }
        }
        for proposed in 0..slot.0 + 3 {
            let proposal = duty::Claim::Propose {
                slot: Slot(proposed),
            };
            assert!(clock.check(&proposal, now).is_err() || proposed <= slot.0);
        }
    }
    let error = after_lost_member(&Clock::Unchecked, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("clock = \"checked\""), "{error}");
}
