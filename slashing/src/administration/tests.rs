//! An operator's orders, on both databases.

use std::{collections::BTreeMap, time::Instant};

use duty::SigningRoot;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use rusqlite::TransactionBehavior;

use super::*;
use crate::{
    ledger::{Denial, InitialHistory, Refused},
    rules::{Attested, Proposed, Ratchet},
    testing::{Place, attest, connect, decide, patient, register, validator, wait_until},
};

type Ratchets = BTreeMap<PublicKey, (Ratchet, bool)>;

fn these(numbers: impl IntoIterator<Item = u8>) -> Whom {
    Whom::These(numbers.into_iter().map(validator).collect())
}

fn mark(source: u64, target: u64, slot: u64) -> Watermark {
    Watermark::new(Epoch(source), Epoch(target), Slot(slot)).unwrap()
}

/// A database in which validators 1 to 9 are registered.
async fn registered(place: &Place) -> Database {
    let database = place.open().await;
    for number in 1..=9 {
        register(&database, validator(number), InitialHistory::NeverSigned).await;
    }
    database
}

const READ_ALL: &str = "SELECT validator, source_epoch, target_epoch, attestation_root, slot,
    block_root, disabled FROM ratchets";

type Columns = (
    Vec<u8>,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<Vec<u8>>,
    bool,
);

fn ratchet(columns: Columns) -> (PublicKey, (Ratchet, bool)) {
    let (key, source, target, attestation_root, slot, block_root, disabled) = columns;
    let root = |bytes: Option<Vec<u8>>| bytes.map(|b| SigningRoot(b.try_into().unwrap()));
    let attested = source.zip(target).map(|(source, target)| Attested {
        source: Epoch(source.try_into().unwrap()),
        target: Epoch(target.try_into().unwrap()),
        root: root(attestation_root),
    });
    let proposed = slot.map(|slot| Proposed {
        slot: Slot(slot.try_into().unwrap()),
        root: root(block_root),
    });
    let key = PublicKey(key.try_into().unwrap());
    (key, (Ratchet { attested, proposed }, disabled))
}

async fn ratchets(place: &Place) -> Ratchets {
    match &place.config {
        crate::DatabaseConfig::Sqlite(config) => {
            let connection = rusqlite::Connection::open(&config.path).unwrap();
            let mut read = connection.prepare(READ_ALL).unwrap();
            let rows = read.query_map([], |row| Columns::try_from(row)).unwrap();
            rows.map(|row| ratchet(row.unwrap())).collect()
        }
        crate::DatabaseConfig::Postgres(config) => {
            let rows = connect(&config.url).await.query(READ_ALL, &[]).await;
            let columns = |row: &tokio_postgres::Row| {
                let [key, source, target, vote, slot, block, disabled] = [0, 1, 2, 3, 4, 5, 6];
                ratchet((
                    row.get(key),
                    row.get(source),
                    row.get(target),
                    row.get(vote),
                    row.get(slot),
                    row.get(block),
                    row.get(disabled),
                ))
            };
            rows.unwrap().iter().map(columns).collect()
        }
    }
}

fn disabled(ratchets: &Ratchets) -> Vec<u8> {
    let disabled = ratchets.iter().filter(|(_, (_, disabled))| *disabled);
    disabled.map(|(validator, _)| validator.0[0]).collect()
}

#[tokio::test]
async fn validators_are_frozen_and_released_one_by_one() {
    for place in Place::each().await {
        let database = registered(&place).await;
        for (freezing, whom, changed, unchanged, frozen) in [
            (Freezing::Freeze, vec![2, 3], 2, 0, vec![2, 3]),
            (Freezing::Freeze, vec![3, 4], 1, 1, vec![2, 3, 4]),
            (Freezing::Release, vec![1, 2, 3], 2, 1, vec![4]),
            (Freezing::Release, vec![1, 2, 3], 0, 3, vec![4]),
            (Freezing::Freeze, vec![], 0, 0, vec![4]),
        ] {
            let before = state(&database).await.unwrap();
            let done = freeze(&database, these(whom.clone()), freezing)
                .await
                .unwrap();
            assert_eq!(
                done,
                Changes { changed, unchanged },
                "{freezing:?} {whom:?}"
            );
            assert_eq!(disabled(&ratchets(&place).await), frozen);
            let after = state(&database).await.unwrap();
            assert_eq!(after.orders, before.orders + 1);
            assert_eq!(after.commits, before.commits + (1 << 20));
            assert_eq!(database.known().commits(), after.commits);
            assert_eq!(usize::try_from(after.frozen), Ok(frozen.len()));
            assert!(!after.all_frozen);
        }
    }
}

