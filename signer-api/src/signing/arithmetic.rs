//! What the conductor computes on the curve.

use threshold::{CombineError, Committee, PartialSignature, ShareIndex, Signature};

use duty::SigningRoot;

/// Combining and verifying; the simulation remembers what it has computed before.
pub trait Arithmetic: Send + Sync + 'static {
    /// As [`Committee::combine`].
    ///
    /// # Errors
    /// As [`Committee::combine`].
    fn combine(
        &self,
        committee: &Committee,
        root: SigningRoot,
        partials: &[(ShareIndex, PartialSignature)],
    ) -> Result<Signature, CombineError> {
        committee.combine(root, partials)
    }

    /// Whether a partial is the member's over this root.
    fn holds(
        &self,
        committee: &Committee,
        index: ShareIndex,
        root: SigningRoot,
        partial: &PartialSignature,
    ) -> bool {
        committee.verify_partial(index, root, partial).is_ok()
    }
}

/// Each time anew.
pub(crate) struct Plain;

impl Arithmetic for Plain {}
