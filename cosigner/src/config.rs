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
    telemetry::LogFormat,
    tls::TlsFiles,
};
use duty::Root;
use serde::{Deserialize, Serialize};
use slashing::DatabaseConfig;

use crate::{
    authority::Authority,
    clock::{ChainTime, Clock},
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
    /// Seconds since 1970; required where the network does not know it.
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
    /// Promises that are held at most; four for each validator, at least 100,000, if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promises_max: Option<usize>,
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
}

impl Settings {
    /// Reads a file; environment variables override it ([`daemon::config`]).
    ///
    /// # Errors
    /// [`ConfigError`]: one sentence that says what to change.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::new(config::load(path, ENVIRONMENT_PREFIX)?)
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
        let genesis_s = agreed(
            "genesis_time",
            &config.network,
            config.genesis_time,
            network.genesis_time(),
        )?;
        config::in_range("ledger_wait_ms", config.ledger_wait_ms, 10, 60_000)?;
        if let Some(promises_max) = config.promises_max {
            config::in_range("promises_max", promises_max, 1, 10_000_000)?;
        }
        let authority = Authority {
            sign: names("authority.sign", &config.authority.sign)?,
            administer: names("authority.administer", &config.authority.administer)?,
        };
        config.genesis_validators_root = Some(root);
        config.genesis_time = Some(genesis_s);
        let slots_per_epoch = network.slots_per_epoch();
        let clock = match config.clock {
            ClockSetting::Checked => Clock::Checked(ChainTime {
                genesis_s,
                slot: network.slot_duration(),
                slots_per_epoch,
            }),
            ClockSetting::Unchecked => Clock::Unchecked,
        };
        Ok(Self {
            genesis_validators_root: root,
            clock,
            slots_per_epoch,
            authority,
            ledger_wait: Duration::from_millis(config.ledger_wait_ms),
            config,
        })
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
