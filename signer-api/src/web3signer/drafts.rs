//! From a request's payload to what shall be signed, and under which domain (section 4).

use daemon::network::{Fork, Network};
use duty::{
    BeaconBlockHeader, BuilderRequestAuth, DepositMessage, Duty, Epoch, Root, Slot,
    SyncAggregatorSelectionData, ValidatorRegistration, VoluntaryExit,
};
use tree_hash::TreeHash;

use super::{
    aggregate::{self, AggregateAndProof},
    bits::bit_vector_root,
    block::container_root,
    error::BadRequest,
    fork_info::{Chain, ForkInfo, no_chain},
    gloas::{Bid, Envelope},
    kind::RequestKind,
    members::{Raw, invalid, missing},
    payloads::{
        AttestationMember, ContributionAndProof, DepositMember, EpochMember, ExitMember,
        PayloadAttestation, Payloads, Preferences, RegistrationMember, RequestAuth, SlotMember,
        SyncAggregatorSelection, SyncCommitteeMessage,
    },
    wrapping::{Version, Versioned, unserved},
};

/// What a request asks for, before its root is compared with the given one.
pub(super) struct Draft {
    pub(super) chain: Chain,
    /// The object in the shape that the client most likely means.
    pub(super) likely: Result<Duty, BadRequest>,
    /// The same object in other shapes; only of duties that cannot be slashed.
    pub(super) others: Vec<Duty>,
}

/// What stands around a payload.
pub(super) struct Context<'a> {
    pub(super) fork_info: Option<Raw<'a>>,
    pub(super) network: &'a Network,
}

/// The draft of a request of that kind.
pub(super) fn draft(
    kind: RequestKind,
    all: Payloads,
    context: &Context<'_>,
) -> Result<Draft, BadRequest> {
    use RequestKind as Kind;
    match kind {
        Kind::AggregationSlot => from(all.aggregation_slot, "aggregation_slot", context),
        Kind::AggregateAndProof | Kind::AggregateAndProofV2 => {
            from(all.aggregate_and_proof, "aggregate_and_proof", context)
        }
        Kind::Attestation => from(all.attestation, "attestation", context),
        Kind::Block => from(all.block, "block", context),
        Kind::BlockV2 => from(all.beacon_block, "beacon_block", context),
        Kind::Deposit => from(all.deposit, "deposit", context),
        Kind::RandaoReveal => from(all.randao_reveal, "randao_reveal", context),
        Kind::VoluntaryExit => from(all.voluntary_exit, "voluntary_exit", context),
        Kind::SyncCommitteeMessage => from(
            all.sync_committee_message,
            "sync_committee_message",
            context,
        ),
        Kind::SyncCommitteeSelectionProof => from(
            all.sync_aggregator_selection_data,
            "sync_aggregator_selection_data",
            context,
        ),
        Kind::SyncCommitteeContributionAndProof => from(
            all.contribution_and_proof,
            "contribution_and_proof",
            context,
        ),
        Kind::ValidatorRegistration => from(
            all.validator_registration,
            "validator_registration",
            context,
        ),
        Kind::PayloadAttestationMessage => from(
            all.payload_attestation_message,
            "payload_attestation_message",
            context,
        ),
        Kind::ProposerPreferences => {
            from(all.proposer_preferences, "proposer_preferences", context)
        }
        Kind::ExecutionPayloadBid => {
            from(all.execution_payload_bid, "execution_payload_bid", context)
        }
        Kind::ExecutionPayloadEnvelope => from(
            all.execution_payload_envelope,
            "execution_payload_envelope",
            context,
        ),
        Kind::BuilderRequestAuth => from(all.builder_request_auth, "builder_request_auth", context),
    }
}

fn from<T: Drafted>(
    payload: Option<T>,
    name: &str,
    context: &Context<'_>,
) -> Result<Draft, BadRequest> {
    payload.ok_or_else(|| missing("", name))?.draft(context)
}

impl Draft {
    fn new(chain: Chain, duty: Duty) -> Self {
        Self {
            chain,
            likely: Ok(duty),
            others: Vec::new(),
        }
    }
}

impl Context<'_> {
    fn fork_info(&self) -> Result<ForkInfo, BadRequest> {
        ForkInfo::parse(self.fork_info)
    }

    fn chain_at(&self, epoch: Epoch) -> Result<Chain, BadRequest> {
        Ok(self.fork_info()?.chain_at(epoch))
    }

    fn chain_at_slot(&self, slot: Slot) -> Result<Chain, BadRequest> {
        self.chain_at(self.network.epoch_of(slot))
    }
}

/// A payload that says what to sign.
trait Drafted {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest>;
}

impl Drafted for AttestationMember {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let data = self.into_data();
        Ok(Draft::new(
            context.chain_at(data.target.epoch)?,
            Duty::Attestation(data),
        ))
    }
}

impl Drafted for BeaconBlockHeader {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        Ok(Draft::new(
            context.chain_at_slot(self.slot)?,
            Duty::Block(self),
        ))
    }
}

impl Drafted for SlotMember {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let slot = self.slot.slot();
        Ok(Draft::new(
            context.chain_at_slot(slot)?,
            Duty::AggregationSlot(slot),
        ))
    }
}

impl Drafted for EpochMember {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let epoch = self.epoch.epoch();
        Ok(Draft::new(
            context.chain_at(epoch)?,
            Duty::RandaoReveal(epoch),
        ))
    }
}

