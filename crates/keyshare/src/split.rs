//! Splitting a key (A. Shamir, 1979) with commitments (P. Feldman, 1987).

use std::collections::{BTreeMap, BTreeSet};

use threshold::{
    Commitments, Committee, CommitteeSize, InvalidCommitments, ShareIndex, UnsafeCommittee,
};
use zeroize::Zeroizing;

use crate::{SecretKey, SecretShare, ShareMismatch, bls::SecretScalar, check_share};

/// A key in pieces: any t of the shares make its signatures, fewer make nothing.
pub struct Split {
    /// Who holds a share, and the commitments to all of them.
    pub committee: Committee,
    /// The shares, each to be sent to its member and wiped here.
    pub shares: BTreeMap<ShareIndex, SecretShare>,
}

/// Why a key was not split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// t and n make no safe committee.
    #[error(transparent)]
    Unsafe(#[from] UnsafeCommittee),
    /// Zeros or repetitions were drawn, which uniform entropy never does.
    #[error("the source of randomness gave a zero or repeated itself")]
    Entropy,
    /// The commitments do not decode: this machine computes wrongly.
    #[error("the split does not hold: {0}; this machine computes wrongly")]
    Commitments(InvalidCommitments),
    /// A share does not match the commitments: this machine computes wrongly.
    #[error("the split does not hold: {0}; this machine computes wrongly")]
    Share(ShareMismatch),
    /// The shares do not lead back to the key: this machine computes wrongly.
    #[error("the split does not hold: it leads to another key; this machine computes wrongly")]
    GroupKey,
}

/// Splits `key`, which is used up, among `members`, so that any `threshold` of them sign for it.
/// `entropy` fills a slice with uniformly random bytes, 48 for each coefficient but the first.
///
/// What is returned was checked: every share against the commitments, and the first t
/// and the last t members against the key.
///
/// # Errors
/// [`SplitError`] for an unsafe committee, for entropy that is none, and if a check fails.
pub fn split(
    key: SecretKey,
    threshold: usize,
    members: &BTreeSet<ShareIndex>,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Split, SplitError> {
    CommitteeSize::new(threshold, members.len())?;
    let public_key = key.public_key();
    let polynomial = draw_polynomial(key, threshold, entropy)?;

    let commitments: Vec<[u8; 48]> = polynomial.iter().map(SecretScalar::public_point).collect();
    if commitments.iter().collect::<BTreeSet<_>>().len() != threshold {
        return Err(SplitError::Entropy);
    }
    let shares = members
        .iter()
        .map(|&index| {
            let share = SecretScalar::evaluate(&polynomial, index.value());
            share.map(|share| (index, SecretShare(share)))
        })
        .collect::<Option<BTreeMap<_, _>>>()
        .ok_or(SplitError::Entropy)?;
    drop(polynomial);

    let commitments = Commitments::new(commitments).map_err(SplitError::Commitments)?;
    let committee = Committee::new(commitments, members.clone())?;
    for (&index, share) in &shares {
        check_share(share, index, &committee).map_err(SplitError::Share)?;
    }
    if committee.group_key() != public_key || !leads_to_its_key(&committee) {
        return Err(SplitError::GroupKey);
    }
    Ok(Split { committee, shares })
}

fn draw_polynomial(
    key: SecretKey,
    threshold: usize,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Vec<SecretScalar>, SplitError> {
    let mut coefficients = Vec::with_capacity(threshold);
    coefficients.push(key.0);
    let mut wide = Zeroizing::new([0; 48]);
    while coefficients.len() < threshold {
        entropy(wide.as_mut_slice());
        coefficients.push(SecretScalar::from_wide(&wide).ok_or(SplitError::Entropy)?);
    }
    Ok(coefficients)
}

/// Interpolates the key from the first t members and from the last t: because 2t > n, every
/// member is among them.
fn leads_to_its_key(committee: &Committee) -> bool {
    let (threshold, key) = (committee.threshold(), committee.group_key());
    let first = committee.members().iter().take(threshold);
    let last = committee.members().iter().rev().take(threshold);
    committee.interpolated_group_key(&first.copied().collect()) == Some(key)
        && committee.interpolated_group_key(&last.copied().collect()) == Some(key)
}
