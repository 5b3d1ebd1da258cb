//! What a hostile review did to ledgers: restored in place, half restored, lost orders, stale
//! primaries. Each sequence once ended in two conflicting permits, or in an order that was confirmed
//! and not in force.

use std::{fs, path::PathBuf};

use duty::{Epoch, Slot};

use super::trust::{Hand, SLOTS_PER_EPOCH, quick};
use crate::{
    administration::{self, Freezing, Whom},
    anchor::{Anchor, Found, now_s},
    database::DatabaseConfig,
    ledger::{InitialHistory, Ledger},
    rules::Watermark,
    testing::{Place, attest, connect, decide, propose, register, validator, wait_until},
};

fn path(place: &Place, suffix: &str) -> PathBuf {
    let DatabaseConfig::Sqlite(config) = &place.config else {
        panic!("a file is put back");
    };
    let mut path = config.path.clone().into_os_string();
    path.push(suffix);
    path.into()
}

fn anchor(place: &Place) -> PathBuf {
    place.directory.path().join("anchor")
}

async fn open(place: &Place, hand: &Hand) -> Ledger {
    let database = place.open().await;
    Ledger::open(database, hand.opening(place)).await.unwrap()
}

/// A ledger at epoch 100 whose first validator has voted for 98.
pub(super) async fn begun(place: &Place) -> (Hand, Ledger) {
    let hand = Hand::at_epoch(100);
    drop(place.registered(quick()).await);
    let ledger = open(place, &hand).await;
    decide(&ledger, 1, attest(97, 98), 1).await.unwrap();
    (hand, ledger)
}

async fn keep(place: &Place) {
    let old = place.directory.path().join("old.sqlite");
    let sql = format!("VACUUM INTO '{}'", old.display());
    place.execute(&sql).await.unwrap();
}

/// Ends the process, and waits until the file is closed.
async fn end(place: &Place, ledger: Ledger) {
    ledger.close().await;
    drop(ledger);
    let file = path(place, "");
    wait_until("the file is closed", async || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let mut files = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        !files.any(|open| open == file)
    })
    .await;
}

fn put_back(place: &Place) {
    for suffix in ["-wal", "-shm"] {
        let _none = fs::remove_file(path(place, suffix));
    }
    let old = place.directory.path().join("old.sqlite");
    fs::rename(old, path(place, "")).unwrap();
}

async fn is_quarantined(ledger: &Ledger) {
    wait_until("it is quarantined", async || {
        ledger.state().quarantine.is_some()
    })
    .await;
}

/// What was voted for 100, voted again otherwise, now and after the quarantine.
async fn check_no_second_vote(ledger: &Ledger, hand: &Hand, number: u8) {
    for epoch in [100, 102] {
        hand.set_slot(epoch * SLOTS_PER_EPOCH);
        for claim in [attest(98, 100), attest(97, 101), propose(3200)] {
            let decided = decide(ledger, number, claim, 2).await;
            assert!(decided.is_err(), "{claim:?} in epoch {epoch}");
        }
    }
    let back = decide(ledger, number, attest(101, 102), 1).await;
    assert_eq!(back, Ok(()));
}

/// What [`restore_tables`] restores.
const TABLES: [&str; 3] = ["standing", "ratchets", "attestations"];

pub(super) async fn keep_tables(place: &Place) {
    for table in TABLES {
        let keep = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}");
        place.execute(&keep).await.unwrap();
    }
}

/// Restores the ledger by statements, and does something else in the same transaction.
pub(super) async fn restore_tables(place: &Place, and: &str) {
    let mut restore = match place.config {
        DatabaseConfig::Sqlite(_) => {
            "DROP TRIGGER standing_stays; DROP TRIGGER ratchets_stay; BEGIN IMMEDIATE;".to_owned()
        }
        DatabaseConfig::Postgres(_) => "BEGIN; ALTER TABLE standing DISABLE TRIGGER USER;
            ALTER TABLE ratchets DISABLE TRIGGER USER;"
            .to_owned(),
    };
    restore += "DELETE FROM blocks;";
    for table in TABLES {
        restore += &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table};");
    }
    place.execute(&(restore + and + "COMMIT")).await.unwrap();
}

#[tokio::test]
async fn a_ledger_that_is_restored_in_place_by_statements_is_noticed() {
    for place in Place::each().await {
        let (hand, ledger) = begun(&place).await;
        keep_tables(&place).await;
        decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
        decide(&ledger, 1, propose(3200), 1).await.unwrap();
        restore_tables(&place, "").await;
        for claim in [attest(98, 100), propose(3200)] {
            let decided = decide(&ledger, 1, claim, 2).await;
            assert!(decided.is_err(), "{claim:?}: {decided:?}");
        }
        is_quarantined(&ledger).await;
        check_no_second_vote(&ledger, &hand, 1).await;
    }
}

#[tokio::test]
async fn files_that_are_written_over_with_older_ones_are_noticed() {
    let place = Place::sqlite();
    let (hand, ledger) = begun(&place).await;
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    place.execute(checkpoint).await.unwrap();
    let (old_file, old_anchor) = (
        fs::read(path(&place, "")).unwrap(),
        fs::read(anchor(&place)).unwrap(),
    );
    let kept_at = now_s();
    decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
    decide(&ledger, 1, propose(3200), 1).await.unwrap();
    end(&place, ledger).await;
    wait_until("it is not the same moment", async || now_s() > kept_at + 11).await;
    // The inodes stay what they were.
    fs::write(path(&place, ""), old_file).unwrap();
    fs::write(anchor(&place), old_anchor).unwrap();
    let ledger = open(&place, &hand).await;
    is_quarantined(&ledger).await;
    check_no_second_vote(&ledger, &hand, 1).await;
}

