//! What the conductor computes on the curve.

use duty::SigningRoot;
use threshold::{
    Anticipated, BadPartial, Combination, CombineError, Committee, PartialSignature, ShareIndex,
    Signature, combine_each,
};

/// Combining and verifying; the simulation remembers what it has computed before.
pub trait Arithmetic: Send + Sync + 'static {
    /// What needs no partials of combining them.
    fn anticipate(&self, committee: &Committee, root: SigningRoot) -> Anticipated {
        Anticipated::new(committee, root)
    }

    /// As [`combine_each`].
    fn combine(
        &self,
        jobs: &[Combination<'_>],
        answer: &mut dyn FnMut(usize, Result<Signature, CombineError>),
    ) {
        combine_each(jobs, &rand::random(), answer);
    }

    /// Whether a partial is the member's over this root.
    fn holds(
        &self,
        committee: &Committee,
        index: ShareIndex,
        root: SigningRoot,
        partial: &PartialSignature,
    ) -> bool {
        let verified = committee.verify_partial(index, root, partial);
        // Without the member's key nothing is known of its partial.
        verified.is_ok() || matches!(verified, Err(BadPartial::Commitments(_)))
    }
}

/// Each time anew.
pub(crate) struct Plain;

impl Arithmetic for Plain {}
