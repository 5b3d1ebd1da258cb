//! Committees and their signatures: real ones, each computed once for all seeds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use duty::{Permit, PublicKey, SigningRoot};
use keyshare::{SecretKey, SigningShare, split};
use parking_lot::Mutex;
use signer_api::seams::Arithmetic;
use threshold::{Combination, CombineError, Committee, PartialSignature, ShareIndex, Signature};

/// One validator's committee with all its shares.
pub(super) struct Family {
    pub(super) committee: Committee,
    pub(super) indices: Vec<ShareIndex>,
    shares: Vec<SigningShare>,
}

type Made = (usize, usize, u8);
type Parts = Vec<(u64, Vec<u8>)>;
type Signed = HashMap<(PublicKey, u64, SigningRoot), PartialSignature>;
type Combined = HashMap<(PublicKey, SigningRoot, Parts), Result<Signature, CombineError>>;

static FAMILIES: LazyLock<Mutex<BTreeMap<Made, Option<Arc<Family>>>>> =
    LazyLock::new(Mutex::default);
static SIGNED: LazyLock<Mutex<Signed>> = LazyLock::new(Mutex::default);
static COMBINED: LazyLock<Mutex<Combined>> = LazyLock::new(Mutex::default);

/// A family of t and n; `None` if that is not allowed.
pub(super) fn family(t: usize, n: usize, number: u8) -> Option<Arc<Family>> {
    let mut families = FAMILIES.lock();
    let made = families.entry((t, n, number)).or_insert_with(|| {
        let indices: BTreeSet<ShareIndex> = (1..=n)
            .map(|place| ShareIndex::new(u64::try_from(place * 2 + 1).unwrap()).unwrap())
            .collect();
        let mut counter = u8::try_from(t * 16 + n).unwrap() ^ number;
        let mut entropy = |bytes: &mut [u8]| {
            for byte in bytes {
                counter = counter.wrapping_mul(37).wrapping_add(101);
                *byte = counter ^ 0x5a;
            }
        };
        // Another key for each: what is remembered is remembered by key.
        let mut key = [number + 1; 32];
        (key[0], key[1]) = (u8::try_from(t).unwrap(), u8::try_from(n).unwrap());
        let key = SecretKey::from_entropy(&key);
        let split = split(key, t, &indices, &mut entropy).ok()?;
        Some(Arc::new(Family {
            indices: indices.into_iter().collect(),
            shares: {
                let scale = split.committee.scale();
                let shares = split.shares.into_values();
                shares.map(|share| share.into_signing(scale)).collect()
            },
            committee: split.committee,
        }))
    });
    made.clone()
}

impl Family {
    pub(super) fn key(&self) -> PublicKey {
        self.committee.group_key()
    }

    /// What the member at this place would sign.
    pub(super) fn partial(&self, place: usize, root: SigningRoot) -> PartialSignature {
        let key = (self.key(), self.indices[place].value(), root);
        if let Some(partial) = SIGNED.lock().get(&key) {
            return *partial;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "whether it was permitted is the witness's to say"
        )]
        let partial = self.shares[place].sign(Permit::after_commit(self.key(), root));
        SIGNED.lock().insert(key, partial);
        partial
    }
}

/// The production's, remembered.
#[derive(Default)]
pub(super) struct Remembered {
    /// Whose partials it has found to be false.
    exposed: Mutex<BTreeSet<ShareIndex>>,
}

impl Remembered {
    /// Whose partials it has found to be false so far.
    pub(super) fn exposed(&self) -> BTreeSet<ShareIndex> {
        self.exposed.lock().clone()
    }
}

impl Arithmetic for Remembered {
    fn combine(
        &self,
        jobs: &[Combination<'_>],
        answer: &mut dyn FnMut(usize, Result<Signature, CombineError>),
    ) {
        for (position, job) in jobs.iter().enumerate() {
            let combined = remembered(job);
            if let Err(CombineError::Blame(indices)) = &combined {
                self.exposed.lock().extend(indices);
            }
            answer(position, combined);
        }
    }
}

fn remembered(job: &Combination<'_>) -> Result<Signature, CombineError> {
    let parts = job.partials.iter();
    let parts = parts.map(|(index, partial)| (index.value(), bytes(partial)));
    let key = (job.committee.group_key(), job.root, parts.collect());
    if let Some(combined) = COMBINED.lock().get(&key) {
        return combined.clone();
    }
    let combined = job.committee.combine(job.root, job.partials);
    COMBINED.lock().insert(key, combined.clone());
    combined
}

fn bytes(partial: &PartialSignature) -> Vec<u8> {
    match partial {
        PartialSignature::Plain(point) => point.to_vec(),
        PartialSignature::Scaled { point, scale } => {
            [point, &scale.get().to_be_bytes()[..]].concat()
        }
    }
}
