//! Importing a share package: verify every share, then activate all of them with their initial
//! history, or none.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use daemon::config::ConfigError;
use duty::{PublicKey, Root};
use indicatif::{ProgressBar, ProgressStyle};
use keyshare::{SecretShare, ShareMismatch, check_share};
use slashing::{
    DatabaseError, InitialHistory,
    interchange::{self, Staged},
};
use threshold::{Commitments, Committee, InvalidCommitments, ShareIndex, UnsafeCommittee};
use wire::Report;

use crate::{
    clock::Clock,
    package::{self, PACKAGE_BYTES_MAX, Package, PackageError, PackagedShare},
    sealing::Passphrase,
    vault::{Newcomer, Past, VaultError},
};

/// From how many shares on progress is shown.
const PROGRESS_FROM: usize = 200;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or a setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The package does not open.
    #[error("{path}: {error}")]
    Package {
        /// The file.
        path: String,
        /// Why.
        error: PackageError,
    },
    /// The file of what the keys have signed is not taken.
    #[error("{path}: {error}")]
    History {
        /// The file.
        path: String,
        /// Why.
        error: interchange::ImportError,
    },
    /// A member is listed twice, or this cosigner's index is none of them.
    #[error("the package's committee is malformed: {0}")]
    Members(&'static str),
    /// The package is empty.
    #[error("the package holds no share")]
    Empty,
    /// The same validator twice.
    #[error("the package holds two shares of {0}: nothing was imported")]
    Twice(PublicKey),
    /// One share is not what its commitments say.
    #[error("share {position} of the package is refused, so nothing was imported: {problem}")]
    Share {
        /// Counted from 1.
        position: usize,
        /// Why.
        problem: BadShare,
    },
    /// The database could not be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The vault refused, or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No threads, no randomness.
    #[error("the system refused: {0}")]
    System(String),
}

/// Why a share is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadShare {
    /// Its commitments are no points of the group.
    #[error("its commitments are malformed: {0}")]
    Commitments(#[from] InvalidCommitments),
    /// t and n are unsafe.
    #[error("its committee is unsafe: {0}")]
    Unsafe(#[from] UnsafeCommittee),
    /// The share is another one's.
    #[error(transparent)]
    Mismatch(#[from] ShareMismatch),
}

/// Reads and opens a package file.
///
/// # Errors
/// [`ImportError`] names the file.
pub fn read(path: &Path, passphrase: &Passphrase) -> Result<Package, ImportError> {
    let unreadable = |error: std::io::Error| {
        ConfigError::new(format!(
            "the package {} cannot be read: {error}",
            path.display()
        ))
    };
    let limit = u64::try_from(PACKAGE_BYTES_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    package::open(&bytes, passphrase).map_err(|error| ImportError::Package {
        path: path.display().to_string(),
        error,
    })
}

/// Verifies each share of a package against its commitments.
///
/// # Errors
/// [`ImportError`] names the first share that is not taken.
pub fn verify(package: Package) -> Result<Vec<Newcomer>, ImportError> {
    let members: BTreeSet<ShareIndex> = package.members.iter().copied().collect();
    if members.len() != package.members.len() {
        return Err(ImportError::Members("a share index is listed twice"));
    }
    if !members.contains(&package.index) {
        return Err(ImportError::Members(
            "this cosigner's share index is not among the members",
        ));
    }
    if package.shares.is_empty() {
        return Err(ImportError::Empty);
    }
    let problems = check_all(&package.shares, package.index, &members)?;
    if let Some(&(position, problem)) = problems.iter().min_by_key(|(position, _)| *position) {
        return Err(ImportError::Share {
            position: position.saturating_add(1),
            problem,
        });
    }
    let listed: Vec<u64> = members.iter().map(|member| member.value()).collect();
    let mut seen = BTreeSet::new();
    let mut newcomers = Vec::with_capacity(package.shares.len());
    for PackagedShare { commitments, share } in package.shares {
        // Commitments that were checked are not empty.
        let Some(validator) = commitments.first().copied().map(PublicKey) else {
            continue;
        };
        if !seen.insert(validator) {
            return Err(ImportError::Twice(validator));
        }
        let report = Report {
            validator,
            index: package.index,
            members: listed.clone(),
            commitments,
        };
        newcomers.push(Newcomer { report, share });
    }
    Ok(newcomers)
}

/// The positions of bad shares. A thread for each processor: a share costs a millisecond.
fn check_all(
    shares: &[PackagedShare],
    index: ShareIndex,
    members: &BTreeSet<ShareIndex>,
) -> Result<Vec<(usize, BadShare)>, ImportError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let bar = progress(shares.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut problems = Vec::new();
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(packaged) = shares.get(position) else {
                return problems;
            };
            if let Err(problem) = check(&packaged.commitments, &packaged.share, index, members) {
                problems.push((position, problem));
            }
            bar.inc(1);
        }
    };
    let problems = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| thread::Builder::new().spawn_scoped(scope, work))
            .collect::<Result<_, _>>()
            .map_err(|error| ImportError::System(error.to_string()))?;
        running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| ImportError::System("a thread panicked".to_owned()))
            })
            .collect::<Result<Vec<_>, _>>()
    })?;
    bar.finish_and_clear();
    Ok(problems.into_iter().flatten().collect())
}

