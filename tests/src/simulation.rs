//! A deterministic simulation of whole committees: the conductor, its rounds and links, and the
//! cosigners' service, promises, ledger and rule are production's, unchanged, on one thread with
//! paused time. Simulated are the ways between them, their disks, clocks and ends.
//!
//! A seed decides everything: who takes part, what goes wrong, what is asked, and the order of all
//! that happens. [`run`] tells which promise of docs/ARCHITECTURE.md was broken, if one was.

mod callers;
mod chance;
mod chaos;
mod curve;
mod liar;
mod life;
mod member;
mod network;
mod panics;
mod plan;
mod witness;
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use callers::DEADLINE;
use parking_lot::Mutex;
use plan::Tempo;
pub use witness::Testimony;
use world::World;

/// How much happened, over one seed or many: a simulation in which nothing happens shows nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered with a signature.
    pub signed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that could not be answered in time.
    pub unavailable: u64,
    /// Processes that ended.
    pub ends: u64,
    /// Disks that were put back.
    pub put_back: u64,
    /// Steps of a ledger that failed, or whose outcome nobody heard.
    pub troubles: u64,
    /// Duties that were signed when everything was well again.
    pub signed_at_last: u64,
    /// Partials that honest members gave without a promise, to who leads them.
    pub led: u64,
    /// False partials that were found, by signer-api and index.
    pub exposed: u64,
    /// Raced duties of which it was checked that they can still be signed.
    pub raced: u64,
}

impl Counts {
    /// Adds what happened in another seed.
    pub const fn add(&mut self, other: &Self) {
        self.signed += other.signed;
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.ends += other.ends;
        self.put_back += other.put_back;
        self.troubles += other.troubles;
        self.signed_at_last += other.signed_at_last;
        self.led += other.led;
        self.exposed += other.exposed;
        self.raced += other.raced;
    }
}

/// How long after the last fault everything must work again: a start's pause, and what a process
/// needs to start and to be noticed, and to notice that its disk was put back. In races they start
/// sooner.
const SETTLING: Duration = Duration::from_millis(4_500);
const SETTLING_OF_RACES: Duration = Duration::from_millis(2_700);

/// Runs one seed; tells its story only if that is wanted.
#[must_use]
pub fn run(seed: u64, tells: bool) -> (Testimony, Counts) {
    let (given, panic) = panics::listened_to(|| run_through(seed, tells));
    let (mut testimony, counts) = given.unwrap_or_default();
    let panic = panic.map(|panic| format!("something panics: {panic}"));
    testimony.violation = testimony.violation.or(panic);
    (testimony, counts)
}

fn run_through(seed: u64, tells: bool) -> (Testimony, Counts) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = World::new(seed, tells);
        live(&world).await;
        world
    });
    // Whatever still waits ends here.
    drop(runtime);
    let counts = *world.counts.lock();
    let Ok(world) = Arc::try_unwrap(world) else {
        panic!("something of seed {seed} outlives its runtime");
    };
    (world.witness.into_inner().testimony(), counts)
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Exploration {
    /// What happened in all of them.
    pub counts: Counts,
    /// A seed that broke a promise, and which; nothing is begun after it.
    pub broken: Option<(u64, String)>,
}

/// Runs `count` seeds, from `first` on, on as many threads as there are processors; `progress` is
/// told of each that is done.
#[must_use]
pub fn explore(first: u64, count: u64, progress: impl Fn(u64) + Sync) -> Exploration {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Exploration::default());
    let work = || {
        while found.lock().broken.is_none() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seed = first + number;
            let (testimony, counts) = run(seed, false);
            let mut found = found.lock();
            found.counts.add(&counts);
            if let Some(violation) = testimony.violation {
                found.broken.get_or_insert((seed, violation));
            }
            drop(found);
            progress(number + 1);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner()
}

async fn live(world: &Arc<World>) {
    for member in 0..world.plan.n {
        tokio::spawn(Arc::clone(world).start_member(member, Duration::ZERO));
    }
    (0..world.plan.apis).for_each(|number| world.start_api(number));
    // Nobody promises anything at first: most seeds begin after that, and many when somebody leads.
    let quiet = match world.chance.below(10) {
        0 | 1 => 0,
        2..5 => 2_100,
        _ if world.plan.tempo == Tempo::PutBack => 2_100,
        _ => 5_500,
    };
    tokio::time::sleep(Duration::from_millis(quiet)).await;
    let callers: Vec<_> = (0..world.plan.scripts.len())
        .map(|caller| tokio::spawn(Arc::clone(world).call(caller)))
        .collect();
    world.chaos().await;
    world.heal();
    world.make_room();
    let settling = match world.plan.tempo {
        Tempo::Race | Tempo::Restarts | Tempo::Crowd => SETTLING_OF_RACES,
        Tempo::Mixed | Tempo::PutBack | Tempo::Led => SETTLING,
    };
    tokio::time::sleep(settling).await;
    for caller in callers {
        caller.abort();
    }
    // A request goes on when its caller has gone; it would race with what is asked at last.
    tokio::time::sleep(DEADLINE).await;
    if !world.witness.lock().is_broken() {
        world.at_last().await;
        (0..world.plan.apis).for_each(|api| world.check_blame(api));
    }
}
