//! The configuration of a cosigner: what a file may say, and what follows from it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::{
    config::{self, ConfigError, ENVIRONMENT_PREFIX},
    network::Network,
    reload::{CertificateFiles, Files},
    telemetry::LogFormat,
    tls::{Role, TlsFiles},
};
use duty::Root;
use serde::{Deserialize, Serialize};
use slashing::{DatabaseConfig, Position};

use crate::{
    authority::Authority,
    clock::{ChainTime, Clock},
    service::since_1970,
};

/// Promises that are held at most if nothing is configured, whatever the number of validators.
const PROMISES_MAX_DEFAULT: usize = 100_000;
/// Promises at most for each validator, if nothing is configured.
const PROMISES_PER_VALIDATOR: usize = 4;

/// A configuration file. Relative paths start at the directory the process was started in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where signer-apis and operators connect.
    pub listen: SocketAddr,
    /// A preset's name, or the path of a consensus-layer `config.yaml`.
    pub network: String,
    /// The chain; required where the network does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_validators_root: Option<Root>,
    /// Seconds since 1970; required where the network does not know it and the clock is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_time: Option<u64>,
    /// Whether claims are held against the clock.
    #[serde(default)]
    pub clock: ClockSetting,
    /// Whether voluntary exits are signed.
    #[serde(default)]
    pub allow_voluntary_exits: bool,
    /// Whether deposits are signed.
    #[serde(default)]
    pub allow_deposits: bool,
    /// How long a decision of the ledger may take, in milliseconds.
    #[serde(default = "ledger_wait_ms_default")]
    pub ledger_wait_ms: u64,
    /// How long calls under way may take after shutdown began, in milliseconds.
    #[serde(default = "drain_ms_default")]
    pub drain_ms: u64,
    /// Promises that are held at most; four for each validator, at least 100,000, if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promises_max: Option<usize>,
    /// The file that remembers, outside of the database, how far the ledger has come. Beside an
    /// SQLite file if it is not set; must be set for PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<PathBuf>,
    /// How many epochs of decisions are kept for export and audit. Ratchets are kept for ever.
    #[serde(default = "history_epochs_default")]
    pub history_epochs: u64,
    /// Where ledger and shares are.
    pub database: DatabaseConfig,
    /// What opens the shares.
    pub vault: VaultSection,
    /// This cosigner's certificate, and whom it trusts.
    pub tls: TlsFiles,
    /// Who may call what.
    pub authority: AuthoritySection,
    /// Where metrics are served; nowhere if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSection>,
    /// How log lines are written.
    #[serde(default)]
    pub log: LogSection,
}

/// Whether claims are held against the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSetting {
    /// They are.
    #[default]
    Checked,
    /// They are not: only for replaying recorded requests.
    Unchecked,
}

/// `[vault]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultSection {
    /// The file with the one passphrase, which only its owner may read.
    pub passphrase_file: PathBuf,
}

/// `[authority]`: DNS names in client certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthoritySection {
    /// May ask for signatures: signer-apis.
    pub sign: Vec<String>,
    /// May administer: operators.
    pub administer: Vec<String>,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSection {
    /// Where `GET /metrics` is answered, without TLS.
    pub listen: SocketAddr,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// `text` or `json`.
    #[serde(default)]
    pub format: LogFormat,
}

const fn ledger_wait_ms_default() -> u64 {
    500
}

const fn drain_ms_default() -> u64 {
    5_000
}

const fn history_epochs_default() -> u64 {
    1000
}

/// A configuration that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What was read, with what the network knows filled in.
    pub config: Config,
    /// The one chain that is signed for.
    pub genesis_validators_root: Root,
    /// What claims are held against.
    pub clock: Clock,
    /// Slots of an epoch.
    pub slots_per_epoch: u64,
    /// Who may call what.
    pub authority: Authority,
    /// How long a decision of the ledger may take.
    pub ledger_wait: Duration,
    /// The anchor's file.
    pub anchor: PathBuf,
}

