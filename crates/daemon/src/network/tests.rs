//! The presets against the wire contract's table (section 4), and config.yaml files, good and bad.

use super::*;

/// A file as clients carry it, with keys that are not ours.
const MINIMAL: &str = "
# Minimal preset, a local chain
PRESET_BASE: 'minimal'
CONFIG_NAME: local   # a comment
TERMINAL_TOTAL_DIFFICULTY: 115792089237316195423570985008687907853269984665640564039457584007913129638912
MIN_GENESIS_TIME: 1578009600
GENESIS_FORK_VERSION: 0x00000001
ALTAIR_FORK_VERSION: 0x01000001
ALTAIR_FORK_EPOCH: 0
BELLATRIX_FORK_VERSION: 0x02000001
BELLATRIX_FORK_EPOCH: 1
CAPELLA_FORK_VERSION: 0x03000001
CAPELLA_FORK_EPOCH: 2
DENEB_FORK_VERSION: 0x90000069
DENEB_FORK_EPOCH: 3
ELECTRA_FORK_VERSION: '0x05000001'
ELECTRA_FORK_EPOCH: '4'
FULU_FORK_VERSION: \"0x06000001\"
FULU_FORK_EPOCH: 18446744073709551615
SECONDS_PER_SLOT: 6
DEPOSIT_CONTRACT_ADDRESS: 0x1234567890123456789012345678901234567890
BLOB_SCHEDULE:
  - EPOCH: 52480
    MAX_BLOBS_PER_BLOCK: 15
";

fn version(text: &str) -> ForkVersion {
    text.parse().unwrap()
}

#[test]
fn presets_agree_with_the_wire_contracts_table() {
    for (name, slots, genesis, capella, deneb, electra, fulu) in [
        (
            "mainnet",
            32,
            "0x00000000",
            "0x03000000",
            269_568,
            364_032,
            411_392,
        ),
        (
            "sepolia",
            32,
            "0x90000069",
            "0x90000072",
            132_608,
            222_464,
            272_640,
        ),
        (
            "holesky",
            32,
            "0x01017000",
            "0x04017000",
            29_696,
            115_968,
            165_120,
        ),
        ("hoodi", 32, "0x10000910", "0x40000910", 0, 2_048, 50_688),
        (
            "gnosis",
            16,
            "0x00000064",
            "0x03000064",
            889_856,
            1_337_856,
            1_714_688,
        ),
        (
            "chiado",
            16,
            "0x0000006f",
            "0x0300006f",
            516_608,
            948_224,
            1_353_216,
        ),
    ] {
        let network = Network::preset(name).unwrap();
        assert_eq!(network.name(), name);
        assert_eq!(network.slots_per_epoch(), slots, "{name}");
        assert_eq!(network.genesis_fork_version(), version(genesis), "{name}");
        assert_eq!(network.capella_fork_version(), version(capella), "{name}");
        for (fork, epoch) in [
            (Fork::Deneb, deneb),
            (Fork::Electra, electra),
            (Fork::Fulu, fulu),
        ] {
            assert_eq!(network.fork_at(Epoch(epoch)), fork, "{name}");
            if let Some(before) = epoch.checked_sub(1) {
                assert!(network.fork_at(Epoch(before)) < fork, "{name}");
            }
        }
        assert_eq!(network.fork_at(Epoch(u64::MAX)), Fork::Fulu, "{name}");
        assert_ne!(
            network.genesis_validators_root(),
            Some(Root::ZERO),
            "{name}"
        );
    }
}

#[test]
fn every_preset_is_whole_and_its_versions_differ() {
    for name in Network::PRESETS {
        let network = Network::load(name).unwrap();
        assert!(network.genesis_time() > Some(1_600_000_000), "{name}");
        assert_eq!(network.forks().len(), Fork::ALL.len(), "{name}");
        for entry in network.forks() {
            assert_eq!(
                network.fork_of_version(entry.version),
                Some(entry.fork),
                "{name}"
            );
        }
        let activations: Vec<_> = network
            .forks()
            .iter()
            .filter_map(|entry| entry.epoch)
            .collect();
        assert!(activations.is_sorted(), "{name}");
    }
    assert_eq!(Network::preset("Mainnet"), None);
}

