//! What the end-to-end tests share: recorded requests, and committees of real processes.

pub mod cluster;
pub mod configs;
pub mod fuzzing;
pub mod http;
pub mod liar;
pub mod lone;
mod material;
pub mod network;
pub mod prepared;
pub mod process;
pub mod proxy;
pub mod requests;
pub mod simulation;
pub mod strace;
pub mod trials;
pub mod vectors;
