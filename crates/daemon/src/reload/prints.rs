//! What files hold, without keeping it.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// So much of a file is looked at, in bytes; none of ours is longer.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A digest of each of some files. Equal digests are of equal files but for one case in 2⁶⁴: whoever
/// could choose the files needs no collision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prints(BTreeMap<PathBuf, Result<u64, ErrorKind>>);

impl Prints {
    /// Of what these files hold now; that one cannot be read is a print as well.
    pub fn of(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let prints = paths.into_iter().map(|path| {
            let path = path.as_ref();
            (path.to_owned(), print(path))
        });
        Prints(prints.collect())
    }

    /// Takes over those of `other`'s files that are not among these.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (path, print) in other.0 {
            self.0.entry(path).or_insert(print);
        }
        self
    }
}

fn print(path: &Path) -> Result<u64, ErrorKind> {
    let kind = |error: std::io::Error| error.kind();
    let file = File::open(path).map_err(kind)?;
    let length = file.metadata().map_err(kind)?.len().min(FILE_BYTES_MAX);
    // Room for all from the start: growing would leave copies of keys behind.
    let capacity = usize::try_from(length).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity.saturating_add(1)));
    file.take(length).read_to_end(&mut bytes).map_err(kind)?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok(hasher.finish())
}
