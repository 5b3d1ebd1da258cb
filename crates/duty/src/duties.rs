//! The duties of a validator, fork-independent, as a cosigner sees them.

use tree_hash::TreeHash;
use tree_hash_derive::TreeHash;

use crate::{Address, Claim, DomainType, Epoch, PublicKey, Root, Slot};

/// A checkpoint (consensus specification, phase0).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct Checkpoint {
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// The block root at the start of that epoch.
    pub root: Root,
}

/// What an attester signs (consensus specification, phase0).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct AttestationData {
    /// The slot that is attested.
    pub slot: Slot,
    /// The committee's index; 0 from Electra on, payload status from Gloas on.
    pub index: u64,
    /// The head block's root.
    pub beacon_block_root: Root,
    /// The justified checkpoint.
    pub source: Checkpoint,
    /// The checkpoint of the slot's epoch.
    pub target: Checkpoint,
}

/// A beacon block's header; its root is the block's root (consensus specification, phase0).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct BeaconBlockHeader {
    /// The block's slot.
    pub slot: Slot,
    /// The proposer's validator index.
    pub proposer_index: u64,
    /// The parent block's root.
    pub parent_root: Root,
    /// The state root after this block.
    pub state_root: Root,
    /// The body's root.
    pub body_root: Root,
}

/// A sync committee aggregator's selection (consensus specification, Altair).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct SyncAggregatorSelectionData {
    /// The slot.
    pub slot: Slot,
    /// The subcommittee's index.
    pub subcommittee_index: u64,
}

/// A voluntary exit (consensus specification, phase0).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct VoluntaryExit {
    /// The earliest epoch at which the exit may be processed.
    pub epoch: Epoch,
    /// The exiting validator's index.
    pub validator_index: u64,
}

/// A deposit without its signature (consensus specification, phase0).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct DepositMessage {
    /// The validator's key.
    pub pubkey: PublicKey,
    /// Where withdrawals go.
    pub withdrawal_credentials: Root,
    /// The amount in Gwei.
    pub amount: u64,
}

/// A registration with block builders (builder specification).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct ValidatorRegistration {
    /// Who receives the fees.
    pub fee_recipient: Address,
    /// The preferred gas limit.
    pub gas_limit: u64,
    /// When the registration was made, in seconds since 1970.
    pub timestamp: u64,
    /// The registered validator's key.
    pub pubkey: PublicKey,
}

/// What a payload timeliness committee member signs (consensus specification, Gloas).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct PayloadAttestationData {
    /// The attested block's root.
    pub beacon_block_root: Root,
    /// The slot.
    pub slot: Slot,
    /// Whether the payload was seen in time.
    pub payload_present: bool,
    /// Whether its blob data was available.
    pub blob_data_available: bool,
}

/// An upcoming proposer's preferences (consensus specification, Gloas).
#[derive(Debug, Clone, PartialEq, Eq, TreeHash)]
pub struct ProposerPreferences {
    /// The root on which the proposer's assignment depends.
    pub dependent_root: Root,
    /// The slot of the proposal.
    pub proposal_slot: Slot,
    /// The proposer's validator index.
    pub validator_index: u64,
    /// Who receives the fees.
    pub fee_recipient: Address,
    /// The preferred gas limit.
    pub target_gas_limit: u64,
}

/// A proposer's authorisation of a request to a builder (builder specification, Gloas).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderRequestAuth {
    data: Vec<u8>,
    /// The slot the request is for.
    pub slot: Slot,
}

/// An authorisation's data is not 1 to 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 4096 bytes, got {0}")]
pub struct InvalidAuthData(pub usize);

impl BuilderRequestAuth {
    /// The limit of the byte list.
    pub const DATA_BYTES_MAX: usize = 4096;

    /// An authorisation over 1 to 4096 bytes of `data`.
    ///
    /// # Errors
    /// [`InvalidAuthData`] for any other length.
    pub fn new(data: Vec<u8>, slot: Slot) -> Result<Self, InvalidAuthData> {
        match data.len() {
            1..=Self::DATA_BYTES_MAX => Ok(Self { data, slot }),
            length => Err(InvalidAuthData(length)),
        }
    }