#[tokio::test]
async fn a_frozen_validator_is_refused_and_a_released_one_is_not() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        let database = place.open().await;
        decide(&ledger, 1, attest(1, 2), 1).await.unwrap();
        freeze(&database, these([1]), Freezing::Freeze)
            .await
            .unwrap();
        for claim in [attest(1, 2), attest(2, 3)] {
            let refused = decide(&ledger, 1, claim, 1).await;
            assert_eq!(
                refused,
                Err(Denial::Refused(Refused::Disabled)),
                "{claim:?}"
            );
        }
        decide(&ledger, 2, attest(2, 3), 1).await.unwrap();
        freeze(&database, these([1]), Freezing::Release)
            .await
            .unwrap();
        decide(&ledger, 1, attest(1, 2), 1).await.unwrap();
    }
}

#[tokio::test]
async fn everyone_and_one_by_one_are_two_things() {
    for place in Place::each().await {
        let database = registered(&place).await;
        freeze(&database, these([1]), Freezing::Freeze)
            .await
            .unwrap();
        for (freezing, changed, all_frozen) in [
            (Freezing::Freeze, 8, true),
            (Freezing::Freeze, 0, true),
            (Freezing::Release, 8, false),
            (Freezing::Release, 0, false),
        ] {
            let done = freeze(&database, Whom::Everyone, freezing).await.unwrap();
            assert_eq!(done.changed, changed, "{freezing:?}");
            let after = state(&database).await.unwrap();
            assert_eq!((after.all_frozen, after.frozen), (all_frozen, 1));
        }
    }
}

#[tokio::test]
async fn where_signing_stops_is_set_moved_and_lifted() {
    for place in Place::each().await {
        let database = registered(&place).await;
        let highest = crate::rules::HEIGHT_MAX;
        for (epoch, slot) in [
            (Some(7), Some(9)),
            (Some(6), None),
            (None, Some(highest)),
            (Some(0), Some(0)),
            (None, None),
        ] {
            let stop = Stop {
                epoch: epoch.map(Epoch),
                slot: slot.map(Slot),
            };
            stop_at(&database, stop).await.unwrap();
            assert_eq!(state(&database).await.unwrap().stop, stop);
        }
        let before = state(&database).await.unwrap();
        for (epoch, slot) in [(Some(highest + 1), None), (Some(1), Some(u64::MAX))] {
            let stop = Stop {
                epoch: epoch.map(Epoch),
                slot: slot.map(Slot),
            };
            let error = stop_at(&database, stop).await.unwrap_err();
            assert!(
                matches!(error, AdministrationError::OutOfRange(..)),
                "{error}"
            );
        }
        assert_eq!(state(&database).await.unwrap(), before);
    }
}

#[tokio::test]
async fn unknown_validators_are_named_and_nothing_changes() {
    for place in Place::each().await {
        let database = registered(&place).await;
        let before = (state(&database).await.unwrap(), ratchets(&place).await);
        let some = these([1, 2, 77, 3, 66]);
        for error in [
            freeze(&database, some.clone(), Freezing::Freeze).await,
            raise(&database, some.clone(), mark(1, 2, 3)).await,
        ] {
            let error = error.unwrap_err();
            let text = error.to_string();
            let unknown = match error {
                AdministrationError::Unknown(unknown) => unknown,
                AdministrationError::OutOfRange(..)
                | AdministrationError::Unavailable(_)
                | AdministrationError::InDoubt(_) => panic!("{text}"),
            };
            assert_eq!(unknown, [validator(66), validator(77)]);
            assert!(text.contains(&validator(66).to_string()), "{text}");
        }
        let many = these(1..=200);
        let error = freeze(&database, many, Freezing::Freeze).await.unwrap_err();
        assert!(error.to_string().ends_with(" and 186 more"), "{error}");
        assert_eq!(
            (state(&database).await.unwrap(), ratchets(&place).await),
            before
        );
    }
}

