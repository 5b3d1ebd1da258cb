//! The files that splitting leaves: all of them, or none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use cosigner::{
    package::{self, Package},
    sealing::Passphrase,
};
use keyshare::check_share;
use threshold::{Commitments, Committee, ShareIndex};
use zeroize::Zeroizing;

/// Random bytes of a passphrase that is made here: nobody types it, nobody guesses it.
const PASSPHRASE_BYTES: usize = 32;

/// What was written.
pub(super) struct Files {
    /// One per cosigner, in the order of their indices.
    pub(super) packages: Vec<PathBuf>,
    /// One per cosigner if they were made here, else none.
    pub(super) passphrases: Vec<PathBuf>,
}

/// A directory that is being filled. What was written goes again if this is dropped before
/// [`Output::keep`].
pub(super) struct Output {
    directory: PathBuf,
    /// The passphrases that were given; empty if they are made here.
    given: BTreeMap<ShareIndex, Passphrase>,
    files: Files,
}

impl Output {
    /// Makes the directory, and refuses whatever would stop the writing later: a file that is
    /// there already, a passphrase that cannot be read, one passphrase for two cosigners.
    pub(super) fn prepare(
        directory: &Path,
        members: &BTreeSet<ShareIndex>,
        passphrase_files: &[PathBuf],
    ) -> anyhow::Result<Self> {
        ensure!(
            passphrase_files.is_empty() || passphrase_files.len() == members.len(),
            "--passphrase-file is given {} times, for {} cosigners: give it once for each, or not \
             at all",
            passphrase_files.len(),
            members.len()
        );
        let distinct: BTreeSet<&PathBuf> = passphrase_files.iter().collect();
        ensure!(
            distinct.len() == passphrase_files.len(),
            "--passphrase-file names one file twice: every cosigner needs a passphrase of its own"
        );
        let given = members
            .iter()
            .zip(passphrase_files)
            .map(|(&index, file)| Ok((index, Passphrase::read(file)?)))
            .collect::<anyhow::Result<_>>()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        let output = Self {
            directory: directory.to_owned(),
            given,
            files: Files {
                packages: Vec::new(),
                passphrases: Vec::new(),
            },
        };
        for &index in members {
            for path in [output.package_path(index), output.passphrase_path(index)] {
                ensure!(
                    fs::symlink_metadata(&path).is_err(),
                    "{} is there already: choose another directory or remove it",
                    path.display()
                );
            }
        }
        Ok(output)
    }

    fn package_path(&self, index: ShareIndex) -> PathBuf {
        self.directory.join(format!("cosigner-{index}.package"))
    }

    fn passphrase_path(&self, index: ShareIndex) -> PathBuf {
        self.directory.join(format!("cosigner-{index}.passphrase"))
    }

    /// Seals and writes one cosigner's package, and reads it back.
    pub(super) fn write(&mut self, package: Package) -> anyhow::Result<()> {
        let index = package.index;
        let made;
        let passphrase = if let Some(given) = self.given.get(&index) {
            given
        } else {
            made = self.make_passphrase(index)?;
            &made
        };
        let mut failure = None;
        let sealed = package::seal(&package, passphrase, &mut |slice| {
            failure = failure.take().or(getrandom::fill(slice).err());
        })?;
        if let Some(error) = failure {
            anyhow::bail!("the system gives no random bytes: {error}");
        }
        let validators = package.shares.len();
        drop(package);
        let path = self.package_path(index);
        write_secret(&path, &sealed)?;
        self.files.packages.push(path.clone());
        let read = fs::read(&path).with_context(|| format!("{}", path.display()))?;
        check_package(&package::open(&read, passphrase)?, index, validators)
            .with_context(|| format!("{} does not read back", path.display()))
    }

    /// Makes a passphrase and writes it to the cosigner's passphrase file.
    fn make_passphrase(&mut self, index: ShareIndex) -> anyhow::Result<Passphrase> {
        let mut bytes = Zeroizing::new([0; PASSPHRASE_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).context("the system gives no random bytes")?;
        let mut text = Zeroizing::new([0; 2 * PASSPHRASE_BYTES]);
        const_hex::encode_to_slice(bytes.as_slice(), text.as_mut_slice())?;
        let path = self.passphrase_path(index);
        write_secret(&path, text.as_slice())?;
        self.files.passphrases.push(path);
        Ok(Passphrase::new(text.to_vec())?)
    }

    /// Makes the files' names durable and keeps them.
    pub(super) fn keep(mut self) -> anyhow::Result<Files> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("{} cannot be synced", self.directory.display()))?;
        Ok(Files {
            packages: std::mem::take(&mut self.files.packages),
            passphrases: std::mem::take(&mut self.files.passphrases),
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        for path in self.files.packages.iter().chain(&self.files.passphrases) {
            // Best effort on the way out of an error, which is what the user must read.
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a new file that only its owner reads, through to the disk.
fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be made", path.display()))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// Whether what was read back is `index`'s package with a share of each validator that matches
/// its commitments.
fn check_package(package: &Package, index: ShareIndex, validators: usize) -> anyhow::Result<()> {
    ensure!(
        package.index == index,
        "it is of cosigner {}",
        package.index
    );
    ensure!(
        package.shares.len() == validators,
        "it has {} shares of {validators}",
        package.shares.len()
    );
    let members: BTreeSet<ShareIndex> = package.members.iter().copied().collect();
    for packaged in &package.shares {
        let commitments = Commitments::new(packaged.commitments.clone())?;
        let committee = Committee::new(commitments, members.clone())?;
        check_share(&packaged.share, index, &committee)?;
    }
    Ok(())
}
