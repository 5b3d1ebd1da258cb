//! What was asked for, whoever led whom.

use duty::{Claim, Epoch, SigningRoot, Slot};

/// The highest duties of a validator that were asked for without a promise, and the messages.
#[derive(Default)]
pub(super) struct Asked {
    attestation: Option<(Epoch, SigningRoot)>,
    block: Option<(Slot, SigningRoot)>,
    /// Of all attestations.
    source: Epoch,
}

impl Asked {
    /// Takes note that this is asked for: whether without a promise. Nothing else was, for this duty or one
    /// above it; nor a vote with a higher source. That one may have got some votes, which refuse this one: it would spend those
    /// of the others in vain, where promises would tell.
    pub(super) fn may_ask(&mut self, claim: &Claim, root: SigningRoot) -> bool {
        match *claim {
            Claim::Attest { source, target } => {
                let is_higher = self.source <= source;
                self.source = self.source.max(source);
                is_higher && goes_up(&mut self.attestation, target, root)
            }
            Claim::Propose { slot } => goes_up(&mut self.block, slot, root),
        }
    }
}

fn goes_up<T: Ord + Copy>(
    last: &mut Option<(T, SigningRoot)>,
    number: T,
    root: SigningRoot,
) -> bool {
    let is_higher = last.is_none_or(|(highest, _)| highest < number);
    if is_higher {
        *last = Some((number, root));
    }
    *last == Some((number, root))
}
