//! What is signed: orders, duties, their signing roots, their slashable claims, and permits.
//!
//! This crate is pure: no I/O, no clock, no randomness. It promises that one order has exactly one
//! signing root, computed here and nowhere else, that a duty's domain type is a function of its
//! variant, and that a slashable duty always has a claim. It never signs and never decides.

mod duties;
mod permit;
mod primitives;
mod root;

pub use duties::{
    AttestationData, BeaconBlockHeader, BuilderRequestAuth, Checkpoint, DepositMessage, Duty,
    DutyKind, InvalidAuthData, PayloadAttestationData, ProposerPreferences,
    SyncAggregatorSelectionData, ValidatorRegistration, VoluntaryExit,
};
pub use permit::{Claim, Permit};
pub use primitives::{Address, Epoch, ForkVersion, HexError, PublicKey, Root, SigningRoot, Slot};
pub use root::{DomainType, SigningOrder, SigningRoots};

#[cfg(test)]
mod tests;
