//! Signing histories in and out: the interchange format of EIP-3076, version 5.
//!
//! This module promises that an import raises ratchets and lowers none, that what it read licenses
//! nothing, and that a file of which one entry can not be taken changes nothing. An export always
//! carries each ratchet as an entry, and never two entries that are slashable together. Files are
//! streamed both ways: memory grows with the number of validators, never with that of entries,
//! which wait in a private temporary SQLite database.
//!
//! What a file leaves open is read as follows. Two entries of the same heights, of which at most
//! one root is known, are one message; two known roots are two. A validator that a file names
//! without an entry is known to have signed nothing, as far as that file goes.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

use duty::{PublicKey, Root};
use tokio::task::spawn_blocking;

use crate::{administration::Named, database::Database};
use rows::{Corrupt, Rise};
use spool::Spool;

pub use merge::{MergeError, Merged, merge};
pub use read::{At, Kind};

mod read;

mod bounded;

mod spool;

mod rows;

mod write;

mod merge;

pub mod postgres;

pub mod sqlite;

/// How far an import or an export has come. Told every few thousand entries, and at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How much of it has been done, in the step's unit.
    pub done: u64,
    /// How much there is, if that is known.
    pub total: Option<u64>,
}

/// What an import or an export is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An import reads the file; counts signed blocks and attestations. Its total is not known.
    Reading,
    /// An import keeps what it read; counts signed blocks and attestations. Its total is what was
    /// read: what came twice, or is minified, is kept once.
    Keeping,
    /// An export writes the file; counts validators.
    Writing,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// Validators that the file names, each counted once.
    pub validators: u64,
    /// Signed blocks and attestations in the file.
    pub entries: u64,
    /// Validators whose ratchet rose, those that are new to the ledger included.
    pub raised: u64,
    /// Validators whose entries within the file are slashable together, or have a source after
    /// their target: of these only the highest source and target and the highest slot were kept.
    pub minified: Vec<PublicKey>,
}

/// What came of an import for the validators that are being activated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// What was imported for those of them that the file names.
    pub imported: Imported,
    /// Those that the file does not name. Nothing is known of their past.
    pub unnamed: Vec<PublicKey>,
    /// Those that the file names without a single entry: it says that they never signed.
    pub without_entries: Vec<PublicKey>,
}

/// What an export wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Validators that the file names.
    pub validators: u64,
    /// Signed blocks and attestations in the file.
    pub entries: u64,
    /// Of these, the ones that stand for a ratchet whose message is not in the history.
    pub synthetic: u64,
    /// Entries that were left out, because they are slashable together with others that were
    /// imported. The ratchets, which are above all of them, are in the file.
    pub left_out: u64,
}

/// Why nothing, or not everything, was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be read to its end.
    #[error("the interchange file cannot be read: {0}")]
    Read(String),
    /// An entry, or something around it, can not be taken. Nothing was imported.
    #[error("nothing was imported: {at}: {reason}")]
    Malformed {
        /// Where in the file.
        at: Box<At>,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The file has another version of the format. Nothing was imported.
    #[error("nothing was imported: the file's interchange_format_version is {0:?}, not \"5\"")]
    Version(String),
    /// The file is about another chain. Nothing was imported.
    #[error(
        "nothing was imported: the file is for genesis validators root {file}, not for {expected}"
    )]
    Chain {
        /// The file's.
        file: Root,
        /// The ledger's, or that of the file before.
        expected: Root,
    },
    /// The temporary database failed. Nothing was imported.
    #[error("nothing was imported: the temporary database failed (is the disk full?): {0}")]
    Staging(String),
    /// The ledger's database could not be reached, or failed. Nothing was imported.
    #[error("nothing was imported: the ledger's database failed: {0}")]
    Database(String),
    /// Whether it was committed is not known. Importing the same file again is safe, and settles
    /// it.
    #[error("it is not known whether the file was imported, so import it again: {0}")]
    InDoubt(String),
    /// Every ratchet that the file raises has been raised, but not every entry was kept.
    /// Importing the same file again is safe, and keeps the others.
    #[error(
        "all ratchets were raised, but not every entry was kept for later exports, \
         so import the file again: {0}"
    )]
    Incomplete(String),
}

/// Why there is no export, or only the beginning of one, which is no valid file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nothing was written: these are not registered.
    #[error("not in this ledger: {}", Named(.0))]
    Unknown(Vec<PublicKey>),
    /// The ledger's database could not be reached, or failed.
    #[error("the ledger's database failed: {0}")]
    Database(String),
    /// The file could not be written.
    #[error("the interchange file cannot be written: {0}")]
    Write(io::Error),
}

