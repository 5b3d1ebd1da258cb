//! What combining must give.

use std::collections::BTreeSet;

use threshold::{BadPartial, CombineError, ShareIndex, Signature};

use super::{
    given::Given,
    known::{Faith, Known, root},
};

/// What combines is the group's signature, bit for bit. Who is blamed is exactly who gave something
/// else than the one valid partial of its index; no honest index is ever among them.
pub(super) fn check(
    known: &Known,
    faith: Faith,
    root: usize,
    given: &[Given],
    outcome: &Result<Signature, CombineError>,
) {
    if let Some(error) = unfit(known, given) {
        return assert_eq!(outcome, &Err(error));
    }
    let is_lie = |(index, partial): &&Given| !known.is_honest(*index, root, *partial);
    let liars = given.iter().filter(is_lie).map(|(index, _)| *index);
    let liars: Vec<ShareIndex> = liars.collect();
    let used = given.iter().take(known.committee.threshold());
    let lies = used.filter(is_lie).count();
    match outcome {
        // Two can make up for each other; one lie alone is found.
        Ok(signature) => {
            assert_eq!(*signature, known.signatures[root]);
            assert_ne!(lies, 1, "of {given:?}");
        }
        Err(CombineError::Blame(blamed)) => {
            assert!(lies > 0, "{blamed:?} was not needed");
            assert_eq!(*blamed, liars);
            // Without public shares, only what is no point at all tells against anyone.
            assert!(faith != Faith::Misplaced || liars.len() == given.len());
        }
        Err(CombineError::Commitments(_)) => {
            assert!(lies > 0 && faith == Faith::Misplaced, "of {given:?}");
        }
        Err(
            error @ (CombineError::Unexplained
            | CombineError::TooFew { .. }
            | CombineError::Duplicate(_)
            | CombineError::NotAMember(_)),
        ) => panic!("nobody to blame: {error}"),
    }
}

/// Why they are not even combined: the first reason that is met.
fn unfit(known: &Known, given: &[Given]) -> Option<CombineError> {
    let mut seen = BTreeSet::new();
    for (index, _) in given {
        if known.position(*index).is_none() {
            return Some(CombineError::NotAMember(*index));
        }
        if !seen.insert(*index) {
            return Some(CombineError::Duplicate(*index));
        }
    }
    let (got, threshold) = (given.len(), known.committee.threshold());
    (got < threshold).then_some(CombineError::TooFew { got, threshold })
}

/// Verified by itself, a partial holds exactly if it is the member's own.
pub(super) fn check_one(known: &Known, number: usize, (index, partial): Given) {
    let is_honest = known.is_honest(index, number, partial);
    let root = root(number);
    match known.committee.verify_partial(index, root, &partial) {
        Ok(verified) => {
            assert!(is_honest, "{partial} of {index}");
            assert_eq!((verified.index(), verified.root()), (index, root));
            assert_eq!(verified.partial(), partial);
        }
        Err(error @ BadPartial::Commitments(_)) => panic!("{error}"),
        Err(BadPartial::NotAMember(_)) => assert_eq!(known.position(index), None),
        Err(BadPartial::Point(_) | BadPartial::Mismatch) => {
            assert!(!is_honest, "{partial} of {index}");
        }
    }
}
