//! The traps of what clients really send, by their numbers in our notes on clients.

use serde_json::{Value, json};

use super::{vectors::SELECTION, *};
use crate::web3signer::RequestKind;

/// A request of our own set: its network is the minimal one if its name says so.
pub(super) fn vector(kind: &str, fork: &str, shape: &str) -> (Value, Network, String) {
    let line = SELECTION
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["type"] == kind && line["fork"] == fork && line["shape"] == shape)
        .unwrap();
    let network = if line["preset"] == "mainnet" {
        mainnet()
    } else {
        minimal()
    };
    (
        line["request"].clone(),
        network,
        line["signing_root"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn trap_2_the_root_may_be_missing_and_is_computed_with_the_networks_versions() {
    let sepolia = Network::preset("sepolia").unwrap();
    for name in ["VALIDATOR_REGISTRATION", "BUILDER_REQUEST_AUTH"] {
        let request = unrooted(example(name));
        let order = ask(&request, &sepolia).unwrap().order;
        assert_eq!(order.fork_version, sepolia.genesis_fork_version());
        assert_ne!(root_of(&request, &sepolia), root_of(&request, &mainnet()));
    }
    let deposit = ask(&unrooted(example("DEPOSIT")), &sepolia).unwrap().order;
    assert_eq!(deposit.fork_version.to_string(), "0x00000000");
}

#[test]
fn trap_2_a_root_that_differs_is_refused_and_the_right_one_is_said() {
    let wrong = format!("0x{}", "11".repeat(32));
    for name in ["signingRoot", "signing_root"] {
        for kind in [
            "ATTESTATION",
            "BLOCK_V2",
            "DEPOSIT",
            "AGGREGATE_AND_PROOF_V2",
        ] {
            let mut request = unrooted(example(kind));
            let right = root_of(&request, &mainnet());
            request[name] = json!(wrong);
            let message = refusal(&request, &mainnet());
            assert!(
                message.starts_with(&format!("{name}: {wrong} is not")),
                "{message}"
            );
            assert!(message.contains(&right), "{message}");
        }
    }
    let mut both = example("ATTESTATION");
    both["signing_root"] = both["signingRoot"].clone();
    assert!(ask(&both, &mainnet()).is_ok());
    both["signing_root"] = json!(wrong);
    assert!(refusal(&both, &mainnet()).starts_with("signing_root: "));
}

/// An aggregate without a version, named as older clients name it.
fn flat(request: &Value) -> Value {
    let mut request = unrooted(request.clone());
    request["type"] = json!("AGGREGATE_AND_PROOF");
    request["aggregate_and_proof"] = request["aggregate_and_proof"]["data"].clone();
    request
}

#[test]
fn trap_5_a_v1_aggregate_gets_its_shape_from_the_forks_version() {
    for fork in ["electra", "fulu", "gloas"] {
        let (request, network, root) = vector("AGGREGATE_AND_PROOF_V2", fork, "standard");
        assert_eq!(root_of(&flat(&request), &network), root, "{fork}");
        let (request, network, root) = vector("AGGREGATE_AND_PROOF", fork, "v1-electra");
        assert_eq!(root_of(&unrooted(request), &network), root, "{fork}");
    }
}

#[test]
fn trap_5_a_version_decides_before_the_forks_version_and_the_schedule_comes_last() {
    let (request, network, gloas) = vector("AGGREGATE_AND_PROOF_V2", "gloas", "standard");
    let request = unrooted(request);
    let mut said = request.clone();
    said["aggregate_and_proof"]["version"] = json!("Electra");
    let electra = root_of(&said, &network);
    assert_ne!(electra, gloas);
    let mut unknown = flat(&request);
    unknown["fork_info"]["fork"]["current_version"] = json!("0xfefefefe");
    unknown["fork_info"]["fork"]["previous_version"] = json!("0xfdfdfdfd");
    let order = ask(&unknown, &network).unwrap().order;
    assert_eq!(order.duty, ask(&request, &network).unwrap().order.duty);
    unknown["aggregate_and_proof"]["aggregate"]["data"]["slot"] = json!("0");
    unknown["aggregate_and_proof"]["aggregate"]["aggregation_bits"] = json!("0x03");
    let phase0 = ask(&unknown, &network).unwrap().order.duty;
    let aggregate = unknown["aggregate_and_proof"]["aggregate"]
        .as_object_mut()
        .unwrap();
    aggregate.remove("committee_bits");
    assert_eq!(ask(&unknown, &network).unwrap().order.duty, phase0);
}

#[test]
fn trap_5_at_the_boundary_an_aggregate_of_the_slot_before_has_the_shape_of_the_fork_before() {
    let mut request = unrooted(example("AGGREGATE_AND_PROOF (legacy"));
    let fork = json!({
        "previous_version": "0x04000000", "current_version": "0x05000000", "epoch": "281250"
    });
    request["fork_info"]["fork"] = fork;
    // The first slot of that epoch is Electra's and lacks its committee bits; the one before is Deneb's.
    let slot = |request: &mut Value, slot: u64| {
        request["aggregate_and_proof"]["aggregate"]["data"]["slot"] = json!(slot);
    };
    slot(&mut request, 281_250 * 32);
    let message = refusal(&request, &mainnet());
    assert_eq!(
        message,
        "aggregate_and_proof.aggregate.committee_bits is missing"
    );
    slot(&mut request, 281_250 * 32 - 1);
    assert_eq!(
        ask(&request, &mainnet())
            .unwrap()
            .order
            .fork_version
            .to_string(),
        "0x04000000"
    );
}

#[test]
fn trap_5_a_root_proves_which_shape_the_client_meant() {
    for (fork, shape) in [
        ("deneb", "standard"),
        ("electra", "v1-electra"),
        ("gloas", "v1-electra"),
    ] {
        let (mut request, network, root) = vector("AGGREGATE_AND_PROOF", fork, shape);
        request.as_object_mut().unwrap().remove("signing_root");
        request["signingRoot"] = json!(root);
        let data = request["aggregate_and_proof"].clone();
        for said in ["PHASE0", "electra", "GLOAS", "HEZE"] {
            request["aggregate_and_proof"] = json!({"version": said, "data": data});
            assert_eq!(root_of(&request, &network), root, "{fork} sent as {said}");
        }
    }
}

#[test]
fn trap_6_an_exit_from_deneb_on_is_signed_for_capella_in_all_three_shapes_of_fork_info() {
    for fork in ["deneb", "electra", "fulu", "gloas"] {
        for shape in [
            "exit-capella-fork-info",
            "exit-capella-twice",
            "exit-current-fork-info",
        ] {
            let (request, network, root) = vector("VOLUNTARY_EXIT", fork, shape);
            let order = ask(&unrooted(request.clone()), &network).unwrap().order;
            assert_eq!(
                order.fork_version,
                network.capella_fork_version(),
                "{fork} {shape}"
            );
            assert_eq!(
                root_of(&unrooted(request), &network),
                root,
                "{fork} {shape}"
            );
        }
    }
}

#[test]
fn trap_6_the_requests_fork_decides_and_not_the_exits_epoch() {
    let mut request = unrooted(example("VOLUNTARY_EXIT"));
    request["voluntary_exit"]["epoch"] = json!("1");
    let versions = |previous: &str, current: &str, epoch: &str| {
        let mut request = request.clone();
        request["fork_info"]["fork"] =
            json!({"previous_version": previous, "current_version": current, "epoch": epoch});
        ask(&request, &mainnet())
            .unwrap()
            .order
            .fork_version
            .to_string()
    };
    assert_eq!(versions("0x03000000", "0x04000000", "269568"), "0x03000000");
    assert_eq!(versions("0x02000000", "0x03000000", "194048"), "0x03000000");
    assert_eq!(versions("0x03000000", "0x03000000", "500000"), "0x03000000");
    // Before Capella the usual rule.
    assert_eq!(versions("0x01000000", "0x02000000", "144896"), "0x01000000");
    assert_eq!(versions("0x01000000", "0x02000000", "1"), "0x02000000");
    // A version that the network does not have: the exit's own epoch.
    assert_eq!(versions("0x01000000", "0xfefefefe", "1"), "0xfefefefe");
    request["voluntary_exit"]["epoch"] = json!("269568");
    request["fork_info"]["fork"]["current_version"] = json!("0xfefefefe");
    let order = ask(&request, &mainnet()).unwrap().order;
    assert_eq!(order.fork_version.to_string(), "0x03000000");
}

#[test]
fn trap_7_the_forks_epoch_is_compared_with_the_messages_and_never_with_a_schedule() {
    for name in [
        "ATTESTATION",
        "BLOCK_V2 (FULU",
        "RANDAO_REVEAL",
        "SYNC_COMMITTEE_MESSAGE",
    ] {
        let mut request = unrooted(example(name));
        let right = root_of(&request, &mainnet());
        // Lodestar: the epoch of the signing slot.
        for epoch in ["0", "421874", "421875"] {
            request["fork_info"]["fork"]["epoch"] = json!(epoch);
            assert_eq!(root_of(&request, &mainnet()), right, "{name} {epoch}");
        }
        request["fork_info"]["fork"]["epoch"] = json!("421876");
        let order = ask(&request, &mainnet()).unwrap().order;
        assert_eq!(order.fork_version.to_string(), "0x05000000", "{name}");
    }
}

#[test]
fn trap_8_what_needs_no_fork_info_ignores_one_and_everything_else_needs_it() {
    let file: Value = serde_json::from_str(vectors::EXAMPLES).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let mut request = unrooted(case["request"].clone());
        let kind = RequestKind::from_name(request["type"].as_str().unwrap()).unwrap();
        let free = [
            RequestKind::Deposit,
            RequestKind::ValidatorRegistration,
            RequestKind::BuilderRequestAuth,
        ];
        if free.contains(&kind) {
            let zero = format!("0x{}", "00".repeat(32));
            let real = json!({
                "fork": {"previous_version": "0x05000000", "current_version": "0x06000000", "epoch": "1"},
                "genesis_validators_root": zero,
            });
            for fork_info in [real, json!(null), json!({}), json!("none")] {
                request["fork_info"] = fork_info;
                assert_eq!(
                    root_of(&request, &mainnet()),
                    case["signing_root"],
                    "{kind}"
                );
            }
        } else {
            for absent in [None, Some(json!(null))] {
                request.as_object_mut().unwrap().remove("fork_info");
                request
                    .as_object_mut()
                    .unwrap()
                    .extend(absent.map(|it| ("fork_info".into(), it)));
                assert_eq!(
                    refusal(&request, &mainnet()),
                    "fork_info is missing",
                    "{kind}"
                );
            }
        }
    }
}
