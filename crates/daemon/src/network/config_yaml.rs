//! A consensus-layer `config.yaml`: the few keys of the many that a signer needs.

use std::str::FromStr;

use duty::{Epoch, ForkVersion};
use serde::Deserialize;

use super::{Fork, Network, Preset, ScheduledFork};
use crate::config::ConfigError;

/// `FAR_FUTURE_EPOCH` of the consensus specification: not decided yet.
const FAR_FUTURE_EPOCH: u64 = u64::MAX;

/// The keys as they stand; clients' files carry a hundred more, which are none of our business.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct ConfigYaml {
    preset_base: Option<String>,
    config_name: Option<String>,
    seconds_per_slot: Option<String>,
    slot_duration_ms: Option<String>,
    genesis_fork_version: Option<String>,
    altair_fork_version: Option<String>,
    altair_fork_epoch: Option<String>,
    bellatrix_fork_version: Option<String>,
    bellatrix_fork_epoch: Option<String>,
    capella_fork_version: Option<String>,
    capella_fork_epoch: Option<String>,
    deneb_fork_version: Option<String>,
    deneb_fork_epoch: Option<String>,
    electra_fork_version: Option<String>,
    electra_fork_epoch: Option<String>,
    fulu_fork_version: Option<String>,
    fulu_fork_epoch: Option<String>,
    gloas_fork_version: Option<String>,
    gloas_fork_epoch: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Network, ConfigError> {
    let config: ConfigYaml = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.to_string();
        let line = error.lines().next().unwrap_or_default();
        ConfigError::new(format!("this is no consensus-layer config.yaml: {line}"))
    })?;
    Ok(Network {
        name: config
            .config_name
            .clone()
            .unwrap_or_else(|| "custom".to_owned()),
        preset: preset(config.preset_base.as_deref())?,
        seconds_per_slot: seconds_per_slot(&config)?,
        forks: schedule(&config)?,
        genesis_validators_root: None,
        genesis_time: None,
    })
}

fn preset(base: Option<&str>) -> Result<Preset, ConfigError> {
    match required("PRESET_BASE", base)? {
        "mainnet" => Ok(Preset::MAINNET),
        "minimal" => Ok(Preset::MINIMAL),
        "gnosis" => Ok(Preset::GNOSIS),
        other => Err(ConfigError::new(format!(
            "PRESET_BASE is {other:?}; mainnet, minimal and gnosis are known"
        ))),
    }
}

fn seconds_per_slot(config: &ConfigYaml) -> Result<u64, ConfigError> {
    let seconds = match (&config.seconds_per_slot, &config.slot_duration_ms) {
        (Some(seconds), _) => value::<u64>("SECONDS_PER_SLOT", seconds)?,
        (None, Some(millis)) => {
            let millis = value::<u64>("SLOT_DURATION_MS", millis)?;
            if !millis.is_multiple_of(1000) {
                return Err(ConfigError::new(format!(
                    "SLOT_DURATION_MS is {millis}, which is not a whole number of seconds"
                )));
            }
            millis / 1000
        }
        (None, None) => {
            return Err(ConfigError::new(
                "SECONDS_PER_SLOT is missing, and so is SLOT_DURATION_MS: add one of them",
            ));
        }
    };
    if seconds == 0 {
        return Err(ConfigError::new(
            "the length of a slot is 0: it has to be 1 s or more",
        ));
    }
    Ok(seconds)
}

/// Every fork of the file. Those up to Electra have to be there: their versions decide what an
/// exit is signed with, and which shape an aggregate has that names none.
fn schedule(config: &ConfigYaml) -> Result<Vec<ScheduledFork>, ConfigError> {
    let genesis = required(
        "GENESIS_FORK_VERSION",
        config.genesis_fork_version.as_deref(),
    )?;
    let mut forks = vec![ScheduledFork {
        fork: Fork::Phase0,
        version: value("GENESIS_FORK_VERSION", genesis)?,
        epoch: Some(Epoch(0)),
    }];
    for fork in Fork::ALL {
        let (version, epoch) = match fork {
            Fork::Phase0 => continue,
            Fork::Altair => (&config.altair_fork_version, &config.altair_fork_epoch),
            Fork::Bellatrix => (&config.bellatrix_fork_version, &config.bellatrix_fork_epoch),
            Fork::Capella => (&config.capella_fork_version, &config.capella_fork_epoch),
            Fork::Deneb => (&config.deneb_fork_version, &config.deneb_fork_epoch),
            Fork::Electra => (&config.electra_fork_version, &config.electra_fork_epoch),
            Fork::Fulu => (&config.fulu_fork_version, &config.fulu_fork_epoch),
            Fork::Gloas => (&config.gloas_fork_version, &config.gloas_fork_epoch),
        };
        if fork > Fork::Electra && version.is_none() && epoch.is_none() {
            continue;
        }
        let entry = scheduled(fork, version.as_deref(), epoch.as_deref())?;
        if let Some(other) = forks.iter().find(|other| other.version == entry.version) {
            return Err(ConfigError::new(format!(
                "{fork}_FORK_VERSION and the version of {} are both {}: they have to differ",
                other.fork, entry.version
            )));
        }
        let activated = forks.iter().rev().find_map(|before| before.epoch);
        if entry.epoch.is_some() && entry.epoch < activated {
            return Err(ConfigError::new(format!(
                "{fork}_FORK_EPOCH lies before the epoch of an earlier fork: put them in order"
            )));
        }
        forks.push(entry);
    }
    Ok(forks)
}

fn scheduled(
    fork: Fork,
    version: Option<&str>,
    epoch: Option<&str>,
) -> Result<ScheduledFork, ConfigError> {
    let key = format!("{fork}_FORK_VERSION");
    let version: ForkVersion = value(&key, required(&key, version)?)?;
    let key = format!("{fork}_FORK_EPOCH");
    let epoch: u64 = value(&key, required(&key, epoch)?)?;
    Ok(ScheduledFork {
        fork,
        version,
        epoch: (epoch != FAR_FUTURE_EPOCH).then_some(Epoch(epoch)),
    })
}

fn required<'a>(key: &str, value: Option<&'a str>) -> Result<&'a str, ConfigError> {
    value.ok_or_else(|| ConfigError::new(format!("{key} is missing: add it")))
}

fn value<T: FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|error| ConfigError::new(format!("{key} is {text:?}: {error}")))
}
