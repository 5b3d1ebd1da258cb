//! A committee of 3-of-4 in one process: cosigners on stores in memory, and a signer-api that leads
//! them and is answered at once.

use std::{
    collections::{BTreeSet, HashMap},
    future::ready,
    sync::Arc,
    time::Duration,
};

use cosigner::{
    clock::{ChainTime, Clock},
    metrics::Metrics,
    service::{Parts, Service, Signers},
    vault::{Listing, NotHeld, Reloaded, Shares, VaultError},
};
use daemon::bulk::Bulk;
use duty::{Permit, PublicKey, Root, SigningRoot};
use keyshare::{SecretKey, SigningShare, Tables, Withheld, split};
use parking_lot::Mutex;
use signer_api::seams::{Arithmetic, Call, Conductor, Transport};
use slashing::{
    InitialHistory, Ledger, LedgerLimits, Origin,
    simulation::{Deciding, Fate, MemoryStore, Step, Weather},
};
use threshold::{
    Combination, CombineError, Committee, PartialSignature, ShareIndex, Signature, round::Peer,
};
use tonic::{Request, Status, Streaming};
use wire::{
    batches::{Batch, Item},
    proto::{self, cosigner_server::Cosigner},
};

/// t.
pub const THRESHOLD: usize = 3;
/// n.
pub const MEMBERS: usize = 4;

const SLOTS_PER_EPOCH: u64 = 32;
const SLOT: Duration = Duration::from_secs(12);

/// One validator's committee.
pub struct Family {
    /// The public half.
    pub committee: Committee,
    /// The members' shares.
    pub shares: Vec<Arc<SigningShare>>,
}

impl Family {
    /// Another for each number.
    pub fn new(number: u8) -> Self {
        let members: BTreeSet<ShareIndex> = (1..=u64::try_from(MEMBERS).unwrap())
            .map(|index| ShareIndex::new(index).unwrap())
            .collect();
        let mut state = u64::from(number);
        let mut entropy = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
        };
        let key = SecretKey::from_entropy(&[number; 32]);
        let split = split(key, THRESHOLD, &members, &mut entropy).unwrap();
        let scale = split.committee.scale();
        let shares = split.shares.into_values();
        Self {
            shares: shares.map(|it| Arc::new(it.into_signing(scale))).collect(),
            committee: split.committee,
        }
    }

    /// The validator.
    pub fn key(&self) -> PublicKey {
        self.committee.group_key()
    }
}

/// Nothing ever fails.
struct Fair;

impl Weather for Fair {
    fn step(&self, _: Step) -> Deciding {
        Box::pin(ready(Fate::Goes))
    }
}

/// A ledger in memory in which these have never signed.
pub async fn ledger(families: &[Family]) -> Ledger {
    let keys = families.iter().map(Family::key);
    let store = MemoryStore::new(keys, InitialHistory::NeverSigned);
    let limits = LedgerLimits::default();
    let opened = store.open(Arc::new(Fair), limits, Arc::new(|| None), Origin::AsLeft);
    opened.await.unwrap()
}

/// The member at that place, whose clock stands at an epoch's beginning.
pub async fn cosigner(families: &[Family], place: usize, chain: Root, epoch: u64) -> Arc<Service> {
    let shares = families
        .iter()
        .map(|family| (family.key(), Arc::clone(&family.shares[place])));
    let since_1970 = SLOT * u32::try_from(epoch * SLOTS_PER_EPOCH).unwrap();
    Service::new(Parts {
        vault: Arc::new(Book {
            shares: shares.collect(),
            tables: Tables::default(),
        }),
        signers: Signers::inline(),
        bulk: Bulk::inline(),
        time: Box::new(move || since_1970),
        ledger: ledger(families).await,
        clock: Clock::Checked(ChainTime {
            genesis_s: 0,
            slot: SLOT,
            slots_per_epoch: SLOTS_PER_EPOCH,
        }),
        promises_max: 100_000,
        genesis_validators_root: chain,
        slots_per_epoch: SLOTS_PER_EPOCH,
        allow_voluntary_exits: false,
        allow_deposits: false,
        metrics: Arc::new(Metrics::default()),
        ledger_wait: Duration::from_secs(1),
    })
}

/// Has the cosigner led.
pub async fn begin_to_lead(cosigner: &Arc<Service>, lead: u64) {
    let status = Cosigner::status(&**cosigner, Request::new(proto::StatusRequest {})).await;
    let request = proto::LeadRequest {
        lead,
        replaces: 0,
        process: status.unwrap().into_inner().process,
    };
    let begun = Cosigner::lead(&**cosigner, Request::new(request)).await;
    assert!(begun.unwrap().into_inner().led);
}

