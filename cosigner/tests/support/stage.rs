//! A cosigner with one share, orders for it, and what it answers.

use std::path::PathBuf;

use duty::{
    AttestationData, BeaconBlockHeader, Checkpoint, Duty, Epoch, ForkVersion, PublicKey, Root,
    SigningOrder, Slot,
};
use keyshare::Split;
use threshold::{Ballot, Committee, PartialSignature};
use tonic::transport::Channel;
use wire::proto::{
    PromiseItem, Promised, SignItem, cosigner_client::CosignerClient,
    promise_outcome::Outcome as Promise, refusal::Reason, sign_outcome::Outcome as Sign,
};

use super::{
    Home, SIGNER, errors, index, new_key, package_of,
    running::{Running, ready},
};

pub(crate) const MAINNET: &str =
    "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95";

pub(crate) fn order(validator: PublicKey, duty: Duty) -> SigningOrder {
    SigningOrder {
        validator,
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: MAINNET.parse().unwrap(),
        duty,
    }
}

pub(crate) fn attestation(
    validator: PublicKey,
    source: u64,
    target: u64,
    block: u8,
) -> SigningOrder {
    let checkpoint = |epoch| Checkpoint {
        epoch: Epoch(epoch),
        root: Root([9; 32]),
    };
    let data = AttestationData {
        slot: Slot(target.saturating_mul(32)),
        index: 0,
        beacon_block_root: Root([block; 32]),
        source: checkpoint(source),
        target: checkpoint(target),
    };
    order(validator, Duty::Attestation(data))
}

pub(crate) fn block(validator: PublicKey, slot: u64) -> SigningOrder {
    let root = Root([3; 32]);
    let header = BeaconBlockHeader {
        slot: Slot(slot),
        proposer_index: 1,
        parent_root: root,
        state_root: root,
        body_root: root,
    };
    order(validator, Duty::Block(header))
}

pub(crate) fn randao(validator: PublicKey) -> SigningOrder {
    order(validator, Duty::RandaoReveal(Epoch(1)))
}

pub(crate) fn ballot(round: u64, order: &SigningOrder) -> Option<wire::proto::Ballot> {
    Some(wire::ballot_to_proto(&Ballot {
        round,
        root: order.signing_root(),
    }))
}

pub(crate) fn to_promise(round: u64, order: &SigningOrder) -> PromiseItem {
    PromiseItem {
        order: Some(wire::order_to_proto(order)),
        ballot: ballot(round, order),
    }
}

pub(crate) fn to_sign(round: u64, order: &SigningOrder) -> SignItem {
    SignItem {
        order: Some(wire::order_to_proto(order)),
        ballot: ballot(round, order),
        lead: 0,
    }
}

/// For a duty that cannot be slashed.
pub(crate) fn at_once(order: &SigningOrder) -> SignItem {
    SignItem {
        order: Some(wire::order_to_proto(order)),
        ballot: None,
        lead: 0,
    }
}

pub(crate) const FREE: Promise = Promise::Promised(Promised { signed: Vec::new() });

pub(crate) fn signed(order: &SigningOrder) -> Promise {
    Promise::Promised(Promised {
        signed: order.signing_root().0.to_vec(),
    })
}

pub(crate) fn promise_reason(outcome: &Promise) -> Option<Reason> {
    match outcome {
        Promise::Refused(refusal) => Some(refusal.reason()),
        Promise::Promised(_) | Promise::Outbid(_) => None,
    }
}

pub(crate) fn sign_reason(outcome: &Sign) -> Option<Reason> {
    match outcome {
        Sign::Refused(refusal) => Some(refusal.reason()),
        Sign::Partial(_) | Sign::Scaled(_) | Sign::Outbid(_) => None,
    }
}

/// The partial, which must be valid for the order.
pub(crate) fn partial(
    committee: &Committee,
    order: &SigningOrder,
    outcome: &Sign,
) -> PartialSignature {
    let partial = match outcome {
        Sign::Partial(point) => wire::plain_partial_from_proto(point).unwrap(),
        Sign::Scaled(scaled) => wire::scaled_partial_from_proto(scaled).unwrap(),
        Sign::Outbid(_) | Sign::Refused(_) => panic!("{outcome:?}"),
    };
    committee
        .verify_partial(index(1), order.signing_root(), &partial)
        .unwrap();
    partial
}

/// A cosigner with one share.
pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) config: PathBuf,
    pub(crate) committee: Committee,
    pub(crate) validator: PublicKey,
    pub(crate) share: Vec<u8>,
}

impl Stage {
    pub(crate) fn new(change: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let config = home.config(change);
        let split = new_key();
        let committee = split.committee.clone();
        let validator = committee.group_key();
        let share = split.shares[&index(1)].to_be_bytes().to_vec();
        import(&home, &config, split);
        Self {
            home,
            config,
            committee,
            validator,
            share,
        }
    }

    pub(crate) async fn start(&self) -> (Running, CosignerClient<Channel>) {
        let running = Running::start(&self.config);
        let mut client = running.client(&self.home, SIGNER);
        ready(&mut client).await;
        (running, client)
    }
}

pub(crate) fn import(home: &Home, config: &std::path::Path, split: Split) {
    let package = home.package("package", &package_of(vec![split]).0);
    let output = home.import(config, &package, &["--never-signed"]);
    assert!(output.status.success(), "{}", errors(&output));
}
