//! PEM files, and sentences about what is wrong with them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

use crate::config::{ConfigError, unreadable};

/// The authorities in the file at `path`.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

/// A certificate with its chain, and its key.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    Ok((certificates(certificate)?, private_key(key)?))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| malformed(path, "certificate", &error))?;
    if found.is_empty() {
        return Err(malformed(path, "certificate", &Error::NoItemsFound));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let key = PrivateKeyDer::from_pem_file(path)
        .map_err(|error| malformed(path, "private key", &error))?;
    // A warning and no error: mounted secrets are often readable by a group, and sometimes all.
    let mode = path
        .metadata()
        .map(|metadata| metadata.permissions().mode())
        .unwrap_or_default();
    if mode & 0o007 != 0 {
        warn!(key = %path.display(), "a private key may be read by every user: chmod 600 it");
    }
    Ok(key)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and grows"
)]
fn malformed(path: &Path, wanted: &str, error: &Error) -> ConfigError {
    let named = path.display();
    match error {
        Error::Io(error) => unreadable(path, error),
        Error::NoItemsFound => ConfigError::new(format!(
            "there is no {wanted} in {named}: name a PEM file with one"
        )),
        // The other errors may quote what they found, which may be a key.
        _ => ConfigError::new(format!(
            "{named} is not well-formed PEM: name a PEM {wanted} file"
        )),
    }
}

/// The sentence for a certificate in `path` that cannot be used.
pub(super) fn unusable(path: &Path, error: &dyn std::error::Error) -> ConfigError {
    ConfigError::new(format!(
        "{} cannot be used ({error}): replace it",
        path.display()
    ))
}

/// The sentence for a certificate and a key that do not go together.
pub(super) fn mismatched(certificate: &Path, key: &Path, error: &rustls::Error) -> ConfigError {
    let (certificate, key) = (certificate.display(), key.display());
    if let rustls::Error::InconsistentKeys(_) = error {
        return ConfigError::new(format!(
            "{key} is not the key of the certificate {certificate}: name files of one pair"
        ));
    }
    ConfigError::new(format!(
        "{certificate} and {key} cannot be used ({error}): replace them"
    ))
}
