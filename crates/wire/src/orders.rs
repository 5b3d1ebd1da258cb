//! Signing orders, there and back.

use duty::{
    AttestationData, BeaconBlockHeader, BuilderRequestAuth, Checkpoint, DepositMessage, Duty,
    Epoch, PayloadAttestationData, ProposerPreferences, SigningOrder, Slot,
    SyncAggregatorSelectionData, ValidatorRegistration, VoluntaryExit,
};

use crate::{
    Malformed, Problem, bytes,
    proto::{self, signing_order::Duty as ProtoDuty},
    required,
};

/// An order as it travels.
#[must_use]
pub fn order_to_proto(order: &SigningOrder) -> proto::SigningOrder {
    proto::SigningOrder {
        validator: order.validator.0.to_vec(),
        fork_version: order.fork_version.0.to_vec(),
        genesis_validators_root: order.genesis_validators_root.0.to_vec(),
        duty: Some(duty_to_proto(&order.duty)),
    }
}

/// An order as it arrived.
///
/// # Errors
/// [`Malformed`] names the member that is missing or has a wrong length; an order of a kind that this
/// version does not know has no duty.
pub fn order_from_proto(order: proto::SigningOrder) -> Result<SigningOrder, Malformed> {
    Ok(SigningOrder {
        validator: bytes("validator", &order.validator)?,
        fork_version: bytes("fork_version", &order.fork_version)?,
        genesis_validators_root: bytes("genesis_validators_root", &order.genesis_validators_root)?,
        duty: duty_from_proto(required("duty", order.duty)?)?,
    })
}

fn duty_to_proto(duty: &Duty) -> ProtoDuty {
    match duty {
        Duty::Attestation(data) => ProtoDuty::Attestation(attestation_to_proto(data)),
        Duty::Block(header) => ProtoDuty::Block(proto::BeaconBlockHeader {
            slot: header.slot.0,
            proposer_index: header.proposer_index,
            parent_root: header.parent_root.0.to_vec(),
            state_root: header.state_root.0.to_vec(),
            body_root: header.body_root.0.to_vec(),
        }),
        Duty::RandaoReveal(epoch) => ProtoDuty::RandaoRevealEpoch(epoch.0),
        Duty::AggregationSlot(slot) => ProtoDuty::AggregationSlot(slot.0),
        Duty::AggregateAndProof(root) => ProtoDuty::AggregateAndProofRoot(root.0.to_vec()),
        Duty::SyncCommitteeMessage(root) => ProtoDuty::SyncCommitteeMessageRoot(root.0.to_vec()),
        Duty::SyncCommitteeSelectionProof(data) => {
            ProtoDuty::SyncCommitteeSelectionProof(proto::SyncAggregatorSelectionData {
                slot: data.slot.0,
                subcommittee_index: data.subcommittee_index,
            })
        }
        Duty::SyncCommitteeContributionAndProof(root) => {
            ProtoDuty::SyncCommitteeContributionAndProofRoot(root.0.to_vec())
        }
        Duty::ExecutionPayload(root) => ProtoDuty::ExecutionPayloadRoot(root.0.to_vec()),
        Duty::PayloadAttestation(data) => {
            ProtoDuty::PayloadAttestation(proto::PayloadAttestationData {
                beacon_block_root: data.beacon_block_root.0.to_vec(),
                slot: data.slot.0,
                payload_present: data.payload_present,
                blob_data_available: data.blob_data_available,
            })
        }
        Duty::ProposerPreferences(preferences) => {
            ProtoDuty::ProposerPreferences(proto::ProposerPreferences {
                dependent_root: preferences.dependent_root.0.to_vec(),
                proposal_slot: preferences.proposal_slot.0,
                validator_index: preferences.validator_index,
                fee_recipient: preferences.fee_recipient.0.to_vec(),
                target_gas_limit: preferences.target_gas_limit,
            })
        }
        Duty::BuilderRequestAuth(auth) => {
            ProtoDuty::BuilderRequestAuth(proto::BuilderRequestAuth {
                data: auth.data().to_vec(),
                slot: auth.slot.0,
            })
        }
        Duty::ValidatorRegistration(registration) => {
            ProtoDuty::ValidatorRegistration(proto::ValidatorRegistration {
                fee_recipient: registration.fee_recipient.0.to_vec(),
                gas_limit: registration.gas_limit,
                timestamp: registration.timestamp,
                pubkey: registration.pubkey.0.to_vec(),
            })
        }
        Duty::VoluntaryExit(exit) => ProtoDuty::VoluntaryExit(proto::VoluntaryExit {
            epoch: exit.epoch.0,
            validator_index: exit.validator_index,
        }),
        Duty::Deposit(deposit) => ProtoDuty::Deposit(proto::DepositMessage {
            pubkey: deposit.pubkey.0.to_vec(),
            withdrawal_credentials: deposit.withdrawal_credentials.0.to_vec(),
            amount: deposit.amount,
        }),
    }
}

