//! Whatever the weather: permits are of committed rows, none contradict each other, and the ledger
//! comes back. And the same seed is the same run.

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

const SEEDS: u64 = 200;
/// Asks of each run of the ledger.
const ASKS: usize = 30;
/// Runs before the weather clears.
const RUNS: usize = 2;

type Signed = (Claim, SigningRoot);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Step(Step, Fate),
    Told(usize, Result<(), Denial>),
    NotOpened(String),
    Stopped,
}

/// What happened, and when.
#[derive(Clone)]
struct Log {
    began: Instant,
    events: Arc<Mutex<Vec<(Duration, Event)>>>,
}

impl Log {
    fn add(&self, event: Event) {
        self.events.lock().push((self.began.elapsed(), event));
    }
}

/// Fates from a seed.
struct Random {
    random: Mutex<StdRng>,
    log: Log,
    /// Of a thousand steps, so many do not go as they should.
    faults: u32,
    dead: Arc<Mutex<bool>>,
}

impl Random {
    fn fate(&self) -> (Duration, Fate) {
        let mut random = self.random.lock();
        let soon = Duration::from_millis(random.random_range(0..20));
        if random.random_range(0..1_000) >= self.faults {
            return (soon, Fate::Goes);
        }
        let later = Duration::from_millis(random.random_range(0..4_000));
        match random.random_range(0..6) {
            0 => (soon, Fate::Fails),
            1 => (soon, Fate::Rejected),
            2 => (soon, Fate::Busy),
            3 => (soon, Fate::Unknown(Outcome::Never(later))),
            4 => (soon, Fate::Unknown(Outcome::Happens(later))),
            _ => (later, Fate::Goes),
        }
    }
}

impl Weather for Random {
    fn step(&self, step: Step) -> Deciding {
        if *self.dead.lock() {
            return Box::pin(std::future::pending());
        }
        let (after, fate) = self.fate();
        self.log.add(Event::Step(step, fate));
        let dead = Arc::clone(&self.dead);
        Box::pin(async move {
            sleep(after).await;
            if *dead.lock() {
                std::future::pending::<()>().await;
            }
            fate
        })
    }
}

fn message(random: &mut impl Rng) -> (u8, Claim, u8) {
    let claim = match random.random_range(0..3) {
        0 => propose(random.random_range(3_190..3_200)),
        _ => {
            let target = random.random_range(90..100);
            attest(random.random_range(88..=target), target)
        }
    };
    (
        random.random_range(1..=3),
        claim,
        random.random_range(1..=2),
    )
}

/// EIP-3076: double vote, surround vote, double proposal.
fn slashable(one: Signed, other: Signed) -> bool {
    match (one.0, other.0) {
        (Claim::Propose { slot: a }, Claim::Propose { slot: b }) => a == b && one != other,
        (
            Claim::Attest {
                source: s1,
                target: t1,
            },
            Claim::Attest {
                source: s2,
                target: t2,
            },
        ) => (t1 == t2 && one != other) || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2),
        (Claim::Attest { .. }, Claim::Propose { .. })
        | (Claim::Propose { .. }, Claim::Attest { .. }) => false,
    }
}

/// A world of one store.
struct World {
    seed: u64,
    random: StdRng,
    store: MemoryStore,
    log: Log,
    permitted: Arc<Mutex<Vec<(u8, Signed)>>>,
}

impl World {
    fn weather(&mut self, faults: u32, dead: &Arc<Mutex<bool>>) -> Arc<dyn Weather> {
        Arc::new(Random {
            random: Mutex::new(StdRng::seed_from_u64(self.random.random())),
            log: self.log.clone(),
            faults,
            dead: Arc::clone(dead),
        })
    }

    async fn open(&mut self, faults: u32, dead: &Arc<Mutex<bool>>) -> Ledger {
        loop {
            let sky = self.weather(faults, dead);
            let opened = self
                .store
                .open(sky, waiting(1_000), Arc::new(now), Origin::AsLeft);
            match opened.await {
                Ok(ledger) => return ledger,
                Err(error) => self.log.add(Event::NotOpened(error.to_string())),
            }
        }
    }

    /// Asks for a while, then stops the run for ever.
    async fn serve(&mut self, faults: u32) -> Ledger {
        let dead = Arc::default();
        let ledger = self.open(faults, &dead).await;
        let asks: Vec<_> = (0..ASKS)
            .map(|place| {
                let (number, claim, root_number) = message(&mut self.random);
                let delay = Duration::from_millis(self.random.random_range(0..5_000));
                let (ledger, store, log) = (ledger.clone(), self.store.clone(), self.log.clone());
                let (permitted, seed) = (Arc::clone(&self.permitted), self.seed);
                async move {
                    sleep(delay).await;
                    let told = decide(&ledger, number, claim, root_number).await;
                    if told.is_ok() {
                        let signed = (claim, root(root_number));
                        let is_there = store.has_row(&validator(number), &claim, signed.1);
                        assert!(is_there, "seed {seed}: {number} {signed:?}");
                        permitted.lock().push((number, signed));
                    }
                    log.add(Event::Told(place, told));
                }
            })
            .collect();
        let stopped = Duration::from_millis(self.random.random_range(0..8_000));
        let _in_the_midst = timeout(stopped, join_all(asks)).await;
        *dead.lock() = true;
        self.log.add(Event::Stopped);
        ledger
    }

    fn check_permits(&self) {
        let permitted = self.permitted.lock();
        for (place, (number, one)) in permitted.iter().enumerate() {
            for (other_number, other) in &permitted[place..] {
                let contradict = number == other_number && slashable(*one, *other);
                assert!(
                    !contradict,
                    "seed {}: {number} {one:?} {other:?}",
                    self.seed
                );
            }
        }
    }
}

/// What happened under a seed.
async fn run(seed: u64) -> Vec<(Duration, Event)> {
    let mut world = World {
        seed,
        random: StdRng::seed_from_u64(seed),
        store: store(),
        log: Log {
            began: Instant::now(),
            events: Arc::default(),
        },
        permitted: Arc::default(),
    };
    let faults = world.random.random_range(0..200);
    // The tasks of those that were stopped live on, as a stopped process might.
    let mut stopped = Vec::new();
    for _ in 0..RUNS {
        stopped.push(world.serve(faults).await);
    }
    // The weather clears: what may be signed is.
    let ledger = world.open(0, &Arc::default()).await;
    assert_eq!(ledger.state().quarantine, None, "seed {seed}");
    let fresh = decide(&ledger, 1, attest(100, 101), 1).await;
    assert_eq!(fresh, Ok(()), "seed {seed}");
    world.check_permits();
    drop(stopped);
    world.log.events.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn in_any_weather_no_permits_contradict_and_the_same_seed_is_the_same_run() {
    for seed in 0..SEEDS {
        let first = run(seed).await;
        assert!(first.len() > ASKS, "seed {seed}");
        assert_eq!(run(seed).await, first, "seed {seed}");
    }
}