fn height() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..5, Just(crate::rules::HEIGHT_MAX)]
}

fn any_root() -> impl Strategy<Value = Option<SigningRoot>> {
    prop_oneof![
        Just(None),
        (1_u8..3).prop_map(|byte| Some(SigningRoot([byte; 32])))
    ]
}

fn any_ratchet() -> impl Strategy<Value = Ratchet> {
    let attested = (height(), height(), any_root()).prop_map(|(one, other, root)| Attested {
        source: Epoch(one.min(other)),
        target: Epoch(one.max(other)),
        root,
    });
    let proposed = (height(), any_root()).prop_map(|(slot, root)| Proposed {
        slot: Slot(slot),
        root,
    });
    (
        proptest::option::weighted(0.8, attested),
        proptest::option::weighted(0.8, proposed),
    )
        .prop_map(|(attested, proposed)| Ratchet { attested, proposed })
}

fn any_watermark() -> impl Strategy<Value = Watermark> {
    (height(), height(), height())
        .prop_map(|(one, other, slot)| mark(one.min(other), one.max(other), slot))
}

fn key(number: usize) -> PublicKey {
    let mut key = [0; 48];
    key[..8].copy_from_slice(&number.to_be_bytes());
    PublicKey(key)
}

/// SQL that registers these ratchets, in the dialect's notation of bytes.
fn insertion(ratchets: &[Ratchet], bytes: impl Fn(&[u8]) -> String) -> String {
    let number =
        |height: Option<u64>| height.map_or("NULL".to_owned(), |height| height.to_string());
    let root = |root: Option<SigningRoot>| root.map_or("NULL".to_owned(), |root| bytes(&root.0));
    let row = |(position, ratchet): (usize, &Ratchet)| {
        let (attested, proposed) = (ratchet.attested, ratchet.proposed);
        format!(
            "({}, {}, {}, {}, {}, {})",
            bytes(&key(position).0),
            number(attested.map(|attested| attested.source.0)),
            number(attested.map(|attested| attested.target.0)),
            root(attested.and_then(|attested| attested.root)),
            number(proposed.map(|proposed| proposed.slot.0)),
            root(proposed.and_then(|proposed| proposed.root)),
        )
    };
    let rows: Vec<String> = ratchets.iter().enumerate().map(row).collect();
    format!(
        "INSERT INTO ratchets (validator, source_epoch, target_epoch, attestation_root, slot,
         block_root) VALUES {}",
        rows.join(",")
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn raising_in_the_database_is_the_pure_function() {
    let mut runner = TestRunner::deterministic();
    let case = (
        proptest::collection::vec(any_ratchet(), 300),
        proptest::collection::vec((any_watermark(), any::<bool>()), 4),
    );
    let places = [
        Place::each().await,
        Place::each().await,
        Place::each().await,
    ];
    for place in places.as_flattened() {
        let database = place.open().await;
        let (ratchets_then, marks): (Vec<Ratchet>, Vec<_>) =
            case.new_tree(&mut runner).unwrap().current();
        let sql = match &place.config {
            crate::DatabaseConfig::Sqlite(_) => {
                insertion(&ratchets_then, |b| format!("x'{}'", hex(b)))
            }
            crate::DatabaseConfig::Postgres(_) => {
                insertion(&ratchets_then, |b| format!("'\\x{}'", hex(b)))
            }
        };
        place.execute(&sql).await.unwrap();
        let mut expected = ratchets(place).await;
        assert!(expected.values().map(|row| row.0).eq(ratchets_then));
        for (watermark, all) in marks {
            let every_other = (0..300).step_by(2).map(key).collect();
            let whom = if all {
                Whom::Everyone
            } else {
                Whom::These(every_other)
            };
            let mut counted = Changes::default();
            for (position, (ratchet, _)) in expected.values_mut().enumerate() {
                if all || position % 2 == 0 {
                    let raised = ratchet.raised_to(&watermark);
                    let rose = u64::from(raised != *ratchet);
                    counted.changed += rose;
                    counted.unchanged += 1 - rose;
                    *ratchet = raised;
                }
            }
            let done = raise(&database, whom, watermark).await.unwrap();
            assert_eq!(done, counted, "{watermark:?}");
            assert_eq!(ratchets(place).await, expected, "{watermark:?}");
        }
    }
}

#[tokio::test]
async fn what_was_raised_is_signed_no_more_and_the_rest_is() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        decide(&ledger, 1, attest(1, 2), 1).await.unwrap();
        let database = place.open().await;
        raise(&database, Whom::Everyone, mark(3, 5, 8))
            .await
            .unwrap();
        for number in [1, 2] {
            for claim in [attest(2, 6), attest(3, 5), crate::testing::propose(8)] {
                let refused = decide(&ledger, number, claim, 1).await;
                assert!(matches!(refused, Err(Denial::Refused(_))), "{claim:?}");
            }
            decide(&ledger, number, attest(3, 6), 1).await.unwrap();
            decide(&ledger, number, crate::testing::propose(9), 1)
                .await
                .unwrap();
        }
        // What this very ledger decided may still be repeated: it is one and the same message.
        decide(&ledger, 1, attest(1, 2), 1).await.unwrap();
    }
}

