//! Passwords, as EIP-2335 wants them.

use std::{fs::File, io::Read, path::Path};

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Bytes of a password file at most.
const FILE_BYTES_MAX: usize = 4096;

/// A password in the form in which EIP-2335 hashes it: normalised to NFKD, without the control
/// codes C0, C1 and Delete, in UTF-8. Wiped when dropped.
pub struct Password(Zeroizing<String>);

/// Why a file holds no password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPassword {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// It is too long to be a password.
    #[error("has more than {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no text.
    #[error("is not UTF-8")]
    NotUtf8,
    /// Without control codes nothing is left.
    #[error("is empty")]
    Empty,
}

impl Password {
    /// Normalises `text`. A line end at its end goes with the other control codes.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let characters = || text.nfkd().filter(|character| !is_control_code(*character));
        // One allocation of the right size, so that no copy stays behind where a string grew.
        let length = characters().map(char::len_utf8).sum();
        let mut normalised = Zeroizing::new(String::with_capacity(length));
        normalised.extend(characters());
        Self(normalised)
    }

    /// Reads a file that holds one password.
    ///
    /// # Errors
    /// [`InvalidPassword`]: not readable, too long, no text, or empty.
    pub fn read(path: &Path) -> Result<Self, InvalidPassword> {
        let mut bytes = Zeroizing::new(vec![0; FILE_BYTES_MAX.saturating_add(1)]);
        let mut length = 0_usize;
        let mut file = File::open(path).map_err(InvalidPassword::Unreadable)?;
        while let Some(rest @ [_, ..]) = bytes.get_mut(length..) {
            match file.read(rest).map_err(InvalidPassword::Unreadable)? {
                0 => break,
                read => length = length.saturating_add(read),
            }
        }
        let taken = bytes
            .get(..length)
            .filter(|taken| taken.len() <= FILE_BYTES_MAX);
        let text = str::from_utf8(taken.ok_or(InvalidPassword::TooLong)?);
        let password = Self::new(text.map_err(|_| InvalidPassword::NotUtf8)?);
        if password.0.is_empty() {
            Err(InvalidPassword::Empty)
        } else {
            Ok(password)
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// C0, Delete and C1, which are Unicode's category Cc.
fn is_control_code(character: char) -> bool {
    character.is_control()
}
