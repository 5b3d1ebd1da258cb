//! Many keystores at once: all of them are decrypted, or none.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use duty::PublicKey;
use keyshare::SecretKey;

use super::{InvalidPassword, Keystore, KeystoreError, Password};

/// Bytes of a keystore file at most; usual are less than one thousand.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Working memory of all key derivations at a time, in bytes; one keystore may have it all.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Where the passwords of keystores are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passwords {
    /// One file, with the password of all.
    File(PathBuf),
    /// One file for each, in this directory, named as the keystore file or as the public key (with
    /// or without `0x`), with or without `.txt`.
    Directory(PathBuf),
}

impl Passwords {
    /// A file or a directory, whichever `path` is.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        if path.is_dir() {
            Self::Directory(path.to_owned())
        } else {
            Self::File(path.to_owned())
        }
    }
}

/// How far decrypting got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Keystores that were decrypted.
    pub done: usize,
    /// Keystores to decrypt.
    pub total: usize,
}

/// Why keystores were not decrypted: the first file that stood in the way.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file or a directory cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// A file is no keystore, or its password or key is wrong.
    #[error("{path}: {reason}")]
    Keystore {
        /// The keystore file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<KeystoreError>,
    },
    /// A password file holds no password.
    #[error("the password file {path} {reason}")]
    Password {
        /// The password file.
        path: PathBuf,
        /// What is wrong with it.
        reason: InvalidPassword,
    },
    /// No password file belongs to a keystore.
    #[error("{keystore}: no password for it in {directory}; looked for {}", .tried.join(", "))]
    NoPassword {
        /// The keystore file.
        keystore: PathBuf,
        /// Where its password was looked for.
        directory: PathBuf,
        /// Under which names.
        tried: Vec<String>,
    },
    /// Two keystores hold one key.
    #[error("{first} and {second} hold the same key {key}")]
    Duplicate {
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The key.
        key: PublicKey,
    },
    /// There is no keystore.
    #[error("{0} has no keystore, no file that ends in .json")]
    None(PathBuf),
}

/// A keystore, and the password it is to be tried with.
struct Job {
    path: PathBuf,
    keystore: Keystore,
    password: PathBuf,
}

/// Decrypts one keystore with the password in a file.
///
/// # Errors
/// [`FileError`] names the file and what is wrong with it.
pub fn decrypt_file(keystore: &Path, password_file: &Path) -> Result<SecretKey, FileError> {
    Job {
        path: keystore.to_owned(),
        keystore: read_keystore(keystore)?,
        password: password_file.to_owned(),
    }
    .run()
}

/// Decrypts the keystore `path`, or all in the directory `path`: files that end in `.json`, in it
/// and in its immediate subdirectories, without the deposit tool's `deposit_data-….json`. The keys
/// are in the order of the files' names. Everything that takes no password is checked first; then
/// as many are decrypted at a time as there are cores, within 1 GiB of memory. `on_progress` is
/// told after each, from any thread.
///
/// # Errors
/// [`FileError`]: the first file that stood in the way; then no key is returned.
pub fn decrypt_all(
    path: &Path,
    passwords: &Passwords,
    on_progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<SecretKey>, FileError> {
    let jobs = keystore_files(path)?
        .into_iter()
        .map(|file| Job::new(file, passwords))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_duplicates(
        jobs.iter()
            .filter_map(|job| Some((&job.path, job.keystore.public_key()?))),
    )?;
    let keys = run_all(&jobs, on_progress)?;
    refuse_duplicates(
        jobs.iter()
            .zip(&keys)
            .map(|(job, key)| (&job.path, key.public_key())),
    )?;
    Ok(keys)
}

impl Job {
    fn new(path: PathBuf, passwords: &Passwords) -> Result<Self, FileError> {
        let keystore = read_keystore(&path)?;
        let password = match passwords {
            Passwords::File(file) => file.clone(),
            Passwords::Directory(directory) => {
                let tried = password_names(&path, keystore.public_key());
                let found = tried
                    .iter()
                    .map(|name| directory.join(name))
                    .find(|file| file.exists());
                found.ok_or_else(|| FileError::NoPassword {
                    keystore: path.clone(),
                    directory: directory.clone(),
                    tried,
                })?
            }
        };
        Ok(Self {
            path,
            keystore,
            password,
        })
    }

    fn run(&self) -> Result<SecretKey, FileError> {
        let password = Password::read(&self.password).map_err(|reason| FileError::Password {
            path: self.password.clone(),
            reason,
        })?;
        self.keystore
            .decrypt(&password)
            .map_err(|reason| FileError::Keystore {
                path: self.path.clone(),
                reason: Box::new(reason),
            })
    }
}

/// The names under which a keystore's password may lie, in the order in which they are tried.
fn password_names(keystore: &Path, key: Option<PublicKey>) -> Vec<String> {
    let stem = keystore
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let key = key.map(|key| const_hex::encode(key.as_bytes()));
    stem.into_iter()
        .chain(key.iter().flat_map(|key| [format!("0x{key}"), key.clone()]))
        .flat_map(|name| [format!("{name}.txt"), name])
        .collect()
}

/// What the threads share: the jobs that nobody took yet, and what became of the others.
struct Work<'a> {
    jobs: std::iter::Enumerate<std::slice::Iter<'a, Job>>,
    keys: BTreeMap<usize, SecretKey>,
    failure: Option<FileError>,
}

