use std::fs;

use duty::{Epoch, Slot};

use super::*;
use crate::{
    administration::{Freezing, Whom, freeze, raise, state},
    anchor::Highest,
    rules::Watermark,
    testing::Place,
};

fn anchor_of(place: &Place) -> PathBuf {
    place.directory.path().join("anchor")
}

fn found(place: &Place) -> Found {
    read(&anchor_of(place)).unwrap().found
}

fn mark(place: &Place) -> Mark {
    match found(place) {
        Found::Mark(mark) => mark,
        other @ (Found::Nothing | Found::Damaged) => panic!("{other:?}"),
    }
}

/// An order, as a tool gives it.
async fn order(place: &Place) -> Result<(), OfflineError> {
    let database = place.open().await;
    let expected = expect(&anchor_of(place), &database, None).await?;
    freeze(&database, Whom::Everyone, Freezing::Freeze)
        .await
        .unwrap();
    expected.count(&database).await
}

/// Writes an anchor that fits the ledger, but for what `change` changes.
async fn write(place: &Place, change: impl FnOnce(&mut Mark)) {
    let standing = state(&place.open().await).await.unwrap();
    let mut anchor = Anchor::open(&anchor_of(place)).unwrap();
    let holder = standing.holder.map_or(Holder::NOBODY, Holder);
    let mut mark = anchor.mark(LedgerId(standing.ledger_id), holder, standing.commits);
    mark.ended = true;
    change(&mut mark);
    anchor.write(mark).unwrap();
}

#[tokio::test]
async fn the_first_change_of_a_new_ledger_makes_its_anchor_and_further_ones_raise_it() {
    for place in Place::each().await {
        let mut before = 0;
        for _ in 0..3 {
            order(&place).await.unwrap();
            let standing = state(&place.open().await).await.unwrap();
            let mark = mark(&place);
            assert!(mark.commits > before + 1_000_000);
            assert_eq!(mark.commits, standing.commits);
            assert_eq!(mark.ledger_id, LedgerId(standing.ledger_id));
            assert_eq!((mark.holder, mark.ended), (Holder::NOBODY, true));
            before = mark.commits;
        }
    }
}

#[tokio::test]
async fn how_high_the_ledger_has_come_is_counted_as_far_as_the_clock() {
    for place in Place::each().await {
        let clock = |epoch| {
            Some(Position {
                epoch: Epoch(epoch),
                slot: Slot(epoch * 32),
            })
        };
        let steps = [
            // The first makes the anchor, and none lowers it.
            (clock(100), (7, 8, 9), (7, 8, 9)),
            (clock(100), (1 << 40, 1 << 40, 10), (101, 101, 10)),
            (clock(50), (1 << 40, 1 << 40, 3_000), (101, 101, 1_601)),
            (None, (1 << 40, 1 << 40, 3_000), (1 << 40, 1 << 40, 3_000)),
        ];
        let database = place.open().await;
        crate::testing::register(
            &database,
            crate::testing::validator(1),
            crate::InitialHistory::NeverSigned,
        )
        .await;
        for (now, (source, target, slot), (high_source, high_target, high_slot)) in steps {
            let expected = expect(&anchor_of(&place), &database, now).await.unwrap();
            let watermark = Watermark::new(Epoch(source), Epoch(target), Slot(slot)).unwrap();
            raise(&database, Whom::Everyone, watermark).await.unwrap();
            expected.count(&database).await.unwrap();
            let highest = Highest {
                source: Epoch(high_source),
                target: Epoch(high_target),
                slot: Slot(high_slot),
            };
            assert_eq!(mark(&place).highest, highest, "{now:?}");
        }
    }
}

