//! Roots against the wire contract's worked examples, which two other SSZ implementations confirmed.

use crate::*;

const MAINNET: &str = "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95";
const KEY: &str = "0x82bb7a28d3331c06ad9e3743eef2c7d9a31f6483a898cc8a09c7dbff4616d424449449825957a470af2ff0008bfd7623";
const BLOCK: &str = "0x9f2e6d33a3717ee826353a404ba4618d1aeeb6879ad7936bce8ed5f46814924d";

fn order(version: u8, duty: Duty) -> SigningOrder {
    SigningOrder {
        validator: KEY.parse().unwrap(),
        fork_version: ForkVersion([version, 0, 0, 0]),
        genesis_validators_root: MAINNET.parse().unwrap(),
        duty,
    }
}

fn attestation() -> Duty {
    Duty::Attestation(AttestationData {
        slot: Slot(13_500_000),
        index: 0,
        beacon_block_root: BLOCK.parse().unwrap(),
        source: Checkpoint {
            epoch: Epoch(421_874),
            root: "0x41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d"
                .parse()
                .unwrap(),
        },
        target: Checkpoint {
            epoch: Epoch(421_875),
            root: "0x34a04005bcaf206eec990bd9637d9fdb6725e0a0c0d4aebf003f17f4c956eb5c"
                .parse()
                .unwrap(),
        },
    })
}

fn header() -> Duty {
    Duty::Block(BeaconBlockHeader {
        slot: Slot(13_500_000),
        proposer_index: 1_234_567,
        parent_root: "0xe47125968b3b71049fbc4802d1e40a71ea1359decfabacf70b34588037d4ff0c"
            .parse()
            .unwrap(),
        state_root: "0x4ba69735ca53765ed6a709edb56c6ea236b7193a3b29a6b390c346f0f4340e4e"
            .parse()
            .unwrap(),
        body_root: "0x230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
            .parse()
            .unwrap(),
    })
}

fn check(version: u8, duty: Duty, root: &str) {
    assert_eq!(order(version, duty).signing_root().to_string(), root);
}

fn wallet() -> Address {
    Address([0x5a; 20])
}

#[test]
fn a_root_that_is_remembered_is_that_of_the_same_message_and_of_no_other() {
    let first = order(6, attestation());
    let others = [
        SigningOrder {
            validator: PublicKey([7; 48]),
            ..first.clone()
        },
        order(7, attestation()),
        SigningOrder {
            genesis_validators_root: Root([7; 32]),
            ..first.clone()
        },
        order(6, header()),
        order(6, Duty::AggregationSlot(Slot(13_500_000))),
        order(6, Duty::AggregationSlot(Slot(13_500_001))),
    ];
    let mut roots = SigningRoots::default();
    for other in &others {
        for order in [&first, &first, other, other, &first] {
            assert_eq!(roots.of(order), order.signing_root());
        }
    }
    assert_eq!(others[0].signing_root(), first.signing_root());
}

#[test]
fn roots_agree_with_other_implementations() {
    check(
        6,
        attestation(),
        "0x436f9bfe6caee7ccd8034911e14600692a10eeab26b15500759692bfedaeb199",
    );
    check(
        6,
        header(),
        "0x92cd4470462767722146c8fc3842d797cb7083eb5a5031c8657c9ba3bb90b1a6",
    );
    check(
        6,
        Duty::AggregationSlot(Slot(13_500_000)),
        "0x5f5a1b184518b8011674b3f41e6a5b82b448a9feb5a3d35854b4059774e9a204",
    );
    check(
        6,
        Duty::RandaoReveal(Epoch(421_875)),
        "0x74ef45d319fb7d5cc4479a74e9b5880ec4de2accfdae50111e84dc1952ac4c81",
    );
    check(
        6,
        Duty::SyncCommitteeMessage(BLOCK.parse().unwrap()),
        "0x893f8eefd47174786cd0b292d12486ba84dd174e54891f389ffe5eff2388056e",
    );
    check(
        6,
        Duty::SyncCommitteeSelectionProof(SyncAggregatorSelectionData {
            slot: Slot(13_500_000),
            subcommittee_index: 2,
        }),
        "0x3092e759dca220cce3766afd3bd7a5b00e679fc020cc058bf4d6b2568cb31162",
    );
    check(
        3,
        Duty::VoluntaryExit(VoluntaryExit {
            epoch: Epoch(421_875),
            validator_index: 123_456,
        }),
        "0xc3b4956a788fd373332e5c3e10f5805997191d28f05c13d74182b47da74d3655",
    );
}

