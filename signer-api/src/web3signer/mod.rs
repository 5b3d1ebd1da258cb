//! The dialect of validator clients: a request of the Web3Signer contract in, a `SigningOrder` out.
//!
//! Pure. It promises that whatever bytes arrive give an order or a [`BadRequest`] that says what is
//! wrong with which member, never a panic, in time and memory linear in the body; and that a root
//! which the request names is the root of the order it gave. It knows forks, presets and SSZ; it
//! knows no validator, no cosigner and no HTTP.
//!
//! Section numbers are those of the wire contract (Web3Signer's HTTP behaviour, version B).

mod aggregate;
mod bits;
mod block;
mod drafts;
mod error;
mod fork_info;
mod gloas;
mod kind;
mod members;
mod object;
mod payloads;
mod progressive;
mod reply;
mod request;
mod values;
mod wrapping;

#[cfg(test)]
mod tests;

pub use error::BadRequest;
pub use kind::RequestKind;
pub use reply::{parse_identifier, wants_json};
pub use request::{SigningRequest, kind_of, likely_kind, parse};
