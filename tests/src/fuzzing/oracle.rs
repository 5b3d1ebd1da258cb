//! Signing roots by the consensus specification, written a second time: it shares no code with crate
//! `duty` but the types.

use duty::{Duty, SigningOrder};
use sha2::{Digest, Sha256};

type Chunk = [u8; 32];

fn hash(left: &Chunk, right: &Chunk) -> Chunk {
    Sha256::new()
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The root over `chunks`, filled up with zeros to a power of two that is at least `leaves`.
fn merkle(chunks: &[Chunk], leaves: usize) -> Chunk {
    let mut level = chunks.to_vec();
    level.resize(leaves.max(1).next_power_of_two(), [0; 32]);
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| hash(&pair[0], &pair[1]))
            .collect();
    }
    level[0]
}

fn container(fields: &[Chunk]) -> Chunk {
    merkle(fields, fields.len())
}

fn number(value: u64) -> Chunk {
    bytes(&value.to_le_bytes())
}

/// Up to 32 bytes.
fn bytes(value: &[u8]) -> Chunk {
    let mut chunk = [0; 32];
    chunk[..value.len()].copy_from_slice(value);
    chunk
}

fn key(value: &[u8; 48]) -> Chunk {
    hash(&bytes(&value[..32]), &bytes(&value[32..]))
}

fn byte_list(value: &[u8], limit: usize) -> Chunk {
    let chunks: Vec<Chunk> = value.chunks(32).map(bytes).collect();
    let length = number(u64::try_from(value.len()).unwrap());
    hash(&merkle(&chunks, limit.div_ceil(32)), &length)
}

/// The domain type, whether the domain is bound to a chain, and the root of the object.
fn parts(duty: &Duty) -> ([u8; 4], bool, Chunk) {
    match duty {
        Duty::Block(it) => {
            let numbers = [number(it.slot.0), number(it.proposer_index)];
            let roots = [it.parent_root.0, it.state_root.0, it.body_root.0];
            (
                [0, 0, 0, 0],
                true,
                container(&[&numbers[..], &roots].concat()),
            )
        }
        Duty::Attestation(it) => {
            let source = hash(&number(it.source.epoch.0), &it.source.root.0);
            let target = hash(&number(it.target.epoch.0), &it.target.root.0);
            let (slot, index) = (number(it.slot.0), number(it.index));
            let fields = [slot, index, it.beacon_block_root.0, source, target];
            ([1, 0, 0, 0], true, container(&fields))
        }
        Duty::RandaoReveal(epoch) => ([2, 0, 0, 0], true, number(epoch.0)),
        Duty::Deposit(it) => {
            let fields = [
                key(&it.pubkey.0),
                it.withdrawal_credentials.0,
                number(it.amount),
            ];
            ([3, 0, 0, 0], false, container(&fields))
        }
        Duty::VoluntaryExit(it) => {
            let fields = [number(it.epoch.0), number(it.validator_index)];
            ([4, 0, 0, 0], true, container(&fields))
        }
        Duty::AggregationSlot(slot) => ([5, 0, 0, 0], true, number(slot.0)),
        Duty::AggregateAndProof(root) => ([6, 0, 0, 0], true, root.0),
        Duty::SyncCommitteeMessage(root) => ([7, 0, 0, 0], true, root.0),
        Duty::SyncCommitteeSelectionProof(it) => {
            let fields = [number(it.slot.0), number(it.subcommittee_index)];
            ([8, 0, 0, 0], true, container(&fields))
        }
        Duty::SyncCommitteeContributionAndProof(root) => ([9, 0, 0, 0], true, root.0),
        Duty::ExecutionPayload(root) => ([11, 0, 0, 0], true, root.0),
        Duty::PayloadAttestation(it) => {
            let flags = [it.payload_present, it.blob_data_available];
            let [present, available] = flags.map(|flag| bytes(&[u8::from(flag)]));
            let fields = [
                it.beacon_block_root.0,
                number(it.slot.0),
                present,
                available,
            ];
            ([12, 0, 0, 0], true, container(&fields))
        }
        Duty::ProposerPreferences(it) => {
            let fields = [
                it.dependent_root.0,
                number(it.proposal_slot.0),
                number(it.validator_index),
                bytes(&it.fee_recipient.0),
                number(it.target_gas_limit),
            ];
            ([13, 0, 0, 0], true, container(&fields))
        }
        Duty::ValidatorRegistration(it) => {
            let (gas, time) = (number(it.gas_limit), number(it.timestamp));
            let fields = [bytes(&it.fee_recipient.0), gas, time, key(&it.pubkey.0)];
            ([0, 0, 0, 1], false, container(&fields))
        }
        Duty::BuilderRequestAuth(it) => {
            let fields = [byte_list(it.data(), 4096), number(it.slot.0)];
            ([11, 0, 0, 1], false, container(&fields))
        }
    }
}

/// The 32 bytes that a signature over this order covers.
pub(super) fn signing_root(order: &SigningOrder) -> Chunk {
    let (domain_type, is_bound, object) = parts(&order.duty);
    let chain = if is_bound {
        order.genesis_validators_root.0
    } else {
        [0; 32]
    };
    let fork_data = hash(&bytes(&order.fork_version.0), &chain);
    let mut domain = [0; 32];
    domain[..4].copy_from_slice(&domain_type);
    domain[4..].copy_from_slice(&fork_data[..28]);
    hash(&object, &domain)
}
