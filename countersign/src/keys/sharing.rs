//! From whole keys to packages of shares, in memory.

use std::collections::{BTreeMap, BTreeSet};

use cosigner::package::{Package, PackagedShare};
use keyshare::{SecretKey, SplitError};
use threshold::{CommitteeSize, ShareIndex};

/// Why keys were not split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// The system gave no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A key could not be split.
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// Splits every key, which is used up, among `members` and sorts the shares by member: one
/// package for each, in the order of their indices. Each split was checked against its key.
/// `on_progress` is told how many keys were split.
///
/// # Errors
/// [`SharingError`]: no randomness, or a split that failed its checks.
pub fn packages(
    keys: Vec<SecretKey>,
    size: CommitteeSize,
    members: &BTreeSet<ShareIndex>,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Package>, SharingError> {
    let mut packages: BTreeMap<ShareIndex, Package> = members
        .iter()
        .map(|&index| {
            let package = Package {
                members: members.iter().copied().collect(),
                index,
                shares: Vec::with_capacity(keys.len()),
            };
            (index, package)
        })
        .collect();
    for (position, key) in keys.into_iter().enumerate() {
        let mut failure = None;
        let split = keyshare::split(key, size.threshold(), members, &mut |slice| {
            if let Err(error) = getrandom::fill(slice) {
                // Zeros, which the split refuses.
                failure = Some(error.to_string());
                slice.fill(0);
            }
        });
        if let Some(reason) = failure {
            return Err(SharingError::Random(reason));
        }
        let split = split?;
        for (index, share) in split.shares {
            if let Some(package) = packages.get_mut(&index) {
                package.shares.push(PackagedShare {
                    commitments: split.committee.commitments().as_slice().to_vec(),
                    share,
                });
            }
        }
        on_progress(position.saturating_add(1));
    }
    Ok(packages.into_values().collect())
}
