//! Standbys that nobody waited for: what they lack was signed all the same.

use tokio::time::{Instant, sleep};

use super::{INSIST, PAUSE, Pair, WAIT_MS, is_permitted, visible};
use crate::{
    ledger::Ledger,
    testing::{attest, decide, wait_until},
};

/// Asks for what conflicts with a permit of long ago, whatever it is answered, but a permit.
async fn insist(ledger: &Ledger, claim: duty::Claim, root_number: u8) {
    let deadline = Instant::now() + INSIST;
    while Instant::now() < deadline {
        let outcome = decide(ledger, 1, claim, root_number).await;
        assert!(
            outcome.is_err(),
            "{claim:?} was permitted with another root"
        );
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_standby_that_was_behind_when_it_was_promoted_permits_nothing_that_conflicts() {
    let (mut pair, ledger) = Pair::start("", WAIT_MS).await;
    is_permitted(&ledger, 1, attest(0, 1), 1).await;
    pair.standby.stop().await;
    is_permitted(&ledger, 1, attest(1, 5), 1).await;
    pair.fail_over().await;
    insist(&ledger, attest(1, 5), 2).await;
    insist(&ledger, attest(2, 4), 2).await;

    // And no more when the old primary is there, too.
    pair.primary.restart().await;
    insist(&ledger, attest(1, 5), 2).await;
}

/// A commit of which nobody knew whether it happened did happen, and only on a server that then
/// crashed; its successor decides otherwise, as often as the old one had; and the old one is back.
#[tokio::test]
async fn what_an_old_primary_committed_unseen_is_not_repeated_after_another_was_permitted() {
    let (mut pair, ledger) = Pair::start("", WAIT_MS).await;
    is_permitted(&ledger, 1, attest(0, 1), 1).await;
    pair.standby.stop().await;
    let client = pair.on_primary().await;
    let hang = "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON attestations
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang();
        SELECT pg_advisory_lock(1)";
    client.batch_execute(hang).await.unwrap();
    decide(&ledger, 1, attest(1, 2), 1).await.unwrap_err();
    client
        .batch_execute("SELECT pg_advisory_unlock(1)")
        .await
        .unwrap();
    wait_until("it was committed", async || visible(&client, 2).await == 1).await;

    pair.fail_over().await;
    is_permitted(&ledger, 1, attest(1, 2), 2).await;
    pair.standby.crash().await;
    pair.primary.restart().await;
    insist(&ledger, attest(1, 2), 1).await;
}
