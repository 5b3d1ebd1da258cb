//! A ledger that is put back under a running process, and what is ordered while that takes it again.

use duty::Epoch;

use super::hostile::{begun, keep_tables, restore_tables};
use crate::{
    administration::{self, Freezing, Stop, Whom},
    database::DatabaseConfig,
    testing::{Place, attest, connect, decide, validator, wait_until},
};

fn one(number: u8) -> Whom {
    Whom::These([validator(number)].into())
}

fn stop(epoch: u64) -> Stop {
    Stop {
        epoch: Some(Epoch(epoch)),
        slot: None,
    }
}

#[tokio::test]
async fn what_was_ordered_stays_ordered_though_it_takes_several_attempts_to_repeat_it() {
    for place in Place::each().await {
        let (_hand, ledger) = begun(&place).await;
        keep_tables(&place).await;
        let freeze = administration::freeze(ledger.database(), one(1), Freezing::Freeze);
        assert_eq!(freeze.await.unwrap().changed, 1);
        administration::stop_at(ledger.database(), stop(150))
            .await
            .unwrap();
        ledger.refresh().await.unwrap();
        let (refuse, allow) = match place.config {
            DatabaseConfig::Sqlite(_) => (
                "CREATE TRIGGER refuses BEFORE UPDATE OF disabled ON ratchets BEGIN
                    SELECT RAISE(ABORT, 'not now'); END;",
                "DROP TRIGGER refuses",
            ),
            DatabaseConfig::Postgres(_) => (
                "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
                CREATE TRIGGER refuses BEFORE UPDATE OF disabled ON ratchets
                    FOR EACH ROW EXECUTE FUNCTION refuses();",
                "DROP TRIGGER refuses ON ratchets",
            ),
        };
        restore_tables(&place, refuse).await;
        // It is taken again, and what was ordered can not be committed.
        wait_until("it is quarantined", async || {
            ledger.state().quarantine.is_some()
        })
        .await;
        // An order of meanwhile, and what the ledger says of itself.
        administration::stop_at(ledger.database(), stop(120))
            .await
            .unwrap();
        ledger.refresh().await.unwrap();
        assert!(ledger.frozen().holds(&validator(1)));
        assert_eq!(ledger.state().stop, stop(120));
        let taken = ledger.state().commits;
        wait_until("it was tried again", async || {
            ledger.state().commits > taken
        })
        .await;
        ledger.refresh().await.unwrap();
        // One that the process has not heard of.
        administration::stop_at(ledger.database(), stop(110))
            .await
            .unwrap();
        place.execute(allow).await.unwrap();
        wait_until("it is ordered again", async || {
            let standing = administration::state(ledger.database()).await.unwrap();
            standing.frozen == 1
        })
        .await;
        assert!(ledger.frozen().holds(&validator(1)));
        // Nothing is under way any more.
        ledger.close().await;
        let standing = administration::state(&place.open().await).await.unwrap();
        assert_eq!(standing.stop, stop(110));
    }
}

#[tokio::test]
async fn an_order_while_a_ledger_that_was_put_back_is_being_taken_is_not_counted_in_it() {
    let place = Place::postgres(throwaway::database().await);
    let DatabaseConfig::Postgres(config) = &place.config else {
        panic!("a server was configured");
    };
    let (_hand, ledger) = begun(&place).await;
    keep_tables(&place).await;
    decide(&ledger, 1, attest(98, 100), 1).await.unwrap();
    let held = connect(&config.url).await;
    held.batch_execute("SELECT pg_advisory_lock(7)")
        .await
        .unwrap();
    // Whoever takes the ledger waits.
    let waits = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
        CREATE TRIGGER waits BEFORE UPDATE OF holder ON standing
            FOR EACH ROW EXECUTE FUNCTION waits();";
    restore_tables(&place, waits).await;
    let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    wait_until("it is being taken", async || {
        held.query_one(waiting, &[]).await.unwrap().get(0)
    })
    .await;
    let before = administration::state(&place.open().await).await.unwrap();
    let order = administration::freeze(ledger.database(), one(1), Freezing::Freeze);
    let refused = order.await.unwrap_err().to_string();
    assert!(refused.contains("older"), "{refused}");
    let after = administration::state(&place.open().await).await.unwrap();
    assert_eq!(after, before);
    held.batch_execute("SELECT pg_advisory_unlock(7)")
        .await
        .unwrap();
    wait_until("it is quarantined", async || {
        ledger.state().quarantine.is_some()
    })
    .await;
}
