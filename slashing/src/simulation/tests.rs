//! The production ledger on a simulated store keeps what it promises on a real one.

use std::collections::VecDeque;

use duty::{Epoch, Slot};
use futures_util::future::{join, join_all};
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::{
    ledger::{Denial, Position, Prospect, Refused},
    testing::{
        attest, decide, fence, fenced, is_dropped, propose, question, root, validator, waiting,
    },
};

mod mirror;

mod resumes;

mod weathers;

/// Fates for the steps to come, in their order; whatever none is waiting for goes.
#[derive(Default)]
struct Sky {
    fates: Mutex<VecDeque<(Step, Fate)>>,
    /// The step at which nothing answers any more, from then on.
    deadly: Mutex<Option<Step>>,
    dead: Mutex<bool>,
    seen: Mutex<Vec<Step>>,
    ahead: Mutex<Duration>,
}

impl Sky {
    fn clear() -> Arc<Self> {
        Arc::default()
    }

    fn deadly_at(step: Step) -> Arc<Self> {
        let sky = Self::clear();
        *sky.deadly.lock() = Some(step);
        sky
    }

    fn will(&self, step: Step, fate: Fate) {
        self.fates.lock().push_back((step, fate));
    }

    fn count(&self, step: Step) -> usize {
        self.seen
            .lock()
            .iter()
            .filter(|seen| **seen == step)
            .count()
    }
}

impl Weather for Sky {
    fn step(&self, step: Step) -> Deciding {
        self.seen.lock().push(step);
        *self.dead.lock() |= *self.deadly.lock() == Some(step);
        if *self.dead.lock() {
            return Box::pin(std::future::pending());
        }
        let mut fates = self.fates.lock();
        let due = fates.front().is_some_and(|(awaited, _)| *awaited == step);
        let fate = match due {
            true => fates.pop_front().map_or(Fate::Goes, |(_, fate)| fate),
            false => Fate::Goes,
        };
        Box::pin(async move { fate })
    }

    fn clock_ahead(&self) -> Duration {
        *self.ahead.lock()
    }
}

fn store() -> MemoryStore {
    MemoryStore::new((1..=9).map(validator), InitialHistory::NeverSigned)
}

async fn open(store: &MemoryStore, sky: &Arc<Sky>) -> Ledger {
    open_at(store, sky, now()).await
}

async fn open_at(store: &MemoryStore, sky: &Arc<Sky>, now: Option<Position>) -> Ledger {
    let time = Arc::new(move || now);
    let opened = store.open(sky.clone(), waiting(1_000), time, Origin::AsLeft);
    opened.await.unwrap()
}

/// The clock stands: what is decided lies around here.
fn now() -> Option<Position> {
    Some(Position {
        epoch: Epoch(100),
        slot: Slot(3200),
    })
}

async fn is_refused(ledger: &Ledger, number: u8, claim: Claim, root_number: u8) -> bool {
    let decided = decide(ledger, number, claim, root_number).await;
    matches!(decided, Err(Denial::Refused(_)))
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_permitted_once_committed_and_repeated_exactly() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    assert!(store.would_permit(&question(1, attest(0, 1), 1)));
    assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    assert!(store.has_row(&validator(1), &attest(0, 1), root(1)));
    assert_eq!(store.rows(&validator(1)), [(attest(0, 1), root(1))]);
    let commits = sky.count(Step::Commit);
    assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    assert_eq!(sky.count(Step::Commit), commits + 1, "a repeat is written");
    assert!(is_refused(&ledger, 1, attest(0, 1), 2).await);
    assert!(!store.would_permit(&question(1, attest(0, 1), 2)));
    let unknown = decide(&ledger, 10, attest(0, 1), 1).await;
    assert_eq!(unknown, Err(Refused::NotRegistered.into()));
    let foreseen = ledger.foresee(vec![question(1, attest(0, 1), 2)]).await;
    assert_eq!(foreseen, Ok(vec![Ok(Prospect::Signed(root(1)))]));
}