#[tokio::test]
async fn what_a_holder_wrote_is_kept() {
    for place in Place::each().await {
        let hold = match &place.config {
            crate::DatabaseConfig::Sqlite(_) => "UPDATE standing SET holder = randomblob(16)",
            crate::DatabaseConfig::Postgres(_) => {
                "UPDATE standing SET holder = decode(repeat('ab', 16), 'hex')"
            }
        };
        drop(place.open().await);
        place.execute(hold).await.unwrap();
        let highest = Highest {
            source: Epoch(3),
            target: Epoch(4),
            slot: Slot(5),
        };
        write(&place, |mark| {
            mark.highest = highest;
            mark.ended = false;
        })
        .await;
        let before = mark(&place);
        order(&place).await.unwrap();
        let after = mark(&place);
        assert!(after.commits > before.commits);
        let same = Mark {
            commits: before.commits,
            alive_at_s: before.alive_at_s,
            ..after
        };
        assert_eq!(same, before);
    }
}

#[tokio::test]
async fn an_anchor_that_does_not_fit_is_left_for_the_next_start() {
    type Change = fn(&mut Mark);
    let changes: [Change; 5] = [
        |mark| mark.ledger_id = LedgerId([9; 16]),
        |mark| mark.holder = Holder([9; 16]),
        |mark| mark.inode += 1,
        |mark| mark.alive_at_s -= 11,
        |mark| {
            mark.alive_at_s -= 61;
            mark.ended = false;
        },
    ];
    for place in Place::each().await {
        order(&place).await.unwrap();
        for change in changes {
            write(&place, change).await;
            let before = found(&place);
            order(&place).await.unwrap();
            assert_eq!(found(&place), before);
        }
        fs::write(anchor_of(&place), "not an anchor").unwrap();
        order(&place).await.unwrap();
        assert_eq!(found(&place), Found::Damaged);
        // A ledger that has decided, and whose anchor is lost.
        fs::remove_file(anchor_of(&place)).unwrap();
        order(&place).await.unwrap();
        assert!(!anchor_of(&place).exists());
    }
}

#[tokio::test]
async fn an_older_ledger_is_not_worked_on() {
    for place in Place::each().await {
        order(&place).await.unwrap();
        write(&place, |mark| mark.commits += 1).await;
        let before = mark(&place);
        let error = order(&place).await.unwrap_err().to_string();
        assert!(error.contains("older state"), "{error}");
        assert_eq!(mark(&place), before);
    }
}

#[tokio::test]
async fn an_order_on_a_ledger_that_was_put_back_meanwhile_changes_nothing() {
    for place in Place::each().await {
        let database = place.open().await;
        let before = state(&database).await.unwrap();
        database.known().at_least(before.commits + 1);
        let watermark = Watermark::new(Epoch(1), Epoch(2), Slot(3)).unwrap();
        let error = raise(&database, Whom::Everyone, watermark)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("older state"), "{error}");
        assert_eq!(state(&place.open().await).await.unwrap(), before);
    }
}

#[tokio::test]
async fn the_number_of_an_order_is_beyond_that_of_one_in_doubt() {
    for place in Place::each().await {
        let database = place.open().await;
        // On a server that may come back.
        let in_doubt = 3 << 20;
        database.known().try_at(in_doubt);
        freeze(&database, Whom::Everyone, Freezing::Freeze)
            .await
            .unwrap();
        let commits = state(&database).await.unwrap().commits;
        assert_eq!(commits, in_doubt + (1 << 20));
    }
}

#[tokio::test]
async fn a_process_that_has_the_anchor_counts_by_itself() {
    for place in Place::each().await {
        order(&place).await.unwrap();
        let before = mark(&place);
        let held = Anchor::open(&anchor_of(&place)).unwrap();
        order(&place).await.unwrap();
        assert_eq!(mark(&place), before);
        drop(held);
    }
}

#[tokio::test]
async fn an_anchor_that_can_not_be_written_is_an_error_after_the_change() {
    for place in Place::each().await {
        let database = place.open().await;
        let path = place.directory.path().join("nowhere").join("anchor");
        let expected = expect(&path, &database, None).await.unwrap();
        freeze(&database, Whom::Everyone, Freezing::Freeze)
            .await
            .unwrap();
        let error = expected.count(&database).await.unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert!(state(&database).await.unwrap().all_frozen);
    }
}
