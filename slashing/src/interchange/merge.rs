//! One file of many: the union of what they hold, and the highest of every validator.

use std::io::{self, Read, Write};

use duty::{PublicKey, Root};

use super::{ImportError, Staged, read, rows::Corrupt, spool::Spool, write::Writer};

/// What a merge wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The chain of all of the files.
    pub genesis_validators_root: Root,
    /// Validators that the merged file names.
    pub validators: u64,
    /// Signed blocks and attestations in the merged file.
    pub entries: u64,
    /// Validators whose entries are slashable together, within one file or across several: of
    /// these only the highest source and target and the highest slot were written.
    pub minified: Vec<PublicKey>,
}

/// Why there is no merged file, or only the beginning of one, which is no valid file.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There is nothing to merge.
    #[error("there is no file to merge")]
    NoFiles,
    /// A file can not be taken. Nothing was written.
    #[error("file {}: {error}", .position + 1)]
    File {
        /// Its position, from 0.
        position: usize,
        /// Why not.
        error: ImportError,
    },
    /// The temporary database failed.
    #[error("the temporary database failed (is the disk full?): {0}")]
    Staging(String),
    /// The merged file could not be written.
    #[error("the merged file cannot be written: {0}")]
    Write(io::Error),
}

impl From<ImportError> for MergeError {
    fn from(error: ImportError) -> Self {
        Self::Staging(error.to_string())
    }
}

impl From<Corrupt> for MergeError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Staging(corrupt.to_string())
    }
}

/// Merges files of one chain. Blocks the thread; memory grows with the number of validators only.
///
/// # Errors
/// [`MergeError`]. Nothing is written before every file was read to its end.
pub fn merge<R: Read, W: Write>(readers: Vec<R>, writer: W) -> Result<Merged, MergeError> {
    let mut spool = Spool::new()?;
    let mut chain = None;
    for (position, reader) in readers.into_iter().enumerate() {
        let root = read::read(reader, chain, &mut spool, &|_| {});
        chain = Some(root.map_err(|error| MergeError::File { position, error })?);
    }
    let genesis_validators_root = chain.ok_or(MergeError::NoFiles)?;
    let staged = Staged::outline(spool)?;
    let mut writer = Writer::new(writer, genesis_validators_root, staged.validators, |_| {})
        .map_err(MergeError::Write)?;
    let mut broken = None;
    let written = staged.spool.lines(|validator, line| {
        writer.line(validator, line).map_err(|error| {
            broken = Some(error);
            ImportError::Staging("stopped".to_owned())
        })
    });
    match (written, broken) {
        (_, Some(error)) => return Err(MergeError::Write(error)),
        (written, None) => written?,
    }
    let exported = writer.finish().map_err(MergeError::Write)?;
    Ok(Merged {
        genesis_validators_root,
        validators: exported.validators,
        entries: exported.entries,
        minified: staged.minified,
    })
}
