//! Full blocks of phase0 and Altair, and headers of every fork (sections 5.4 and 5.5).

use daemon::network::{Fork, Preset};
use duty::{BeaconBlockHeader, Root};
use ssz_types::{FixedVector, VariableList};
use tree_hash::{Hash256, TreeHash};
use tree_hash_derive::TreeHash;
use typenum::{U2, U16, U33, U128, U2048};

use super::{
    bits::{LimitedBitList, bit_vector_root},
    error::BadRequest,
    members::{Raw, invalid, member, missing, pick},
    object::object,
    payloads::{AttestationMember, ExitMember},
    values::{Bytes, Fixed, LenientRoot, Signature, U64},
};

object! {
    #[derive(Debug)]
    Block {
        slot: U64,
        proposer_index: U64,
        parent_root: LenientRoot,
        state_root: LenientRoot,
        body: BlockBody,
    }
}

object! {
    #[derive(Debug)]
    BlockBody {
        randao_reveal: Signature,
        eth1_data: Eth1Data,
        graffiti: LenientRoot,
        proposer_slashings: VariableList<ProposerSlashing, U16>,
        attester_slashings: VariableList<AttesterSlashing, U2>,
        attestations: VariableList<Attestation, U128>,
        deposits: VariableList<Deposit, U16>,
        voluntary_exits: VariableList<SignedVoluntaryExit, U16>,
        sync_aggregate: Option<SyncAggregate>,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    Eth1Data {
        deposit_root: LenientRoot,
        deposit_count: U64,
        block_hash: LenientRoot,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    ProposerSlashing {
        signed_header_1: SignedHeader,
        signed_header_2: SignedHeader,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    SignedHeader {
        message: Header,
        signature: Signature,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    Header {
        slot: U64,
        proposer_index: U64,
        parent_root: LenientRoot,
        state_root: LenientRoot,
        body_root: LenientRoot,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    AttesterSlashing {
        attestation_1: IndexedAttestation,
        attestation_2: IndexedAttestation,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    IndexedAttestation {
        attesting_indices: VariableList<U64, U2048>,
        data: AttestationMember,
        signature: Signature,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    Attestation {
        aggregation_bits: LimitedBitList<2048>,
        data: AttestationMember,
        signature: Signature,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    Deposit {
        proof: FixedVector<LenientRoot, U33>,
        data: DepositData,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    DepositData {
        pubkey: Fixed<48>,
        withdrawal_credentials: LenientRoot,
        amount: U64,
        signature: Signature,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    SignedVoluntaryExit {
        message: ExitMember,
        signature: Signature,
    }
}

object! {
    #[derive(Debug)]
    SyncAggregate {
        sync_committee_bits: Bytes,
        sync_committee_signature: Signature,
    }
}

impl Header {
    fn into_header(self) -> BeaconBlockHeader {
        BeaconBlockHeader {
            slot: self.slot.slot(),
            proposer_index: self.proposer_index.0,
            parent_root: self.parent_root.0,
            state_root: self.state_root.0,
            body_root: self.body_root.0,
        }
    }
}

/// The block of a `BLOCK_V2` request, as its header, whose root is the block's.
pub(super) fn versioned_block(
    name: &str,
    raw: Raw<'_>,
    sizes: &Preset,
) -> Result<BeaconBlockHeader, BadRequest> {
    let [version, block, header] = pick(name, raw.get(), ["version", "block", "block_header"])?;
    let path = format!("{name}.version");
    let version: String = member(&path, version.ok_or_else(|| missing(name, "version"))?)?;
    let fork = Fork::from_name(&version).ok_or_else(|| {
        let version = super::members::clipped(&version);
        invalid(
            path,
            format!("{version:?} is no fork's name in upper case that is known"),
        )
    })?;
    let (block_path, header_path) = (format!("{name}.block"), format!("{name}.block_header"));
    if block.is_some() && header.is_some() {
        return Err(invalid(
            name,
            "has both block and block_header, of which it may have one",
        ));
    }
    match fork {
        Fork::Phase0 | Fork::Altair => {
            let block: Block = member(&block_path, block.ok_or_else(|| missing(name, "block"))?)?;
            full_block(block, &block_path, fork, sizes)
        }
        Fork::Bellatrix
        | Fork::Capella
        | Fork::Deneb
        | Fork::Electra
        | Fork::Fulu
        | Fork::Gloas => {
            let header = header.ok_or_else(|| missing(name, "block_header"))?;
            Ok(member::<Header>(&header_path, header)?.into_header())
        }
    }
}

/// A full block of phase0 or Altair, that stands at `path`, as its header.
pub(super) fn full_block(
    block: Block,
    path: &str,
    fork: Fork,
    sizes: &Preset,
) -> Result<BeaconBlockHeader, BadRequest> {
    let body_root = body_root(&block.body, &format!("{path}.body"), fork, sizes)?;
    Ok(BeaconBlockHeader {
        slot: block.slot.slot(),
        proposer_index: block.proposer_index.0,
        parent_root: block.parent_root.0,
        state_root: block.state_root.0,
        body_root,
    })
}

fn body_root(body: &BlockBody, path: &str, fork: Fork, sizes: &Preset) -> Result<Root, BadRequest> {
    let mut fields = vec![
        body.randao_reveal.tree_hash_root(),
        body.eth1_data.tree_hash_root(),
        body.graffiti.tree_hash_root(),
        body.proposer_slashings.tree_hash_root(),
        body.attester_slashings.tree_hash_root(),
        body.attestations.tree_hash_root(),
        body.deposits.tree_hash_root(),
        body.voluntary_exits.tree_hash_root(),
    ];
    if fork >= Fork::Altair {
        let aggregate = body
            .sync_aggregate
            .as_ref()
            .ok_or_else(|| missing(path, "sync_aggregate"))?;
        let bits = bit_vector_root(&aggregate.sync_committee_bits.0, sizes.sync_committee_size);
        let bits = bits.map_err(|error| {
            invalid(
                format!("{path}.sync_aggregate.sync_committee_bits"),
                error.to_string(),
            )
        })?;
        let signature = aggregate.sync_committee_signature.tree_hash_root();
        fields.push(container_root(&[bits, signature]));
    }
    Ok(Root(container_root(&fields).0))
}

/// The root of an ordinary container whose fields have those roots.
pub(super) fn container_root(fields: &[Hash256]) -> Hash256 {
    let chunks: Vec<u8> = fields.iter().flat_map(|root| root.0).collect();
    tree_hash::merkle_root(&chunks, fields.len())
}