impl Drafted for Versioned<AggregateAndProof> {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let (fork_info, network) = (context.fork_info()?, context.network);
        let epoch = network.epoch_of(self.data.aggregate.data.slot.slot());
        let roots = aggregate::roots(&self, &fork_info, epoch, network);
        Ok(Draft {
            chain: fork_info.chain_at(epoch),
            likely: roots.likely.map(Duty::AggregateAndProof),
            others: roots
                .others
                .into_iter()
                .map(Duty::AggregateAndProof)
                .collect(),
        })
    }
}

impl Drafted for SyncCommitteeMessage {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let chain = context.chain_at_slot(self.slot.slot())?;
        Ok(Draft::new(
            chain,
            Duty::SyncCommitteeMessage(self.beacon_block_root.0),
        ))
    }
}

impl Drafted for SyncAggregatorSelection {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let data = SyncAggregatorSelectionData {
            slot: self.slot.slot(),
            subcommittee_index: self.subcommittee_index.0,
        };
        let chain = context.chain_at_slot(data.slot)?;
        Ok(Draft::new(chain, Duty::SyncCommitteeSelectionProof(data)))
    }
}

impl Drafted for ContributionAndProof {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let contribution = &self.contribution;
        let chain = context.chain_at_slot(contribution.slot.slot())?;
        let size = context.network.sizes().sync_subcommittee_size();
        let bits = bit_vector_root(&contribution.aggregation_bits.0, size);
        let bits = bits.map_err(|error| {
            invalid(
                "contribution_and_proof.contribution.aggregation_bits",
                error.to_string(),
            )
        })?;
        let root = container_root(&[
            self.aggregator_index.tree_hash_root(),
            container_root(&[
                contribution.slot.tree_hash_root(),
                contribution.beacon_block_root.tree_hash_root(),
                contribution.subcommittee_index.tree_hash_root(),
                bits,
                contribution.signature.tree_hash_root(),
            ]),
            self.selection_proof.tree_hash_root(),
        ]);
        Ok(Draft::new(
            chain,
            Duty::SyncCommitteeContributionAndProof(Root(root.0)),
        ))
    }
}

impl Drafted for ExitMember {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let epoch = self.epoch.epoch();
        let exit = VoluntaryExit {
            epoch,
            validator_index: self.validator_index.0,
        };
        let chain = context.fork_info()?.chain_of_exit(epoch, context.network);
        Ok(Draft::new(chain, Duty::VoluntaryExit(exit)))
    }
}

impl Drafted for DepositMember {
    /// Its domain has the version that the deposit itself names.
    fn draft(self, _: &Context<'_>) -> Result<Draft, BadRequest> {
        let message = DepositMessage {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials.0,
            amount: self.amount.0,
        };
        Ok(Draft::new(
            no_chain(self.genesis_fork_version),
            Duty::Deposit(message),
        ))
    }
}

impl Drafted for RegistrationMember {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let registration = ValidatorRegistration {
            fee_recipient: self.fee_recipient,
            gas_limit: self.gas_limit.0,
            timestamp: self.timestamp.0,
            pubkey: self.pubkey,
        };
        let chain = no_chain(context.network.genesis_fork_version());
        Ok(Draft::new(chain, Duty::ValidatorRegistration(registration)))
    }
}

impl Drafted for Versioned<RequestAuth> {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let RequestAuth { data, slot } = self.data;
        let auth = BuilderRequestAuth::new(data.0, slot.slot())
            .map_err(|error| invalid(format!("{}.data", self.path), error.to_string()))?;
        let chain = no_chain(context.network.genesis_fork_version());
        Ok(of_gloas(
            &self.version,
            chain,
            Duty::BuilderRequestAuth(auth),
        ))
    }
}

impl Drafted for Versioned<PayloadAttestation> {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let data = self.data.into_data();
        let chain = context.chain_at_slot(data.slot)?;
        Ok(of_gloas(
            &self.version,
            chain,
            Duty::PayloadAttestation(data),
        ))
    }
}

impl Drafted for Versioned<Preferences> {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let preferences = self.data.into_preferences();
        let chain = context.chain_at_slot(preferences.proposal_slot)?;
        Ok(of_gloas(
            &self.version,
            chain,
            Duty::ProposerPreferences(preferences),
        ))
    }
}

impl Drafted for Versioned<Bid> {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let chain = context.chain_at_slot(self.data.slot.slot())?;
        Ok(of_gloas(
            &self.version,
            chain,
            Duty::ExecutionPayload(self.data.root()),
        ))
    }
}

impl Drafted for Versioned<Envelope> {
    fn draft(self, context: &Context<'_>) -> Result<Draft, BadRequest> {
        let chain = context.chain_at_slot(self.data.payload.slot_number.slot())?;
        Ok(of_gloas(
            &self.version,
            chain,
            Duty::ExecutionPayload(self.data.root()),
        ))
    }
}

/// An object in Gloas' shape. If the client says that it is of another fork, it may have a shape
/// that is not known here; then only a root of the client's proves that it has not.
fn of_gloas(version: &Version, chain: Chain, duty: Duty) -> Draft {
    let refused = match version {
        Version::Unsaid
        | Version::Known {
            fork: Fork::Gloas, ..
        } => {
            return Draft::new(chain, duty);
        }
        Version::Known { path, fork } => unserved(path, fork.name()),
        Version::Unknown { path, name } => unserved(path, name),
    };
    Draft {
        chain,
        likely: Err(refused),
        others: vec![duty],
    }
}
