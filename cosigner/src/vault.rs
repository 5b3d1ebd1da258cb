//! The vault: the shares of one cosigner, sealed in its database, unsealed in memory.
//!
//! One passphrase opens one data key, and that opens every share: ten thousand shares cost one
//! Argon2id. A sealed share is bound to its vault, validator, index, committee and commitments, so
//! a row that was changed, swapped or brought from elsewhere does not open. Shares never leave
//! this module; it gives out partials of what a [`Permit`] names.

mod postgres;
mod rows;
mod sqlite;
mod store;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    num::NonZeroU64,
    sync::Arc,
};

use duty::{Permit, PublicKey, SigningRoot};
use keyshare::{SecretShare, SigningShare, Tables, Withheld};
use parking_lot::RwLock;
use slashing::{
    administration::{Counted, Uncounted},
    database::Database,
    interchange::{Imported, Staged, Taken},
    ledger::{InitialHistory, RegisterError},
};
use threshold::{PartialSignature, ShareIndex};
use wire::Report;

use crate::sealing::{Entropy, Passphrase, Unopened};
use rows::{DataKey, ShareRow};

/// Keys that an error names; of the others it says how many there are.
const NAMED_MAX: usize = 20;

/// Why the vault did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The database could not be reached or failed. Trying again may help.
    #[error("the vault's database failed: {0}")]
    Unavailable(String),
    /// The header does not open.
    #[error("the vault cannot be opened: {0}")]
    Locked(Unopened),
    /// A share does not open, or is not what the schema says.
    #[error("the share of {validator} in the vault cannot be used: {problem}")]
    Share {
        /// Whose share.
        validator: PublicKey,
        /// What is wrong with it.
        problem: String,
    },
    /// The vault's own row is not what the schema says.
    #[error("the vault's header is malformed: {0}")]
    Header(&'static str),
    /// There is a share of this validator already: this one or another.
    #[error("the vault holds a share of {0} already: nothing was imported")]
    AlreadyHeld(PublicKey),
    /// The ledger refused the initial history.
    #[error("{0}")]
    Register(#[from] RegisterError),
    /// The file of what the keys have signed was not taken.
    #[error("{path}: {problem}")]
    History {
        /// The file.
        path: String,
        /// Why.
        problem: String,
    },
    /// The import was not counted among the ledger's commits.
    #[error("nothing was imported: {0}")]
    Uncounted(#[from] Uncounted),
    /// Keys would have been activated without a history.
    #[error(
        "{path} does not name {missing}: nothing was imported. Export the slashing protection of \
         every key of the package and merge the files (`countersign ledger merge`), or split the \
         keys that have never signed into a package of their own and say --never-signed for that"
    )]
    NotInHistory {
        /// The file.
        path: String,
        /// The keys.
        missing: Missing,
    },
    /// Keys would have been activated as if they had never signed.
    #[error(
        "{path} names {empty} without a single entry: nothing was imported. If that is because they \
         have never signed, split them into a package of their own and say --never-signed in an \
         import of its own; if they have, export their slashing protection again"
    )]
    NothingInHistory {
        /// The file.
        path: String,
        /// The keys.
        empty: Missing,
    },
}

/// Keys of a package of which a file says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub Vec<PublicKey>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, mut separator) = (self.0.len(), ": ");
        let keys = if count == 1 { "key" } else { "keys" };
        write!(f, "{count} {keys} of the package")?;
        for key in self.0.iter().take(NAMED_MAX) {
            write!(f, "{separator}{key}")?;
            separator = ", ";
        }
        match count.saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What newcomers have signed before.
pub enum Past {
    /// As an operator says it, for all of them.
    Stated(InitialHistory),
    /// What an interchange file (EIP-3076) holds of them; it must name each.
    InFile {
        /// The file, for people.
        path: String,
        /// What was read of it.
        staged: Box<Staged>,
    },
}

impl Past {
    /// What a newcomer is registered with besides what is in a file, and the file.
    fn split(self) -> (InitialHistory, Option<(String, Staged)>) {
        match self {
            Self::Stated(history) => (history, None),
            Self::InFile { path, staged } => (InitialHistory::NeverSigned, Some((path, *staged))),
        }
    }
}

/// Shares that were added.
struct Added {
    counted: Counted,
    /// What came of the file of what they have signed, if there was one.
    history: Option<Imported>,
}

