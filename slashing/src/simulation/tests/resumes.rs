//! A machine that is resumed from a snapshot, with its disk, its process, and another time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::ledger::Unavailable;

const MONTH: Duration = Duration::from_secs(31 * 86_400);
/// Too long ago to be nothing, and not so long that the clock must be wrong.
const WHILE: Duration = Duration::from_secs(120);

/// Everything goes, and the machine is resumed in the midst of it.
struct Resumed {
    at: Instant,
    ahead: Duration,
    looks: AtomicUsize,
    is_resumed: AtomicBool,
    /// The step at which nothing answers any more, from then on.
    deadly: Option<Step>,
    is_dead: AtomicBool,
}

/// Just before what a machine was resumed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Instant {
    /// The clock is looked at for the so manieth time.
    Look(usize),
    Step(Step),
}

impl Resumed {
    fn at(at: Instant, ahead: Duration) -> Arc<Self> {
        Arc::new(Self {
            at,
            ahead,
            looks: AtomicUsize::new(0),
            is_resumed: AtomicBool::new(false),
            deadly: None,
            is_dead: AtomicBool::new(false),
        })
    }

    fn pass(&self, instant: Instant) {
        if self.at == instant {
            self.is_resumed.store(true, Ordering::Relaxed);
        }
    }
}

impl Weather for Resumed {
    fn step(&self, step: Step) -> Deciding {
        self.pass(Instant::Step(step));
        if self.deadly == Some(step) {
            self.is_dead.store(true, Ordering::Relaxed);
        }
        if self.is_dead.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Fate::Goes))
    }

    fn clock_ahead(&self) -> Duration {
        self.pass(Instant::Look(self.looks.fetch_add(1, Ordering::Relaxed)));
        match self.is_resumed.load(Ordering::Relaxed) {
            true => self.ahead,
            false => Duration::ZERO,
        }
    }
}

async fn start(
    store: &MemoryStore,
    weather: Arc<dyn Weather>,
    origin: Origin,
) -> Result<Ledger, OpenError> {
    let opened = store.open(weather, waiting(1_000), Arc::new(now), origin);
    opened.await
}

/// A machine whose clock is ahead from the beginning.
fn later(ahead: Duration) -> Arc<Sky> {
    let sky = Sky::clear();
    *sky.ahead.lock() = ahead;
    sky
}

