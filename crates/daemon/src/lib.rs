//! What both servers need around their work: configuration files, TLS, listening, telemetry,
//! hardening, shutdown.
//!
//! It promises that no byte of a peer reaches a handler before the peer has proved who it is
//! ([`tls`]), that connections, handshakes and waits are bounded ([`serve`]), and that what is
//! wrong with a configuration is said in one sentence ([`config`]). It never knows a key, a
//! share or a duty, and it never writes a secret to a log.

pub mod bulk;
pub mod config;
mod hardening;
pub mod metrics;
pub mod network;
pub mod reload;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use hardening::harden;
/// The allocator of the programs: requests allocate hundreds of small things each, on one thread, and
/// free them on another.
pub use mimalloc::MiMalloc as Allocator;
pub use tls::install_crypto_provider;

#[cfg(test)]
mod process_tests;
#[cfg(test)]
mod testing;
