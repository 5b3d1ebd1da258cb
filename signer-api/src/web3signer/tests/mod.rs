//! Requests against roots that other implementations computed, and what is wrong with bad ones.

mod bits;
mod mutations;
mod properties;
mod replies;
mod rules;
mod traps;
mod vectors;

use daemon::network::Network;
use duty::PublicKey;
use serde_json::Value;

use super::{BadRequest, SigningRequest, parse};

/// The chain of mainnet's vectors: mainnet with an epoch for Gloas.
fn mainnet() -> Network {
    chain(
        "mainnet",
        "000000",
        [
            0, 74_240, 144_896, 194_048, 269_568, 364_032, 411_392, 500_000,
        ],
    )
}

/// The chains of the minimal preset's vectors, and of the captured requests.
fn minimal() -> Network {
    chain("minimal", "000001", [0, 10, 20, 30, 40, 50, 60, 70])
}

fn chain(preset: &str, suffix: &str, epochs: [u64; 8]) -> Network {
    use std::fmt::Write as _;
    let names = [
        "GENESIS",
        "ALTAIR",
        "BELLATRIX",
        "CAPELLA",
        "DENEB",
        "ELECTRA",
        "FULU",
        "GLOAS",
    ];
    let mut text = format!("PRESET_BASE: {preset}\nSECONDS_PER_SLOT: 12\n");
    for (at, (name, epoch)) in names.into_iter().zip(epochs).enumerate() {
        writeln!(
            text,
            "{name}_FORK_VERSION: 0x0{at}{suffix}\n{name}_FORK_EPOCH: {epoch}"
        )
        .unwrap();
    }
    Network::from_config_yaml(&text).unwrap()
}

fn ask(body: &Value, network: &Network) -> Result<SigningRequest, BadRequest> {
    parse(body.to_string().as_bytes(), PublicKey([7; 48]), network)
}

/// The worked example of that name in the wire contract.
fn example(name: &str) -> Value {
    let file: Value = serde_json::from_str(vectors::EXAMPLES).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let case = cases
        .iter()
        .find(|case| case["name"].as_str().unwrap().starts_with(name))
        .unwrap();
    case["request"].clone()
}

/// That request without its signing root: what is left has to be enough.
fn unrooted(mut request: Value) -> Value {
    let members = request.as_object_mut().unwrap();
    members.remove("signingRoot");
    members.remove("signing_root");
    request
}

/// The root of a request that can be signed.
fn root_of(request: &Value, network: &Network) -> String {
    match ask(request, network) {
        Ok(parsed) => {
            assert_eq!(parsed.root, parsed.order.signing_root());
            parsed.root.to_string()
        }
        Err(error) => panic!("{error}: {request}"),
    }
}

/// The message of a request that cannot.
fn refusal(request: &Value, network: &Network) -> String {
    match ask(request, network) {
        Ok(parsed) => panic!("{} was taken: {request}", parsed.kind),
        Err(error) => error.to_string(),
    }
}