impl Settings {
    /// Reads a file; environment variables override it ([`daemon::config`]).
    ///
    /// # Errors
    /// [`ConfigError`]: one sentence that says what to change.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::new(config::load(path, ENVIRONMENT_PREFIX)?)
    }

    /// Where the chain's clock stands now; an unchecked one stands nowhere.
    #[must_use]
    pub fn now(&self) -> Option<Position> {
        self.clock.position(since_1970())
    }

    /// What follows from a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if it contradicts itself or lacks something.
    pub fn new(mut config: Config) -> Result<Self, ConfigError> {
        let network = Network::load(&config.network)?;
        let root = agreed(
            "genesis_validators_root",
            &config.network,
            config.genesis_validators_root,
            network.genesis_validators_root(),
        )?;
        let unusable = |error: slashing::DatabaseError| ConfigError::new(error.to_string());
        config.database.check().map_err(unusable)?;
        config::in_range("ledger_wait_ms", config.ledger_wait_ms, 10, 60_000)?;
        config::in_range("drain_ms", config.drain_ms, 0, 600_000)?;
        // Two epochs of repeats are needed; the upper bound is any number that no clock overflows.
        config::in_range("history_epochs", config.history_epochs, 2, 100_000_000)?;
        if let Some(promises_max) = config.promises_max {
            config::in_range("promises_max", promises_max, 1, 10_000_000)?;
        }
        let authority = Authority {
            sign: names("authority.sign", &config.authority.sign)?,
            administer: names("authority.administer", &config.authority.administer)?,
        };
        let slots_per_epoch = network.slots_per_epoch();
        let (configured, known) = (config.genesis_time, network.genesis_time());
        let genesis_time = || agreed("genesis_time", &config.network, configured, known);
        let (clock, genesis_time) = match config.clock {
            ClockSetting::Checked => {
                let genesis_s = genesis_time()?;
                let slot = network.slot_duration();
                (
                    Clock::Checked(ChainTime {
                        genesis_s,
                        slot,
                        slots_per_epoch,
                    }),
                    Some(genesis_s),
                )
            }
            // Nothing is held against it, so nobody need know it.
            ClockSetting::Unchecked if configured.or(known).is_none() => (Clock::Unchecked, None),
            ClockSetting::Unchecked => (Clock::Unchecked, Some(genesis_time()?)),
        };
        let anchor = anchor(&config)?;
        config.anchor = Some(anchor.clone());
        config.genesis_time = genesis_time;
        config.genesis_validators_root = Some(root);
        Ok(Self {
            genesis_validators_root: root,
            clock,
            slots_per_epoch,
            authority,
            ledger_wait: Duration::from_millis(config.ledger_wait_ms),
            anchor,
            config,
        })
    }

    /// What a cosigner reads of which it takes up changes while it runs: this configuration, which
    /// lies at `path`, and what it names.
    #[must_use]
    pub fn files(&self, path: &Path) -> Files {
        let TlsFiles {
            certificate,
            key,
            ca,
        } = &self.config.tls;
        let mut certificates = CertificateFiles::default();
        certificates.add(certificate, Role::Own);
        certificates.add(ca, Role::Authority);
        let mut others = vec![path.to_owned(), key.clone()];
        match &self.config.database {
            DatabaseConfig::Sqlite(_) => {}
            DatabaseConfig::Postgres(postgres) => {
                others.extend(postgres.password_file.clone());
                if let Some(ca) = &postgres.ca {
                    certificates.add(ca, Role::Authority);
                }
            }
        }
        Files {
            others,
            certificates,
        }
    }

    /// Promises that are held at most with so many validators.
    #[must_use]
    pub fn promises_max(&self, validators: usize) -> usize {
        self.config.promises_max.unwrap_or_else(|| {
            validators
                .saturating_mul(PROMISES_PER_VALIDATOR)
                .max(PROMISES_MAX_DEFAULT)
        })
    }
}

/// Where the anchor is. Never in a PostgreSQL server, so that has no place beside it.
fn anchor(config: &Config) -> Result<PathBuf, ConfigError> {
    match (&config.anchor, &config.database) {
        (Some(anchor), _) => Ok(anchor.clone()),
        (None, DatabaseConfig::Sqlite(sqlite)) => {
            let mut path = sqlite.path.clone().into_os_string();
            path.push(".anchor");
            Ok(path.into())
        }
        (None, DatabaseConfig::Postgres(_)) => Err(ConfigError::new(
            "add `anchor`, a file on this machine's own disk, such as \
             \"/var/lib/countersign/cosigner.anchor\": it remembers how far the ledger has come, so \
             that a restored or failed-over database is noticed",
        )),
    }
}