    /// The authorised data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    fn object_root(&self) -> Root {
        let chunks = Self::DATA_BYTES_MAX.div_ceil(tree_hash::BYTES_PER_CHUNK);
        let data =
            tree_hash::mix_in_length(&tree_hash::merkle_root(&self.data, chunks), self.data.len());
        let mut leaves = [0; 64];
        let (left, right) = leaves.split_at_mut(32);
        left.copy_from_slice(data.as_slice());
        right.copy_from_slice(self.slot.tree_hash_root().as_slice());
        Root(tree_hash::merkle_root(&leaves, 2).0)
    }
}

/// One duty. Whole where the ledger or a policy must look inside; an object root where the SSZ
/// changes with forks and nothing in it can be slashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// An attestation. Slashable.
    Attestation(AttestationData),
    /// A block, as its header. Slashable.
    Block(BeaconBlockHeader),
    /// A RANDAO reveal of an epoch.
    RandaoReveal(Epoch),
    /// An aggregator's selection proof for a slot.
    AggregationSlot(Slot),
    /// An aggregate and proof, as its object root.
    AggregateAndProof(Root),
    /// A sync committee message over a block root.
    SyncCommitteeMessage(Root),
    /// A sync committee aggregator's selection proof.
    SyncCommitteeSelectionProof(SyncAggregatorSelectionData),
    /// A sync committee contribution and proof, as its object root.
    SyncCommitteeContributionAndProof(Root),
    /// A payload bid or a payload envelope, which share a domain, as its object root.
    ExecutionPayload(Root),
    /// A payload attestation.
    PayloadAttestation(PayloadAttestationData),
    /// A proposer's preferences.
    ProposerPreferences(ProposerPreferences),
    /// An authorisation of a request to a builder.
    BuilderRequestAuth(BuilderRequestAuth),
    /// A registration with builders.
    ValidatorRegistration(ValidatorRegistration),
    /// A voluntary exit.
    VoluntaryExit(VoluntaryExit),
    /// A deposit.
    Deposit(DepositMessage),
}

/// A duty's variant alone: a label for metrics, policies and lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each is documented at the variant of Duty with its name"
)]
pub enum DutyKind {
    Attestation,
    Block,
    RandaoReveal,
    AggregationSlot,
    AggregateAndProof,
    SyncCommitteeMessage,
    SyncCommitteeSelectionProof,
    SyncCommitteeContributionAndProof,
    ExecutionPayload,
    PayloadAttestation,
    ProposerPreferences,
    BuilderRequestAuth,
    ValidatorRegistration,
    VoluntaryExit,
    Deposit,
}

impl DutyKind {
    /// Whether a proposal waits for it: then it waits for nothing else.
    #[must_use]
    pub const fn is_for_proposal(self) -> bool {
        matches!(
            self,
            Self::Block | Self::RandaoReveal | Self::ExecutionPayload
        )
    }
}

impl Duty {
    /// The variant.
    #[must_use]
    pub const fn kind(&self) -> DutyKind {
        match self {
            Self::Attestation(_) => DutyKind::Attestation,
            Self::Block(_) => DutyKind::Block,
            Self::RandaoReveal(_) => DutyKind::RandaoReveal,
            Self::AggregationSlot(_) => DutyKind::AggregationSlot,
            Self::AggregateAndProof(_) => DutyKind::AggregateAndProof,
            Self::SyncCommitteeMessage(_) => DutyKind::SyncCommitteeMessage,
            Self::SyncCommitteeSelectionProof(_) => DutyKind::SyncCommitteeSelectionProof,
            Self::SyncCommitteeContributionAndProof(_) => {
                DutyKind::SyncCommitteeContributionAndProof
            }
            Self::ExecutionPayload(_) => DutyKind::ExecutionPayload,
            Self::PayloadAttestation(_) => DutyKind::PayloadAttestation,
            Self::ProposerPreferences(_) => DutyKind::ProposerPreferences,
            Self::BuilderRequestAuth(_) => DutyKind::BuilderRequestAuth,
            Self::ValidatorRegistration(_) => DutyKind::ValidatorRegistration,
            Self::VoluntaryExit(_) => DutyKind::VoluntaryExit,
            Self::Deposit(_) => DutyKind::Deposit,
        }
    }

