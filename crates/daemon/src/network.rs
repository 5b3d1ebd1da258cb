//! Networks: what a request does not say about its chain and a signer has to know.
//!
//! The names are the consensus specification's. A network is one of six presets, or a
//! consensus-layer `config.yaml`; nothing is fetched.

mod config_yaml;
mod presets;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path, time::Duration};

use duty::{Epoch, ForkVersion, Root, Slot};

use crate::config::ConfigError;

/// The forks whose objects this version knows, in the order of their activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the consensus specification's")]
pub enum Fork {
    Phase0,
    Altair,
    Bellatrix,
    Capella,
    Deneb,
    Electra,
    Fulu,
    Gloas,
}

impl Fork {
    /// Every fork, in the order of activation.
    pub const ALL: [Self; 8] = [
        Self::Phase0,
        Self::Altair,
        Self::Bellatrix,
        Self::Capella,
        Self::Deneb,
        Self::Electra,
        Self::Fulu,
        Self::Gloas,
    ];

    /// The name in upper case, as `version` members have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Phase0 => "PHASE0",
            Self::Altair => "ALTAIR",
            Self::Bellatrix => "BELLATRIX",
            Self::Capella => "CAPELLA",
            Self::Deneb => "DENEB",
            Self::Electra => "ELECTRA",
            Self::Fulu => "FULU",
            Self::Gloas => "GLOAS",
        }
    }

    /// The fork with that name in upper case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fork| fork.name() == name)
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fork's entry in a network's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledFork {
    /// The fork.
    pub fork: Fork,
    /// Its version.
    pub version: ForkVersion,
    /// The first epoch under its rules; `None` while that is not decided.
    pub epoch: Option<Epoch>,
}

/// The sizes that the consensus specification compiles in, as far as signed objects need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// `SLOTS_PER_EPOCH`.
    pub slots_per_epoch: u64,
    /// `MAX_COMMITTEES_PER_SLOT`.
    pub max_committees_per_slot: usize,
    /// `MAX_VALIDATORS_PER_COMMITTEE`.
    pub max_validators_per_committee: usize,
    /// `SYNC_COMMITTEE_SIZE`.
    pub sync_committee_size: usize,
}

impl Preset {
    /// The consensus specification's mainnet preset.
    pub const MAINNET: Self = Self {
        slots_per_epoch: 32,
        max_committees_per_slot: 64,
        max_validators_per_committee: 2048,
        sync_committee_size: 512,
    };

    /// The consensus specification's minimal preset.
    pub const MINIMAL: Self = Self {
        slots_per_epoch: 8,
        max_committees_per_slot: 4,
        sync_committee_size: 32,
        ..Self::MAINNET
    };

    /// Gnosis' preset (gnosischain/specs, "Preset diff").
    pub const GNOSIS: Self = Self {
        slots_per_epoch: 16,
        ..Self::MAINNET
    };

    /// Members of one of a sync committee's four subcommittees (`SYNC_COMMITTEE_SUBNET_COUNT`).
    #[must_use]
    pub const fn sync_subcommittee_size(&self) -> usize {
        self.sync_committee_size / 4
    }

    /// Validators of all committees of one slot: the limit of an aggregate's bits from Electra on.
    #[must_use]
    pub const fn max_validators_per_slot(&self) -> usize {
        self.max_validators_per_committee
            .saturating_mul(self.max_committees_per_slot)
    }
}

/// What is known of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    name: String,
    preset: Preset,
    seconds_per_slot: u64,
    /// Phase0 first and always active from epoch 0; then in the order of [`Fork::ALL`].
    forks: Vec<ScheduledFork>,
    genesis_validators_root: Option<Root>,
    genesis_time: Option<u64>,
}

impl Network {
    /// The names that [`Network::preset`] knows.
    pub const PRESETS: [&str; 6] = ["mainnet", "hoodi", "sepolia", "holesky", "gnosis", "chiado"];