fn duty_from_proto(duty: ProtoDuty) -> Result<Duty, Malformed> {
    Ok(match duty {
        ProtoDuty::Attestation(data) => Duty::Attestation(attestation_from_proto(data)?),
        ProtoDuty::Block(header) => Duty::Block(BeaconBlockHeader {
            slot: Slot(header.slot),
            proposer_index: header.proposer_index,
            parent_root: bytes("block.parent_root", &header.parent_root)?,
            state_root: bytes("block.state_root", &header.state_root)?,
            body_root: bytes("block.body_root", &header.body_root)?,
        }),
        ProtoDuty::RandaoRevealEpoch(epoch) => Duty::RandaoReveal(Epoch(epoch)),
        ProtoDuty::AggregationSlot(slot) => Duty::AggregationSlot(Slot(slot)),
        ProtoDuty::AggregateAndProofRoot(root) => {
            Duty::AggregateAndProof(bytes("aggregate_and_proof_root", &root)?)
        }
        ProtoDuty::SyncCommitteeMessageRoot(root) => {
            Duty::SyncCommitteeMessage(bytes("sync_committee_message_root", &root)?)
        }
        ProtoDuty::SyncCommitteeSelectionProof(data) => {
            Duty::SyncCommitteeSelectionProof(SyncAggregatorSelectionData {
                slot: Slot(data.slot),
                subcommittee_index: data.subcommittee_index,
            })
        }
        ProtoDuty::SyncCommitteeContributionAndProofRoot(root) => {
            Duty::SyncCommitteeContributionAndProof(bytes(
                "sync_committee_contribution_and_proof_root",
                &root,
            )?)
        }
        ProtoDuty::ExecutionPayloadRoot(root) => {
            Duty::ExecutionPayload(bytes("execution_payload_root", &root)?)
        }
        ProtoDuty::PayloadAttestation(data) => Duty::PayloadAttestation(PayloadAttestationData {
            beacon_block_root: bytes(
                "payload_attestation.beacon_block_root",
                &data.beacon_block_root,
            )?,
            slot: Slot(data.slot),
            payload_present: data.payload_present,
            blob_data_available: data.blob_data_available,
        }),
        ProtoDuty::ProposerPreferences(data) => Duty::ProposerPreferences(ProposerPreferences {
            dependent_root: bytes("proposer_preferences.dependent_root", &data.dependent_root)?,
            proposal_slot: Slot(data.proposal_slot),
            validator_index: data.validator_index,
            fee_recipient: bytes("proposer_preferences.fee_recipient", &data.fee_recipient)?,
            target_gas_limit: data.target_gas_limit,
        }),
        ProtoDuty::BuilderRequestAuth(auth) => Duty::BuilderRequestAuth(
            BuilderRequestAuth::new(auth.data, Slot(auth.slot)).map_err(|error| Malformed {
                member: "builder_request_auth.data",
                problem: Problem::Length(error.0),
            })?,
        ),
        ProtoDuty::ValidatorRegistration(data) => {
            Duty::ValidatorRegistration(ValidatorRegistration {
                fee_recipient: bytes("validator_registration.fee_recipient", &data.fee_recipient)?,
                gas_limit: data.gas_limit,
                timestamp: data.timestamp,
                pubkey: bytes("validator_registration.pubkey", &data.pubkey)?,
            })
        }
        ProtoDuty::VoluntaryExit(exit) => Duty::VoluntaryExit(VoluntaryExit {
            epoch: Epoch(exit.epoch),
            validator_index: exit.validator_index,
        }),
        ProtoDuty::Deposit(deposit) => Duty::Deposit(DepositMessage {
            pubkey: bytes("deposit.pubkey", &deposit.pubkey)?,
            withdrawal_credentials: bytes(
                "deposit.withdrawal_credentials",
                &deposit.withdrawal_credentials,
            )?,
            amount: deposit.amount,
        }),
    })
}

fn attestation_to_proto(data: &AttestationData) -> proto::AttestationData {
    let checkpoint = |checkpoint: &Checkpoint| proto::Checkpoint {
        epoch: checkpoint.epoch.0,
        root: checkpoint.root.0.to_vec(),
    };
    proto::AttestationData {
        slot: data.slot.0,
        index: data.index,
        beacon_block_root: data.beacon_block_root.0.to_vec(),
        source: Some(checkpoint(&data.source)),
        target: Some(checkpoint(&data.target)),
    }
}

fn attestation_from_proto(data: proto::AttestationData) -> Result<AttestationData, Malformed> {
    let checkpoint = |member, checkpoint: Option<proto::Checkpoint>| {
        let checkpoint = required(member, checkpoint)?;
        Ok(Checkpoint {
            epoch: Epoch(checkpoint.epoch),
            root: bytes(member, &checkpoint.root)?,
        })
    };
    Ok(AttestationData {
        slot: Slot(data.slot),
        index: data.index,
        beacon_block_root: bytes("attestation.beacon_block_root", &data.beacon_block_root)?,
        source: checkpoint("attestation.source", data.source)?,
        target: checkpoint("attestation.target", data.target)?,
    })
}