/// Runs every job, several at a time; the first failure stops the rest.
fn run_all(
    jobs: &[Job],
    on_progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<SecretKey>, FileError> {
    let work = Mutex::new(Work {
        jobs: jobs.iter().enumerate(),
        keys: BTreeMap::new(),
        failure: None,
    });
    thread::scope(|scope| {
        for _ in 0..workers(jobs) {
            scope.spawn(|| {
                while let Some((position, job)) = take_job(&work) {
                    let outcome = job.run();
                    if let Some(done) = give_outcome(&work, position, outcome) {
                        on_progress(Progress {
                            done,
                            total: jobs.len(),
                        });
                    }
                }
            });
        }
    });
    let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    match work.failure {
        Some(error) => Err(error),
        None => Ok(work.keys.into_values().collect()),
    }
}

fn take_job<'a>(work: &Mutex<Work<'a>>) -> Option<(usize, &'a Job)> {
    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
    if work.failure.is_some() {
        None
    } else {
        work.jobs.next()
    }
}

/// How many keys there are now, if the outcome is one.
fn give_outcome(
    work: &Mutex<Work<'_>>,
    position: usize,
    outcome: Result<SecretKey, FileError>,
) -> Option<usize> {
    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(key) => {
            work.keys.insert(position, key);
            Some(work.keys.len())
        }
        Err(error) => {
            work.failure.get_or_insert(error);
            None
        }
    }
}

/// How many jobs at a time: one per core, within the memory.
fn workers(jobs: &[Job]) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let largest = jobs.iter().map(|job| job.keystore.memory_bytes()).max();
    let within_memory = MEMORY_BYTES_MAX / largest.unwrap_or(0).max(1);
    cores
        .min(usize::try_from(within_memory).unwrap_or(usize::MAX))
        .min(jobs.len())
        .max(1)
}

fn keystore_files(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in entries(path)? {
        if entry.is_dir() {
            files.extend(
                entries(&entry)?
                    .into_iter()
                    .filter(|file| is_keystore_name(file)),
            );
        } else if is_keystore_name(&entry) {
            files.push(entry);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(FileError::None(path.to_owned()));
    }
    Ok(files)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|reason| unreadable(directory, reason))
}

fn is_keystore_name(file: &Path) -> bool {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    name.ends_with(".json") && !name.starts_with("deposit_data") && file.is_file()
}

fn read_keystore(path: &Path) -> Result<Keystore, FileError> {
    let metadata = fs::metadata(path).map_err(|reason| unreadable(path, reason))?;
    let malformed = |reason| FileError::Keystore {
        path: path.to_owned(),
        reason: Box::new(reason),
    };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(malformed(KeystoreError::Malformed {
            member: "the file".to_owned(),
            reason: format!("has more than {FILE_BYTES_MAX} bytes"),
        }));
    }
    let json = fs::read(path).map_err(|reason| unreadable(path, reason))?;
    Keystore::parse(&json).map_err(malformed)
}

fn refuse_duplicates<'a>(
    keys: impl Iterator<Item = (&'a PathBuf, PublicKey)>,
) -> Result<(), FileError> {
    let mut seen: HashMap<PublicKey, &Path> = HashMap::new();
    for (path, key) in keys {
        if let Some(first) = seen.insert(key, path) {
            return Err(FileError::Duplicate {
                first: first.to_owned(),
                second: path.clone(),
                key,
            });
        }
    }
    Ok(())
}

fn unreadable(path: &Path, reason: io::Error) -> FileError {
    FileError::Unreadable {
        path: path.to_owned(),
        reason,
    }
}
