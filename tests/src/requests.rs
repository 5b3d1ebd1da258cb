//! Requests that tests make up: small, valid, and different where asked to be.

use serde_json::{Value, json};

use crate::vectors::NetworkLabel;

fn fork_info(chain: &str) -> Value {
    json!({
        "fork": {
            "previous_version": "0x05000000",
            "current_version": "0x06000000",
            "epoch": "411392",
        },
        "genesis_validators_root": chain,
    })
}

/// 32 bytes, made of one number.
#[must_use]
pub fn root(number: u64) -> String {
    format!("0x{number:064x}")
}

/// An attestation from `source` to `target`; `message` makes the head, so that different numbers make
/// different messages for one duty.
#[must_use]
pub fn attestation(source: u64, target: u64, message: u64) -> Value {
    attestation_on(
        NetworkLabel::Mainnet.genesis_validators_root(),
        source,
        target,
        message,
    )
}

/// An attestation on a chain.
#[must_use]
pub fn attestation_on(chain: &str, source: u64, target: u64, message: u64) -> Value {
    json!({
        "type": "ATTESTATION",
        "fork_info": fork_info(chain),
        "attestation": {
            "slot": (target * 32).to_string(),
            "index": "0",
            "beacon_block_root": root(message),
            "source": {"epoch": source.to_string(), "root": root(1)},
            "target": {"epoch": target.to_string(), "root": root(2)},
        },
    })
}

/// A block at `slot`; `message` makes its body.
#[must_use]
pub fn block(slot: u64, message: u64) -> Value {
    json!({
        "type": "BLOCK_V2",
        "fork_info": fork_info(NetworkLabel::Mainnet.genesis_validators_root()),
        "beacon_block": {
            "version": "FULU",
            "block_header": {
                "slot": slot.to_string(),
                "proposer_index": "7",
                "parent_root": root(1),
                "state_root": root(2),
                "body_root": root(message),
            },
        },
    })
}

/// A RANDAO reveal, which cannot be slashed.
#[must_use]
pub fn randao(epoch: u64) -> Value {
    json!({
        "type": "RANDAO_REVEAL",
        "fork_info": fork_info(NetworkLabel::Mainnet.genesis_validators_root()),
        "randao_reveal": {"epoch": epoch.to_string()},
    })
}
