//! The lease and the anchor: one holder, and none that takes an older state for the whole.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use duty::{Epoch, Slot};
use futures_util::future::join_all;

use crate::{
    administration::{self, Freezing, Stop, Whom},
    anchor::{Anchor, Found, Highest, Mark},
    database::DatabaseConfig,
    ledger::{
        Denial, Ledger, LedgerLimits, OpenError, Opening, Origin, Position, Prospect, Refused,
        Unavailable,
    },
    rules::Watermark,
    testing::{
        Place, attest, decide, patient, propose, question, root, validator, wait_until, waiting,
    },
};

pub(super) const SLOTS_PER_EPOCH: u64 = 32;

/// A clock that a test sets.
#[derive(Clone)]
pub(super) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(super) fn at_epoch(epoch: u64) -> Self {
        Self(Arc::new(AtomicU64::new(epoch * SLOTS_PER_EPOCH)))
    }

    pub(super) fn set_slot(&self, slot: u64) {
        self.0.store(slot, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Position {
        let slot = self.0.load(Ordering::Relaxed);
        Position {
            epoch: Epoch(slot / SLOTS_PER_EPOCH),
            slot: Slot(slot),
        }
    }

    pub(super) fn opening(&self, place: &Place) -> Opening {
        let hand = self.clone();
        Opening {
            time: Arc::new(move || Some(hand.now())),
            ..place.opening(quick(), None)
        }
    }
}

/// Patient with decisions, not with older states of the ledger.
pub(super) fn quick() -> LedgerLimits {
    LedgerLimits {
        stale_wait: Duration::from_millis(200),
        holder_wait: Duration::from_millis(100),
        ..patient()
    }
}

async fn open(place: &Place, hand: &Hand) -> Ledger {
    let database = place.open().await;
    Ledger::open(database, hand.opening(place)).await.unwrap()
}

/// Whether the ledger refuses slashable duties for a while.
async fn is_quarantined(ledger: &Ledger, until: u64) -> bool {
    let decided = decide(ledger, 9, attest(0, 1), 1).await;
    let foreseen = ledger.foresee(vec![question(9, attest(0, 1), 1)]).await;
    let refusal = Unavailable::Quarantined(Epoch(until));
    decided == Err(Denial::Unavailable(refusal.clone())) && foreseen == Err(refusal)
}

/// What the anchor says now.
fn mark(place: &Place) -> Mark {
    let [anchor, copy] = ["anchor", "copy"].map(|name| place.directory.path().join(name));
    fs::copy(anchor, &copy).unwrap();
    match Anchor::open(&copy).unwrap().found() {
        Found::Mark(mark) => mark.clone(),
        other @ (Found::Nothing | Found::Damaged) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ledger_that_is_opened_again_goes_on() {
    for place in Place::each().await {
        let hand = Hand::at_epoch(100);
        drop(place.registered(quick()).await);
        for epoch in 50..55 {
            let ledger = open(&place, &hand).await;
            assert_eq!(decide(&ledger, 1, attest(49, epoch), 1).await, Ok(()));
            assert_eq!(decide(&ledger, 1, attest(49, epoch), 1).await, Ok(()));
            assert!(decide(&ledger, 1, attest(49, epoch), 2).await.is_err());
            assert_eq!(ledger.state().quarantine, None);
            if epoch % 2 == 0 {
                ledger.close().await;
                let closed = decide(&ledger, 1, attest(49, 99), 1).await;
                assert_eq!(closed, Err(Denial::Unavailable(Unavailable::Stopped)));
            }
        }
    }
}

#[tokio::test]
async fn nothing_leaves_that_the_anchor_does_not_count() {
    for place in Place::each().await {
        let ledger = place.registered(quick()).await;
        for target in 1..20 {
            decide(&ledger, 1, attest(0, target), 1).await.unwrap();
            let state = administration::state(ledger.database()).await.unwrap();
            assert_eq!(mark(&place).commits, state.commits);
        }
        let before = ledger.state().commits;
        decide(&ledger, 1, attest(0, 1), 9).await.unwrap_err();
        assert_eq!(ledger.state().commits, before);
    }
}

#[tokio::test]
async fn the_anchor_knows_how_high_the_ledger_has_come_whoever_raised_it_but_not_beyond_the_clock()
{
    for place in Place::each().await {
        drop(place.registered(quick()).await);
        let ledger = open(&place, &Hand::at_epoch(100)).await;
        let raise = async |number, source, target, slot| {
            let watermark = Watermark::new(Epoch(source), Epoch(target), Slot(slot)).unwrap();
            let one = Whom::These([validator(number)].into());
            let raised = administration::raise(ledger.database(), one, watermark);
            assert_eq!(raised.await.unwrap().changed, 1);
            ledger.refresh().await.unwrap();
            let Highest {
                source,
                target,
                slot,
            } = mark(&place).highest;
            (source.0, target.0, slot.0)
        };
        assert_eq!(raise(1, 90, 91, 3_000).await, (90, 91, 3_000));
        assert_eq!(raise(2, 80, 99, 10).await, (90, 99, 3_000));
        // As for a validator that is never to sign again.
        assert_eq!(raise(3, 1 << 40, 1 << 40, 5).await, (101, 101, 3_000));
        decide(&ledger, 4, propose(3_201), 1).await.unwrap();
        assert_eq!(mark(&place).highest.slot, Slot(3_201));
    }
}

#[tokio::test]
async fn the_anchor_counts_what_another_process_raised_never_without_how_high() {
    for place in Place::each().await {
        drop(place.registered(quick()).await);
        let ledger = open(&place, &Hand::at_epoch(100)).await;
        let others = place.open().await;
        for epoch in [50, 60, 70] {
            let watermark = Watermark::new(Epoch(epoch), Epoch(epoch + 1), Slot(epoch)).unwrap();
            let one = Whom::These([validator(1)].into());
            administration::raise(&others, one, watermark)
                .await
                .unwrap();
            let commits = administration::state(&others).await.unwrap().commits;
            // Nobody tells the running process.
            wait_until("it is counted", async || mark(&place).commits >= commits).await;
            assert_eq!(mark(&place).highest.target, Epoch(epoch + 1));
        }
        drop(ledger);
    }
}

/// What happens to the anchor while the cosigner is down.
async fn check_doubt(spoil: impl Fn(&Path), says: &str) {
    for place in Place::each().await {
        let hand = Hand::at_epoch(100);
        drop(place.registered(quick()).await);
        let ledger = open(&place, &hand).await;
        decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
        decide(&ledger, 1, propose(3200), 1).await.unwrap();
        ledger.close().await;
        drop(ledger);
        spoil(&place.directory.path().join("anchor"));
        let ledger = open(&place, &hand).await;
        assert!(is_quarantined(&ledger, 102).await);
        let reason = ledger.state().quarantine.unwrap().reason;
        assert!(reason.contains(says), "{reason}");
        drop(ledger);
        // It survives a restart, and ends by itself.
        let ledger = open(&place, &hand).await;
        assert!(is_quarantined(&ledger, 102).await);
        hand.set_slot(101 * SLOTS_PER_EPOCH + 31);
        assert!(is_quarantined(&ledger, 102).await);
        hand.set_slot(102 * SLOTS_PER_EPOCH);
        for number in [1, 2] {
            for (claim, free) in [
                (attest(100, 102), false),
                (attest(101, 101), false),
                (propose(3201), false),
                (attest(101, 102), true),
                (propose(3202), true),
            ] {
                let decided = decide(&ledger, number, claim, 7).await;
                assert_eq!(decided.is_ok(), free, "{number} {claim:?}: {decided:?}");
            }
        }
        // What this ledger decided before may be repeated: nobody can have decided otherwise.
        assert_eq!(decide(&ledger, 1, propose(3200), 1).await, Ok(()));
        wait_until("the state says so", async || {
            ledger.state().quarantine.is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn a_ledger_without_its_anchor_is_quarantined() {
    check_doubt(|path| fs::remove_file(path).unwrap(), "no anchor").await;
}

#[tokio::test]
async fn a_ledger_whose_anchor_is_unreadable_is_quarantined() {
    let spoil = |path: &Path| fs::write(path, [b'x'; 2048]).unwrap();
    check_doubt(spoil, "can not be read").await;
}

#[tokio::test]
async fn a_ledger_with_a_copied_anchor_is_quarantined() {
    let spoil = |path: &Path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(copy, path).unwrap();
    };
    check_doubt(spoil, "is a copy").await;
}

#[tokio::test]
async fn a_ledger_with_the_anchor_of_another_is_quarantined() {
    let other = Place::sqlite();
    drop(other.registered(quick()).await);
    let anchor = other.directory.path().join("anchor");
    let spoil = |path: &Path| {
        // The very file, not a copy of it.
        fs::rename(&anchor, path).unwrap();
        fs::write(&anchor, "").unwrap();
    };
    // Once: the first of the two databases gets the file, the second an empty one.
    let place = Place::sqlite();
    let hand = Hand::at_epoch(100);
    drop(place.registered(quick()).await);
    spoil(&place.directory.path().join("anchor"));
    let ledger = open(&place, &hand).await;
    assert!(is_quarantined(&ledger, 102).await);
    let reason = ledger.state().quarantine.unwrap().reason;
    assert!(reason.contains("about another ledger"), "{reason}");
}

#[tokio::test]
async fn an_operator_can_say_that_it_was_restored() {
    for place in Place::each().await {
        let hand = Hand::at_epoch(100);
        drop(place.registered(quick()).await);
        let opening = Opening {
            origin: Origin::Restored,
            ..hand.opening(&place)
        };
        let ledger = Ledger::open(place.open().await, opening).await.unwrap();
        assert!(is_quarantined(&ledger, 102).await);
    }
}

#[tokio::test]
async fn without_a_clock_a_ledger_in_doubt_is_not_opened() {
    for place in Place::each().await {
        let ledger = place.registered(quick()).await;
        decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
        ledger.close().await;
        drop(ledger);
        fs::remove_file(place.directory.path().join("anchor")).unwrap();
        let error = place.try_ledger(quick()).await.err().unwrap();
        assert!(matches!(error, OpenError::Unraisable(_)), "{error}");
        assert!(error.to_string().contains("clock = \"checked\""), "{error}");
    }
}

/// A second cosigner on the same database, with an anchor of its own.
async fn second(place: &Place, hand: &Hand) -> Result<Ledger, OpenError> {
    let opening = Opening {
        limits: LedgerLimits {
            holder_wait: Duration::from_secs(5),
            ..quick()
        },
        anchor: place.directory.path().join("second"),
        ..hand.opening(place)
    };
    Ledger::open(place.open().await, opening).await
}

#[tokio::test]
async fn a_second_live_holder_of_one_ledger_is_refused_and_a_dead_one_is_succeeded() {
    let check = async |place: Place| {
        let hand = Hand::at_epoch(100);
        drop(place.registered(quick()).await);
        let first = open(&place, &hand).await;
        let error = second(&place, &hand).await.err().unwrap();
        assert!(matches!(error, OpenError::Held(_)), "{error}");
        assert_eq!(decide(&first, 1, attest(98, 100), 1).await, Ok(()));
        // Its anchor is not the second's: what it decided last may not all be there.
        first.close().await;
        let second = second(&place, &hand).await.unwrap();
        assert!(is_quarantined(&second, 102).await);
        hand.set_slot(102 * SLOTS_PER_EPOCH);
        assert_eq!(decide(&second, 1, attest(101, 102), 1).await, Ok(()));
    };
    join_all(Place::each().await.map(check)).await;
}

#[tokio::test]
async fn a_holder_whose_ledger_was_taken_decides_nothing_any_more() {
    for place in Place::each().await {
        let ledger = place.registered(waiting(1000)).await;
        assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
        let zero = match place.config {
            DatabaseConfig::Sqlite(_) => "zeroblob(16)",
            DatabaseConfig::Postgres(_) => "decode(repeat('00', 16), 'hex')",
        };
        let sql = format!(
            "UPDATE standing SET holder = {zero}, holder_name = 'twin', commits = commits + 1"
        );
        place.execute(&sql).await.unwrap();
        for claim in [attest(0, 2), attest(0, 1), propose(1)] {
            let denied = decide(&ledger, 1, claim, 1).await;
            assert!(
                matches!(denied, Err(Denial::Unavailable(_))),
                "{claim:?}: {denied:?}"
            );
        }
        wait_until("it says who", async || {
            decide(&ledger, 1, attest(0, 2), 1).await
                == Err(Denial::Unavailable(Unavailable::Taken("twin".to_owned())))
        })
        .await;
    }
}

#[tokio::test]
async fn orders_are_in_force_when_they_are_confirmed_and_after_a_restart() {
    for place in Place::each().await {
        let mut ledger = place.registered(quick()).await;
        decide(&ledger, 1, attest(0, 5), 1).await.unwrap();
        let database = place.open().await;
        let one = Whom::These([validator(1)].into());
        administration::freeze(&database, one, Freezing::Freeze)
            .await
            .unwrap();
        administration::stop_at(
            &database,
            Stop {
                epoch: Some(Epoch(10)),
                slot: Some(Slot(320)),
            },
        )
        .await
        .unwrap();
        for restarted in [false, true] {
            if restarted {
                drop(ledger);
                ledger = place.ledger(quick()).await;
            }
            let disabled = Err(Denial::Refused(Refused::Disabled));
            let stopped = Err(Denial::Refused(Refused::Stopped));
            assert_eq!(decide(&ledger, 1, attest(0, 5), 1).await, disabled);
            assert_eq!(decide(&ledger, 2, attest(0, 10), 1).await, stopped);
            assert_eq!(decide(&ledger, 2, propose(320), 1).await, stopped);
            assert_eq!(decide(&ledger, 2, propose(319), 1).await, Ok(()));
            ledger.refresh().await.unwrap();
            assert!(ledger.frozen().holds(&validator(1)));
            assert!(!ledger.frozen().holds(&validator(2)));
            let foreseen = ledger
                .foresee(vec![
                    question(1, attest(0, 5), 1),
                    question(2, attest(0, 10), 1),
                    question(2, propose(319), 1),
                ])
                .await
                .unwrap();
            assert_eq!(
                foreseen,
                [
                    Err(Refused::Disabled),
                    Err(Refused::Stopped),
                    Ok(Prospect::Signed(root(1)))
                ]
            );
        }
        administration::freeze(&database, Whom::Everyone, Freezing::Freeze)
            .await
            .unwrap();
        let frozen = decide(&ledger, 3, attest(0, 1), 1).await;
        assert_eq!(frozen, Err(Denial::Refused(Refused::Disabled)));
        // Without being told, the running process notices.
        wait_until("it is noticed", async || {
            ledger.frozen().holds(&validator(3))
        })
        .await;
    }
}

#[tokio::test]
async fn a_ledger_that_is_put_back_under_a_running_process_is_quarantined() {
    let hand = Hand::at_epoch(100);
    let place = Place::sqlite();
    drop(place.registered(quick()).await);
    let DatabaseConfig::Sqlite(config) = &place.config else {
        panic!("a file was configured");
    };
    let old = place.directory.path().join("old.sqlite");
    place
        .execute(&format!("VACUUM INTO '{}'", old.display()))
        .await
        .unwrap();
    let ledger = open(&place, &hand).await;
    decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
    for suffix in ["-wal", "-shm"] {
        let mut path = config.path.clone().into_os_string();
        path.push(suffix);
        fs::remove_file(path).unwrap();
    }
    fs::rename(&old, &config.path).unwrap();
    wait_until("it is quarantined", async || {
        is_quarantined(&ledger, 102).await
    })
    .await;
    assert!(decide(&ledger, 1, attest(98, 100), 2).await.is_err());
    hand.set_slot(102 * SLOTS_PER_EPOCH);
    assert!(decide(&ledger, 1, attest(98, 100), 2).await.is_err());
    assert_eq!(decide(&ledger, 1, attest(101, 102), 1).await, Ok(()));
}
