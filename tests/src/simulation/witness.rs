//! Who sees everything, and says when a promise is broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use duty::{Claim, PublicKey, SigningRoot};
use tokio::time::Instant;

/// What every member has ever signed, delivered or not, and what else happened.
pub(super) struct Witness {
    began: Instant,
    /// A digest of everything that happened, in its order (FNV-1a).
    digest: u64,
    pub(super) events: u64,
    /// The story, if somebody wants to read it.
    story: Option<String>,
    /// What is broken.
    violation: Option<String>,
    /// Who has signed a root of a validator.
    emitted: BTreeMap<(PublicKey, SigningRoot), BTreeSet<usize>>,
    claims: BTreeMap<(PublicKey, SigningRoot), Claim>,
    /// Commits whose permit has not signed yet.
    receipts: BTreeMap<(usize, PublicKey, SigningRoot), u64>,
    /// Rows of others that a member was given: it may not sign these, nor against them.
    imported: BTreeMap<(usize, PublicKey), Vec<Imported>>,
    /// Members whose votes prove nothing: liars, and those whose disk was put back.
    faulty: BTreeSet<usize>,
    /// Members whose disk was put back, whether or not anybody can know.
    put_back: BTreeSet<usize>,
    threshold: usize,
    tolerated: usize,
}

/// Another signer's vote, and what the member had decided itself before it was given it: that it
/// may repeat.
struct Imported {
    claim: Claim,
    own: BTreeSet<SigningRoot>,
}

/// Whether two messages of one validator, with different roots, are slashable together.
fn conflict(a: &Claim, b: &Claim) -> bool {
    match (*a, *b) {
        (
            Claim::Attest { source, target },
            Claim::Attest {
                source: other_source,
                target: other_target,
            },
        ) => {
            target == other_target
                || (source < other_source && other_target < target)
                || (other_source < source && target < other_target)
        }
        (Claim::Propose { slot }, Claim::Propose { slot: other }) => slot == other,
        (Claim::Attest { .. }, Claim::Propose { .. })
        | (Claim::Propose { .. }, Claim::Attest { .. }) => false,
    }
}

impl Witness {
    pub(super) fn new(threshold: usize, tolerated: usize, tells: bool) -> Self {
        Self {
            began: Instant::now(),
            digest: 0xcbf2_9ce4_8422_2325,
            events: 0,
            story: tells.then(String::new),
            violation: None,
            emitted: BTreeMap::new(),
            claims: BTreeMap::new(),
            receipts: BTreeMap::new(),
            imported: BTreeMap::new(),
            faulty: BTreeSet::new(),
            put_back: BTreeSet::new(),
            threshold,
            tolerated,
        }
    }

    /// Notes what happened, for the digest and the story.
    pub(super) fn note(&mut self, what: &str, who: usize, detail: impl FnOnce() -> String) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.events += 1;
        let numbers = [at, u64::try_from(who).unwrap()].map(u64::to_le_bytes);
        for byte in numbers.as_flattened().iter().chain(what.as_bytes()) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        if let Some(story) = &mut self.story {
            writeln!(story, "{at:6} ms  {who}  {what}  {}", detail()).unwrap();
        }
    }

    /// The first promise that is broken stays.
    pub(super) fn broken(&mut self, what: String) {
        self.note("BROKEN", 0, || what.clone());
        self.violation.get_or_insert(what);
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    pub(super) fn faulty(&mut self, member: usize) {
        self.faulty.insert(member);
    }

    pub(super) fn put_back(&mut self, member: usize) {
        self.put_back.insert(member);
    }

    /// Whether a member's rows are what they always were.
    pub(super) fn is_as_it_was(&self, member: usize) -> bool {
        !self.put_back.contains(&member)
    }

    pub(super) const fn all_faulty(&self) -> &BTreeSet<usize> {
        &self.faulty
    }

    pub(super) fn imported(
        &mut self,
        member: usize,
        validator: PublicKey,
        claim: Claim,
        own: BTreeSet<SigningRoot>,
    ) {
        let imported = self.imported.entry((member, validator)).or_default();
        imported.push(Imported { claim, own });
    }

    /// A decision was committed.
    pub(super) fn committed(&mut self, member: usize, validator: PublicKey, root: SigningRoot) {
        self.note("commits", member, || short(root));
        *self.receipts.entry((member, validator, root)).or_default() += 1;
    }

    /// An honest member has signed what can be slashed: S2, S4, and with it S1.
    pub(super) fn signed(
        &mut self,
        member: usize,
        validator: PublicKey,
        root: SigningRoot,
        claim: Claim,
        has_row: bool,
    ) {
        self.note("signs", member, || format!("{} {claim:?}", short(root)));
        let receipt = self.receipts.get_mut(&(member, validator, root));
        let receipt = receipt.filter(|count| **count > 0).map(|count| *count -= 1);
        // Of a disk that was put back since, the receipt is what is left.
        let has_row = has_row || self.put_back.contains(&member);
        if !has_row || receipt.is_none() {
            self.broken(format!(
                "S4: member {member} signs {} without a commit of its own",
                short(root)
            ));
        }
        let imported = self.imported.get(&(member, validator));
        let forbids = |other: &&Imported| {
            !self.faulty.contains(&member)
                && !other.own.contains(&root)
                && conflict(&other.claim, &claim)
        };
        if let Some(other) = imported.and_then(|imported| imported.iter().find(forbids)) {
            let other = other.claim;
            self.broken(format!(
                "S2: member {member} signs {claim:?} against the imported {other:?}"
            ));
        }
        self.claims.insert((validator, root), claim);
        self.emitted
            .entry((validator, root))
            .or_default()
            .insert(member);
        self.check_against(validator, root, claim, member);
    }

    /// **S2**: no honest member signs both. **S1**: no two conflicting messages have, with the
    /// faulty counted for both, t signers each.
    fn check_against(
        &mut self,
        validator: PublicKey,
        root: SigningRoot,
        claim: Claim,
        member: usize,
    ) {
        let signers = &self.emitted[&(validator, root)];
        let mut problem = None;
        for ((other_validator, other_root), other_signers) in &self.emitted {
            let others = self.claims[&(*other_validator, *other_root)];
            if *other_validator != validator || *other_root == root || !conflict(&claim, &others) {
                continue;
            }
            if other_signers.contains(&member) && !self.faulty.contains(&member) {
                problem = Some(format!(
                    "S2: member {member} has signed {claim:?} and {others:?}"
                ));
            }
            let count = |signers: &BTreeSet<usize>| signers.union(&self.faulty).count();
            if self.faulty.len() <= self.tolerated
                && count(signers) >= self.threshold
                && count(other_signers) >= self.threshold
            {
                problem = Some(format!(
                    "S1: {claim:?} and {others:?} can both be combined: {signers:?} and \
                     {other_signers:?}, faulty {:?}",
                    self.faulty
                ));
            }
        }
        if let Some(problem) = problem {
            self.broken(problem);
        }
    }

    /// What came of it all.
    pub(super) fn testimony(self) -> Testimony {
        Testimony {
            violation: self.violation,
            digest: self.digest,
            events: self.events,
            story: self.story,
        }
    }
}

/// What came of one seed.
#[derive(Debug, Default)]
pub struct Testimony {
    /// Which promise was broken, if one was.
    pub violation: Option<String>,
    /// Of everything that happened, in its order.
    pub digest: u64,
    /// How much happened.
    pub events: u64,
    /// Line by line, if it was asked for.
    pub story: Option<String>,
}

pub(super) fn short(root: SigningRoot) -> String {
    const_hex::encode(&root.0[..3])
}
