//! `fork_info` and what a signature's domain is made of (section 4).

use daemon::network::{Fork, Network};
use duty::{Epoch, ForkVersion, Root};

use super::{
    error::BadRequest,
    members::{Raw, member, missing},
    object::object,
    values::{LenientRoot, U64},
};

object! {
    #[derive(Debug, Clone, Copy)]
    ForkMember {
        previous_version: ForkVersion,
        current_version: ForkVersion,
        epoch: U64,
    }
}

object! {
    /// What the client says about the chain. `fork.epoch` is compared with the message's epoch and
    /// with nothing else: one client sends the epoch of the signing slot.
    #[derive(Debug, Clone, Copy)]
    ForkInfo {
        fork: ForkMember,
        genesis_validators_root: LenientRoot,
    }
}

/// The half of a domain that its type does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) fork_version: ForkVersion,
    pub(super) genesis_validators_root: Root,
}

impl ForkInfo {
    pub(super) fn parse(raw: Option<Raw<'_>>) -> Result<Self, BadRequest> {
        member("fork_info", raw.ok_or_else(|| missing("", "fork_info"))?)
    }

    /// The version that messages of that epoch are signed with.
    pub(super) fn version_at(&self, epoch: Epoch) -> ForkVersion {
        if epoch < self.fork.epoch.epoch() {
            self.fork.previous_version
        } else {
            self.fork.current_version
        }
    }

    pub(super) fn chain_at(&self, epoch: Epoch) -> Chain {
        self.chain(self.version_at(epoch))
    }

    /// From Deneb on, exits are signed with Capella's version, whatever the request names
    /// (EIP-7044). Whether it is "from Deneb on" is decided by the request's fork: clients name the
    /// current one, Capella's own, or Capella twice; Capella's own rule gives Capella as well, save
    /// for exits dated before it, which the chain would refuse. A version that the network does not
    /// have leaves the exit's own epoch to decide.
    pub(super) fn chain_of_exit(&self, exit: Epoch, network: &Network) -> Chain {
        let current = network.fork_of_version(self.fork.current_version);
        let first_bound = current.map_or(Fork::Deneb, |_| Fork::Capella);
        let fork = current.unwrap_or_else(|| network.fork_at(exit));
        if fork >= first_bound {
            self.chain(network.capella_fork_version())
        } else {
            self.chain_at(exit)
        }
    }

    fn chain(&self, fork_version: ForkVersion) -> Chain {
        let LenientRoot(genesis_validators_root) = self.genesis_validators_root;
        Chain {
            fork_version,
            genesis_validators_root,
        }
    }
}

/// The chain of what is signed for no chain in particular: its domain has a zero root.
pub(super) const fn no_chain(fork_version: ForkVersion) -> Chain {
    Chain {
        fork_version,
        genesis_validators_root: Root::ZERO,
    }
}
