//! A signing request's body: whatever is taken is one order, with one root, however it is written.

use std::sync::LazyLock;

use daemon::network::{Fork, Network};
use duty::{Checkpoint, Duty, PublicKey, SigningOrder};
use serde_json::{Value, json};
use signer_api::web3signer::{self, BadRequest, SigningRequest, kind_of, likely_kind};

use super::{Reached, oracle};
use crate::network::MINIMAL_CONFIG;

const VALIDATOR: PublicKey = PublicKey([7; 48]);

/// Bytes of a refusal's text at most: of what a client sent it repeats little.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// Mainnet with an epoch for Gloas, and a minimal chain: the sizes of containers differ.
static NETWORKS: LazyLock<[Network; 2]> = LazyLock::new(|| {
    [
        Network::preset("mainnet").unwrap(),
        Network::from_config_yaml(MINIMAL_CONFIG).unwrap(),
    ]
});

/// Holds for `data` as the body of a request: no panic; a refusal says little; the type that is read
/// before all else is the one that is found in the whole body; and of what is taken
/// - the root is the order's, computed a second time by other code;
/// - the same JSON, written anew, is the same order, and so is the order itself, written as a request;
/// - with that root beside it it is taken, with any other refused.
pub fn property(data: &[u8]) -> Reached {
    let taken = NETWORKS.each_ref().map(|network| holds_on(data, network));
    taken.into_iter().max().unwrap()
}

fn holds_on(data: &[u8], network: &Network) -> Reached {
    let taken = match parse(data, VALIDATOR, network) {
        Ok(taken) => taken,
        Err(refused) => {
            let message = refused.to_string();
            assert!(message.len() < MESSAGE_BYTES_MAX, "{message}");
            return Reached::Refused;
        }
    };
    assert_eq!(taken.root, taken.order.signing_root());
    assert_eq!(taken.root.0, oracle::signing_root(&taken.order));
    assert_eq!(taken.order.validator, VALIDATOR);
    // Members that nobody asked for may hold what this JSON library does not.
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        written_anew(&value, &taken, network);
    }
    if let Some(request) = as_request(&taken.order, network) {
        let again = parse_value(&request, network).unwrap();
        assert_eq!(again.order, taken.order, "{request}");
    }
    Reached::Taken
}

/// Parses a body, and holds the ways of reading its type against each other: where the quick one says
/// another than the slow one, or anything where that says nothing, the body is refused.
fn parse(
    body: &[u8],
    validator: PublicKey,
    network: &Network,
) -> Result<SigningRequest, BadRequest> {
    let parsed = web3signer::parse(body, validator, network);
    let (likely, kind) = (likely_kind(body), kind_of(body));
    assert!(kind.is_none() || likely == kind, "{likely:?}, {kind:?}");
    match &parsed {
        Ok(taken) => assert_eq!((likely, kind), (Some(taken.kind), Some(taken.kind))),
        Err(BadRequest::UnknownType(_)) => assert_eq!((likely, kind), (None, None)),
        Err(_) => {}
    }
    parsed
}

/// The order that a body is on one of the networks: for seeds.
pub(super) fn order_of(body: &[u8]) -> Option<SigningOrder> {
    let mut networks = NETWORKS.iter();
    networks.find_map(|network| Some(parse(body, VALIDATOR, network).ok()?.order))
}

fn parse_value(value: &Value, network: &Network) -> Result<SigningRequest, BadRequest> {
    parse(value.to_string().as_bytes(), VALIDATOR, network)
}

fn written_anew(value: &Value, taken: &SigningRequest, network: &Network) {
    assert_eq!(parse_value(value, network).as_ref(), Ok(taken), "{value}");
    for body in type_elsewhere(value) {
        let parsed = parse(body.as_bytes(), VALIDATOR, network);
        assert_eq!(parsed.as_ref(), Ok(taken), "{body}");
    }
    let mut rooted = value.clone();
    rooted.as_object_mut().unwrap().remove("signing_root");
    rooted["signingRoot"] = json!(taken.root);
    assert_eq!(
        parse_value(&rooted, network).as_ref(),
        Ok(taken),
        "{rooted}"
    );
    // Without a root, only the likely shape of an object is looked at.
    let mut unrooted = rooted.clone();
    unrooted.as_object_mut().unwrap().remove("signingRoot");
    let is_likely = parse_value(&unrooted, network).is_ok();
    for at in [0, 31] {
        let mut other = taken.root;
        other.0[at] ^= 1;
        for name in ["signingRoot", "signing_root"] {
            let mut wrong = rooted.clone();
            wrong[name] = json!(other);
            let refused = parse_value(&wrong, network).unwrap_err();
            let is_mismatch = matches!(refused, BadRequest::RootMismatch { .. });
            assert!(is_mismatch || !is_likely, "{refused}: {wrong}");
        }
    }
}

/// The same with the type before all else, as clients write it, and behind all else.
fn type_elsewhere(value: &Value) -> [String; 2] {
    let mut rest = value.clone();
    let kind = rest.as_object_mut().unwrap().remove("type").unwrap();
    let rest = rest.to_string();
    let members = rest.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let comma = if members.is_empty() { "" } else { "," };
    [
        format!("{{\"type\":{kind}{comma}{members}}}"),
        format!("{{{members}{comma}\"type\":{kind}}}"),
    ]
}