/// Holds the start after a resume to what it must say.
async fn check_start(store: &MemoryStore, ahead: Duration, what: &str) {
    let started = start(store, later(ahead), Origin::AsLeft).await;
    if ahead == MONTH {
        let error = started.err();
        let is_implausible = matches!(error, Some(OpenError::Implausible(_)));
        assert!(is_implausible, "{what}: {error:?}");
        // As often as it is tried, until the operator says so.
        let again = start(store, later(ahead), Origin::AsLeft).await.err();
        assert!(matches!(again, Some(OpenError::Implausible(_))), "{what}");
    }
    let started = match ahead == MONTH {
        true => start(store, later(ahead), Origin::Restored).await,
        false => start(store, later(ahead), Origin::AsLeft).await,
    };
    let quarantine = started.unwrap().state().quarantine;
    assert!(quarantine.is_some(), "{what}");
    assert!(!store.would_permit(&question(1, attest(99, 101), 2)));
    assert!(store.would_permit(&question(1, attest(101, 102), 2)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_resumed_at_any_instant_is_noticed_by_the_run_or_the_next() {
    for ahead in [MONTH, WHILE] {
        // The first look is the one that later ones are held against.
        for number in 1.. {
            let (store, weather) = (store(), Resumed::at(Instant::Look(number), ahead));
            let ledger = start(&store, weather.clone(), Origin::AsLeft).await;
            let ledger = ledger.unwrap();
            for target in [99, 100] {
                let _outcome = decide(&ledger, 1, attest(98, target), 1).await;
                // Beyond a sign of life.
                sleep(Duration::from_millis(2_100)).await;
            }
            ledger.close().await;
            if !weather.is_resumed.load(Ordering::Relaxed) {
                assert!(number > 20, "only {number} looks");
                break;
            }
            let what = format!("look {number}, {} s ahead", ahead.as_secs());
            check_start(&store, ahead, &what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_resumed_at_any_instant_of_a_start_is_noticed_though_the_start_ends_there() {
    for ahead in [MONTH, WHILE] {
        for number in 1.. {
            let store = store();
            open(&store, &Sky::clear()).await.close().await;
            let weather = Arc::new(Resumed {
                at: Instant::Look(number),
                ahead,
                looks: AtomicUsize::new(0),
                is_resumed: AtomicBool::new(false),
                // The ledger is taken by then.
                deadly: Some(Step::Read),
                is_dead: AtomicBool::new(false),
            });
            let started = start(&store, weather.clone(), Origin::AsLeft);
            assert!(timeout(Duration::from_secs(5), started).await.is_err());
            if !weather.is_resumed.load(Ordering::Relaxed) {
                assert!(number > 3, "only {number} looks");
                break;
            }
            let what = format!("look {number}, {} s ahead", ahead.as_secs());
            check_start(&store, ahead, &what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_that_cannot_take_its_ledger_again_leaves_it_in_doubt() {
    for ends_well in [true, false] {
        let (store, sky) = (store(), Sky::clear());
        let ledger = open(&store, &sky).await;
        decide(&ledger, 1, attest(98, 99), 1).await.unwrap();
        for _ in 0..1_000 {
            sky.will(Step::Take, Fate::Fails);
        }
        *sky.ahead.lock() = WHILE;
        sleep(Duration::from_secs(10)).await;
        assert!(sky.count(Step::Take) > 5);
        assert_eq!(ledger.state().quarantine, None);
        // Nobody is told that it could sign.
        assert_eq!(ledger.ping().await, Err(Unavailable::ClockJumped(WHILE)));
        match ends_well {
            true => ledger.close().await,
            false => *sky.dead.lock() = true,
        }
        check_start(&store, WHILE, "it could not be taken").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_a_snapshot_was_taken_is_not_signed_when_it_is_resumed() {
    for ahead in [MONTH, WHILE] {
        for step in [Step::Decide, Step::Commit] {
            let (store, weather) = (store(), Resumed::at(Instant::Step(step), ahead));
            let ledger = start(&store, weather, Origin::AsLeft).await.unwrap();
            let outcome = decide(&ledger, 1, attest(98, 99), 1).await;
            assert!(
                matches!(outcome, Err(Denial::Unavailable(_))),
                "{step:?}, {} s ahead: {outcome:?}",
                ahead.as_secs()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_clock_a_jump_is_nothing() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open_at(&store, &sky, None).await;
    *sky.ahead.lock() = MONTH;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(decide(&ledger, 1, attest(98, 99), 1).await, Ok(()));
    ledger.close().await;
    let ledger = open_at(&store, &sky, None).await;
    assert_eq!(decide(&ledger, 1, attest(99, 100), 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_whose_ledger_another_holds_by_now_does_not_take_it() {
    let (store, sky) = (store(), Sky::clear());
    let first = open(&store, &sky).await;
    let second = open(&store, &Sky::clear()).await;
    *sky.ahead.lock() = WHILE;
    let lost = timeout(Duration::from_secs(10), first.lost()).await;
    assert_eq!(lost.as_deref(), Ok("simulated"));
    assert_eq!(decide(&second, 1, attest(98, 99), 1).await, Ok(()));
    assert_eq!(second.state().quarantine, None);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_clock_is_a_month_ahead_decides_nothing_and_says_so_until_it_ends() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    decide(&ledger, 1, attest(98, 99), 1).await.unwrap();
    let connections = sky.count(Step::Connect);
    // Also when the clock is set back: it is not known which of the two is right.
    for ahead in [MONTH, Duration::ZERO] {
        *sky.ahead.lock() = ahead;
        sleep(Duration::from_secs(20)).await;
        let barred = Unavailable::ClockJumped(MONTH);
        assert!(barred.to_string().contains("--restored"), "{barred}");
        assert_eq!(ledger.ping().await, Err(barred.clone()));
        let denied = decide(&ledger, 1, attest(98, 100), 1).await;
        assert_eq!(denied, Err(barred.into()));
    }
    // It holds the ledger as before, and nothing was raised by a clock that may be wrong.
    assert_eq!(sky.count(Step::Connect), connections);
    assert!(sky.count(Step::Renew) > 15);
    assert!(store.would_permit(&question(1, attest(98, 100), 1)));
    // And which it is then is seen by the next start.
    ledger.close().await;
    sleep(Duration::from_secs(65)).await;
    check_start(&store, Duration::ZERO, "it was stopped").await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_was_put_back_is_not_raised_by_a_clock_that_is_a_month_ahead() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    let snapshot = store.snapshot();
    decide(&ledger, 1, attest(98, 99), 1).await.unwrap();
    *sky.ahead.lock() = MONTH;
    store.put_back(&snapshot, Whole::Database);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(ledger.ping().await, Err(Unavailable::ClockJumped(MONTH)));
    assert!(store.would_permit(&question(1, attest(98, 99), 1)));
}
