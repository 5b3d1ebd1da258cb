//! A simulated store and SQLite give the same answers to the same questions.

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    interchange,
    testing::{CHAIN, Place, patient},
};

const STEPS: u32 = 400;
const VALIDATORS: u8 = 3;

/// A validator's number, a claim, and a root's.
type Message = (u8, Claim, u8);

/// Low, so that claims meet.
fn message(random: &mut impl Rng) -> Message {
    let mut height = || random.random_range(0..12);
    let claim = match height() < 4 {
        true => propose(height()),
        false => attest(height(), height()),
    };
    let number = random.random_range(1..=VALIDATORS);
    (number, claim, random.random_range(1..=2))
}

/// An interchange file of one row.
fn file((number, claim, root_number): Message) -> String {
    let root = root(root_number);
    let (blocks, votes) = match claim {
        Claim::Propose { slot } => (
            format!(r#"{{"slot": "{slot}", "signing_root": "{root}"}}"#),
            String::new(),
        ),
        Claim::Attest { source, target } => (
            String::new(),
            format!(
                r#"{{"source_epoch": "{source}", "target_epoch": "{target}",
                    "signing_root": "{root}"}}"#
            ),
        ),
    };
    format!(
        r#"{{"metadata": {{"interchange_format_version": "5",
            "genesis_validators_root": "{CHAIN}"}}, "data": [{{"pubkey": "{}",
            "signed_blocks": [{blocks}], "signed_attestations": [{votes}]}}]}}"#,
        validator(number)
    )
}

const fn is_malformed(claim: Claim) -> bool {
    match claim {
        Claim::Attest { source, target } => source.0 > target.0,
        Claim::Propose { .. } => false,
    }
}

/// Two ledgers that are asked the same.
struct Pair {
    place: Place,
    store: MemoryStore,
    real: Ledger,
    simulated: Ledger,
}

impl Pair {
    async fn new() -> Self {
        let (place, store) = (Place::sqlite(), store());
        drop(place.registered(patient()).await);
        let simulated = simulate(&store, Origin::AsLeft).await;
        let mut pair = Self {
            real: simulate(&self::store(), Origin::AsLeft).await,
            place,
            store,
            simulated,
        };
        pair.open(Origin::AsLeft).await;
        pair
    }

    async fn open(&mut self, origin: Origin) {
        self.real.close().await;
        // The one before lets go of its anchor with its last clone.
        self.real = simulate(&store(), Origin::AsLeft).await;
        let mut opening = self.place.opening(patient(), now());
        opening.origin = origin;
        let database = self.place.open().await;
        self.real = Ledger::open(database, opening).await.unwrap();
        self.simulated.close().await;
        self.simulated = simulate(&self.store, origin).await;
    }

    async fn decide(&self, step: u32, (number, claim, root_number): Message) {
        let asked = question(number, claim, root_number);
        let foreseen = self.real.foresee(vec![asked]).await;
        let got = self.simulated.foresee(vec![asked]).await;
        assert_eq!(got, foreseen, "step {step}: {asked:?}");
        let would = self.store.would_permit(&asked);
        let decided = decide(&self.real, number, claim, root_number).await;
        let got = decide(&self.simulated, number, claim, root_number).await;
        assert_eq!(got, decided, "step {step}: {asked:?}");
        let is_barred = self.simulated.state().quarantine.is_some();
        assert_eq!(
            would && !is_barred,
            decided.is_ok(),
            "step {step}: {asked:?}"
        );
    }

    async fn import(&self, step: u32, message: Message) {
        let (number, claim, root_number) = message;
        let bytes = std::io::Cursor::new(file(message));
        match interchange::import(self.real.database(), CHAIN, bytes, |_| {}).await {
            Ok(_) => {
                let root = Some(root(root_number));
                self.store.import(validator(number), claim, root);
            }
            Err(error) => assert!(is_malformed(claim), "step {step}: {claim:?}: {error}"),
        }
        self.real.refresh().await.unwrap();
        self.simulated.refresh().await.unwrap();
    }
}

async fn simulate(store: &MemoryStore, origin: Origin) -> Ledger {
    let opened = store.open(Sky::clear(), patient(), Arc::new(now), origin);
    opened.await.unwrap()
}

#[tokio::test]
async fn a_simulated_store_and_sqlite_give_the_same_verdicts_and_count_alike() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::new().await;
    // The place was opened once more, to register.
    let leap = pair.real.state().commits - pair.simulated.state().commits;
    for step in 0..STEPS {
        let message = message(&mut random);
        match random.random_range(0..100) {
            0 => pair.open(Origin::AsLeft).await,
            1..=3 => pair.import(step, message).await,
            _ => pair.decide(step, message).await,
        }
        let (real, simulated) = (pair.real.state(), pair.simulated.state());
        assert_eq!(simulated.commits + leap, real.commits, "step {step}");
    }
    pair.open(Origin::Restored).await;
    for step in STEPS..STEPS + 20 {
        pair.decide(step, message(&mut random)).await;
        let (real, simulated) = (pair.real.state(), pair.simulated.state());
        assert!(real.quarantine.is_some());
        assert_eq!(simulated.quarantine, real.quarantine);
    }
}
