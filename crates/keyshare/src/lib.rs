//! The secret half of threshold BLS: a share that signs with a permit, and the splitting of a key.
//!
//! This crate is pure: no I/O, no clock, no randomness of its own. It promises that a share gives
//! out partials only of what a [`duty::Permit`] names, that a split is proved against its commitments before it
//! is handed out, and that keys, shares and coefficients are wiped when they go out of scope. A
//! secret has no `Clone`, `Debug`, `Serialize` or `PartialEq`, lives on the heap (so that moving
//! it copies a pointer), and leaves this crate only through [`SecretShare::to_be_bytes`].

mod bls;
mod secret;
mod signing;
mod split;
mod tables;

pub use secret::{InvalidSecret, SecretKey, SecretShare, ShareMismatch, check_share};
pub use signing::{SigningShare, Withheld};
pub use split::{Split, SplitError, split};
pub use tables::Tables;

#[cfg(test)]
mod tests;