    /// What the ledger must decide about, or `None` if the duty cannot be slashed.
    ///
    /// **Invariant:** `Some` exactly for the two slashable domains; kept by
    /// `tests::slashable_domains_always_have_a_claim`.
    #[must_use]
    pub const fn claim(&self) -> Option<Claim> {
        match self {
            Self::Attestation(data) => Some(Claim::Attest {
                source: data.source.epoch,
                target: data.target.epoch,
            }),
            Self::Block(header) => Some(Claim::Propose { slot: header.slot }),
            Self::RandaoReveal(_)
            | Self::AggregationSlot(_)
            | Self::AggregateAndProof(_)
            | Self::SyncCommitteeMessage(_)
            | Self::SyncCommitteeSelectionProof(_)
            | Self::SyncCommitteeContributionAndProof(_)
            | Self::ExecutionPayload(_)
            | Self::PayloadAttestation(_)
            | Self::ProposerPreferences(_)
            | Self::BuilderRequestAuth(_)
            | Self::ValidatorRegistration(_)
            | Self::VoluntaryExit(_)
            | Self::Deposit(_) => None,
        }
    }

    /// The SSZ hash tree root of the signed object.
    #[must_use]
    pub fn object_root(&self) -> Root {
        let root = match self {
            Self::Attestation(data) => data.tree_hash_root(),
            Self::Block(header) => header.tree_hash_root(),
            Self::RandaoReveal(epoch) => epoch.tree_hash_root(),
            Self::AggregationSlot(slot) => slot.tree_hash_root(),
            Self::SyncCommitteeSelectionProof(data) => data.tree_hash_root(),
            Self::PayloadAttestation(data) => data.tree_hash_root(),
            Self::ProposerPreferences(preferences) => preferences.tree_hash_root(),
            Self::ValidatorRegistration(registration) => registration.tree_hash_root(),
            Self::VoluntaryExit(exit) => exit.tree_hash_root(),
            Self::Deposit(deposit) => deposit.tree_hash_root(),
            Self::BuilderRequestAuth(auth) => return auth.object_root(),
            Self::AggregateAndProof(root)
            | Self::SyncCommitteeMessage(root)
            | Self::SyncCommitteeContributionAndProof(root)
            | Self::ExecutionPayload(root) => return *root,
        };
        Root(root.0)
    }

    /// The duty's domain type: a function of the variant, so that an opaque root can never be
    /// signed under a slashable domain, nor as an exit or a deposit.
    #[must_use]
    pub const fn domain_type(&self) -> DomainType {
        match self {
            Self::Block(_) => DomainType::BEACON_PROPOSER,
            Self::Attestation(_) => DomainType::BEACON_ATTESTER,
            Self::RandaoReveal(_) => DomainType::RANDAO,
            Self::Deposit(_) => DomainType::DEPOSIT,
            Self::VoluntaryExit(_) => DomainType::VOLUNTARY_EXIT,
            Self::AggregationSlot(_) => DomainType::SELECTION_PROOF,
            Self::AggregateAndProof(_) => DomainType::AGGREGATE_AND_PROOF,
            Self::SyncCommitteeMessage(_) => DomainType::SYNC_COMMITTEE,
            Self::SyncCommitteeSelectionProof(_) => DomainType::SYNC_COMMITTEE_SELECTION_PROOF,
            Self::SyncCommitteeContributionAndProof(_) => DomainType::CONTRIBUTION_AND_PROOF,
            Self::ValidatorRegistration(_) => DomainType::APPLICATION_BUILDER,
            Self::ExecutionPayload(_) => DomainType::BEACON_BUILDER,
            Self::PayloadAttestation(_) => DomainType::PTC_ATTESTER,
            Self::ProposerPreferences(_) => DomainType::PROPOSER_PREFERENCES,
            Self::BuilderRequestAuth(_) => DomainType::BUILDER_REQUEST_AUTH,
        }
    }

    /// Whether the domain is bound to a chain by its genesis validators root. Deposits and what
    /// is said to builders are not: their domain has a zero root.
    #[must_use]
    pub const fn is_bound_to_chain(&self) -> bool {
        !matches!(
            self,
            Self::Deposit(_) | Self::ValidatorRegistration(_) | Self::BuilderRequestAuth(_)
        )
    }
}