/// Stops a run for ever at one step of a decision, and succeeds it.
async fn check_stopped(step: Step, committed: bool) {
    let (store, sky) = (store(), Sky::clear());
    let first = open(&store, &sky).await;
    // Beyond its first sign of life.
    sleep(Duration::from_millis(100)).await;
    *sky.deadly.lock() = Some(step);
    let (held, watched) = fence();
    let outcome = first.decide(fenced(1, attest(0, 1), 1, held)).await;
    assert!(
        matches!(outcome, Err(Denial::Unavailable(_))),
        "{outcome:?}"
    );
    assert!(
        !is_dropped(&watched),
        "stopped at {step:?}, it knows nothing"
    );
    assert_eq!(
        store.has_row(&validator(1), &attest(0, 1), root(1)),
        committed
    );
    let started = Instant::now();
    let second = open(&store, &Sky::clear()).await;
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(second.state().quarantine, None, "stopped at {step:?}");
    let other = decide(&second, 1, attest(0, 1), 2).await;
    assert_eq!(other.is_ok(), !committed, "stopped at {step:?}: {other:?}");
    assert!(!is_dropped(&watched));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_stops_at_any_step_permits_nothing_and_is_succeeded_at_once() {
    for (step, committed) in [
        (Step::Decide, false),
        (Step::Commit, false),
        (Step::Answer, true),
        (Step::Anchor, true),
    ] {
        check_stopped(step, committed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_stops_at_any_step_is_succeeded_at_once_and_raises_no_doubt() {
    for step in [
        Step::Anchor,
        Step::Connect,
        Step::Answer,
        Step::Take,
        Step::Read,
    ] {
        let store = store();
        let sky: Arc<dyn Weather> = Sky::deadly_at(step);
        let stopped = store.open(sky, waiting(1_000), Arc::new(now), Origin::AsLeft);
        let stopped = timeout(Duration::from_secs(20), stopped).await;
        assert!(!matches!(stopped, Ok(Ok(_))), "stopped at {step:?}");
        let ledger = open(&store, &Sky::clear()).await;
        assert_eq!(ledger.state().quarantine, None, "stopped at {step:?}");
        assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn starts_that_end_before_the_anchor_knows_of_them_raise_no_doubt() {
    let store = store();
    drop(open(&store, &Sky::clear()).await);
    for _ in 0..3 {
        // It takes the ledger, and can not say so.
        let sky = Sky::clear();
        sky.will(Step::Take, Fate::Goes);
        sky.will(Step::Anchor, Fate::Fails);
        let opened = store.open(sky.clone(), waiting(1_000), Arc::new(now), Origin::AsLeft);
        assert!(opened.await.is_err());
    }
    // And one that can say that it would, and then not take it at once.
    let sky = Sky::clear();
    sky.will(Step::Take, Fate::Fails);
    let started = Instant::now();
    let ledger = open(&store, &sky).await;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(ledger.state().quarantine, None);
}

/// A commit that nobody hears of: what holds until it has ended, and afterwards.
async fn check_unknown(outcome: Outcome, happens: bool) {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    sky.will(Step::Commit, Fate::Unknown(outcome));
    let (held, watched) = fence();
    let told = ledger.decide(fenced(1, attest(0, 1), 1, held)).await;
    assert!(matches!(told, Err(Denial::Unavailable(_))), "{told:?}");
    // Its own row is locked, and no other.
    let locked = decide(&ledger, 1, attest(0, 1), 2).await;
    assert!(matches!(locked, Err(Denial::Unavailable(_))), "{locked:?}");
    assert!(!store.would_permit(&question(1, attest(0, 1), 1)));
    assert_eq!(decide(&ledger, 2, attest(0, 1), 1).await, Ok(()));
    assert!(!is_dropped(&watched));
    assert!(!store.has_row(&validator(1), &attest(0, 1), root(1)));
    sleep(Duration::from_secs(7)).await;
    assert_eq!(
        store.has_row(&validator(1), &attest(0, 1), root(1)),
        happens
    );
    assert!(is_dropped(&watched));
    let other = decide(&ledger, 1, attest(0, 1), 2).await;
    assert_eq!(other.is_ok(), !happens, "{other:?}");
    let again = decide(&ledger, 1, attest(0, 1), 1).await;
    assert_eq!(again.is_ok(), happens, "{again:?}");
    assert_eq!(store.rows(&validator(1)).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_keeps_the_fence_until_it_is_known() {
    let after = Duration::from_secs(5);
    check_unknown(Outcome::Happens(after), true).await;
    check_unknown(Outcome::Never(after), false).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_still_waits_when_a_lost_commit_is_known_gets_the_repeat() {
    for outcome in [Outcome::Happens, Outcome::Never] {
        let (store, sky) = (store(), Sky::clear());
        let ledger = open(&store, &sky).await;
        sky.will(
            Step::Commit,
            Fate::Unknown(outcome(Duration::from_millis(500))),
        );
        assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
        assert_eq!(sky.count(Step::Commit), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_the_ledger_waits_for_what_is_in_doubt() {
    let (store, sky) = (store(), Sky::clear());
    let first = open(&store, &sky).await;
    sky.will(
        Step::Commit,
        Fate::Unknown(Outcome::Happens(Duration::from_secs(5))),
    );
    *sky.deadly.lock() = Some(Step::Connect);
    assert!(decide(&first, 1, attest(0, 1), 1).await.is_err());
    let second = open(&store, &Sky::clear()).await;
    assert!(store.has_row(&validator(1), &attest(0, 1), root(1)));
    assert!(is_refused(&second, 1, attest(0, 1), 2).await);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_anchor_could_not_count_permits_nothing_until_it_is_counted() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    sky.will(Step::Commit, Fate::Goes);
    sky.will(Step::Anchor, Fate::Fails);
    assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    assert_eq!(sky.count(Step::Commit), 2, "decided anew, it is a repeat");
    assert_eq!(sky.count(Step::Settle), 1);
}

#[tokio::test(start_paused = true)]
async fn asks_of_one_validator_never_share_a_batch() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    let asks = (1..=5).map(|epoch| decide(&ledger, 1, attest(epoch - 1, epoch), 1));
    assert_eq!(
        join_all(asks).await,
        [Ok(()), Ok(()), Ok(()), Ok(()), Ok(())]
    );
    assert_eq!(sky.count(Step::Commit), 5);
    let asks = (1..=9).map(|number| decide(&ledger, number, propose(1), 1));
    assert!(join_all(asks).await.iter().all(Result::is_ok));
    assert_eq!(sky.count(Step::Commit), 6);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_batch_is_decided_ask_by_ask() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    sky.will(Step::Commit, Fate::Rejected);
    let asks = (1..=3).map(|number| decide(&ledger, number, attest(0, 1), 1));
    assert_eq!(join_all(asks).await, [Ok(()), Ok(()), Ok(())]);
    assert_eq!(sky.count(Step::Commit), 4);
    sky.will(Step::Decide, Fate::Rejected);
    let failed = decide(&ledger, 1, attest(1, 2), 1).await;
    assert!(matches!(failed, Err(Denial::Unavailable(_))), "{failed:?}");
    assert_eq!(store.rows(&validator(1)).len(), 1);
}

/// Goes on, is put back, and says what the next run makes of it.
async fn put_back(whole: Whole, running: bool) -> (MemoryStore, Ledger) {
    let (store, sky) = (store(), Sky::clear());
    let first = open(&store, &sky).await;
    decide(&first, 1, attest(98, 99), 1).await.unwrap();
    let snapshot = store.snapshot();
    decide(&first, 1, attest(99, 100), 1).await.unwrap();
    if !running {
        *sky.dead.lock() = true;
    }
    store.put_back(&snapshot, whole);
    assert!(!store.has_row(&validator(1), &attest(99, 100), root(1)));
    if running {
        // Longer than older states are passed over.
        sleep(Duration::from_secs(10)).await;
        return (store, first);
    }
    let second = open(&store, &Sky::clear()).await;
    (store, second)
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_put_back_without_its_anchor_is_quarantined() {
    for (whole, running) in [
        (Whole::Database, false),
        (Whole::Database, true),
        // What runs knows what it has decided.
        (Whole::DatabaseAndAnchor, true),
    ] {
        let (store, ledger) = put_back(whole, running).await;
        let quarantine = ledger.state().quarantine.unwrap();
        assert_eq!(quarantine.until, Epoch(102), "{}", quarantine.reason);
        assert!(decide(&ledger, 1, attest(99, 100), 2).await.is_err());
        assert!(!store.would_permit(&question(1, attest(99, 100), 2)));
        assert!(!store.would_permit(&question(2, propose(3201), 1)));
        assert!(store.would_permit(&question(1, attest(101, 102), 2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_was_put_back_counts_as_older_until_it_is_taken_again() {
    for step in [Step::Connect, Step::Take] {
        let (store, sky) = (store(), Sky::clear());
        let ledger = open(&store, &sky).await;
        let snapshot = store.snapshot();
        decide(&ledger, 1, attest(98, 99), 1).await.unwrap();
        let decided = ledger.state().commits;
        store.put_back(&snapshot, Whole::Database);
        // It is found out, and waits for a newer one.
        sleep(Duration::from_secs(3)).await;
        *sky.deadly.lock() = Some(step);
        sleep(Duration::from_secs(10)).await;
        assert!(*sky.dead.lock(), "{step:?}");
        // Orders and imports are held against it.
        assert!(ledger.database().known().commits() >= decided, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_put_back_as_a_whole_tells_nothing() {
    let (_, ledger) = put_back(Whole::DatabaseAndAnchor, false).await;
    assert_eq!(ledger.state().quarantine, None);
    // The very thing that `--restored` is for.
    assert_eq!(decide(&ledger, 1, attest(99, 100), 2).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_was_imported_is_never_signed_against_though_the_ledger_forgot_it_and_the_clock_is_behind()
 {
    let behind = Position {
        epoch: Epoch(90),
        slot: Slot(2_880),
    };
    for (first, second) in [(now(), Some(behind)), (None, None)] {
        let (store, sky) = (store(), Sky::clear());
        let ledger = open_at(&store, &sky, first).await;
        let snapshot = store.snapshot();
        store.import(validator(1), attest(99, 100), Some(root(1)));
        store.import(validator(2), propose(3_200), None);
        ledger.refresh().await.unwrap();
        *sky.dead.lock() = true;
        store.put_back(&snapshot, Whole::Database);
        assert!(store.would_permit(&question(1, attest(98, 100), 2)));
        let _ledger = open_at(&store, &Sky::clear(), second).await;
        for (number, claim) in [
            (1, attest(98, 100)),
            (1, attest(98, 101)),
            (2, propose(3_200)),
        ] {
            let question = question(number, claim, 2);
            assert!(!store.would_permit(&question), "{second:?}: {question:?}");
        }
        assert!(store.would_permit(&question(1, attest(100, 101), 2)));
        assert!(store.would_permit(&question(2, propose(3_201), 2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_away_or_whose_clock_jumps_is_quarantined() {
    let (store, sky) = (store(), Sky::clear());
    drop(open(&store, &sky).await);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(open(&store, &sky).await.state().quarantine, None);
    let ledger = open(&store, &sky).await;
    *sky.ahead.lock() = Duration::from_secs(59);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(ledger.state().quarantine, None);
    *sky.ahead.lock() = Duration::from_secs(120);
    sleep(Duration::from_secs(3)).await;
    let reason = ledger.state().quarantine.unwrap().reason;
    assert!(reason.contains("jumped ahead by 61 s"), "{reason}");

    let store = self::store();
    drop(open(&store, &Sky::deadly_at(Step::Renew)).await);
    sleep(Duration::from_secs(65)).await;
    let reason = open(&store, &Sky::clear())
        .await
        .state()
        .quarantine
        .unwrap()
        .reason;
    assert!(reason.contains("without an orderly end"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn an_imported_row_raises_and_licenses_no_repeat() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    decide(&ledger, 1, attest(0, 5), 1).await.unwrap();
    store.import(validator(1), attest(0, 7), Some(root(1)));
    store.import(validator(1), propose(7), None);
    assert!(is_refused(&ledger, 1, attest(0, 7), 1).await);
    assert!(is_refused(&ledger, 1, attest(0, 6), 1).await);
    assert!(is_refused(&ledger, 1, propose(7), 1).await);
    assert_eq!(decide(&ledger, 1, attest(0, 5), 1).await, Ok(()), "its own");
    assert_eq!(decide(&ledger, 1, attest(0, 8), 1).await, Ok(()));
    assert_eq!(
        store.rows(&validator(1)),
        [(attest(0, 5), root(1)), (attest(0, 8), root(1))]
    );
}

#[tokio::test(start_paused = true)]
async fn an_import_meets_a_transaction_in_doubt_and_is_not_undone_by_it() {
    let (store, sky) = (store(), Sky::clear());
    let ledger = open(&store, &sky).await;
    sky.will(
        Step::Commit,
        Fate::Unknown(Outcome::Happens(Duration::from_secs(5))),
    );
    assert!(decide(&ledger, 1, attest(0, 5), 1).await.is_err());
    store.import(validator(1), attest(0, 9), Some(root(1)));
    advance(Duration::from_secs(6)).await;
    let highest = store.ratchet(&validator(1)).unwrap().attested.unwrap();
    assert_eq!((highest.target, highest.root), (Epoch(9), None));
    assert!(store.has_row(&validator(1), &attest(0, 5), root(1)));
}

#[tokio::test(start_paused = true)]
async fn a_later_run_ends_the_one_before() {
    let (store, sky) = (store(), Sky::clear());
    let first = open(&store, &sky).await;
    let second = open(&store, &Sky::clear()).await;
    let (old, new) = join(
        decide(&first, 1, attest(0, 1), 1),
        decide(&second, 1, attest(0, 1), 2),
    )
    .await;
    assert!(matches!(old, Err(Denial::Unavailable(_))), "{old:?}");
    assert_eq!(new, Ok(()));
    assert_eq!(first.lost().await, "simulated");
}
