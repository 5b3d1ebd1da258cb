//! signer-api: speaks Web3Signer to validator clients and gRPC to cosigners.
//!
//! It promises that a signature which leaves it was verified under the validator's key and over
//! the posted message, that every request is answered within its deadline, and that whatever it
//! holds (bodies, queues, requests) is bounded. It holds no key, no share and no
//! database: it can neither sign nor permit.

// In the order of a request: read, admitted, routed, parsed, conducted, asked, answered.
mod admission;
pub mod cli;
pub mod config;
mod cosigners;
mod reply;
mod routes;
mod signing;
mod validators;
pub mod web3signer;

mod reload;

mod cpu;
mod metrics;

#[cfg(feature = "test-seams")]
pub mod seams;

#[cfg(test)]
mod testing;
