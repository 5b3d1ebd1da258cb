//! `countersign quickstart`: a whole committee on this machine, for trying out, with everything as in
//! a real deployment except that it is one machine: real processes, certificates, ledgers.

pub(crate) mod configs;
mod keys;
pub(crate) mod make;
pub(crate) mod plan;
mod postgres;
pub(crate) mod processes;
mod run;

use std::{fmt, net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub use run::run;
use threshold::CommitteeSize;

const EXAMPLES: &str = "Examples:
  countersign quickstart
  countersign quickstart --committee 5-of-7 --validators 100 --dir /tmp/countersign
  countersign quickstart --keystore keystore.json --password-file password.txt --network hoodi
  countersign quickstart --postgres postgres://postgres@127.0.0.1:5432/postgres

All cosigners run on this machine, so this protects a key no better than one signer would. For real
keys give every cosigner a machine of its own: docs/OPERATING.md says how.";

/// Arguments of `countersign quickstart`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct QuickstartArgs {
    /// How many cosigners must sign, of how many there are [default: 3-of-4]
    #[arg(long, value_name = "T-of-N")]
    pub committee: Option<CommitteeSize>,
    /// How many new validator keys to make [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "keystore")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub validators: Option<u32>,
    /// An existing EIP-2335 keystore to split, instead of new keys
    #[arg(long, value_name = "FILE", requires = "password_file")]
    pub keystore: Option<PathBuf>,
    /// The file that holds the keystore's password
    #[arg(long, value_name = "FILE", requires = "keystore")]
    pub password_file: Option<PathBuf>,
    /// The network: mainnet, hoodi, sepolia, holesky, gnosis, chiado, or the path of a
    /// consensus-layer config.yaml [default: hoodi]
    #[arg(long, value_name = "NAME|FILE")]
    pub network: Option<String>,
    /// The chain's genesis validators root, needed with a config.yaml
    #[arg(long, value_name = "ROOT")]
    pub genesis_validators_root: Option<duty::Root>,
    /// The chain's genesis time in seconds since 1970, needed with a config.yaml and a checked clock
    #[arg(long, value_name = "SECONDS")]
    pub genesis_time: Option<u64>,
    /// Keep ledgers on this Postgres server, in databases countersign_quickstart_1 and so on, one per
    /// cosigner, instead of SQLite files; the user must be allowed to create them
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Where keys, ledgers, certificates and logs are kept
    #[arg(long, value_name = "DIR", default_value = "countersign-quickstart")]
    pub dir: PathBuf,
    /// Where the signer-api listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// Whether cosigners refuse claims beyond their clock; unchecked is for recorded requests and
    /// benchmarks [default: checked]
    #[arg(long, value_enum)]
    pub clock: Option<ClockMode>,
}

/// Whether cosigners hold claims against their clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockMode {
    /// Claims beyond the clock are refused.
    Checked,
    /// They are not.
    Unchecked,
}

impl fmt::Display for ClockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checked => "checked",
            Self::Unchecked => "unchecked",
        })
    }
}