/// Signs as the production's vault does.
struct Book {
    shares: HashMap<PublicKey, Arc<SigningShare>>,
    tables: Tables,
}

#[tonic::async_trait]
impl Shares for Book {
    fn holds(&self, validator: &PublicKey) -> bool {
        self.shares.contains_key(validator)
    }

    fn listing(&self) -> Arc<Listing> {
        Arc::default()
    }

    fn prepare(&self, expected: &[(PublicKey, SigningRoot)]) -> Vec<Option<Withheld>> {
        let held = expected.iter().map(|(validator, root)| {
            let share = &self.shares[validator];
            (&**share, *validator, *root)
        });
        let withheld = self.tables.withhold_all(held.collect());
        withheld.into_iter().map(Some).collect()
    }

    fn sign(&self, permits: Vec<Permit>, _scaled: bool) -> Vec<Result<PartialSignature, NotHeld>> {
        let held = permits.into_iter().map(|permit| {
            let share = &self.shares[&permit.validator()];
            (&**share, permit)
        });
        let partials = self.tables.sign_all(held.collect());
        partials.into_iter().map(Ok).collect()
    }

    async fn reload(&self) -> Result<Reloaded, VaultError> {
        unreachable!("nothing is imported")
    }
}

/// What every cosigner has answered, and what it was combined to.
#[derive(Default)]
pub struct Answers {
    /// By what was asked and cosigner.
    pub signed: Mutex<HashMap<(Item, usize), proto::SignOutcome>>,
    /// By validator and root.
    pub combined: Mutex<HashMap<(PublicKey, SigningRoot), Signature>>,
    /// As what the signer-api leads.
    pub lead: Mutex<u64>,
}

/// A signer-api that is answered at once. Must be called within a runtime.
pub fn conductor(families: &[Family], answers: &Arc<Answers>) -> Conductor {
    let networks = (0..MEMBERS).map(|place| {
        let known = Known {
            place,
            answers: Arc::clone(answers),
        };
        let known: Arc<dyn Transport> = Arc::new(known);
        (format!("cosigner-{place}"), known)
    });
    let committees = families.iter().map(|family| {
        let indices = family.committee.members().iter().enumerate();
        let members = indices.map(|(place, index)| (Peer(place), *index));
        (family.committee.clone(), members.collect())
    });
    Conductor::new(
        networks.collect(),
        committees.collect(),
        Arc::new(Remembered(Arc::clone(answers))),
        Box::new(|| 0.5),
    )
}

/// The way to a cosigner that has answered already.
struct Known {
    place: usize,
    answers: Arc<Answers>,
}

impl Transport for Known {
    fn promise(&self, _: Request<Batch>) -> Call<proto::PromiseReply> {
        unreachable!("who leads asks for no promises")
    }

    fn sign(&self, batch: Request<Batch>) -> Call<proto::SignReply> {
        let mut signed = self.answers.signed.lock();
        let items = batch.get_ref().items().iter();
        let outcomes = items.map(|item| signed.remove(&(item.clone(), self.place)).unwrap());
        let outcomes = outcomes.collect();
        Box::pin(ready(Ok(proto::SignReply { outcomes })))
    }

    fn lead(&self, request: proto::LeadRequest) -> Call<proto::LeadReply> {
        *self.answers.lead.lock() = request.lead;
        Box::pin(ready(Ok(proto::LeadReply {
            led: true,
            ..proto::LeadReply::default()
        })))
    }

    fn status(&self) -> Call<proto::StatusReply> {
        Box::pin(ready(Ok(proto::StatusReply {
            ready: true,
            process: 1,
            ..proto::StatusReply::default()
        })))
    }

    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>> {
        Box::pin(ready(Err(Status::unimplemented("they are given"))))
    }
}

/// What was combined before.
struct Remembered(Arc<Answers>);

impl Arithmetic for Remembered {
    fn combine(
        &self,
        jobs: &[Combination<'_>],
        answer: &mut dyn FnMut(usize, Result<Signature, CombineError>),
    ) {
        let combined = self.0.combined.lock();
        for (position, job) in jobs.iter().enumerate() {
            let signature = combined[&(job.committee.group_key(), job.root)];
            answer(position, Ok(signature));
        }
    }

    fn holds(&self, _: &Committee, _: ShareIndex, _: SigningRoot, _: &PartialSignature) -> bool {
        true
    }
}
