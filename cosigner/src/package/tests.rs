//! Packages there and back, and every kind of file that is none.

use std::collections::BTreeSet;

use keyshare::{SecretKey, split};

use super::*;
use crate::sealing::tests::{CHEAP, entropy, passphrase};

/// One cosigner's shares of `keys` keys, 2-of-3.
fn package(keys: usize) -> Package {
    let members: BTreeSet<ShareIndex> = [1, 7, u64::MAX]
        .map(|index| ShareIndex::new(index).unwrap())
        .into();
    let index = ShareIndex::new(7).unwrap();
    let shares = (0..keys).map(|_| {
        let mut seed = [0; 32];
        entropy(&mut seed);
        let mut split = split(SecretKey::from_entropy(&seed), 2, &members, &mut entropy).unwrap();
        PackagedShare {
            commitments: split.committee.commitments().as_slice().to_vec(),
            share: split.shares.remove(&index).unwrap(),
        }
    });
    Package {
        shares: shares.collect(),
        members: members.into_iter().collect(),
        index,
    }
}

fn sealed() -> Vec<u8> {
    seal_at_cost(&package(2), &passphrase("p"), CHEAP, &mut entropy).unwrap()
}

fn refusal(file: &[u8], phrase: &str) -> Option<PackageError> {
    open(file, &passphrase(phrase)).err()
}

#[test]
fn a_package_survives_the_way_there_and_back() {
    let package = package(3);
    let file = seal(&package, &passphrase("p"), &mut entropy).unwrap();
    let opened = open(&file, &passphrase("p")).unwrap();
    assert_eq!(opened.members, package.members);
    assert_eq!(opened.index, package.index);
    assert_eq!(opened.shares.len(), 3);
    for (opened, share) in opened.shares.iter().zip(&package.shares) {
        assert_eq!(opened.commitments, share.commitments);
        assert_eq!(opened.share.to_be_bytes(), share.share.to_be_bytes());
    }
}

#[test]
fn a_wrong_passphrase_another_file_and_another_version_are_told_apart() {
    let file = sealed();
    let wrong = PackageError::Unopened(Unopened::WrongPassphrase);
    assert_eq!(refusal(&file, "q"), Some(wrong));
    assert_eq!(refusal(b"", "p"), Some(PackageError::NotAPackage));
    assert_eq!(
        refusal(b"{\"crypto\": {}}", "p"),
        Some(PackageError::NotAPackage)
    );
    let mut newer = file;
    newer[9] = 2;
    assert_eq!(refusal(&newer, "p"), Some(PackageError::Version(2)));
}

#[test]
fn every_damaged_byte_and_every_shorter_file_is_refused() {
    let file = sealed();
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(refusal(&damaged, "p").is_some(), "byte {at}");
        assert!(refusal(&file[..at], "p").is_some(), "length {at}");
    }
    let mut longer = file;
    longer.push(0);
    assert_eq!(
        refusal(&longer, "p"),
        Some(PackageError::Unopened(Unopened::Damaged))
    );
}

#[test]
fn a_cost_that_would_exhaust_this_machine_is_refused() {
    let mut file = sealed();
    file[10..14].copy_from_slice(&u32::MAX.to_be_bytes());
    let cost = KdfCost {
        memory_kib: u32::MAX,
        ..CHEAP
    };
    assert_eq!(
        refusal(&file, "p"),
        Some(PackageError::Unopened(Unopened::Cost(cost)))
    );
}

/// Nonsense that was sealed with the right passphrase.
fn check_contents(change: impl FnOnce(&mut Vec<u8>), error: &str) {
    let mut contents = write_contents(&package(1)).unwrap();
    change(&mut contents);
    let refused = read_contents(&contents)
        .err()
        .map(|error| error.to_string());
    assert_eq!(
        refused,
        Some(format!("the package's contents are malformed: {error}"))
    );
}

#[test]
fn malformed_contents_are_refused() {
    check_contents(|contents| contents[..8].fill(0), "a share index is 0");
    check_contents(|contents| contents[10..18].fill(0), "a share index is 0");
    check_contents(
        |contents| contents[8..10].fill(0xff),
        "it has too many members",
    );
    check_contents(
        |contents| contents[34..38].fill(0xff),
        "it has too many shares",
    );
    check_contents(|contents| contents[37] = 2, "it ends early");
    check_contents(
        |contents| contents[38..40].fill(0xff),
        "a share has too many commitments",
    );
    check_contents(
        |contents| contents[136..].fill(0),
        "a share is no scalar of the curve",
    );
    check_contents(
        |contents| contents[136..].fill(0xff),
        "a share is no scalar of the curve",
    );
    check_contents(
        |contents| contents.push(0),
        "something follows the last share",
    );
    check_contents(Vec::clear, "it ends early");
}

#[test]
fn no_share_stands_in_a_package_in_clear() {
    let package = package(1);
    let file = seal_at_cost(&package, &passphrase("p"), CHEAP, &mut entropy).unwrap();
    let share = package.shares[0].share.to_be_bytes();
    assert!(
        !file
            .windows(8)
            .any(|window| share.windows(8).any(|secret| secret == window))
    );
}
