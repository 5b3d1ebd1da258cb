//! Domains and signing roots (consensus specification, phase0, `compute_signing_root`).

use tree_hash::TreeHash;
use tree_hash_derive::TreeHash;

use crate::{Claim, Duty, ForkVersion, Permit, PublicKey, Root, SigningRoot};

/// The four bytes that say what kind of object a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainType([u8; 4]);

#[expect(
    missing_docs,
    reason = "the names are the consensus and builder specifications'"
)]
impl DomainType {
    pub const BEACON_PROPOSER: Self = Self([0x00, 0, 0, 0]);
    pub const BEACON_ATTESTER: Self = Self([0x01, 0, 0, 0]);
    pub const RANDAO: Self = Self([0x02, 0, 0, 0]);
    pub const DEPOSIT: Self = Self([0x03, 0, 0, 0]);
    pub const VOLUNTARY_EXIT: Self = Self([0x04, 0, 0, 0]);
    pub const SELECTION_PROOF: Self = Self([0x05, 0, 0, 0]);
    pub const AGGREGATE_AND_PROOF: Self = Self([0x06, 0, 0, 0]);
    pub const SYNC_COMMITTEE: Self = Self([0x07, 0, 0, 0]);
    pub const SYNC_COMMITTEE_SELECTION_PROOF: Self = Self([0x08, 0, 0, 0]);
    pub const CONTRIBUTION_AND_PROOF: Self = Self([0x09, 0, 0, 0]);
    pub const BEACON_BUILDER: Self = Self([0x0b, 0, 0, 0]);
    pub const PTC_ATTESTER: Self = Self([0x0c, 0, 0, 0]);
    pub const PROPOSER_PREFERENCES: Self = Self([0x0d, 0, 0, 0]);
    pub const APPLICATION_BUILDER: Self = Self([0x00, 0, 0, 0x01]);
    pub const BUILDER_REQUEST_AUTH: Self = Self([0x0b, 0, 0, 0x01]);
}

#[derive(TreeHash)]
struct ForkData {
    current_version: ForkVersion,
    genesis_validators_root: Root,
}

#[derive(TreeHash)]
struct SigningData {
    object_root: Root,
    domain: [u8; 32],
}

/// Everything a cosigner needs to recompute what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningOrder {
    /// The validator whose share shall sign.
    pub validator: PublicKey,
    /// The fork version of the domain.
    pub fork_version: ForkVersion,
    /// The chain; compared with the configured one, and used only by duties bound to a chain.
    pub genesis_validators_root: Root,
    /// What shall be signed.
    pub duty: Duty,
}

impl SigningOrder {
    /// The 32 bytes to sign. Total: what was parsed can be hashed.
    #[must_use]
    pub fn signing_root(&self) -> SigningRoot {
        let genesis_validators_root = if self.duty.is_bound_to_chain() {
            self.genesis_validators_root
        } else {
            Root::ZERO
        };
        let fork_data = ForkData {
            current_version: self.fork_version,
            genesis_validators_root,
        }
        .tree_hash_root();
        let mut domain = [0; 32];
        let (kind, chain) = domain.split_at_mut(4);
        kind.copy_from_slice(&self.duty.domain_type().0);
        chain.copy_from_slice(fork_data.0.first_chunk::<28>().unwrap_or(&[0; 28]));
        let data = SigningData {
            object_root: self.duty.object_root(),
            domain,
        };
        SigningRoot(data.tree_hash_root().0)
    }

    /// What the ledger must decide about, or `None` if the duty cannot be slashed.
    #[must_use]
    pub const fn claim(&self) -> Option<Claim> {
        self.duty.claim()
    }

    /// A permit for a duty that cannot be slashed; such an order needs no ledger.
    ///
    /// # Errors
    /// The claim of a duty that can be slashed: only a ledger permits that.
    pub fn permit_without_claim(&self) -> Result<Permit, Claim> {
        match self.claim() {
            None => Ok(Permit::new(self.validator, self.signing_root())),
            Some(claim) => Err(claim),
        }
    }
}

/// Signing roots of orders that come one after another, each message hashed once while it is the
/// same: in a burst thousands of validators sign one.
#[derive(Debug, Default)]
pub struct SigningRoots(Option<(SigningOrder, SigningRoot)>);

impl SigningRoots {
    /// As [`SigningOrder::signing_root`].
    pub fn of(&mut self, order: &SigningOrder) -> SigningRoot {
        let is_same = |last: &SigningOrder| {
            let SigningOrder {
                validator: _,
                fork_version,
                genesis_validators_root,
                duty,
            } = order;
            last.fork_version == *fork_version
                && last.genesis_validators_root == *genesis_validators_root
                && last.duty == *duty
        };
        match &self.0 {
            Some((last, root)) if is_same(last) => *root,
            Some(_) | None => {
                let root = order.signing_root();
                self.0 = Some((order.clone(), root));
                root
            }
        }
    }
}
