//! What of a verification can be computed before there is a signature.

use duty::SigningRoot;

use crate::{
    Committee,
    bls::{G1, G2, HalfPairing, HashedMessage},
};

/// The part of verifying a committee's signature over a root that needs no signature: the root's
/// hash and the Miller loop with the group key. A job that has it costs a third less alone.
///
/// For other keys and other roots it is of no use, and is not used: whatever is given with a
/// [`crate::Combination`], the results are the same. **Invariant:** kept by
/// `tests::anticipation::what_was_anticipated_of_another_key_or_root_changes_no_result`.
#[derive(Debug, Clone)]
pub struct Anticipated {
    key: G1,
    root: SigningRoot,
    message: HashedMessage,
    half: HalfPairing,
}

impl Anticipated {
    /// Of the signature that `committee` may make over `root`.
    #[must_use]
    pub fn new(committee: &Committee, root: SigningRoot) -> Self {
        let key = *committee.group_point();
        let message = HashedMessage::new(root.as_bytes());
        Self {
            key,
            root,
            message,
            half: message.paired_with(&key),
        }
    }

    /// Whether it is that of this committee's signature over this root.
    pub(crate) fn fits(&self, committee: &Committee, root: SigningRoot) -> bool {
        self.key == *committee.group_point() && self.root == root
    }

    /// The root's hash.
    pub(crate) const fn message(&self) -> HashedMessage {
        self.message
    }

    /// Whether `signature` is the one.
    pub(crate) fn is_signed_by(&self, signature: &G2) -> bool {
        self.half.is_signed_by(signature)
    }
}
