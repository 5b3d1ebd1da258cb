//! A cosigner: holds one share of each validator's key, keeps its own slashing-protection ledger,
//! decides for itself, and gives partial signatures.
//!
//! It promises that no partial of a slashable duty leaves it without a committed row in its ledger,
//! that it signs orders which it understands and never a bare root, that it never signs two
//! conflicting claims, and that no share appears in a log, an error or a core dump.

pub mod cli;
pub mod config;

pub mod service;

pub mod authority;
pub mod clock;
pub mod promises;
pub mod vault;

pub mod import;
pub mod package;

mod pruning;

pub mod metrics;
mod reload;
pub mod sealing;
mod server;
