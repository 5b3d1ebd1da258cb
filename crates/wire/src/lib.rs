//! The wire between signer-api and cosigners: the types generated from `proto/cosigner.proto`, and
//! total conversions to and from the domain types.
//!
//! It promises that every message of a peer becomes either a domain value or [`Malformed`], and that
//! a domain value survives the way there and back. It decides nothing.

pub mod batches;
pub mod codec;
mod leads;
mod orders;
mod partials;
mod reports;

pub use leads::{horizon_from_proto, horizon_to_proto, lead_from_proto, lead_to_proto};
pub use orders::{order_from_proto, order_to_proto};
pub use partials::{partial_to_proto, plain_partial_from_proto, scaled_partial_from_proto};
pub use reports::{Report, ballot_from_proto, ballot_to_proto, report_from_proto, report_to_proto};

/// The messages and services of `proto/cosigner.proto`.
#[expect(
    missing_docs,
    reason = "generated; the documentation stands in the .proto file"
)]
#[expect(
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    reason = "generated, not written here"
)]
pub mod proto {
    tonic::include_proto!("countersign.cosigner.v1");
}

/// Items that one batch holds at most.
pub const BATCH_MAX: usize = 128;

/// Bytes that the message of one batch takes at most, with room to spare. **Invariant:** kept by
/// `orders::tests::a_batch_of_the_largest_orders_fits`.
pub const BATCH_BYTES_MAX: usize = 640 * 1024;

/// Validators that one page of a listing holds at most.
pub const PAGE_MAX: usize = 500;

/// A peer's message that is not understood: which member, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{member} {problem}")]
pub struct Malformed {
    /// The member's name in the protocol file.
    pub member: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a member of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The member is required and missing.
    #[error("is missing")]
    Missing,
    /// The member has a length that its type does not have.
    #[error("has a length of {0} bytes")]
    Length(usize),
    /// The number is outside the type's range.
    #[error("is out of range")]
    Range,
}

impl Malformed {
    const fn missing(member: &'static str) -> Self {
        Self {
            member,
            problem: Problem::Missing,
        }
    }
}

/// Bytes of a fixed length, or the member's name.
fn bytes<'a, T: TryFrom<&'a [u8]>>(member: &'static str, value: &'a [u8]) -> Result<T, Malformed> {
    T::try_from(value).map_err(|_| Malformed {
        member,
        problem: Problem::Length(value.len()),
    })
}

fn required<T>(member: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or(Malformed::missing(member))
}