/// What the file and the network say of the chain, which must not be two different things.
fn agreed<T: PartialEq + std::fmt::Display>(
    key: &str,
    network: &str,
    configured: Option<T>,
    known: Option<T>,
) -> Result<T, ConfigError> {
    match (configured, known) {
        (Some(configured), Some(known)) if configured != known => Err(ConfigError::new(format!(
            "remove `{key}` or correct `network`: it is {configured}, that of {network} is {known}"
        ))),
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Err(ConfigError::new(format!(
            "add `{key}`: the network {network:?} does not say it"
        ))),
    }
}

fn names(key: &str, listed: &[String]) -> Result<BTreeSet<String>, ConfigError> {
    if listed.is_empty() {
        return Err(ConfigError::new(format!(
            "list at least one certificate name in `{key}`: with none, nobody may call"
        )));
    }
    let mut names = BTreeSet::new();
    for name in listed {
        if name.is_empty() {
            return Err(ConfigError::new(format!(
                "remove the empty name from `{key}`"
            )));
        }
        if !names.insert(name.clone()) {
            return Err(ConfigError::new(format!(
                "remove the second \"{name}\" from `{key}`: a name is listed once"
            )));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "genesis_validators_root = \"0x0707070707070707070707070707070707070707070707070707070707070707\"\n";

    /// A network that knows neither its root nor its time.
    fn settings(top: &str) -> Result<Settings, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let network = directory.path().join("config.yaml");
        let mut yaml = "PRESET_BASE: minimal\nSECONDS_PER_SLOT: 6\n\
                        GENESIS_FORK_VERSION: 0x00000001\n"
            .to_owned();
        let forks = ["ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA"];
        for (number, fork) in (1..).zip(forks) {
            yaml += &format!("{fork}_FORK_VERSION: 0x0{number}000001\n{fork}_FORK_EPOCH: 0\n");
        }
        std::fs::write(&network, yaml).unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nnetwork = \"{}\"\n{top}
            [database.sqlite]\npath = \"d\"\n[vault]\npassphrase_file = \"p\"\n
            [tls]\ncertificate = \"c\"\nkey = \"k\"\nca = \"a\"\n
            [authority]\nsign = [\"s\"]\nadminister = [\"o\"]\n",
            network.display()
        );
        Settings::new(config::parse("test", &text, ENVIRONMENT_PREFIX, [])?)
    }

    #[test]
    fn what_a_network_does_not_say_must_be_configured() {
        for (top, says) in [
            (String::new(), Some("genesis_validators_root")),
            (ROOT.to_owned(), Some("genesis_time")),
            (format!("{ROOT}genesis_time = 5\n"), None),
            (format!("{ROOT}clock = \"unchecked\"\n"), None),
            (
                "clock = \"unchecked\"\n".to_owned(),
                Some("genesis_validators_root"),
            ),
        ] {
            let error = settings(&top).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), says.is_some(), "{top}: {error:?}");
            if let (Some(error), Some(says)) = (error, says) {
                assert!(error.contains(says), "{top}: {error}");
            }
        }
    }

    #[test]
    fn a_clock_is_unchecked_only_in_words() {
        let checked = settings(&format!("{ROOT}genesis_time = 5\n")).unwrap();
        let chain = ChainTime {
            genesis_s: 5,
            slot: Duration::from_secs(6),
            slots_per_epoch: 8,
        };
        assert_eq!(checked.clock, Clock::Checked(chain));
        let unchecked = settings(&format!("{ROOT}clock = \"unchecked\"\n")).unwrap();
        assert_eq!(unchecked.clock, Clock::Unchecked);
    }

    #[test]
    fn promises_are_bounded_by_validators_unless_configured() {
        let settings = settings(&format!("{ROOT}genesis_time = 5\n")).unwrap();
        assert_eq!(settings.promises_max(0), 100_000);
        assert_eq!(settings.promises_max(50_000), 200_000);
    }
}