/// An order as a request of its own; none for what is only a root, and for exits under a version that
/// does not say which version it came from.
fn as_request(order: &SigningOrder, network: &Network) -> Option<Value> {
    if let Duty::VoluntaryExit(_) = order.duty
        && network.fork_of_version(order.fork_version)? > Fork::Capella
    {
        return None;
    }
    let version = order.fork_version;
    let (kind, name, mut payload) = payload(&order.duty).or_else(|| newer_payload(&order.duty))?;
    if kind == "DEPOSIT" {
        payload["genesis_fork_version"] = json!(version);
    }
    let mut request = json!({
        "type": kind,
        "fork_info": {
            "fork": { "previous_version": version, "current_version": version, "epoch": "0" },
            "genesis_validators_root": order.genesis_validators_root,
        },
    });
    request[name] = payload;
    Some(request)
}

/// A type, the name of its payload's member, and the payload.
type Payload = (&'static str, &'static str, Value);

fn payload(duty: &Duty) -> Option<Payload> {
    let checkpoint = |it: &Checkpoint| json!({ "epoch": it.epoch.to_string(), "root": it.root });
    Some(match duty {
        Duty::Attestation(it) => {
            let payload = json!({
                "slot": it.slot.to_string(), "index": it.index.to_string(),
                "beacon_block_root": it.beacon_block_root,
                "source": checkpoint(&it.source), "target": checkpoint(&it.target),
            });
            ("ATTESTATION", "attestation", payload)
        }
        Duty::Block(it) => {
            let header = json!({
                "slot": it.slot.to_string(), "proposer_index": it.proposer_index.to_string(),
                "parent_root": it.parent_root, "state_root": it.state_root,
                "body_root": it.body_root,
            });
            let payload = json!({ "version": "FULU", "block_header": header });
            ("BLOCK_V2", "beacon_block", payload)
        }
        Duty::RandaoReveal(epoch) => {
            let payload = json!({ "epoch": epoch.to_string() });
            ("RANDAO_REVEAL", "randao_reveal", payload)
        }
        Duty::AggregationSlot(slot) => {
            let payload = json!({ "slot": slot.to_string() });
            ("AGGREGATION_SLOT", "aggregation_slot", payload)
        }
        Duty::SyncCommitteeMessage(root) => {
            let payload = json!({ "beacon_block_root": root, "slot": "0" });
            ("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", payload)
        }
        Duty::SyncCommitteeSelectionProof(it) => {
            let subcommittee = it.subcommittee_index.to_string();
            let payload =
                json!({ "slot": it.slot.to_string(), "subcommittee_index": subcommittee });
            let name = "sync_aggregator_selection_data";
            ("SYNC_COMMITTEE_SELECTION_PROOF", name, payload)
        }
        Duty::VoluntaryExit(it) => {
            let index = it.validator_index.to_string();
            let payload = json!({ "epoch": it.epoch.to_string(), "validator_index": index });
            ("VOLUNTARY_EXIT", "voluntary_exit", payload)
        }
        Duty::Deposit(it) => {
            let credentials = it.withdrawal_credentials;
            let amount = it.amount.to_string();
            let payload = json!({
                "pubkey": it.pubkey, "withdrawal_credentials": credentials, "amount": amount,
            });
            ("DEPOSIT", "deposit", payload)
        }
        _ => return None,
    })
}

/// Of Gloas, and what is said to builders.
fn newer_payload(duty: &Duty) -> Option<Payload> {
    let gloas = |data: Value| json!({ "version": "GLOAS", "data": data });
    Some(match duty {
        Duty::PayloadAttestation(it) => {
            let payload = gloas(json!({
                "beacon_block_root": it.beacon_block_root, "slot": it.slot.to_string(),
                "payload_present": it.payload_present,
                "blob_data_available": it.blob_data_available,
            }));
            let name = "payload_attestation_message";
            ("PAYLOAD_ATTESTATION_MESSAGE", name, payload)
        }
        Duty::ProposerPreferences(it) => {
            let payload = gloas(json!({
                "dependent_root": it.dependent_root,
                "proposal_slot": it.proposal_slot.to_string(),
                "validator_index": it.validator_index.to_string(),
                "fee_recipient": it.fee_recipient,
                "target_gas_limit": it.target_gas_limit.to_string(),
            }));
            ("PROPOSER_PREFERENCES", "proposer_preferences", payload)
        }
        Duty::BuilderRequestAuth(it) => {
            let bytes = const_hex::encode_prefixed(it.data());
            let payload = gloas(json!({ "data": bytes, "slot": it.slot.to_string() }));
            ("BUILDER_REQUEST_AUTH", "builder_request_auth", payload)
        }
        Duty::ValidatorRegistration(it) => {
            let payload = json!({
                "fee_recipient": it.fee_recipient, "gas_limit": it.gas_limit.to_string(),
                "timestamp": it.timestamp.to_string(), "pubkey": it.pubkey,
            });
            ("VALIDATOR_REGISTRATION", "validator_registration", payload)
        }
        Duty::Attestation(_)
        | Duty::Block(_)
        | Duty::RandaoReveal(_)
        | Duty::AggregationSlot(_)
        | Duty::SyncCommitteeMessage(_)
        | Duty::SyncCommitteeSelectionProof(_)
        | Duty::VoluntaryExit(_)
        | Duty::Deposit(_) => unreachable!("written above"),
        Duty::AggregateAndProof(_)
        | Duty::SyncCommitteeContributionAndProof(_)
        | Duty::ExecutionPayload(_) => return None,
    })
}
