//! The payload members of sections 5 and 6.

use daemon::network::{Fork, Network};
use duty::{
    Address, AttestationData, BeaconBlockHeader, Checkpoint, ForkVersion, PayloadAttestationData,
    ProposerPreferences, PublicKey,
};
use serde::de::DeserializeOwned;
use tree_hash_derive::TreeHash;

use super::{
    aggregate::AggregateAndProof,
    block,
    error::BadRequest,
    gloas::{Bid, Envelope},
    members::{Raw, member},
    object::{Object, object},
    values::{Bytes, LenientRoot, Signature, U64},
    wrapping::{Versioned, unwrapped},
};

/// Payloads that a body may hold.
const PAYLOADS: usize = 19;

/// The members that a body may have: four that stand around every payload, then the names under
/// which a payload may stand, the last two of them in early Gloas clients.
pub(super) const BODY_MEMBERS: [&str; 4 + PAYLOADS] = [
    "type",
    "signingRoot",
    "signing_root",
    "fork_info",
    "aggregation_slot",
    "aggregate_and_proof",
    "attestation",
    "block",
    "beacon_block",
    "deposit",
    "randao_reveal",
    "voluntary_exit",
    "sync_committee_message",
    "sync_aggregator_selection_data",
    "contribution_and_proof",
    "validator_registration",
    "payload_attestation_message",
    "proposer_preferences",
    "execution_payload_bid",
    "execution_payload_envelope",
    "builder_request_auth",
    "payload_attestation",
    "request_auth",
];

/// All payloads of a body. Those of other types than the request's have to parse as well
/// (section 3.1), so all are parsed before any is chosen.
pub(super) struct Payloads {
    pub(super) aggregation_slot: Option<SlotMember>,
    pub(super) aggregate_and_proof: Option<Versioned<AggregateAndProof>>,
    pub(super) attestation: Option<AttestationMember>,
    pub(super) block: Option<BeaconBlockHeader>,
    pub(super) beacon_block: Option<BeaconBlockHeader>,
    pub(super) deposit: Option<DepositMember>,
    pub(super) randao_reveal: Option<EpochMember>,
    pub(super) voluntary_exit: Option<ExitMember>,
    pub(super) sync_committee_message: Option<SyncCommitteeMessage>,
    pub(super) sync_aggregator_selection_data: Option<SyncAggregatorSelection>,
    pub(super) contribution_and_proof: Option<ContributionAndProof>,
    pub(super) validator_registration: Option<RegistrationMember>,
    pub(super) payload_attestation_message: Option<Versioned<PayloadAttestation>>,
    pub(super) proposer_preferences: Option<Versioned<Preferences>>,
    pub(super) execution_payload_bid: Option<Versioned<Bid>>,
    pub(super) execution_payload_envelope: Option<Versioned<Envelope>>,
    pub(super) builder_request_auth: Option<Versioned<RequestAuth>>,
}

