//! Certificates that end, and who is told in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::numbers::since_1970;
use crate::tls::{Expiry, Role, expiry};

/// From so many seconds before its end a certificate is warned of.
const WARNED_BEFORE_S: i64 = 30 * 24 * 3600;
/// How often.
const WARNED_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Files of certificates, each with what it is for.
#[derive(Debug, Clone, Default)]
pub struct CertificateFiles(Vec<(PathBuf, Role)>);

impl CertificateFiles {
    /// One more; again is once.
    pub fn add(&mut self, path: &Path, role: Role) {
        let file = (path.to_owned(), role);
        if !self.0.contains(&file) {
            self.0.push(file);
        }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().map(|(path, _)| path)
    }

    /// When each ends, for those that can be read.
    pub(super) fn expiries(&self) -> Vec<Expiry> {
        let read = self.0.iter().map(|(path, role)| expiry(path, *role));
        read.filter_map(Result::ok).collect()
    }
}

/// Says that certificates end, but not all the time.
#[derive(Default)]
pub(super) struct Warnings {
    told: Option<Instant>,
}

impl Warnings {
    pub(super) fn tell_daily(&mut self, expiries: &[Expiry]) {
        if self.told.is_none_or(|told| told.elapsed() >= WARNED_EVERY) {
            self.tell(expiries);
        }
    }

    pub(super) fn tell(&mut self, expiries: &[Expiry]) {
        self.told = Some(Instant::now());
        for expiry in expiries {
            let left_s = left_s(expiry);
            if left_s > WARNED_BEFORE_S {
                continue;
            }
            let file = expiry.file.display();
            let role = expiry.role.name();
            if left_s > 0 {
                let hours = left_s / 3600;
                warn!(%file, role, hours, "a certificate ends soon: replace it");
            } else {
                warn!(%file, role, "a certificate has ended: replace it");
            }
        }
    }
}

/// How many seconds a certificate is valid for.
pub(super) fn left_s(expiry: &Expiry) -> i64 {
    expiry.not_after.saturating_sub(since_1970())
}
