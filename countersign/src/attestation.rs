//! Attestations that the tool itself asks for: quickstart's demonstration and bench's load.

use daemon::network::Network;
use duty::{
    AttestationData, Checkpoint, Duty, Epoch, PublicKey, Root, SigningOrder, SigningRoot, Slot,
};
use serde_json::{Value, json};

/// One attestation of one validator, as a request for a signer and as the order behind it.
#[derive(Debug, Clone)]
pub struct Attestation {
    order: SigningOrder,
    data: AttestationData,
}

impl Attestation {
    /// A vote of `validator` from `source` to `target` in the target epoch's first slot, under the
    /// network's latest scheduled fork at that epoch. `salt` makes the block root; equal salts make
    /// equal votes.
    #[must_use]
    pub fn new(
        network: &Network,
        genesis_validators_root: Root,
        validator: PublicKey,
        (source, target): (Epoch, Epoch),
        salt: u64,
    ) -> Self {
        let root = |kind: u8, number: u64| {
            let mut bytes = [kind; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            Root(bytes)
        };
        let data = AttestationData {
            slot: Slot(target.0.saturating_mul(network.slots_per_epoch())),
            index: 0,
            beacon_block_root: root(0xb1, salt),
            source: Checkpoint {
                epoch: source,
                root: root(0x50, source.0),
            },
            target: Checkpoint {
                epoch: target,
                root: root(0x7a, target.0),
            },
        };
        let order = SigningOrder {
            validator,
            fork_version: network.version_at(target),
            genesis_validators_root,
            duty: Duty::Attestation(data.clone()),
        };
        Self { order, data }
    }

    /// The validator's key.
    #[must_use]
    pub const fn validator(&self) -> PublicKey {
        self.order.validator
    }

    /// What the signature must cover.
    #[must_use]
    pub fn signing_root(&self) -> SigningRoot {
        self.order.signing_root()
    }

    /// The body to post, as a validator client sends it.
    #[must_use]
    pub fn request(&self) -> Value {
        let checkpoint = |checkpoint: &Checkpoint| json!({"epoch": checkpoint.epoch.to_string(), "root": checkpoint.root});
        json!({
            "type": "ATTESTATION",
            "signingRoot": self.signing_root(),
            "fork_info": {
                "fork": {
                    "previous_version": self.order.fork_version,
                    "current_version": self.order.fork_version,
                    "epoch": "0",
                },
                "genesis_validators_root": self.order.genesis_validators_root,
            },
            "attestation": {
                "slot": self.data.slot.to_string(),
                "index": self.data.index.to_string(),
                "beacon_block_root": self.data.beacon_block_root,
                "source": checkpoint(&self.data.source),
                "target": checkpoint(&self.data.target),
            },
        })
    }
}
