//! Aggregates, whose SSZ shape depends on the fork (section 5.2).

use daemon::network::{Fork, Network, Preset};
use duty::{Epoch, Root};
use tree_hash::{Hash256, TreeHash};

use super::{
    bits::{BitList, bit_vector_root},
    block::container_root,
    error::BadRequest,
    fork_info::ForkInfo,
    members::{invalid, missing},
    object::object,
    payloads::AttestationMember,
    progressive,
    values::{Bytes, Signature, U64},
    wrapping::{Version, Versioned, unserved},
};

object! {
    #[derive(Debug)]
    AggregateAndProof {
        aggregator_index: U64,
        aggregate: Aggregate,
        selection_proof: Signature,
    }
}

object! {
    #[derive(Debug)]
    Aggregate {
        aggregation_bits: BitList,
        data: AttestationMember,
        signature: Signature,
        committee_bits: Option<Bytes>,
    }
}

/// The shapes that an attestation has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Phase0,
    Electra,
    Gloas,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Phase0, Self::Electra, Self::Gloas];

    const fn of(fork: Fork) -> Self {
        match fork {
            Fork::Phase0 | Fork::Altair | Fork::Bellatrix | Fork::Capella | Fork::Deneb => {
                Self::Phase0
            }
            Fork::Electra | Fork::Fulu => Self::Electra,
            Fork::Gloas => Self::Gloas,
        }
    }
}

/// An aggregate's object root as the client most likely means it, and in the other shapes.
pub(super) struct Roots {
    pub(super) likely: Result<Root, BadRequest>,
    pub(super) others: Vec<Root>,
}

/// The roots of that aggregate, whose slot lies in `epoch`. Its fork is the one its `version` names; if it says none, the one
/// whose version the domain has; if the network does not know that, the one scheduled at its slot.
pub(super) fn roots(
    payload: &Versioned<AggregateAndProof>,
    fork_info: &ForkInfo,
    epoch: Epoch,
    network: &Network,
) -> Roots {
    let root = |shape| root_in(shape, payload, network.sizes());
    let (likely, shape) = match &payload.version {
        Version::Unknown { path, name } => (Err(unserved(path, name)), None),
        Version::Known { fork, .. } => {
            let shape = Shape::of(*fork);
            (root(shape), Some(shape))
        }
        Version::Unsaid => {
            let named = network.fork_of_version(fork_info.version_at(epoch));
            let shape = Shape::of(named.unwrap_or_else(|| network.fork_at(epoch)));
            (root(shape), Some(shape))
        }
    };
    let others = Shape::ALL.into_iter().filter(|other| Some(*other) != shape);
    Roots {
        likely,
        others: others.filter_map(|shape| root(shape).ok()).collect(),
    }
}

fn root_in(
    shape: Shape,
    payload: &Versioned<AggregateAndProof>,
    sizes: &Preset,
) -> Result<Root, BadRequest> {
    let AggregateAndProof {
        aggregator_index,
        aggregate,
        selection_proof,
    } = &payload.data;
    let path = format!("{}.aggregate", payload.path);
    let aggregate = aggregate_root(shape, aggregate, &path, sizes)?;
    let root = container_root(&[
        aggregator_index.tree_hash_root(),
        aggregate,
        selection_proof.tree_hash_root(),
    ]);
    Ok(Root(root.0))
}

fn aggregate_root(
    shape: Shape,
    aggregate: &Aggregate,
    path: &str,
    sizes: &Preset,
) -> Result<Hash256, BadRequest> {
    let data = aggregate.data.clone().into_data().tree_hash_root();
    let signature = aggregate.signature.tree_hash_root();
    let bits = |limit| {
        let root = aggregate.aggregation_bits.root(limit);
        root.map_err(|error| invalid(format!("{path}.aggregation_bits"), error.to_string()))
    };
    let committees = || {
        let Bytes(bytes) = aggregate
            .committee_bits
            .as_ref()
            .ok_or_else(|| missing(path, "committee_bits"))?;
        bit_vector_root(bytes, sizes.max_committees_per_slot)
            .map_err(|error| invalid(format!("{path}.committee_bits"), error.to_string()))
    };
    Ok(match shape {
        Shape::Phase0 => {
            container_root(&[bits(sizes.max_validators_per_committee)?, data, signature])
        }
        Shape::Electra => container_root(&[
            bits(sizes.max_validators_per_slot())?,
            data,
            signature,
            committees()?,
        ]),
        Shape::Gloas => progressive::container_root([
            aggregate.aggregation_bits.progressive_root(),
            data,
            signature,
            committees()?,
        ]),
    })
}
