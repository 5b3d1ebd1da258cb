//! The built-in networks. Versions and epochs are those of each network's consensus-layer
//! configuration; genesis times and validators roots are those of its genesis state.

use duty::{Epoch, ForkVersion, Root};

use super::{Fork, Network, Preset, ScheduledFork};

struct BuiltIn {
    name: &'static str,
    preset: Preset,
    seconds_per_slot: u64,
    genesis_time: u64,
    genesis_validators_root: [u8; 32],
    /// Phase0 to Gloas.
    forks: [(u32, Option<u64>); 8],
}

pub(super) fn named(name: &str) -> Option<Network> {
    let found = BUILT_IN.iter().find(|network| network.name == name)?;
    let forks = Fork::ALL.into_iter().zip(found.forks);
    Some(Network {
        name: found.name.to_owned(),
        preset: found.preset,
        seconds_per_slot: found.seconds_per_slot,
        forks: forks
            .map(|(fork, (version, epoch))| ScheduledFork {
                fork,
                version: ForkVersion(version.to_be_bytes()),
                epoch: epoch.map(Epoch),
            })
            .collect(),
        genesis_validators_root: Some(Root(found.genesis_validators_root)),
        genesis_time: Some(found.genesis_time),
    })
}

const BUILT_IN: [BuiltIn; 6] = [
    // Consensus-layer configuration of mainnet (ethereum/consensus-specs, configs/mainnet.yaml).
    BuiltIn {
        name: "mainnet",
        preset: Preset::MAINNET,
        seconds_per_slot: 12,
        genesis_time: 1_606_824_023,
        genesis_validators_root: root(
            b"4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95",
        ),
        forks: [
            (0x0000_0000, Some(0)),
            (0x0100_0000, Some(74_240)),
            (0x0200_0000, Some(144_896)),
            (0x0300_0000, Some(194_048)),
            (0x0400_0000, Some(269_568)),
            (0x0500_0000, Some(364_032)),
            (0x0600_0000, Some(411_392)),
            (0x0700_0000, None),
        ],
    },
    // Consensus-layer configuration of hoodi (eth-clients/hoodi, metadata/config.yaml).
    BuiltIn {
        name: "hoodi",
        preset: Preset::MAINNET,
        seconds_per_slot: 12,
        genesis_time: 1_742_213_400,
        genesis_validators_root: root(
            b"212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f",
        ),
        forks: [
            (0x1000_0910, Some(0)),
            (0x2000_0910, Some(0)),
            (0x3000_0910, Some(0)),
            (0x4000_0910, Some(0)),
            (0x5000_0910, Some(0)),
            (0x6000_0910, Some(2_048)),
            (0x7000_0910, Some(50_688)),
            (0x8000_0910, None),
        ],
    },
    // Consensus-layer configuration of sepolia (eth-clients/sepolia, metadata/config.yaml).
    BuiltIn {
        name: "sepolia",
        preset: Preset::MAINNET,
        seconds_per_slot: 12,
        genesis_time: 1_655_733_600,
        genesis_validators_root: root(
            b"d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078",
        ),
        forks: [
            (0x9000_0069, Some(0)),
            (0x9000_0070, Some(50)),
            (0x9000_0071, Some(100)),
            (0x9000_0072, Some(56_832)),
            (0x9000_0073, Some(132_608)),
            (0x9000_0074, Some(222_464)),
            (0x9000_0075, Some(272_640)),
            (0x9000_0076, None),
        ],
    },
    // Consensus-layer configuration of holesky (eth-clients/holesky, metadata/config.yaml).
    BuiltIn {
        name: "holesky",
        preset: Preset::MAINNET,
        seconds_per_slot: 12,
        genesis_time: 1_695_902_400,
        genesis_validators_root: root(
            b"9143aa7c615a7f7115e2b6aac319c03529df8242ae705fba9df39b79c59fa8b1",
        ),
        forks: [
            (0x0101_7000, Some(0)),
            (0x0201_7000, Some(0)),
            (0x0301_7000, Some(0)),
            (0x0401_7000, Some(256)),
            (0x0501_7000, Some(29_696)),
            (0x0601_7000, Some(115_968)),
            (0x0701_7000, Some(165_120)),
            (0x0801_7000, None),
        ],
    },
    // Consensus-layer configuration of gnosis (gnosischain/configs, mainnet/config.yaml).
    BuiltIn {
        name: "gnosis",
        preset: Preset::GNOSIS,
        seconds_per_slot: 5,
        genesis_time: 1_638_993_340,
        genesis_validators_root: root(
            b"f5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47",
        ),
        forks: [
            (0x0000_0064, Some(0)),
            (0x0100_0064, Some(512)),
            (0x0200_0064, Some(385_536)),
            (0x0300_0064, Some(648_704)),
            (0x0400_0064, Some(889_856)),
            (0x0500_0064, Some(1_337_856)),
            (0x0600_0064, Some(1_714_688)),
            (0x0700_0064, None),
        ],
    },
    // Consensus-layer configuration of chiado (gnosischain/configs, chiado/config.yaml).
    BuiltIn {
        name: "chiado",
        preset: Preset::GNOSIS,
        seconds_per_slot: 5,
        genesis_time: 1_665_396_300,
        genesis_validators_root: root(
            b"9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e",
        ),
        forks: [
            (0x0000_006f, Some(0)),
            (0x0100_006f, Some(90)),
            (0x0200_006f, Some(180)),
            (0x0300_006f, Some(244_224)),
            (0x0400_006f, Some(516_608)),
            (0x0500_006f, Some(948_224)),
            (0x0600_006f, Some(1_353_216)),
            (0x0700_006f, None),
        ],
    },
];

/// Evaluated while compiling. A wrong digit would give zero, which a test refuses.
const fn root(digits: &[u8; 64]) -> [u8; 32] {
    match const_hex::const_decode_to_array(digits) {
        Ok(root) => root,
        Err(_) => [0; 32],
    }
}
