//! The operator's tool: a committee to try, keys split into shares, certificates, orders to
//! ledgers and their histories, a load generator.
//!
//! It is the only program that ever holds a whole validator key, and only while it splits one.

pub mod attestation;
pub mod bench;
pub mod certs;
pub mod cli;
pub mod client;
pub mod keys;
pub mod keystore;
pub mod ledger;
pub mod quickstart;