#[cfg(test)]
mod tests {
    use duty::{Address, ForkVersion, PublicKey, Root};

    use super::*;

    fn duties() -> Vec<Duty> {
        let root = |byte| Root([byte; 32]);
        let checkpoint = |epoch| Checkpoint {
            epoch: Epoch(epoch),
            root: root(9),
        };
        vec![
            Duty::Attestation(AttestationData {
                slot: Slot(u64::MAX),
                index: 1,
                beacon_block_root: root(1),
                source: checkpoint(0),
                target: checkpoint(u64::MAX),
            }),
            Duty::Block(BeaconBlockHeader {
                slot: Slot(1),
                proposer_index: 2,
                parent_root: root(3),
                state_root: root(4),
                body_root: root(5),
            }),
            Duty::RandaoReveal(Epoch(0)),
            Duty::AggregationSlot(Slot(0)),
            Duty::AggregateAndProof(root(1)),
            Duty::SyncCommitteeMessage(root(2)),
            Duty::SyncCommitteeSelectionProof(SyncAggregatorSelectionData {
                slot: Slot(3),
                subcommittee_index: 4,
            }),
            Duty::SyncCommitteeContributionAndProof(root(5)),
            Duty::ExecutionPayload(root(6)),
            Duty::PayloadAttestation(PayloadAttestationData {
                beacon_block_root: root(7),
                slot: Slot(8),
                payload_present: true,
                blob_data_available: false,
            }),
            Duty::ProposerPreferences(ProposerPreferences {
                dependent_root: root(1),
                proposal_slot: Slot(2),
                validator_index: 3,
                fee_recipient: Address([4; 20]),
                target_gas_limit: 5,
            }),
            Duty::BuilderRequestAuth(BuilderRequestAuth::new(vec![1], Slot(2)).unwrap()),
            Duty::ValidatorRegistration(ValidatorRegistration {
                fee_recipient: Address([1; 20]),
                gas_limit: 2,
                timestamp: 3,
                pubkey: PublicKey([4; 48]),
            }),
            Duty::VoluntaryExit(VoluntaryExit {
                epoch: Epoch(1),
                validator_index: 2,
            }),
            Duty::Deposit(DepositMessage {
                pubkey: PublicKey([1; 48]),
                withdrawal_credentials: root(2),
                amount: 3,
            }),
        ]
    }

    fn order(duty: Duty) -> SigningOrder {
        SigningOrder {
            validator: PublicKey([1; 48]),
            fork_version: ForkVersion([1, 2, 3, 4]),
            genesis_validators_root: Root([5; 32]),
            duty,
        }
    }

    #[test]
    fn a_batch_of_the_largest_orders_fits() {
        let data = vec![0xff; BuilderRequestAuth::DATA_BYTES_MAX];
        let largest = BuilderRequestAuth::new(data, Slot(u64::MAX)).unwrap();
        let ballot = proto::Ballot {
            round: u64::MAX,
            root: vec![0xff; 32],
        };
        for duty in duties()
            .into_iter()
            .chain([Duty::BuilderRequestAuth(largest)])
        {
            let order = SigningOrder {
                validator: PublicKey([1; 48]),
                fork_version: ForkVersion([2; 4]),
                genesis_validators_root: Root([3; 32]),
                duty,
            };
            let item = proto::SignItem {
                order: Some(order_to_proto(&order)),
                ballot: Some(ballot.clone()),
                lead: u64::MAX,
            };
            let request = proto::SignRequest {
                items: vec![item; crate::BATCH_MAX],
                scaled: true,
            };
            let bytes = prost::Message::encoded_len(&request);
            assert!(bytes <= crate::BATCH_BYTES_MAX, "{bytes} of {order:?}");
        }
    }

    #[test]
    fn every_duty_survives_the_way_there_and_back() {
        for duty in duties() {
            let order = order(duty);
            assert_eq!(order_from_proto(order_to_proto(&order)), Ok(order));
        }
    }

    #[test]
    fn missing_and_wrong_members_are_named() {
        let good = order_to_proto(&order(Duty::AggregateAndProof(Root([1; 32]))));
        let check = |order: proto::SigningOrder, message: &str| {
            assert_eq!(order_from_proto(order).unwrap_err().to_string(), message);
        };
        check(
            proto::SigningOrder {
                duty: None,
                ..good.clone()
            },
            "duty is missing",
        );
        check(
            proto::SigningOrder {
                validator: vec![1; 47],
                ..good.clone()
            },
            "validator has a length of 47 bytes",
        );
        check(
            proto::SigningOrder {
                duty: Some(ProtoDuty::Attestation(proto::AttestationData {
                    beacon_block_root: vec![0; 32],
                    ..Default::default()
                })),
                ..good.clone()
            },
            "attestation.source is missing",
        );
        check(
            proto::SigningOrder {
                duty: Some(ProtoDuty::BuilderRequestAuth(proto::BuilderRequestAuth {
                    data: vec![0; 4097],
                    slot: 0,
                })),
                ..good
            },
            "builder_request_auth.data has a length of 4097 bytes",
        );
    }
}