#[tokio::test]
async fn an_older_file_under_the_log_of_a_killed_process_is_noticed() {
    let place = Place::sqlite();
    let (hand, ledger) = begun(&place).await;
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    place.execute(checkpoint).await.unwrap();
    let old_file = fs::read(path(&place, "")).unwrap();
    decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
    decide(&ledger, 1, propose(3200), 1).await.unwrap();
    place.execute(checkpoint).await.unwrap();
    decide(&ledger, 2, attest(98, 100), 1).await.unwrap();
    // As a kill leaves the files.
    let log = fs::read(path(&place, "-wal")).unwrap();
    end(&place, ledger).await;
    let ended_at = now_s();
    wait_until("it is not the same moment", async || {
        now_s() > ended_at + 11
    })
    .await;
    fs::write(path(&place, ""), old_file).unwrap();
    fs::write(path(&place, "-wal"), log).unwrap();
    let ledger = open(&place, &hand).await;
    is_quarantined(&ledger).await;
    check_no_second_vote(&ledger, &hand, 1).await;
}

#[tokio::test]
async fn a_crash_while_a_doubt_is_acted_on_leaves_the_doubt() {
    let place = Place::sqlite();
    let (hand, ledger) = begun(&place).await;
    end(&place, ledger).await;
    let mut file = Anchor::open(&anchor(&place)).unwrap();
    let Found::Mark(mut mark) = file.found().clone() else {
        panic!("{:?}", file.found());
    };
    // It lived long ago, did not end in order, and is announced anew: no more than that.
    mark.ended = false;
    mark.alive_at_s -= 1000;
    file.write(mark).unwrap();
    drop(file);
    let ledger = open(&place, &hand).await;
    is_quarantined(&ledger).await;
}

#[tokio::test]
async fn orders_that_are_lost_are_noticed() {
    let place = Place::sqlite();
    let (hand, ledger) = begun(&place).await;
    keep(&place).await;
    let mark = Watermark::new(Epoch(99), Epoch(100), Slot(3200)).unwrap();
    let raised = administration::raise(ledger.database(), Whom::Everyone, mark).await;
    raised.unwrap();
    ledger.refresh().await.unwrap();
    end(&place, ledger).await;
    put_back(&place);
    let ledger = open(&place, &hand).await;
    is_quarantined(&ledger).await;
    check_no_second_vote(&ledger, &hand, 1).await;
}

#[tokio::test]
async fn orders_hold_for_a_ledger_that_is_put_back_under_the_process() {
    let place = Place::sqlite();
    let (hand, ledger) = begun(&place).await;
    keep(&place).await;
    let freeze = async |number| {
        let whom = Whom::These([validator(number)].into());
        let frozen = administration::freeze(ledger.database(), whom, Freezing::Freeze).await;
        frozen.unwrap();
        ledger.refresh().await.unwrap();
    };
    freeze(1).await;
    freeze(2).await;
    put_back(&place);
    is_quarantined(&ledger).await;
    hand.set_slot(103 * SLOTS_PER_EPOCH);
    wait_until("others sign again", async || {
        decide(&ledger, 3, attest(102, 103), 1).await.is_ok()
    })
    .await;
    freeze(4).await;
    for number in [1, 2, 4] {
        assert!(ledger.frozen().holds(&validator(number)), "{number}");
        assert!(decide(&ledger, number, attest(102, 103), 1).await.is_err());
    }
}

#[tokio::test]
async fn a_key_that_is_imported_again_after_a_quarantine_starts_where_all_others_stand() {
    for place in Place::each().await {
        let (hand, ledger) = begun(&place).await;
        ledger.close().await;
        drop(ledger);
        fs::remove_file(anchor(&place)).unwrap();
        let ledger = open(&place, &hand).await;
        is_quarantined(&ledger).await;
        // It voted for 100 in a part of the history that is gone.
        register(
            ledger.database(),
            validator(77),
            InitialHistory::NeverSigned,
        )
        .await;
        check_no_second_vote(&ledger, &hand, 77).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_to_the_primary_that_has_everything() {
    let primary = throwaway::Cluster::start().await;
    let standby = primary.standby("standby").await;
    let client = connect(&primary.url("postgres")).await;
    client.batch_execute("CREATE DATABASE two").await.unwrap();
    let (one, two) = (primary.port(), standby.port());
    let url = format!("postgres://postgres@127.0.0.1:{one},127.0.0.1:{two}/two");
    let place = Place::postgres(url);
    let (_hand, ledger) = begun(&place).await;
    let replica = connect(&standby.url("postgres")).await;
    wait_until("the standby has the ledger", async || {
        let has = "SELECT 1 FROM pg_database WHERE datname = 'two'";
        replica.query_opt(has, &[]).await.unwrap().is_some()
    })
    .await;
    standby.promote().await;
    for number in 1..=9 {
        decide(&ledger, number, attest(98, 99), 1).await.unwrap();
    }
    for number in 1..=9 {
        let whom = Whom::These([validator(number)].into());
        let frozen = administration::freeze(ledger.database(), whom, Freezing::Freeze).await;
        frozen.unwrap();
        ledger.refresh().await.unwrap();
        assert!(ledger.frozen().holds(&validator(number)), "{number}");
        let decided = decide(&ledger, number, attest(99, 100), 1).await;
        assert!(decided.is_err(), "{number}: {decided:?}");
    }
}
