//! The signing types of sections 5 and 6.

use std::fmt;

/// A signing type, under its canonical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the wire contract's")]
pub enum RequestKind {
    AggregationSlot,
    AggregateAndProof,
    AggregateAndProofV2,
    Attestation,
    Block,
    BlockV2,
    Deposit,
    RandaoReveal,
    VoluntaryExit,
    SyncCommitteeMessage,
    SyncCommitteeSelectionProof,
    SyncCommitteeContributionAndProof,
    ValidatorRegistration,
    PayloadAttestationMessage,
    ProposerPreferences,
    ExecutionPayloadBid,
    ExecutionPayloadEnvelope,
    BuilderRequestAuth,
}

impl RequestKind {
    /// Every type.
    pub const ALL: [Self; 18] = [
        Self::AggregationSlot,
        Self::AggregateAndProof,
        Self::AggregateAndProofV2,
        Self::Attestation,
        Self::Block,
        Self::BlockV2,
        Self::Deposit,
        Self::RandaoReveal,
        Self::VoluntaryExit,
        Self::SyncCommitteeMessage,
        Self::SyncCommitteeSelectionProof,
        Self::SyncCommitteeContributionAndProof,
        Self::ValidatorRegistration,
        Self::PayloadAttestationMessage,
        Self::ProposerPreferences,
        Self::ExecutionPayloadBid,
        Self::ExecutionPayloadEnvelope,
        Self::BuilderRequestAuth,
    ];

    /// The canonical name, in upper case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AggregationSlot => "AGGREGATION_SLOT",
            Self::AggregateAndProof => "AGGREGATE_AND_PROOF",
            Self::AggregateAndProofV2 => "AGGREGATE_AND_PROOF_V2",
            Self::Attestation => "ATTESTATION",
            Self::Block => "BLOCK",
            Self::BlockV2 => "BLOCK_V2",
            Self::Deposit => "DEPOSIT",
            Self::RandaoReveal => "RANDAO_REVEAL",
            Self::VoluntaryExit => "VOLUNTARY_EXIT",
            Self::SyncCommitteeMessage => "SYNC_COMMITTEE_MESSAGE",
            Self::SyncCommitteeSelectionProof => "SYNC_COMMITTEE_SELECTION_PROOF",
            Self::SyncCommitteeContributionAndProof => "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF",
            Self::ValidatorRegistration => "VALIDATOR_REGISTRATION",
            Self::PayloadAttestationMessage => "PAYLOAD_ATTESTATION_MESSAGE",
            Self::ProposerPreferences => "PROPOSER_PREFERENCES",
            Self::ExecutionPayloadBid => "EXECUTION_PAYLOAD_BID",
            Self::ExecutionPayloadEnvelope => "EXECUTION_PAYLOAD_ENVELOPE",
            Self::BuilderRequestAuth => "BUILDER_REQUEST_AUTH",
        }
    }

    /// Whether a proposal waits for it: then it waits for nothing else.
    #[must_use]
    pub const fn is_prompt(self) -> bool {
        match self {
            Self::Block
            | Self::BlockV2
            | Self::RandaoReveal
            | Self::ExecutionPayloadBid
            | Self::ExecutionPayloadEnvelope => true,
            Self::AggregationSlot
            | Self::AggregateAndProof
            | Self::AggregateAndProofV2
            | Self::Attestation
            | Self::Deposit
            | Self::VoluntaryExit
            | Self::SyncCommitteeMessage
            | Self::SyncCommitteeSelectionProof
            | Self::SyncCommitteeContributionAndProof
            | Self::ValidatorRegistration
            | Self::PayloadAttestationMessage
            | Self::ProposerPreferences
            | Self::BuilderRequestAuth => false,
        }
    }

    /// The type with that name in any letter case, also by the names of early Gloas clients.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let older = [
            ("PAYLOAD_ATTESTATION", Self::PayloadAttestationMessage),
            ("REQUEST_AUTH", Self::BuilderRequestAuth),
        ];
        let names = Self::ALL
            .into_iter()
            .map(|kind| (kind.name(), kind))
            .chain(older);
        names
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, kind)| kind)
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