/// What came of the file for the newcomers.
fn all_named(
    path: String,
    taken: Result<Taken, slashing::interchange::ImportError>,
) -> Result<Imported, VaultError> {
    match taken {
        Ok(taken) if !taken.unnamed.is_empty() => Err(VaultError::NotInHistory {
            path,
            missing: Missing(taken.unnamed),
        }),
        // An entry that was lost on the way looks like this as well: only an operator can say it.
        Ok(taken) if !taken.without_entries.is_empty() => Err(VaultError::NothingInHistory {
            path,
            empty: Missing(taken.without_entries),
        }),
        Ok(taken) => Ok(taken.imported),
        Err(error) => Err(VaultError::History {
            path,
            problem: error.to_string(),
        }),
    }
}

/// The validators of rows that are to be added.
fn validators(rows: &[ShareRow]) -> Result<BTreeSet<PublicKey>, VaultError> {
    let key = |row: &ShareRow| {
        PublicKey::try_from(row.validator.as_slice())
            .map_err(|_| VaultError::Header("a validator's key is not 48 bytes long"))
    };
    rows.iter().map(key).collect()
}

/// There is no share of this validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no share of {0} is held here")]
pub struct NotHeld(pub PublicKey);

/// What is held, for whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Changes whenever the set of validators does, also over restarts.
    pub generation: u64,
    /// In the order of their import.
    pub reports: Vec<Report>,
}

/// What a reload found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// Shares that are loaded now.
    pub validators: u64,
    /// Shares that were not loaded before.
    pub added: u64,
}

/// What a service signs with.
#[tonic::async_trait]
pub trait Shares: Send + Sync {
    /// Whether there is a share of this validator.
    fn holds(&self, validator: &PublicKey) -> bool;

    /// What is held.
    fn listing(&self) -> Arc<Listing>;

    /// Computes what permits may soon be there for, while the ledger still decides: nothing reads it
    /// before [`Self::release`]. `None` where no share of the validator is held.
    fn prepare(&self, expected: &[(PublicKey, SigningRoot)]) -> Vec<Option<Withheld>>;

    /// Gives out what was prepared.
    ///
    /// # Errors
    /// The permit, if it is for something else.
    fn release(&self, withheld: Withheld, permit: Permit) -> Result<PartialSignature, Permit> {
        withheld.release(permit)
    }

    /// Signs what the permits name, each with the share of its validator, in their order. What is
    /// one message for many is signed together, if the caller takes `scaled` partials.
    ///
    /// # Errors
    /// [`NotHeld`]; the permit is gone then.
    fn sign(&self, permits: Vec<Permit>, scaled: bool) -> Vec<Result<PartialSignature, NotHeld>>;

    /// Loads what was imported since the last load: one cheap read if that is nothing.
    ///
    /// # Errors
    /// [`VaultError`]; what was loaded stays loaded.
    async fn reload(&self) -> Result<Reloaded, VaultError>;
}

/// The open vault of a running cosigner.
pub struct Vault {
    database: Database,
    key: Arc<DataKey>,
    loaded: RwLock<Loaded>,
    tables: Tables,
    // Reloads one after another, so that none adds what another has added.
    reloading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Loaded {
    shares: Arc<HashMap<PublicKey, Arc<SigningShare>>>,
    listing: Arc<Listing>,
}

/// A share that was verified against its commitments, to be imported.
pub struct Newcomer {
    /// What will be reported of it.
    pub report: Report,
    /// The share.
    pub share: SecretShare,
}

impl Vault {
    /// Opens the vault in a database, or makes it under this passphrase if there is none, and
    /// unseals every share.
    ///
    /// # Errors
    /// [`VaultError`]: the passphrase is wrong, a share is damaged, or the database failed.
    pub async fn open(
        database: Database,
        passphrase: Passphrase,
        entropy: Entropy<'_>,
    ) -> Result<Self, VaultError> {
        let key = Arc::new(store::unlock(&database, passphrase, entropy).await?);
        let vault = Self {
            database,
            key,
            loaded: RwLock::default(),
            tables: Tables::default(),
            reloading: tokio::sync::Mutex::default(),
        };
        vault.reload().await?;
        Ok(vault)
    }
}

#[tonic::async_trait]
impl Shares for Vault {
    fn prepare(&self, expected: &[(PublicKey, SigningRoot)]) -> Vec<Option<Withheld>> {
        let shares = Arc::clone(&self.loaded.read().shares);
        let share = |(validator, root): &(PublicKey, SigningRoot)| {
            let share = shares.get(validator)?;
            Some((&**share, *validator, *root))
        };
        let held: Vec<Option<_>> = expected.iter().map(share).collect();
        let mut withheld = self
            .tables
            .withhold_all(held.iter().copied().flatten().collect())
            .into_iter();
        // As many as were held.
        let prepared = held.iter().map(|held| held.and_then(|_| withheld.next()));
        prepared.collect()
    }

