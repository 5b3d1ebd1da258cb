//! The contract's rules that are not about one member: types, versions, wrappings, bodies, sizes.

use serde_json::{Value, json};

use super::{traps::vector, *};
use crate::web3signer::{RequestKind, kind_of, likely_kind};

/// Where they differ, the body is refused.
#[test]
fn the_likely_type_is_the_type_wherever_it_stands() {
    let rest = r#""block":{"type":"BLOCK","s":"}"},"fork_info":null"#;
    for (body, likely, kind) in [
        (
            format!(r#"{{"type":"randao_reveal",{rest}}}"#),
            "RANDAO_REVEAL",
            "RANDAO_REVEAL",
        ),
        (
            format!(r#"{{{rest},"type":"DEPOSIT"}}"#),
            "DEPOSIT",
            "DEPOSIT",
        ),
        (
            format!(r#" {{"t\u0079pe" : "\u0042LOCK",{rest}}}"#),
            "BLOCK",
            "BLOCK",
        ),
        (format!(r#"{{{rest}}}"#), "", ""),
        (r#"{"type":"NONE"}"#.to_owned(), "", ""),
        (r#"{"type":null}"#.to_owned(), "", ""),
        (r#"{"type":["BLOCK"]}"#.to_owned(), "", ""),
        (r#"["type","BLOCK"]"#.to_owned(), "", ""),
        (String::new(), "", ""),
        // These are refused, whatever their type is thought to be.
        (r#"{"type":"BLOCK","type":"BLOCK"}"#.to_owned(), "BLOCK", ""),
        (r#"{"type":"BLOCK","#.to_owned(), "BLOCK", ""),
        (r#"{"type":"BLOCK"} x"#.to_owned(), "BLOCK", ""),
    ] {
        let named = |kind: Option<RequestKind>| kind.map_or("", RequestKind::name);
        assert_eq!(named(likely_kind(body.as_bytes())), likely, "{body}");
        assert_eq!(named(kind_of(body.as_bytes())), kind, "{body}");
        if likely != kind {
            let parsed = parse(body.as_bytes(), PublicKey([7; 48]), &mainnet());
            assert!(parsed.is_err(), "{body}");
        }
    }
}

#[test]
fn a_type_is_known_in_any_letter_case_and_by_its_older_names() {
    let mut request = example("ATTESTATION");
    for name in ["attestation", "Attestation", "aTTESTATION"] {
        request["type"] = json!(name);
        assert_eq!(
            ask(&request, &mainnet()).unwrap().kind,
            RequestKind::Attestation
        );
    }
    for (name, older, member, older_member) in [
        (
            "PAYLOAD_ATTESTATION_MESSAGE",
            "payload_attestation",
            "payload_attestation_message",
            "payload_attestation",
        ),
        (
            "BUILDER_REQUEST_AUTH",
            "Request_Auth",
            "builder_request_auth",
            "request_auth",
        ),
    ] {
        let today = example(name);
        let root = root_of(&today, &mainnet());
        for kind in [name, older] {
            for stands in [member, older_member] {
                for wrapped in [true, false] {
                    let mut request = today.clone();
                    let payload = request.as_object_mut().unwrap().remove(member).unwrap();
                    request[stands] = if wrapped {
                        payload
                    } else {
                        payload["data"].clone()
                    };
                    request["type"] = json!(kind);
                    let parsed = ask(&request, &mainnet()).unwrap();
                    assert_eq!(parsed.root.to_string(), root);
                    assert_eq!(parsed.kind.name(), name);
                }
            }
        }
    }
}

#[test]
fn gloas_payloads_are_taken_wrapped_and_bare() {
    for kind in [
        "PROPOSER_PREFERENCES",
        "EXECUTION_PAYLOAD_BID",
        "PAYLOAD_ATTESTATION_MESSAGE",
    ] {
        let mut request = unrooted(example(kind));
        let root = root_of(&request, &mainnet());
        let member = kind.to_lowercase();
        request[&member] = request[&member]["data"].clone();
        assert_eq!(root_of(&request, &mainnet()), root, "{kind}");
        request[&member]["version"] = json!("gloas");
        assert_eq!(root_of(&request, &mainnet()), root, "{kind}");
    }
}

#[test]
fn a_fork_that_is_not_known_is_named_unless_a_root_confirms_gloas_shape() {
    for kind in [
        "PROPOSER_PREFERENCES",
        "EXECUTION_PAYLOAD_BID",
        "BUILDER_REQUEST_AUTH",
        "AGGREGATE_AND_PROOF_V2 (GLOAS",
    ] {
        let mut request = example(kind);
        let member = match kind.strip_suffix("_V2 (GLOAS") {
            Some(kind) => kind.to_lowercase(),
            None => kind.to_lowercase(),
        };
        request[&member]["version"] = json!("HEZE");
        assert!(ask(&request, &mainnet()).is_ok(), "{kind}");
        let message = refusal(&unrooted(request.clone()), &mainnet());
        assert!(
            message.starts_with(&format!("{member}.version: \"HEZE\"")),
            "{message}"
        );
        request["signingRoot"] = json!(format!("0x{}", "11".repeat(32)));
        assert!(refusal(&request, &mainnet()).contains("HEZE"));
    }
}

#[test]
fn a_blocks_version_is_in_upper_case_and_decides_what_stands_beside_it() {
    let header = example("BLOCK_V2 (FULU");
    let full = example("BLOCK_V2 (ALTAIR");
    let with = |request: &Value, version: Value| {
        let mut request = unrooted(request.clone());
        request["beacon_block"]["version"] = version;
        request
    };
    for version in ["BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU", "GLOAS"] {
        assert!(ask(&with(&header, json!(version)), &mainnet()).is_ok());
        let message = refusal(&with(&full, json!(version)), &mainnet());
        assert_eq!(message, "beacon_block.block_header is missing");
    }
    for version in ["PHASE0", "ALTAIR"] {
        assert!(ask(&with(&full, json!(version)), &mainnet()).is_ok());
        let message = refusal(&with(&header, json!(version)), &mainnet());
        assert_eq!(message, "beacon_block.block is missing");
    }
    for version in ["fulu", "Fulu", "HEZE", ""] {
        let message = refusal(&with(&header, json!(version)), &mainnet());
        assert!(message.starts_with("beacon_block.version: "), "{message}");
        assert!(message.contains(version), "{message}");
    }
    let mut both = unrooted(header);
    both["beacon_block"]["block"] = full["beacon_block"]["block"].clone();
    assert!(refusal(&both, &mainnet()).starts_with("beacon_block: has both"));
}

#[test]
fn a_payload_of_another_type_is_ignored_if_it_parses_and_named_if_not() {
    let mut request = example("ATTESTATION");
    let root = root_of(&request, &mainnet());
    request["randao_reveal"] = json!({"epoch": "5"});
    request["block"] = json!(null);
    request["aggregate_and_proof"] =
        example("AGGREGATE_AND_PROOF_V2")["aggregate_and_proof"].clone();
    assert_eq!(root_of(&request, &mainnet()), root);
    for (member, broken, path) in [
        (
            "randao_reveal",
            json!({"epoch": "x"}),
            "randao_reveal.epoch: ",
        ),
        ("randao_reveal", json!({}), "randao_reveal.epoch is missing"),
        (
            "block",
            json!({"slot": "1"}),
            "block.proposer_index is missing",
        ),
        ("beacon_block", json!({}), "beacon_block.version is missing"),
        (
            "proposer_preferences",
            json!({"version": "GLOAS"}),
            "proposer_preferences.data is missing",
        ),
    ] {
        let mut request = request.clone();
        request[member] = broken;
        let message = refusal(&request, &mainnet());
        assert!(message.starts_with(path), "{message}");
    }
}

#[test]
fn what_is_no_request_at_all_is_refused_in_words() {
    let network = mainnet();
    let said = |body: &[u8]| {
        parse(body, PublicKey([7; 48]), &network)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(said(b""), "the body is empty");
    assert_eq!(said(b" \r\n\t"), "the body is empty");
    assert_eq!(said(b"{\"type\":\"\xff\"}"), "the body is not UTF-8");
    for body in [
        "{",
        "nope",
        "{\"type\":\"ATTESTATION\"} trailing",
        "{'type':1}",
        "{\"a\":1,}",
    ] {
        assert!(
            said(body.as_bytes()).starts_with("the body is not JSON: "),
            "{body}"
        );
    }
    for body in [
        "[]",
        "5",
        "null",
        "\"ATTESTATION\"",
        "[{\"type\":\"ATTESTATION\"}]",
    ] {
        let message = said(body.as_bytes());
        assert!(
            message.starts_with("the body: ") && message.contains("an object"),
            "{message}"
        );
    }
    assert_eq!(said(b"{}"), "type is missing");
    assert_eq!(said(b"{\"type\":null}"), "type is missing");
    assert!(said(b"{\"type\":3}").starts_with("type: "));
    assert_eq!(
        said(b"{\"type\":\"BLS_TO_EXECUTION_CHANGE\",\"BLS_TO_EXECUTION_CHANGE\":{}}"),
        "type: \"BLS_TO_EXECUTION_CHANGE\" is not known"
    );
    assert!(said(b"{\"type\":\"A\",\"type\":\"B\"}").contains("duplicate"));
    let long = format!("{{\"type\":\"{}\"}}", "ä".repeat(100_000));
    assert!(said(long.as_bytes()).len() < 1_000);
}

#[test]
fn bits_beyond_a_networks_sizes_are_refused_and_named() {
    let (mut request, network, _) = vector(
        "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF",
        "altair",
        "standard",
    );
    request = unrooted(request);
    request["contribution_and_proof"]["contribution"]["aggregation_bits"] = json!("0xffff");
    let message = refusal(&request, &network);
    assert!(message.starts_with("contribution_and_proof.contribution.aggregation_bits: "));

    let mut request = unrooted(example("AGGREGATE_AND_PROOF_V2 (FULU"));
    for (member, bits, taken) in [
        (
            "aggregation_bits",
            format!("0x{}01", "ff".repeat(131_072 / 8)),
            true,
        ),
        (
            "aggregation_bits",
            format!("0x{}02", "ff".repeat(131_072 / 8)),
            false,
        ),
        ("aggregation_bits", "0x00".to_owned(), false),
        ("aggregation_bits", "0x".to_owned(), false),
        ("aggregation_bits", "0x01".to_owned(), true),
        ("committee_bits", "0x08".to_owned(), false),
        ("committee_bits", "0x080000000000000000".to_owned(), false),
    ] {
        let path = format!("/aggregate_and_proof/data/aggregate/{member}");
        let kept = request.pointer(&path).unwrap().clone();
        *request.pointer_mut(&path).unwrap() = json!(bits);
        match ask(&request, &mainnet()) {
            Ok(_) => assert!(taken, "{bits}"),
            Err(error) => {
                let path = format!("aggregate_and_proof.data.aggregate.{member}: ");
                assert!(!taken && error.to_string().starts_with(&path), "{error}");
            }
        }
        *request.pointer_mut(&path).unwrap() = kept;
    }
}

#[test]
fn lists_of_a_block_have_their_limits() {
    let mut request = unrooted(example("BLOCK ("));
    let exit = json!({
        "message": {"epoch": "1", "validator_index": "2"},
        "signature": format!("0x{}", "00".repeat(96)),
    });
    request["block"]["body"]["voluntary_exits"] = json!(vec![exit.clone(); 16]);
    assert!(ask(&request, &mainnet()).is_ok());
    request["block"]["body"]["voluntary_exits"] = json!(vec![exit; 17]);
    assert!(refusal(&request, &mainnet()).starts_with("block.body.voluntary_exits: "));
}

#[test]
fn two_roots_that_contradict_each_other_confirm_no_shape() {
    let mut request = example("AGGREGATE_AND_PROOF_V2 (GLOAS");
    request["signing_root"] = request["signingRoot"].clone();
    request["aggregate_and_proof"]["version"] = json!("FULU");
    assert!(ask(&request, &mainnet()).is_ok());
    request["signing_root"] = json!(root_of(&unrooted(request.clone()), &mainnet()));
    assert!(refusal(&request, &mainnet()).contains("is not the signing root"));
}

#[test]
fn a_payload_with_version_and_data_is_wrapped_whatever_stands_beside_them() {
    let mut request = unrooted(example("AGGREGATE_AND_PROOF_V2 (FULU"));
    let root = root_of(&request, &mainnet());
    request["aggregate_and_proof"]["aggregator_index"] = json!("1");
    assert_eq!(root_of(&request, &mainnet()), root);
}

#[test]
fn a_base_fee_has_256_bits() {
    let (request, network, _) = vector("EXECUTION_PAYLOAD_ENVELOPE", "gloas", "gloas-wrapped");
    let place = "/execution_payload_envelope/data/payload/base_fee_per_gas";
    let taken = |fee: Value| {
        let mut request = unrooted(request.clone());
        *request.pointer_mut(place).unwrap() = fee;
        ask(&request, &network).is_ok()
    };
    let largest = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    assert!(taken(json!(largest)) && taken(json!("0")) && taken(json!(7)));
    assert!(!taken(json!(format!("{}6", &largest[..77]))));
    assert!(!taken(json!(format!("{largest}0"))) && !taken(json!("-1")) && !taken(json!("")));
}

#[test]
fn a_member_that_stands_twice_is_refused_and_named() {
    let body = unrooted(example("ATTESTATION")).to_string();
    for (once, twice, path) in [
        (
            "\"slot\":",
            "\"slot\":\"1\",\"slot\":",
            "attestation: duplicate field `slot`",
        ),
        (
            "\"root\":",
            "\"root\":\"0x\",\"root\":",
            "attestation.source: duplicate field `root`",
        ),
        (
            "\"type\":",
            "\"type\":\"BLOCK\",\"type\":",
            "the body: duplicate field `type`",
        ),
    ] {
        let body = body.replacen(once, twice, 1);
        let error = parse(body.as_bytes(), PublicKey([7; 48]), &mainnet()).unwrap_err();
        assert_eq!(error.to_string(), path);
    }
}

#[test]
fn a_members_name_may_be_written_with_escapes() {
    let body = example("ATTESTATION").to_string();
    let escaped = body.replace("\"attestation\"", "\"\\u0061ttestation\"");
    let escaped = escaped
        .replace("\"target\"", "\"t\\u0061rget\"")
        .replace("\"0x", "\"\\u0030x");
    assert_ne!(escaped, body);
    assert!(parse(escaped.as_bytes(), PublicKey([7; 48]), &mainnet()).is_ok());
}
