//! Listening: connections that are bounded, identified, and drained at the end.
//!
//! [`Listener`] accepts, shakes hands and hands over [`PeerStream`]s; [`http()`] serves an axum
//! router on them, and tonic's `serve_with_incoming` takes [`Listener::into_stream`].

mod listener;
mod peer;
// In the order of a connection's life: accepted, identified, served.
mod http;

mod activity;
mod addresses;
mod body;

pub use http::{Drain, HttpLimits, http};
pub use listener::{Closer, Connections, Listener, ListenerCounters, ListenerLimits};
pub use peer::{Peer, PeerStream};

#[cfg(test)]
mod tests;