#[test]
fn a_config_yaml_is_read_with_the_keys_of_others_ignored() {
    let network = Network::from_config_yaml(MINIMAL).unwrap();
    assert_eq!(network.name(), "local");
    assert_eq!(*network.sizes(), Preset::MINIMAL);
    assert_eq!(network.slot_duration(), Duration::from_secs(6));
    assert_eq!(
        network.fork_of_version(version("0x90000069")),
        Some(Fork::Deneb)
    );
    assert_eq!(
        network.fork_of_version(version("0x06000001")),
        Some(Fork::Fulu)
    );
    assert_eq!(network.fork_of_version(version("0x07000001")), None);
    assert_eq!(network.fork_at(Epoch(0)), Fork::Altair);
    assert_eq!(network.fork_at(Epoch(u64::MAX)), Fork::Electra);
    assert_eq!(network.version_at(Epoch(3)), version("0x90000069"));
    assert_eq!(
        (network.genesis_time(), network.genesis_validators_root()),
        (None, None)
    );
    let millis = MINIMAL.replace("SECONDS_PER_SLOT: 6", "SLOT_DURATION_MS: 6000");
    assert_eq!(Network::from_config_yaml(&millis).unwrap(), network);
}

#[test]
fn a_config_yaml_without_a_needed_key_is_refused_and_the_key_is_named() {
    for key in [
        "PRESET_BASE",
        "GENESIS_FORK_VERSION",
        "CAPELLA_FORK_VERSION",
        "CAPELLA_FORK_EPOCH",
        "ELECTRA_FORK_EPOCH",
        "FULU_FORK_VERSION",
        "FULU_FORK_EPOCH",
        "SECONDS_PER_SLOT",
    ] {
        let without: Vec<_> = MINIMAL
            .lines()
            .filter(|line| !line.starts_with(&format!("{key}:")))
            .collect();
        let error = Network::from_config_yaml(&without.join("\n"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("{key} is missing")), "{error}");
    }
}

#[test]
fn a_config_yaml_with_a_garbled_value_is_refused_and_the_key_is_named() {
    for (line, garbled, key) in [
        ("PRESET_BASE: 'minimal'", "PRESET_BASE: lean", "PRESET_BASE"),
        (
            "SECONDS_PER_SLOT: 6",
            "SECONDS_PER_SLOT: 0",
            "length of a slot",
        ),
        (
            "SECONDS_PER_SLOT: 6",
            "SECONDS_PER_SLOT: -6",
            "SECONDS_PER_SLOT",
        ),
        (
            "SECONDS_PER_SLOT: 6",
            "SLOT_DURATION_MS: 2500",
            "SLOT_DURATION_MS",
        ),
        (
            "ALTAIR_FORK_EPOCH: 0",
            "ALTAIR_FORK_EPOCH: soon",
            "ALTAIR_FORK_EPOCH",
        ),
        ("0x03000001", "0x030001", "CAPELLA_FORK_VERSION"),
        ("0x03000001", "0x02000001", "CAPELLA_FORK_VERSION"),
        (
            "DENEB_FORK_EPOCH: 3",
            "DENEB_FORK_EPOCH: 1",
            "DENEB_FORK_EPOCH",
        ),
    ] {
        let error = Network::from_config_yaml(&MINIMAL.replace(line, garbled)).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
    for text in ["", "[]", "a: [", "PRESET_BASE: {}", "\u{0}"] {
        assert!(Network::from_config_yaml(text).is_err(), "{text:?}");
    }
}

#[test]
fn what_is_neither_a_name_nor_a_file_is_said_with_the_names() {
    let error = Network::load("hodi").unwrap_err().to_string();
    assert!(
        error.contains("\"hodi\"") && error.contains("hoodi, sepolia"),
        "{error}"
    );
}

#[test]
fn epochs_of_the_last_slots_do_not_overflow() {
    let network = Network::preset("mainnet").unwrap();
    assert_eq!(network.epoch_of(Slot(u64::MAX)), Epoch(u64::MAX / 32));
    assert_eq!(network.epoch_of(Slot(31)), Epoch(0));
    assert_eq!(network.epoch_of(Slot(32)), Epoch(1));
}
