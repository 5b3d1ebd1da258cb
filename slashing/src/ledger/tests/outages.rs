//! Databases that are gone, stuck, or lost in the middle of a commit.

use std::{sync::mpsc, time::Duration};

use futures_util::future::join;
use throwaway::Cluster;
use tokio::time::Instant;

use crate::{
    database::{Database, DatabaseConfig},
    ledger::{Denial, InitialHistory, Ledger, Prospect, Unavailable},
    testing::{
        Place, attest, connect, decide, fence, fenced, is_dropped, patient, question, register,
        root, validator, wait_until, waiting,
    },
};

const WAIT_MS: u64 = 300;
/// What a busy machine may add to a wait.
const GRACE: Duration = Duration::from_secs(2);

/// Asks until the answer is fast and says that the database is away.
async fn check_unavailable(ledger: &Ledger) {
    let started = Instant::now();
    let (decided, foreseen) = join(
        decide(ledger, 1, attest(0, 9), 9),
        ledger.foresee(vec![question(1, attest(0, 9), 9)]),
    )
    .await;
    assert!(started.elapsed() < Duration::from_millis(WAIT_MS) + GRACE);
    assert!(
        matches!(decided, Err(Denial::Unavailable(_))),
        "{decided:?}"
    );
    assert!(foreseen.is_err(), "{foreseen:?}");
    assert!(ledger.ping().await.is_err());
}

