//! Imports beside those who decide, and within the transactions of others.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use duty::PublicKey;
use rusqlite::TransactionBehavior;

use super::{
    CHAIN, Database, Staged, Taken, export_text, exports::many, file, heights, import_text,
    postgres, ratchets, section, sections, sqlite, tables,
};
use crate::{
    database::DatabaseConfig,
    ledger::Denial,
    testing::{Place, attest, connect, decide, patient, validator, wait_until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_decides_on_while_a_file_is_imported_and_is_refused_what_it_raised() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        let database = place.open().await;
        let done = Arc::new(AtomicBool::new(false));
        let deciding = {
            let (ledger, done) = (ledger.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut permitted = 0_u64;
                for target in 1.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    match decide(&ledger, 2, attest(target - 1, target), 1).await {
                        Ok(()) => permitted += 1,
                        Err(denial) => panic!("{denial}"),
                    }
                }
                permitted
            })
        };
        // Raised over and over while others decide; after an import has returned, nothing at or
        // below what it brought is permitted.
        import_text(&database, CHAIN, many(4_000)).await.unwrap();
        for round in 1..=10_u64 {
            let top = 100 * round;
            let text = file(vec![section(validator(1), &[], &[(top - 1, top, 2)])]);
            let import = import_text(&database, CHAIN, text);
            let decision = decide(&ledger, 1, attest(top - 2, top - 1), 1);
            let (imported, early) = futures_util::future::join(import, decision).await;
            assert_eq!(imported.unwrap().raised, 1);
            for claim in [attest(top - 1, top), attest(top - 2, top + 1)] {
                let late = decide(&ledger, 1, claim, 3).await;
                assert!(matches!(late, Err(Denial::Refused(_))), "{late:?}");
            }
            // What it decided before the import it repeats after it.
            let again = decide(&ledger, 1, attest(top - 2, top - 1), 1).await;
            assert_eq!(again.is_ok(), early.is_ok(), "{early:?} {again:?}");
        }
        done.store(true, Ordering::Relaxed);
        let permitted = deciding.await.unwrap();
        assert!(permitted > 0);
        // None of its raises was lost.
        let own = ratchets(&place).await[&validator(2)].attested.unwrap();
        assert_eq!(own.target.0, permitted);
        let (text, exported) = export_text(&database, CHAIN).await;
        assert_eq!(sections(&text).len(), 4_009);
        assert_eq!(exported.validators, 4_009);
    }
}

#[tokio::test]
async fn a_raise_that_is_not_yet_committed_is_waited_for_and_kept() {
    let place = Place::postgres(throwaway::database().await);
    let database = place.open().await;
    let earlier = file(vec![section(validator(1), &[], &[(1, 2, 1)])]);
    import_text(&database, CHAIN, earlier).await.unwrap();
    let DatabaseConfig::Postgres(config) = &place.config else {
        panic!("a server was configured");
    };
    let other = connect(&config.url).await;
    other
        .batch_execute("BEGIN; UPDATE ratchets SET source_epoch = 40, target_epoch = 50")
        .await
        .unwrap();
    let later = file(vec![section(validator(1), &[], &[(45, 46, 1)])]);
    let importing = tokio::spawn({
        let database = database.clone();
        async move { import_text(&database, CHAIN, later).await }
    });
    wait_until("the import waits for the row", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database()";
        let watching = connect(&config.url).await;
        watching
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 1
    })
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(importing.await.unwrap().unwrap().raised, 1);
    let own = ratchets(&place).await[&validator(1)].attested.unwrap();
    assert_eq!((own.source.0, own.target.0), (45, 50));
}