fn check(
    commitments: &[[u8; 48]],
    share: &SecretShare,
    index: ShareIndex,
    members: &BTreeSet<ShareIndex>,
) -> Result<(), BadShare> {
    let committee = Committee::new(Commitments::new(commitments.to_vec())?, members.clone())?;
    Ok(check_share(share, index, &committee)?)
}

/// To standard error, if that is a terminal, and if there is much to do.
fn progress(shares: usize) -> ProgressBar {
    if shares < PROGRESS_FROM {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(shares).unwrap_or(u64::MAX));
    match ProgressStyle::with_template("verifying shares {bar:40} {pos}/{len} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What the operator says of the keys' past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing was ever signed, or nothing above a watermark.
    Stated(InitialHistory),
    /// What was signed is in an interchange file (EIP-3076).
    InFile(PathBuf),
    /// A lost member of the committee has signed, and nobody has its ledger.
    ByLostMember,
}

/// The one thing that an operator says of the keys' past.
///
/// # Errors
/// [`ConfigError`] if it is nothing, or more than one thing: it asks for one, and says why.
pub fn history(said: Vec<Said>) -> Result<Said, ConfigError> {
    match <[Said; 1]>::try_from(said) {
        Ok([said]) => Ok(said),
        Err(_) => Err(ConfigError::new(
            "say exactly one thing about what these keys have signed before: --history FILE, all \
             three of --watermark-source, --watermark-target and --watermark-slot, \
             --never-signed, or --replaces-lost-member. This ledger cannot know it, and a key that \
             starts with less history than it has can be slashed",
        )),
    }
}

/// Reads an interchange file to its end. It has changed nothing yet.
///
/// # Errors
/// [`ImportError`] names the file, and what of it cannot be taken.
pub fn read_history(path: &Path, genesis_validators_root: Root) -> Result<Past, ImportError> {
    let shown = path.display().to_string();
    let file = fs::File::open(path).map_err(|error| {
        ConfigError::new(format!("the history {shown} cannot be read: {error}"))
    })?;
    let bar = spinner();
    let staged = Staged::read(genesis_validators_root, file, |progress| {
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    match staged {
        Ok(staged) => Ok(Past::InFile {
            path: shown,
            staged: Box::new(staged),
        }),
        Err(error) => Err(ImportError::History { path: shown, error }),
    }
}

/// Counts what was read, to standard error, if that is a terminal.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    match ProgressStyle::with_template("reading the history: {pos} entries {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The heights from which a member starts that replaces a lost one: this machine's clock plus one.
/// The source as well, so that nothing that it signs surrounds what its predecessor signed.
///
/// # Errors
/// [`ConfigError`] if the clock is unchecked.
pub fn after_lost_member(
    clock: &Clock,
    since_1970: Duration,
) -> Result<InitialHistory, ConfigError> {
    let now = clock.now(since_1970).ok_or_else(|| {
        ConfigError::new(
            "set clock = \"checked\" for --replaces-lost-member: only the clock says how high the \
             lost member can have signed",
        )
    })?;
    let (epoch, slot) = now.next();
    Ok(InitialHistory::Watermark {
        source: epoch,
        target: epoch,
        slot,
    })
}

#[cfg(test)]
mod tests;