async fn is_back(ledger: &Ledger, target: u64) {
    wait_until("the ledger is back", async || {
        decide(ledger, 2, attest(0, target), 1).await.is_ok() && ledger.ping().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stops_crashes_or_freezes_is_noticed_and_comes_back_by_itself() {
    let mut cluster = Cluster::start().await;
    let place = Place::postgres(cluster.database().await);
    let ledger = place.registered(waiting(WAIT_MS)).await;
    is_back(&ledger, 1).await;

    cluster.stop().await;
    check_unavailable(&ledger).await;
    wait_until("asks fail at once", async || {
        let outcome = decide(&ledger, 1, attest(0, 9), 9).await;
        matches!(
            outcome,
            Err(Denial::Unavailable(Unavailable::Unreachable(_)))
        )
    })
    .await;
    cluster.restart().await;
    is_back(&ledger, 2).await;

    cluster.crash().await;
    check_unavailable(&ledger).await;
    cluster.restart().await;
    is_back(&ledger, 3).await;

    cluster.freeze();
    check_unavailable(&ledger).await;
    cluster.thaw();
    is_back(&ledger, 4).await;
}

#[tokio::test]
async fn an_ask_outlives_a_restart_that_is_shorter_than_its_wait() {
    let mut cluster = Cluster::start().await;
    let place = Place::postgres(cluster.database().await);
    let ledger = place.registered(patient()).await;
    is_back(&ledger, 1).await;
    cluster.crash().await;
    let (outcome, ()) = join(decide(&ledger, 1, attest(0, 1), 1), cluster.restart()).await;
    assert_eq!(outcome, Ok(()));
}

/// A ledger whose commits of attestations hang until the returned client lets go.
async fn hanging(place: &Place) -> (Ledger, tokio_postgres::Client) {
    let ledger = place.registered(waiting(WAIT_MS)).await;
    let hang = "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON attestations
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()";
    place.execute(hang).await.unwrap();
    let DatabaseConfig::Postgres(config) = &place.config else {
        panic!("only a server's commits can be made to hang");
    };
    let client = connect(&config.url).await;
    client
        .batch_execute("SELECT pg_advisory_lock(1)")
        .await
        .unwrap();
    (ledger, client)
}

/// Loses a commit, sees that the fence holds until `end` has ended it, and that the ledger then
/// says what the database says: the server may have ended it first, when it missed its client.
async fn check_lost_commit(end: &str) {
    let place = Place::postgres(throwaway::database().await);
    let (ledger, client) = hanging(&place).await;
    let (held, watched) = fence();
    let outcome = ledger.decide(fenced(1, attest(0, 1), 1, held)).await;
    assert!(
        matches!(outcome, Err(Denial::Unavailable(_))),
        "{outcome:?}"
    );
    let waits = "SELECT 1 FROM pg_stat_activity
        WHERE wait_event = 'advisory' AND datname = current_database()";
    let dropped = is_dropped(&watched);
    if !client.query(waits, &[]).await.unwrap().is_empty() {
        assert!(!dropped, "its commit still waits");
    }
    client.batch_execute(end).await.unwrap();
    wait_until("the fence is dropped", async || is_dropped(&watched)).await;
    let rows = client.query("SELECT 1 FROM attestations", &[]).await;
    let expected = match rows.unwrap().is_empty() {
        true => Prospect::Free,
        false => Prospect::Signed(root(1)),
    };
    wait_until("the ledger says so", async || {
        let foreseen = ledger.foresee(vec![question(1, attest(0, 1), 2)]).await;
        foreseen == Ok(vec![Ok(expected)])
    })
    .await;
}

#[tokio::test]
async fn a_fence_holds_until_a_lost_commit_is_known_to_have_happened() {
    check_lost_commit("SELECT pg_advisory_unlock(1)").await;
}

#[tokio::test]
async fn a_fence_holds_until_a_lost_commit_is_known_not_to_have_happened() {
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE wait_event = 'advisory' AND datname = current_database()";
    check_lost_commit(terminate).await;
}

#[tokio::test]
async fn a_fence_holds_while_a_frozen_server_may_have_committed() {
    let cluster = Cluster::start().await;
    let place = Place::postgres(cluster.database().await);
    let (ledger, client) = hanging(&place).await;
    let (held, watched) = fence();
    let asking = ledger.decide(fenced(1, attest(0, 1), 1, held));
    let freezing = async {
        let hangs = "SELECT FROM pg_stat_activity WHERE wait_event = 'advisory'";
        wait_until("the commit hangs", async || {
            !client.query(hangs, &[]).await.unwrap().is_empty()
        })
        .await;
        cluster.freeze();
    };
    let (outcome, ()) = join(asking, freezing).await;
    assert!(
        matches!(outcome, Err(Denial::Unavailable(_))),
        "{outcome:?}"
    );
    check_unavailable(&ledger).await;
    assert!(!is_dropped(&watched));
    cluster.thaw();
    client
        .batch_execute("SELECT pg_advisory_unlock(1)")
        .await
        .unwrap();
    wait_until("the fence is dropped", async || is_dropped(&watched)).await;
    assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    assert!(decide(&ledger, 1, attest(0, 1), 2).await.is_err());
}

#[tokio::test]
async fn a_file_that_is_stuck_is_unavailable_and_keeps_the_fence_of_what_it_may_decide() {
    let place = Place::sqlite();
    let database = place.open().await;
    register(&database, validator(1), InitialHistory::NeverSigned).await;
    let opening = place.opening(waiting(WAIT_MS), None);
    let ledger = Ledger::open(database.clone(), opening).await.unwrap();
    assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));

    let Database::Sqlite(file) = &database else {
        panic!("a file was opened");
    };
    let (release, released) = mpsc::channel::<()>();
    let (stuck, entered) = tokio::sync::oneshot::channel();
    let block = file.call(move |_| {
        stuck.send(()).unwrap();
        released.recv().unwrap_err();
    });
    let (held, watched) = fence();
    let asking = async {
        entered.await.unwrap();
        let outcome = ledger.decide(fenced(1, attest(1, 2), 1, held)).await;
        assert!(
            matches!(outcome, Err(Denial::Unavailable(_))),
            "{outcome:?}"
        );
        // The batch waits for the thread: it will be decided.
        assert!(!is_dropped(&watched));
        assert_eq!(ledger.ping().await, Ok(()));
        drop(release);
    };
    let (blocked, ()) = join(block, asking).await;
    blocked.unwrap();
    wait_until("the fence is dropped", async || is_dropped(&watched)).await;
    let foreseen = ledger
        .foresee(vec![question(1, attest(1, 2), 2)])
        .await
        .unwrap();
    assert_eq!(foreseen, [Ok(Prospect::Signed(root(1)))]);
}