impl Payloads {
    /// From what stands under each of [`BODY_MEMBERS`], without the first four.
    pub(super) fn parse(
        members: [Option<Raw<'_>>; PAYLOADS],
        network: &Network,
    ) -> Result<Self, BadRequest> {
        let [
            aggregation_slot,
            aggregate_and_proof,
            attestation,
            block,
            beacon_block,
            deposit,
            randao_reveal,
            voluntary_exit,
            sync_committee_message,
            sync_aggregator_selection_data,
            contribution_and_proof,
            validator_registration,
            payload_attestation_message,
            proposer_preferences,
            execution_payload_bid,
            execution_payload_envelope,
            builder_request_auth,
            payload_attestation,
            request_auth,
        ] = members;
        let sizes = network.sizes();
        let older_attestation = versioned("payload_attestation", payload_attestation)?;
        let older_auth = versioned("request_auth", request_auth)?;
        Ok(Self {
            aggregation_slot: plain("aggregation_slot", aggregation_slot)?,
            aggregate_and_proof: versioned("aggregate_and_proof", aggregate_and_proof)?,
            attestation: plain("attestation", attestation)?,
            block: plain("block", block)?
                .map(|full| block::full_block(full, "block", Fork::Phase0, sizes))
                .transpose()?,
            beacon_block: beacon_block
                .map(|raw| block::versioned_block("beacon_block", raw, sizes))
                .transpose()?,
            deposit: plain("deposit", deposit)?,
            randao_reveal: plain("randao_reveal", randao_reveal)?,
            voluntary_exit: plain("voluntary_exit", voluntary_exit)?,
            sync_committee_message: plain("sync_committee_message", sync_committee_message)?,
            sync_aggregator_selection_data: plain(
                "sync_aggregator_selection_data",
                sync_aggregator_selection_data,
            )?,
            contribution_and_proof: plain("contribution_and_proof", contribution_and_proof)?,
            validator_registration: plain("validator_registration", validator_registration)?,
            payload_attestation_message: versioned(
                "payload_attestation_message",
                payload_attestation_message,
            )?
            .or(older_attestation),
            proposer_preferences: versioned("proposer_preferences", proposer_preferences)?,
            execution_payload_bid: versioned("execution_payload_bid", execution_payload_bid)?,
            execution_payload_envelope: versioned(
                "execution_payload_envelope",
                execution_payload_envelope,
            )?,
            builder_request_auth: versioned("builder_request_auth", builder_request_auth)?
                .or(older_auth),
        })
    }
}

fn plain<T: DeserializeOwned>(name: &str, raw: Option<Raw<'_>>) -> Result<Option<T>, BadRequest> {
    raw.map(|raw| member(name, raw)).transpose()
}

fn versioned<T: DeserializeOwned + Object>(
    name: &str,
    raw: Option<Raw<'_>>,
) -> Result<Option<Versioned<T>>, BadRequest> {
    raw.map(|raw| unwrapped(name, raw)).transpose()
}

object! {
    #[derive(Debug)]
    SlotMember {
        slot: U64,
    }
}

object! {
    #[derive(Debug)]
    EpochMember {
        epoch: U64,
    }
}

object! {
    #[derive(Debug, Clone, TreeHash)]
    CheckpointMember {
        epoch: U64,
        root: LenientRoot,
    }
}

object! {
    #[derive(Debug, Clone, TreeHash)]
    AttestationMember {
        slot: U64,
        index: U64,
        beacon_block_root: LenientRoot,
        source: CheckpointMember,
        target: CheckpointMember,
    }
}

impl AttestationMember {
    pub(super) fn into_data(self) -> AttestationData {
        let checkpoint = |it: CheckpointMember| Checkpoint {
            epoch: it.epoch.epoch(),
            root: it.root.0,
        };
        AttestationData {
            slot: self.slot.slot(),
            index: self.index.0,
            beacon_block_root: self.beacon_block_root.0,
            source: checkpoint(self.source),
            target: checkpoint(self.target),
        }
    }
}

object! {
    #[derive(Debug)]
    DepositMember {
        pubkey: PublicKey,
        withdrawal_credentials: LenientRoot,
        amount: U64,
        genesis_fork_version: ForkVersion,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    ExitMember {
        epoch: U64,
        validator_index: U64,
    }
}

object! {
    #[derive(Debug)]
    SyncCommitteeMessage {
        beacon_block_root: LenientRoot,
        slot: U64,
    }
}

object! {
    #[derive(Debug)]
    SyncAggregatorSelection {
        slot: U64,
        subcommittee_index: U64,
    }
}

object! {
    #[derive(Debug)]
    ContributionAndProof {
        aggregator_index: U64,
        contribution: Contribution,
        selection_proof: Signature,
    }
}

object! {
    #[derive(Debug)]
    Contribution {
        slot: U64,
        beacon_block_root: LenientRoot,
        subcommittee_index: U64,
        aggregation_bits: Bytes,
        signature: Signature,
    }
}

object! {
    #[derive(Debug)]
    RegistrationMember {
        fee_recipient: Address,
        gas_limit: U64,
        timestamp: U64,
        pubkey: PublicKey,
    }
}

object! {
    #[derive(Debug)]
    PayloadAttestation {
        beacon_block_root: LenientRoot,
        slot: U64,
        payload_present: bool,
        blob_data_available: bool,
    }
}

impl PayloadAttestation {
    pub(super) fn into_data(self) -> PayloadAttestationData {
        PayloadAttestationData {
            beacon_block_root: self.beacon_block_root.0,
            slot: self.slot.slot(),
            payload_present: self.payload_present,
            blob_data_available: self.blob_data_available,
        }
    }
}

object! {
    #[derive(Debug)]
    Preferences {
        dependent_root: LenientRoot,
        proposal_slot: U64,
        validator_index: U64,
        fee_recipient: Address,
        target_gas_limit: U64,
    }
}

impl Preferences {
    pub(super) fn into_preferences(self) -> ProposerPreferences {
        ProposerPreferences {
            dependent_root: self.dependent_root.0,
            proposal_slot: self.proposal_slot.slot(),
            validator_index: self.validator_index.0,
            fee_recipient: self.fee_recipient,
            target_gas_limit: self.target_gas_limit.0,
        }
    }
}

object! {
    #[derive(Debug)]
    RequestAuth {
        data: Bytes,
        slot: U64,
    }
}
