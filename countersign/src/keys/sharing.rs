//! From whole keys to packages of shares, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, mpsc},
    thread,
};

use cosigner::package::{Package, PackagedShare};
use keyshare::{SecretKey, Split, SplitError};
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
    let splits = split_all(keys, size, members, on_progress)?;
    for split in splits {
        for (index, share) in split.shares {
            if let Some(package) = packages.get_mut(&index) {
                package.shares.push(PackagedShare {
                    commitments: split.committee.commitments().as_slice().to_vec(),
                    share,
                });
            }
        }
    }
    Ok(packages.into_values().collect())
}

/// Splits on as many threads as there are processors; in the order of the keys.
fn split_all(
    keys: Vec<SecretKey>,
    size: CommitteeSize,
    members: &BTreeSet<ShareIndex>,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Split>, SharingError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(keys.into_iter().enumerate());
    let (done, splits) = mpsc::channel();
    let work = |done: mpsc::Sender<_>| {
        let next = || waiting.lock().ok()?.next();
        while let Some((position, key)) = next() {
            // Nobody listens after a failure.
            if done
                .send((position, split_one(key, size, members)))
                .is_err()
            {
                return;
            }
        }
    };
    let mut made = BTreeMap::new();
    thread::scope(|scope| {
        for done in std::iter::repeat_n(done, threads) {
            let work = &work;
            scope.spawn(move || work(done));
        }
        for (position, split) in splits {
            made.insert(position, split?);
            on_progress(made.len());
        }
        Ok::<_, SharingError>(())
    })?;
    Ok(made.into_values().collect())
}

fn split_one(
    key: SecretKey,
    size: CommitteeSize,
    members: &BTreeSet<ShareIndex>,
) -> Result<Split, SharingError> {
    let mut failure = None;
    let split = keyshare::split(key, size.threshold(), members, &mut |slice| {
        if let Err(error) = getrandom::fill(slice) {
            // Zeros, which the split refuses.
            failure = Some(error.to_string());
            slice.fill(0);
        }
    });
    match failure {
        Some(reason) => Err(SharingError::Random(reason)),
        None => Ok(split?),
    }
}