    fn sign(&self, permits: Vec<Permit>, scaled: bool) -> Vec<Result<PartialSignature, NotHeld>> {
        let shares = Arc::clone(&self.loaded.read().shares);
        if !scaled {
            let plain = permits.into_iter().map(|permit| {
                let validator = permit.validator();
                let share = shares.get(&validator).ok_or(NotHeld(validator))?;
                Ok(share.sign_plain(permit))
            });
            return plain.collect();
        }
        let mut held = Vec::with_capacity(permits.len());
        let mut answers = Vec::with_capacity(permits.len());
        for permit in permits {
            let validator = permit.validator();
            answers.push(match shares.get(&validator) {
                Some(share) => {
                    held.push((&**share, permit));
                    Ok(())
                }
                None => Err(NotHeld(validator)),
            });
        }
        let mut partials = self.tables.sign_all(held).into_iter();
        let answer = |answer: Result<(), NotHeld>| match answer {
            // As many as were held.
            Ok(()) => partials.next().map(Ok),
            Err(not_held) => Some(Err(not_held)),
        };
        answers.into_iter().filter_map(answer).collect()
    }

    fn holds(&self, validator: &PublicKey) -> bool {
        self.loaded.read().shares.contains_key(validator)
    }

    fn listing(&self) -> Arc<Listing> {
        Arc::clone(&self.loaded.read().listing)
    }

    async fn reload(&self) -> Result<Reloaded, VaultError> {
        let _one_at_a_time = self.reloading.lock().await;
        let before = self.loaded.read().clone();
        let stored = store::generation(&self.database).await?;
        let held = count(&before);
        if stored == before.listing.generation {
            return Ok(Reloaded {
                validators: held,
                added: 0,
            });
        }
        let rows = store::shares_after(&self.database, before.listing.generation).await?;
        let key = Arc::clone(&self.key);
        let after = in_background(move || add(&before, rows, &key)).await??;
        let validators = count(&after);
        let added = validators.saturating_sub(held);
        *self.loaded.write() = after;
        Ok(Reloaded { validators, added })
    }
}

/// Seals shares and stores them with their initial history: all of them or none, in one
/// transaction. `progress` is told of each that was sealed.
///
/// # Errors
/// [`VaultError`]; then nothing was imported.
pub async fn import(
    database: &Database,
    passphrase: Passphrase,
    mut newcomers: Vec<Newcomer>,
    past: Past,
    entropy: Entropy<'_>,
) -> Result<Option<Imported>, VaultError> {
    let key = store::unlock(database, passphrase, entropy).await?;
    // In the order in which the ledger locks rows.
    newcomers.sort_unstable_by_key(|newcomer| newcomer.report.validator);
    let rows = newcomers
        .iter()
        .map(|newcomer| ShareRow::seal(&newcomer.report, &newcomer.share, &key, entropy))
        .collect::<Result<Vec<_>, _>>()?;
    store::add(database, rows, past).await
}

fn add(before: &Loaded, rows: Vec<(u64, ShareRow)>, key: &DataKey) -> Result<Loaded, VaultError> {
    let mut shares = HashMap::clone(&before.shares);
    let mut listing = Listing::clone(&before.listing);
    for (generation, row) in rows {
        let (report, share) = row.unseal(key)?;
        let share = share.into_signing(scale(report.commitments.len(), &report.members));
        shares.insert(report.validator, Arc::new(share));
        listing.reports.push(report);
        // Of the rows, not of the header: an import that committed between the two reads comes
        // with the next load.
        listing.generation = listing.generation.max(generation);
    }
    Ok(Loaded {
        shares: Arc::new(shares),
        listing: Arc::new(listing),
    })
}

/// What a committee's shares are divided by; 1 if its indices are none.
fn scale(threshold: usize, members: &[u64]) -> NonZeroU64 {
    let indices: Result<_, _> = members
        .iter()
        .map(|index| ShareIndex::new(*index))
        .collect();
    indices.map_or(NonZeroU64::MIN, |indices| {
        threshold::scale(threshold, &indices)
    })
}

fn count(loaded: &Loaded) -> u64 {
    u64::try_from(loaded.shares.len()).unwrap_or(u64::MAX)
}

/// Runs what computes for long off the threads that serve.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, VaultError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| VaultError::Unavailable("this process is stopping".to_owned()))
}

#[cfg(test)]
mod tests;
