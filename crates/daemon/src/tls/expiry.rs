//! When certificates end.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::pem;
use crate::config::ConfigError;

/// Seconds since 1970 of a certificate's `notAfter`; `None` for what is no certificate.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let ends = parsed.tbs_certificate.validity.not_after;
    i64::try_from(ends.to_unix_duration().as_secs()).ok()
}

/// What a file of certificates is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// This process shows it.
    Own,
    /// It says whose certificates are taken.
    Authority,
}

impl Role {
    /// As a label of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Own => "own",
            Role::Authority => "authority",
        }
    }
}

/// A file of certificates, and when the first of those in it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The file.
    pub file: PathBuf,
    /// What it is for.
    pub role: Role,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// When the certificates in the file at `path` end: the first to do so counts.
///
/// # Errors
///
/// When the file is missing or wrong.
pub fn expiry(path: &Path, role: Role) -> Result<Expiry, ConfigError> {
    let ends = pem::certificates(path)?
        .iter()
        .map(not_after)
        .collect::<Option<Vec<_>>>()
        .and_then(|ends| ends.into_iter().min());
    let not_after = ends.ok_or_else(|| {
        ConfigError::new(format!(
            "{} holds a certificate that cannot be read: replace it",
            path.display()
        ))
    })?;
    Ok(Expiry {
        file: path.to_owned(),
        role,
        not_after,
    })
}
