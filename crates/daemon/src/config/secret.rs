//! Secrets, which configurations name by the path of their file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{ConfigError, unreadable};

/// The longest secret that is read, in bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// The text in the file at `path`, without one line break at its end; wiped when dropped.
///
/// # Errors
///
/// When the file is missing, unreadable, empty, longer than 64 KiB, not UTF-8, or may be read by
/// anyone but its owner.
pub fn secret_from_file(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let named = path.display();
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(ConfigError::new(format!(
            "{named} holds a secret and others than its owner have rights to it (mode {mode:03o}): \
             run `chmod 600 {named}`"
        )));
    }
    // The buffer has its full size from the start: growing it would leave copies behind.
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES_MAX.saturating_add(1)]);
    let length = fill(file, &mut bytes).map_err(|error| unreadable(path, &error))?;
    if length > SECRET_BYTES_MAX {
        return Err(ConfigError::new(format!(
            "{named} holds more than {SECRET_BYTES_MAX} bytes: name the file of the secret"
        )));
    }
    let text = bytes
        .get(..length)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(text) = text else {
        return Err(ConfigError::new(format!(
            "{named} is not UTF-8 text: write it as such"
        )));
    };
    let text = text
        .strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(ConfigError::new(format!(
            "{named} is empty: write the secret into it"
        )));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads until `bytes` is full or the file ends; how much was read.
fn fill(mut file: File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => length = length.saturating_add(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
