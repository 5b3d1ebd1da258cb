//! What monitoring sees of it.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;

use crate::tls::Expiry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateFile {
    file: String,
    role: &'static str,
}

/// What is counted. Clones share their numbers.
#[derive(Debug, Clone, Default)]
pub struct ReloadNumbers {
    reloads: Family<Outcome, Counter>,
    successful: Gauge,
    timestamp: Gauge,
    restart: Gauge,
    not_after: Family<CertificateFile, Gauge>,
}

impl ReloadNumbers {
    /// Adds the numbers to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "config_reloads",
            "Times that configuration and certificates were read again, by result",
            self.reloads.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "1 if configuration and certificates could be used when they were read last",
            self.successful.clone(),
        );
        registry.register(
            "config_last_reload_timestamp_seconds",
            "When they were last found usable, in seconds since 1970",
            self.timestamp.clone(),
        );
        registry.register(
            "config_settings_awaiting_restart",
            "Settings whose value in the file is not the one in use",
            self.restart.clone(),
        );
        registry.register(
            "tls_certificate_not_after_timestamp_seconds",
            "When the first certificate of a file that is in use ends, in seconds since 1970",
            self.not_after.clone(),
        );
    }

    pub(super) fn started(&self) {
        self.good();
    }

    pub(super) fn applied(&self, awaiting_restart: usize) {
        self.count("applied");
        let awaiting = i64::try_from(awaiting_restart).unwrap_or(i64::MAX);
        self.restart.set(awaiting);
        self.good();
    }

    pub(super) fn unchanged(&self) {
        self.count("unchanged");
        self.good();
    }

    pub(super) fn refused(&self) {
        self.count("refused");
        self.successful.set(0);
    }

    pub(super) fn expiries(&self, expiries: &[Expiry]) {
        self.not_after.clear();
        for expiry in expiries {
            let labels = CertificateFile {
                file: expiry.file.display().to_string(),
                role: expiry.role.name(),
            };
            self.not_after.get_or_create(&labels).set(expiry.not_after);
        }
    }

    fn count(&self, result: &'static str) {
        self.reloads.get_or_create(&Outcome { result }).inc();
    }

    fn good(&self) {
        self.successful.set(1);
        self.timestamp.set(since_1970());
    }
}

/// Seconds.
pub(super) fn since_1970() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
