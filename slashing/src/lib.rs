//! slashing.
