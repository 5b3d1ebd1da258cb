//! Files that a command makes: complete under their name, or not there.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use tempfile::NamedTempFile;

use super::screen::Lines;

/// What to do with a file of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Leave it, and fail.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// Standard output.
    Standard,
    /// A file.
    File(PathBuf),
}

impl Destination {
    /// `-` is standard output.
    pub(super) fn at(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Standard
        } else {
            Self::File(path.to_owned())
        }
    }

    /// Where a command's lines go: not between the bytes of a file.
    pub(super) const fn lines(&self) -> Lines {
        match self {
            Self::Standard => Lines::Stderr,
            Self::File(_) => Lines::Stdout,
        }
    }

    /// `said`, with the file's name if there is one.
    pub(super) fn with_name(&self, said: &str) -> String {
        match self {
            Self::Standard => said.to_owned(),
            Self::File(path) => format!("{said}, in {}", path.display()),
        }
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// If the file is there already and shall be kept, or its directory cannot be written.
    pub(super) fn open(&self, existing: Existing) -> anyhow::Result<Output> {
        match self {
            Self::Standard => Ok(Output(Open::Standard(io::stdout()))),
            Self::File(path) => NewFile::begin(path, existing).map(|file| Output(Open::File(file))),
        }
    }
}

/// Something that is being written. A file has its name only after [`Output::keep`].
pub(super) struct Output(Open);

enum Open {
    Standard(io::Stdout),
    File(NewFile),
}

impl Output {
    /// Ends the output; a file is on disk then, under its name.
    ///
    /// # Errors
    /// If it cannot be written to its end, or another file has taken the name.
    pub(super) fn keep(self) -> anyhow::Result<()> {
        match self.0 {
            Open::Standard(mut stdout) => {
                stdout.flush().context("standard output cannot be written")
            }
            Open::File(file) => file.keep(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Open::Standard(stdout) => stdout.write(bytes),
            Open::File(file) => file.written.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Open::Standard(stdout) => stdout.flush(),
            Open::File(file) => file.written.flush(),
        }
    }
}

/// A file beside its final place, for its owner only. It goes if it is not kept.
struct NewFile {
    written: NamedTempFile,
    path: PathBuf,
    existing: Existing,
}

impl NewFile {
    fn begin(path: &Path, existing: Existing) -> anyhow::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => bail!("{} is a directory: name a file", path.display()),
            Ok(_) if existing == Existing::Keep => bail!(
                "{} is there already: choose another name, or give --force",
                path.display()
            ),
            Ok(_) | Err(_) => {}
        }
        // Made with mode 0600, under a name of its own.
        let written = tempfile::Builder::new()
            .prefix(".countersign-")
            .suffix(".part")
            .tempfile_in(directory(path))
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self {
            written,
            path: path.to_owned(),
            existing,
        })
    }

    fn keep(self) -> anyhow::Result<()> {
        let Self {
            written,
            path,
            existing,
        } = self;
        let kept = || -> io::Result<()> {
            written.as_file().sync_all()?;
            match existing {
                Existing::Keep => written.persist_noclobber(&path)?,
                Existing::Replace => written.persist(&path)?,
            };
            // The name is as durable as the file only when its directory was written too.
            File::open(directory(&path))?.sync_all()
        };
        kept().with_context(|| format!("{} cannot be written", path.display()))
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Makes a directory for files of several cosigners, for its owner only.
///
/// # Errors
/// If it cannot be made, or there is something else of that name.
pub(super) fn directory_for_several(path: &Path) -> anyhow::Result<()> {
    ensure!(
        path != Path::new("-"),
        "several cosigners' files do not fit into standard output: name a directory, or one \
         --cosigner"
    );
    ensure!(
        !path.exists() || path.is_dir(),
        "{} is a file: several cosigners need a directory",
        path.display()
    );
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_there_only_when_it_is_complete_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let names = || fs::read_dir(dir.path()).unwrap().count();

        let mut dropped = Destination::at(&path).open(Existing::Keep).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(names(), 0, "what is not kept goes");

        let mut kept = Destination::at(&path).open(Existing::Keep).unwrap();
        kept.write_all(b"whole").unwrap();
        assert!(!path.exists());
        kept.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_file_is_replaced_only_when_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let write = |existing, text: &str| -> anyhow::Result<()> {
            let mut output = Destination::at(&path).open(existing)?;
            output.write_all(text.as_bytes())?;
            output.keep()
        };
        write(Existing::Keep, "first").unwrap();
        let error = write(Existing::Keep, "second").unwrap_err().to_string();
        assert!(error.contains("--force"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        write(Existing::Replace, "third").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");

        // Somebody takes the name while the file is being written.
        fs::remove_file(&path).unwrap();
        let late = Destination::at(&path).open(Existing::Keep).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(late.keep().is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }
}