    /// A network that is built in.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        presets::named(name)
    }

    /// A network from the text of a consensus-layer `config.yaml`. Such a file says neither the
    /// genesis validators root nor when genesis really was.
    ///
    /// # Errors
    /// When the text is no such file, or lacks or garbles a key that is needed; the key is named.
    pub fn from_config_yaml(text: &str) -> Result<Self, ConfigError> {
        config_yaml::parse(text)
    }

    /// A built-in network, or one from the `config.yaml` at that path.
    ///
    /// # Errors
    /// When it is neither, or for what [`Network::from_config_yaml`] refuses.
    pub fn load(name_or_path: &str) -> Result<Self, ConfigError> {
        if let Some(network) = Self::preset(name_or_path) {
            return Ok(network);
        }
        let text = std::fs::read_to_string(Path::new(name_or_path)).map_err(|error| {
            ConfigError::new(format!(
                "network {name_or_path:?} is neither one of {} nor a consensus-layer config.yaml \
                 that can be read: {error}",
                Self::PRESETS.join(", ")
            ))
        })?;
        Self::from_config_yaml(&text)
            .map_err(|error| ConfigError::new(format!("network file {name_or_path}: {error}")))
    }

    /// The name; `CONFIG_NAME` of a `config.yaml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sizes.
    #[must_use]
    pub const fn sizes(&self) -> &Preset {
        &self.preset
    }

    /// Slots of an epoch; at least 1.
    #[must_use]
    pub const fn slots_per_epoch(&self) -> u64 {
        self.preset.slots_per_epoch
    }

    /// Length of a slot in seconds; at least 1.
    #[must_use]
    pub const fn seconds_per_slot(&self) -> u64 {
        self.seconds_per_slot
    }

    /// Length of a slot.
    #[must_use]
    pub const fn slot_duration(&self) -> Duration {
        Duration::from_secs(self.seconds_per_slot)
    }

    /// The fork version at genesis, which deposits and what is said to builders are signed with.
    #[must_use]
    pub fn genesis_fork_version(&self) -> ForkVersion {
        self.version_of(Fork::Phase0)
    }

    /// The root that binds signatures to this chain, where it is known.
    #[must_use]
    pub const fn genesis_validators_root(&self) -> Option<Root> {
        self.genesis_validators_root
    }

    /// When slot 0 began, in seconds since 1970, where it is known.
    #[must_use]
    pub const fn genesis_time(&self) -> Option<u64> {
        self.genesis_time
    }

    /// The schedule, in the order of the forks.
    #[must_use]
    pub fn forks(&self) -> &[ScheduledFork] {
        &self.forks
    }

    /// The epoch of a slot.
    #[must_use]
    pub fn epoch_of(&self, slot: Slot) -> Epoch {
        Epoch(
            slot.0
                .checked_div(self.preset.slots_per_epoch)
                .unwrap_or_default(),
        )
    }

    /// The fork whose rules hold in that epoch.
    #[must_use]
    pub fn fork_at(&self, epoch: Epoch) -> Fork {
        self.entry_at(epoch)
            .map_or(Fork::Phase0, |entry| entry.fork)
    }

    /// The version of the fork whose rules hold in that epoch.
    #[must_use]
    pub fn version_at(&self, epoch: Epoch) -> ForkVersion {
        self.entry_at(epoch)
            .map_or_else(|| self.genesis_fork_version(), |entry| entry.version)
    }

    /// The fork with that version, activated or not.
    #[must_use]
    pub fn fork_of_version(&self, version: ForkVersion) -> Option<Fork> {
        self.forks
            .iter()
            .find(|entry| entry.version == version)
            .map(|entry| entry.fork)
    }

    /// The fork version of Capella, which every voluntary exit from Deneb on is signed with
    /// (EIP-7044).
    #[must_use]
    pub fn capella_fork_version(&self) -> ForkVersion {
        self.version_of(Fork::Capella)
    }

    fn entry_at(&self, epoch: Epoch) -> Option<&ScheduledFork> {
        self.forks
            .iter()
            .rev()
            .find(|entry| entry.epoch.is_some_and(|first| first <= epoch))
    }

    /// Of forks that a schedule always has.
    fn version_of(&self, fork: Fork) -> ForkVersion {
        let entry = self.forks.iter().find(|entry| entry.fork == fork);
        entry.map_or(ForkVersion([0; 4]), |entry| entry.version)
    }
}