#[test]
fn roots_without_a_chain_agree_with_other_implementations() {
    let mut credentials = [0; 32];
    credentials[0] = 1;
    credentials[12..].fill(0x5a);
    check(
        0,
        Duty::Deposit(DepositMessage {
            pubkey: KEY.parse().unwrap(),
            withdrawal_credentials: Root(credentials),
            amount: 32_000_000_000,
        }),
        "0x8a72bdce0c9056ffb955d0cd0f37c2029c18974568a2612ae188592df17dba1f",
    );
    check(
        0,
        Duty::ValidatorRegistration(ValidatorRegistration {
            fee_recipient: wallet(),
            gas_limit: 60_000_000,
            timestamp: 1_767_225_600,
            pubkey: KEY.parse().unwrap(),
        }),
        "0x0eaf8be1abbad43a342902ffc814c2a8b69597f9f8d5412cc8db3ae7ee06f22a",
    );
    check(
        0,
        Duty::BuilderRequestAuth(
            BuilderRequestAuth::new(b"auth".to_vec(), Slot(16_000_032)).unwrap(),
        ),
        "0xeb76af2b5a661a518892882534d975dbcce7378b85c32018b07891ab386cb5df",
    );
}

#[test]
fn gloas_roots_agree_with_other_implementations() {
    check(
        7,
        Duty::PayloadAttestation(PayloadAttestationData {
            beacon_block_root: "0xd216c58b9b5653899d56e2e3ca939532075ada5d02a9db2cdbd78968a523dd32"
                .parse()
                .unwrap(),
            slot: Slot(16_000_032),
            payload_present: true,
            blob_data_available: true,
        }),
        "0x56355b4ae0547b88fa59ee462e6f1c8cd9680ed3346207af2918e86385ab8e59",
    );
    check(
        7,
        Duty::ProposerPreferences(ProposerPreferences {
            dependent_root: "0x8ce3e71ef8635d2bf27913bb680d7f88ad0238ea42c779c4b30f4e587d07da8e"
                .parse()
                .unwrap(),
            proposal_slot: Slot(16_000_064),
            validator_index: 123_456,
            fee_recipient: wallet(),
            target_gas_limit: 60_000_000,
        }),
        "0x145e9919879a0cf48db7142bc808be3e81b876bab46aa3ad2bfe63c6b668f042",
    );
}

#[test]
fn slashable_domains_always_have_a_claim() {
    for duty in [attestation(), header()] {
        assert!(duty.claim().is_some());
        assert!(order(6, duty).permit_without_claim().is_err());
    }
    let slashable = [DomainType::BEACON_ATTESTER, DomainType::BEACON_PROPOSER];
    let root = Root([7; 32]);
    for duty in [
        Duty::RandaoReveal(Epoch(1)),
        Duty::AggregationSlot(Slot(1)),
        Duty::AggregateAndProof(root),
        Duty::SyncCommitteeMessage(root),
        Duty::SyncCommitteeContributionAndProof(root),
        Duty::ExecutionPayload(root),
    ] {
        assert!(!slashable.contains(&duty.domain_type()), "{duty:?}");
        assert!(order(6, duty).permit_without_claim().is_ok());
    }
}

#[test]
fn request_auth_data_is_1_to_4096_bytes() {
    for (length, taken) in [(0, false), (1, true), (4096, true), (4097, false)] {
        assert_eq!(
            BuilderRequestAuth::new(vec![0; length], Slot(0)).is_ok(),
            taken,
            "{length}"
        );
    }
}