impl From<Corrupt> for ImportError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Staging(corrupt.to_string())
    }
}

impl From<Corrupt> for ExportError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Database(corrupt.to_string())
    }
}

/// An interchange file that was read to its end and can be taken. It has changed nothing yet.
pub struct Staged {
    spool: Spool,
    validators: u64,
    entries: u64,
    /// One per validator, ordered by validator.
    rises: Vec<Rise>,
    minified: Vec<PublicKey>,
}

impl Staged {
    /// Reads a file of the chain with this genesis validators root. Blocks the thread, and uses a
    /// temporary file of about the size of what is read.
    ///
    /// # Errors
    /// [`ImportError`]: what can not be taken, by validator, kind and position.
    pub fn read(
        root: Root,
        reader: impl Read,
        progress: impl Fn(Progress),
    ) -> Result<Self, ImportError> {
        let mut spool = Spool::new()?;
        read::read(reader, Some(root), &mut spool, &progress)?;
        Self::outline(spool)
    }

    fn outline(mut spool: Spool) -> Result<Self, ImportError> {
        spool.flush()?;
        let entries = spool.entries();
        let minified = spool.minify()?;
        let rises = spool.rises()?;
        Ok(Self {
            validators: rows::count(rises.len()),
            entries,
            rises,
            minified,
            spool,
        })
    }

    /// Keeps what is about these validators. Returns those that the file does not name, and those
    /// that it names without an entry.
    fn restrict(
        &mut self,
        to: &BTreeSet<PublicKey>,
    ) -> Result<(Vec<PublicKey>, Vec<PublicKey>), ImportError> {
        self.entries = self.spool.restrict(to)?;
        self.rises.retain(|rise| to.contains(&rise.validator));
        self.minified.retain(|validator| to.contains(validator));
        self.validators = rows::count(self.rises.len());
        let named: BTreeSet<_> = self.rises.iter().map(|rise| rise.validator).collect();
        let unnamed = to.difference(&named).copied().collect();
        let without_entries = self.rises.iter().filter(|rise| rise.is_empty());
        let without_entries = without_entries.map(|rise| rise.validator).collect();
        Ok((unnamed, without_entries))
    }

    fn imported(self, raised: u64) -> Imported {
        Imported {
            validators: self.validators,
            entries: self.entries,
            raised,
            minified: self.minified,
        }
    }
}

/// Imports an interchange file. Nothing of it is imported before it was read to its end. A ledger
/// that is in use keeps deciding meanwhile; its ratchets are locked for one short transaction.
///
/// Dropped while the file is being read, nothing is imported; dropped later, it may be.
///
/// # Errors
/// [`ImportError`], which says what was changed.
pub async fn import<R, P>(
    database: &Database,
    root: Root,
    reader: R,
    progress: P,
) -> Result<Imported, ImportError>
where
    R: Read + Send + 'static,
    P: Fn(Progress) + Send + 'static,
{
    let reading = spawn_blocking(move || {
        let staged = Staged::read(root, reader, &progress);
        staged.map(|staged| (staged, progress))
    });
    let (staged, progress) = reading
        .await
        .map_err(|error| ImportError::Read(error.to_string()))??;
    let (imported, counted) = match database {
        Database::Sqlite(database) => sqlite::import(database, staged, progress).await,
        Database::Postgres(database) => postgres::import(database, staged, progress).await,
    }?;
    counted.committed(database);
    Ok(imported)
}

/// Exports the ledger, or these validators of it, as of one commit. Without `Ok` the file is not
/// whole, and not valid JSON either.
///
/// Dropped, it stops at the next write or soon after.
///
/// # Errors
/// [`ExportError`].
pub async fn export<W, P>(
    database: &Database,
    root: Root,
    validators: Option<Vec<PublicKey>>,
    writer: W,
    progress: P,
) -> Result<Exported, ExportError>
where
    W: Write + Send + 'static,
    P: Fn(Progress) + Send + 'static,
{
    let wanted = validators.map(|validators| validators.into_iter().collect::<BTreeSet<_>>());
    match database {
        Database::Sqlite(database) => {
            sqlite::export(database, root, wanted, writer, progress).await
        }
        Database::Postgres(database) => {
            postgres::export(database, root, wanted, writer, progress).await
        }
    }
}

#[cfg(test)]
mod tests;