#[tokio::test]
async fn an_order_waits_for_whoever_writes_and_decisions_go_on_meanwhile() {
    let place = Place::postgres(throwaway::database().await);
    let ledger = place.registered(patient()).await;
    let database = place.open().await;
    let crate::DatabaseConfig::Postgres(config) = &place.config else {
        panic!("{:?}", place.config)
    };
    let mut other = connect(&config.url).await;
    let holding = other.transaction().await.unwrap();
    let held: Vec<u8> = validator(5).0.to_vec();
    let lock = "SELECT 1 FROM ratchets WHERE validator = $1 FOR UPDATE";
    holding.query_one(lock, &[&held]).await.unwrap();
    let order = tokio::spawn(async move {
        let whom = these([5, 6]);
        freeze(&database, whom, Freezing::Freeze).await
    });
    let watcher = connect(&config.url).await;
    wait_until("the order waits for the row", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock'";
        let row = watcher.query_one(waiting, &[]).await.unwrap();
        row.get::<_, i64>(0) > 0
    })
    .await;
    for target in 2..6 {
        decide(&ledger, 1, attest(1, target), 1).await.unwrap();
    }
    holding.rollback().await.unwrap();
    assert_eq!(order.await.unwrap().unwrap().changed, 2);
}

#[tokio::test]
async fn an_order_waits_for_another_process_that_writes_the_file() {
    let place = Place::sqlite();
    let database = registered(&place).await;
    let crate::DatabaseConfig::Sqlite(config) = &place.config else {
        panic!("{:?}", place.config)
    };
    let mut other = rusqlite::Connection::open(&config.path).unwrap();
    let held = other
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let second = database.clone();
    let order =
        tokio::spawn(async move { freeze(&second, Whom::Everyone, Freezing::Freeze).await });
    // Longer than one statement waits: a read of the ledger is answered meanwhile.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        assert!(!state(&database).await.unwrap().all_frozen);
        assert!(!order.is_finished());
        tokio::task::yield_now().await;
    }
    held.rollback().unwrap();
    order.await.unwrap().unwrap();
    assert!(state(&database).await.unwrap().all_frozen);
}

/// A trigger on `standing` that only warns: `when` is that of the trigger.
async fn check_warning(when: &str, in_doubt: bool) {
    let place = Place::postgres(throwaway::database().await);
    let database = registered(&place).await;
    let warn = format!(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE WARNING 'canceling wait'; RETURN NEW; END $$;
         CREATE {when} ON standing {} FOR EACH ROW EXECUTE FUNCTION warn()",
        if in_doubt {
            "DEFERRABLE INITIALLY DEFERRED"
        } else {
            ""
        }
    );
    place.execute(&warn).await.unwrap();
    let error = freeze(&database, these([1]), Freezing::Freeze)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("canceling wait"), "{error}");
    assert_eq!(
        matches!(error, AdministrationError::InDoubt(_)),
        in_doubt,
        "{error}"
    );
    if !in_doubt {
        assert!(disabled(&ratchets(&place).await).is_empty());
    }
}

#[tokio::test]
async fn a_change_that_came_with_a_warning_is_not_confirmed() {
    check_warning("TRIGGER warns AFTER UPDATE", false).await;
    check_warning("CONSTRAINT TRIGGER warns AFTER UPDATE", true).await;
}
