//! Points and partials: whatever combines is the group's one signature, and whoever is blamed did it.

pub(super) mod given;
pub(super) mod known;

mod batches;
mod judged;

use std::collections::BTreeSet;

use bls12_381_plus::G1Affine;
use duty::PublicKey;
use threshold::{
    CombineError, Commitments, Committee, CommitteeSize, InvalidCommitments, ShareIndex, Signature,
    verify,
};

use self::{
    given::Given,
    judged::{check, check_one},
    known::{COMMITTEES, Faith, KNOWN, root},
};
use super::{Choices, Reached};

/// What the first byte of an input chooses from.
const KINDS: u8 = 5;
/// Partials in one combination at most: more than any committee here has members.
const PARTIALS_MAX: u8 = 9;

/// The known committees' members and commitments: for seeds.
pub(super) fn reports() -> Vec<(Vec<u64>, Vec<[u8; 48]>)> {
    let reports = KNOWN.iter().map(|known| {
        let members = known.indices.iter().map(|index| index.value());
        (
            members.collect(),
            known.committee.commitments().as_slice().to_vec(),
        )
    });
    reports.collect()
}

/// Holds for `data`, a byte that chooses and then
/// - commitments: what is taken reads back as the same bytes and makes a consistent committee, and
///   what is checked later is what is checked at once;
/// - partials of a known committee, good and bad, in either form: see `judged`;
/// - a key, a root and a signature: only the group's own verifies;
/// - text: a point's digits read back;
/// - many that are combined together: see `batches`.
pub fn property(data: &[u8]) -> Reached {
    let mut choices = Choices::new(data);
    match choices.below(KINDS) {
        0 => commitments(choices),
        1 => partials(choices),
        2 => signature(choices),
        3 => digits(choices),
        _ => batches::property(choices),
    }
}

fn commitments(mut choices: Choices<'_>) -> Reached {
    let members = u64::from(choices.below(9));
    let stride = u64::from(choices.byte()) + 1;
    let compressed: Vec<[u8; 48]> = choices
        .rest()
        .chunks(48)
        .map(|chunk| Choices::new(chunk).array())
        .collect();
    let expected = expected(&compressed);
    let at_once = Commitments::new(compressed.clone());
    let deferred = Commitments::deferred(compressed.clone());
    let later = deferred.as_ref().map_err(|invalid| *invalid);
    // As often as it is asked.
    for _ in 0..2 {
        let later = later.and_then(|deferred| deferred.check().map(|()| deferred));
        assert_eq!(later.err(), at_once.as_ref().err().copied());
    }
    assert_eq!(at_once.is_err(), expected.is_some(), "{expected:?}");
    let is_the_key = |bad| matches!(bad, Bad::Count | Bad::Point(0));
    assert_eq!(deferred.is_err(), expected.is_some_and(is_the_key));
    let taken = match (at_once, expected) {
        (Ok(taken), _) => taken,
        (Err(InvalidCommitments::Point { position, .. }), Some(Bad::Point(first))) => {
            assert_eq!(position, first);
            return Reached::Refused;
        }
        (Err(invalid), bad) => {
            assert_eq!(bad, Some(Bad::Count), "{invalid}");
            return Reached::Refused;
        }
    };
    assert_eq!(taken.as_slice(), compressed);
    assert_eq!(taken.group_key().0, compressed[0]);
    assert_eq!(Ok(&taken), deferred.as_ref());
    consistent(taken, members, stride)
}

/// What is wrong with commitments: how many they are, or the first that is no point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    Count,
    Point(usize),
}

/// By a curve library that the product does not use.
fn expected(compressed: &[[u8; 48]]) -> Option<Bad> {
    if !(1..=CommitteeSize::MEMBERS_MAX).contains(&compressed.len()) {
        return Some(Bad::Count);
    }
    let is_bad = |bytes: &[u8; 48]| {
        let point: Option<G1Affine> = Option::from(G1Affine::from_compressed(bytes));
        point.is_none_or(|point| bool::from(point.is_identity()))
    };
    compressed.iter().position(is_bad).map(Bad::Point)
}

fn consistent(taken: Commitments, members: u64, stride: u64) -> Reached {
    let members: BTreeSet<ShareIndex> = (1..=members)
        .map(|member| ShareIndex::new(member.wrapping_mul(stride)).unwrap())
        .collect();
    let (t, n) = (taken.threshold(), members.len());
    let Ok(committee) = Committee::new(taken, members.clone()) else {
        assert!(t > n || 2 * t <= n, "{t} of {n} is safe");
        return Reached::Refused;
    };
    assert!(t <= n && n < 2 * t, "{t} of {n} is not safe");
    // Any t of the public shares lead back to the group key, unless one of them is at infinity.
    let shares = members.iter().map(|&member| committee.public_share(member));
    let any_infinite = shares.into_iter().any(|share| share.0[0] == 0xc0);
    for taken in [
        members.iter().take(t).copied().collect(),
        members.iter().rev().take(t).copied().collect(),
    ] {
        let key = committee.interpolated_group_key(&taken);
        assert!(any_infinite || key == Some(committee.group_key()));
    }
    Reached::Taken
}

fn partials(mut choices: Choices<'_>) -> Reached {
    const ROOT: usize = 0;
    let known = &KNOWN[usize::from(choices.below(COMMITTEES))];
    let mut given: Vec<Given> = Vec::new();
    while !choices.is_empty() && given.len() < usize::from(PARTIALS_MAX) {
        let before = given.last().copied();
        let (index, partial) = given::next(known, ROOT, before, &mut choices);
        given.extend(partial.map(|partial| (index, partial)));
    }
    let outcome = known.committee.combine(root(ROOT), &given);
    check(known, Faith::Checked, ROOT, &given, &outcome);
    for each in given {
        check_one(known, ROOT, each);
    }
    match outcome {
        Ok(_) | Err(CombineError::Blame(_)) => Reached::Taken,
        Err(_) => Reached::Refused,
    }
}

fn signature(mut choices: Choices<'_>) -> Reached {
    let known = &KNOWN[usize::from(choices.below(COMMITTEES))];
    let mut key = known.committee.group_key().0;
    let (own_root, own_signature) = (root(0), known.signatures[0]);
    let (mut root, mut signature) = (own_root, own_signature);
    match choices.below(4) {
        0 => {}
        1 => key = choices.array(),
        2 => root.0 = choices.array(),
        _ => signature.0 = choices.array(),
    }
    let own = known.committee.group_key().0 == key;
    let is_theirs = own && root == own_root && signature == own_signature;
    let verified = verify(&PublicKey(key), root, &signature);
    assert_eq!(verified.is_ok(), is_theirs, "{verified:?}");
    verified.map_or(Reached::Refused, |()| Reached::Taken)
}

fn digits(choices: Choices<'_>) -> Reached {
    let Ok(text) = str::from_utf8(choices.rest()) else {
        return Reached::Refused;
    };
    let canonical = text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase();
    let signature = text.parse::<Signature>();
    let is_one = signature.is_ok();
    let key = text.parse::<PublicKey>();
    for read in [
        signature.map(|it| it.to_string()),
        key.map(|it| it.to_string()),
    ] {
        if let Ok(shown) = &read {
            assert_eq!(*shown, format!("0x{canonical}"));
        }
    }
    if is_one || key.is_ok() {
        Reached::Taken
    } else {
        Reached::Refused
    }
}
