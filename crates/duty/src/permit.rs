//! Claims, which a ledger decides about, and permits, which it mints.

use crate::{Epoch, PublicKey, SigningRoot, Slot};

/// The slashable part of a duty (EIP-3076).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    /// A vote from a source to a target checkpoint.
    Attest {
        /// The justified checkpoint's epoch.
        source: Epoch,
        /// The target checkpoint's epoch.
        target: Epoch,
    },
    /// A block at a slot.
    Propose {
        /// The block's slot.
        slot: Slot,
    },
}

/// Evidence that one root may be signed for one validator. Neither `Clone` nor `Copy`: a share
/// consumes it by signing.
///
/// There are two ways to one: a ledger's commit ([`Permit::after_commit`]; a lint allows its one
/// caller), and an order without a claim ([`crate::SigningOrder::permit_without_claim`]).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is dropped is a duty that is not signed"]
pub struct Permit {
    validator: PublicKey,
    root: SigningRoot,
}

impl Permit {
    /// A permit for a claim. **Only** the ledger may call this, and only after the commit that
    /// wrote the decision has returned; `clippy.toml` refuses other callers.
    pub const fn after_commit(validator: PublicKey, root: SigningRoot) -> Self {
        Self::new(validator, root)
    }

    pub(crate) const fn new(validator: PublicKey, root: SigningRoot) -> Self {
        Self { validator, root }
    }

    /// The validator whose share may sign.
    #[must_use]
    pub const fn validator(&self) -> PublicKey {
        self.validator
    }

    /// The root that may be signed.
    #[must_use]
    pub const fn root(&self) -> SigningRoot {
        self.root
    }
}