#[tokio::test]
async fn an_import_is_counted_among_the_ledgers_commits() {
    let text = file(vec![section(validator(1), &[(5, 1)], &[(0, 3, 1)])]);
    for place in Place::each().await {
        let database = place.open().await;
        for _ in 0..2 {
            let before = crate::administration::state(&database).await.unwrap();
            import_text(&database, CHAIN, &*text).await.unwrap();
            let after = crate::administration::state(&database).await.unwrap();
            assert!(after.commits >= before.commits + (1 << 20));
            assert_eq!(database.known().commits(), after.commits);
        }
        let counted = tables(&place).await;
        let is_known = database.known().commits();
        database.known().at_least(is_known + 1);
        let error = import_text(&database, CHAIN, &*text).await.unwrap_err();
        assert!(error.to_string().contains("older state"), "{error}");
        assert_eq!(tables(&place).await, counted);
    }
}

/// Imports within a transaction of its own, and commits it or not.
async fn import_in(database: &Database, text: &str, these: &[u8], commit: bool) -> Taken {
    let these: BTreeSet<PublicKey> = these.iter().map(|number| validator(*number)).collect();
    let staged = Staged::read(CHAIN, text.as_bytes(), |_| {}).unwrap();
    match database {
        Database::Sqlite(database) => {
            let call = database.call(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate);
                let transaction = transaction.unwrap();
                let taken = sqlite::import_in(&transaction, staged, &these).unwrap();
                match commit {
                    true => transaction.commit().unwrap(),
                    false => transaction.rollback().unwrap(),
                }
                taken
            });
            call.await.unwrap()
        }
        Database::Postgres(database) => {
            let mut client = database.client().await.unwrap();
            let transaction = client.transaction().await.unwrap();
            let taken = postgres::import_in(&transaction, staged, &these).await;
            match commit {
                true => transaction.commit().await.unwrap(),
                false => transaction.rollback().await.unwrap(),
            }
            taken.unwrap()
        }
    }
}

#[tokio::test]
async fn within_a_callers_transaction_only_the_given_validators_are_imported() {
    let text = file(vec![
        section(validator(1), &[(5, 1)], &[(1, 2, 1), (0, 3, 1)]),
        section(validator(2), &[], &[]),
        section(validator(3), &[(9, 1)], &[(8, 9, 1)]),
    ]);
    for place in Place::each().await {
        let database = place.open().await;
        let before = tables(&place).await;
        let undone = import_in(&database, &text, &[1, 2, 4], false).await;
        assert_eq!(tables(&place).await, before);
        let taken = import_in(&database, &text, &[1, 2, 4], true).await;
        assert_eq!(taken, undone);
        assert_eq!(taken.unnamed, [validator(4)]);
        assert_eq!(taken.without_entries, [validator(2)]);
        let imported = &taken.imported;
        let counts = (imported.validators, imported.entries, imported.raised);
        assert_eq!(counts, (2, 2, 2));
        assert_eq!(imported.minified, [validator(1)]);
        let keys: Vec<_> = ratchets(&place).await.into_keys().collect();
        assert_eq!(keys, [validator(1), validator(2)]);
        let own = heights(&ratchets(&place).await[&validator(1)]);
        assert_eq!(
            own.attested.map(|own| (own.source.0, own.target.0)),
            Some((1, 3))
        );
        let (text, _) = export_text(&database, CHAIN).await;
        assert_eq!(
            sections(&text)[&validator(1)],
            (vec![(5, 0)], vec![(1, 3, 0)])
        );
    }
}

#[tokio::test]
async fn a_file_that_is_locked_by_another_process_is_waited_for() {
    let place = Place::sqlite();
    let database = place.open().await;
    let DatabaseConfig::Sqlite(config) = &place.config else {
        panic!("a file was configured");
    };
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let text = file(vec![section(validator(1), &[], &[(1, 2, 1)])]);
    let importing = tokio::spawn({
        let database = database.clone();
        async move { import_text(&database, CHAIN, text).await }
    });
    // It is busy for longer than one statement waits.
    let waited = tokio::time::timeout(Duration::from_millis(300), async {
        wait_until("the import ends", async || importing.is_finished()).await;
    });
    assert!(waited.await.is_err(), "it did not wait");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(importing.await.unwrap().unwrap().raised, 1);
}
