//! Verifying many signatures together, and finding the bad ones among them.
//!
//! Of a batch of statements "σ_i is key_i's over m_i" the product of
//! (e(key_i, H(m_i)) / e(g1, σ_i))^c_i with random 64-bit c_i is 1 if all are true, and else once in
//! 2^64 times (M. Bellare, J. Garay, T. Rabin, 1998). Keys over one message are summed before they
//! are paired, as all signatures are. That holds only in groups of the prime order r: whoever makes
//! a statement has checked that its points are in the subgroup.

use std::num::NonZeroU64;

use crate::bls::{G1, G1Sum, G2, HashedMessage, Multipliers, PairingProduct};

/// If half of so many statements that were judged last are false, dividing the next ones does not
/// pay.
const LOOKED_BACK: usize = 8;

/// A claim that a signature is a key's over a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    pub(crate) key: G1,
    /// Which of the hashed messages; statements with the same one cost less side by side.
    pub(crate) message: usize,
    pub(crate) signature: G2,
}

impl Statement {
    fn holds(&self, messages: &[HashedMessage]) -> bool {
        courtesy::offer();
        let message = messages.get(self.message);
        message.is_some_and(|message| message.is_signed_by(&self.key, &self.signature))
    }
}

/// Which statements hold, in their order: each by itself without multipliers, else all together,
/// and if they do not all hold, by bisection. One false statement of n is found with log2 n
/// verifications of fewer and fewer; where every second is false they are verified one by one, so
/// that many false ones never cost much more than n verifications.
pub(crate) fn judge(
    statements: &[Statement],
    messages: &[HashedMessage],
    multipliers: Option<&mut Multipliers>,
) -> Vec<bool> {
    match multipliers {
        Some(multipliers) if statements.len() > 1 => {
            let weighted = statements
                .iter()
                .map(|statement| (multipliers.draw(), *statement));
            let weighted: Vec<Weighted> = weighted.collect();
            let mut holds = Vec::with_capacity(weighted.len());
            let product = product(&weighted, messages);
            bisect(&weighted, messages, &product, &mut holds);
            holds
        }
        Some(_) | None => statements.iter().map(|one| one.holds(messages)).collect(),
    }
}

type Weighted = (NonZeroU64, Statement);

/// Says of each statement whether it holds, given the product of them all. A half's product gives
/// the other's, so that each division costs one product, and the single statements none.
fn bisect(
    weighted: &[Weighted],
    messages: &[HashedMessage],
    all: &PairingProduct,
    holds: &mut Vec<bool>,
) {
    if all.is_one() || weighted.len() < 2 {
        return holds.extend(weighted.iter().map(|_| all.is_one()));
    }
    let recent = holds.iter().rev().take(LOOKED_BACK);
    if recent.filter(|holds| !**holds).count() >= LOOKED_BACK / 2 {
        return holds.extend(weighted.iter().map(|(_, one)| one.holds(messages)));
    }
    let (left, right) = weighted.split_at(weighted.len() / 2);
    let product = product(left, messages);
    bisect(left, messages, &product, holds);
    bisect(right, messages, &all.without(&product), holds);
}

fn product(weighted: &[Weighted], messages: &[HashedMessage]) -> PairingProduct {
    let runs = || weighted.chunk_by(|(_, one), (_, next)| one.message == next.message);
    let sums: Vec<G1Sum> = runs()
        .map(|run| {
            courtesy::offer();
            G1Sum::multiplied(run.iter().map(|(weight, one)| (*weight, &one.key)))
        })
        .collect();
    let hashed = runs().map(|run| messages.get(run.first()?.1.message));
    let keys = G1Sum::normalise_all(&sums).into_iter().zip(hashed);
    let keys: Vec<(G1, HashedMessage)> = keys
        .filter_map(|(key, message)| Some((key?, *message?)))
        .collect();
    let signatures = weighted
        .iter()
        .map(|(weight, one)| (*weight, &one.signature));
    let signatures = G2::multiplied(signatures);
    courtesy::offer();
    PairingProduct::of(&keys, signatures.as_ref())
}
