//! What databases with standbys do to signers, and what none of it may lead to: a permit that the
//! next primary knows nothing of.

use std::time::Duration;

use futures_util::future::join;
use throwaway::Cluster;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    ledger::{Denial, Ledger, Prospect},
    testing::{Place, attest, connect, decide, propose, question, wait_until, waiting},
};

mod failover;

mod asynchronous;

const WAIT_MS: u64 = 500;
/// How long a test goes on trying what must not succeed.
const INSIST: Duration = Duration::from_secs(3);
/// The pause between two tries of a test.
const PAUSE: Duration = Duration::from_millis(10);

/// A server and its standby, one database on both, and the URL that names both.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    // Its directory has the anchor.
    _place: Place,
    name: String,
}

impl Pair {
    /// Validators 1 to 9 are registered. `awaited` is the primary's `synchronous_standby_names`;
    /// its standby's own is empty, and the standby's name is `standby`.
    async fn start(awaited: &str, ledger_wait_ms: u64) -> (Self, Ledger) {
        let mut primary = Cluster::start().await;
        let url = primary.database().await;
        let standby = primary.standby("standby").await;
        let (_, name) = url.rsplit_once('/').unwrap();
        let place = Place::postgres(format!(
            "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{name}",
            primary.port(),
            standby.port()
        ));
        primary.set(&[("synchronous_standby_names", awaited)]).await;
        let ledger = place.registered(waiting(ledger_wait_ms)).await;
        let name = name.to_owned();
        let pair = Self {
            primary,
            standby,
            _place: place,
            name,
        };
        (pair, ledger)
    }

    async fn on_primary(&self) -> tokio_postgres::Client {
        connect(&self.primary.url(&self.name)).await
    }

    /// The primary is gone for good, and the standby comes (back) and takes its place.
    async fn fail_over(&mut self) {
        self.primary.crash().await;
        self.standby.stop().await;
        self.standby.restart().await;
        self.standby.promote().await;
    }
}

async fn is_permitted(ledger: &Ledger, number: u8, claim: duty::Claim, root_number: u8) {
    wait_until("the ledger permits", async || {
        decide(ledger, number, claim, root_number).await.is_ok()
    })
    .await;
}

/// Asks again and again, and never gets a permit.
async fn insist_in_vain(ledger: &Ledger, number: u8, claim: duty::Claim, root_number: u8) {
    let deadline = Instant::now() + INSIST;
    while Instant::now() < deadline {
        let outcome = decide(ledger, number, claim, root_number).await;
        assert!(
            matches!(outcome, Err(Denial::Unavailable(_))),
            "{outcome:?}"
        );
        sleep(PAUSE).await;
    }
}

/// How many attestations with a target the server shows, replicated or not.
async fn visible(client: &tokio_postgres::Client, target: i64) -> usize {
    let sql = "SELECT FROM attestations WHERE target_epoch = $1";
    client.query(sql, &[&target]).await.unwrap().len()
}

#[tokio::test]
async fn a_repeat_of_what_was_never_replicated_waits_as_the_first_time() {
    let (mut pair, ledger) = Pair::start("standby", WAIT_MS).await;
    is_permitted(&ledger, 1, attest(0, 1), 1).await;
    pair.standby.stop().await;
    let waited = decide(&ledger, 1, attest(1, 2), 1).await;
    assert!(matches!(waited, Err(Denial::Unavailable(_))), "{waited:?}");

    // The server's end ends the wait: what waited is there, and nowhere else.
    pair.primary.crash().await;
    pair.primary.restart().await;
    assert_eq!(visible(&pair.on_primary().await, 2).await, 1);
    insist_in_vain(&ledger, 1, attest(1, 2), 1).await;

    pair.fail_over().await;
    is_permitted(&ledger, 1, attest(1, 2), 2).await;
}

/// Returns when the server's commits wait for its standby.
async fn commits_wait(client: &tokio_postgres::Client) {
    wait_until("commits wait", async || {
        let commit = client.batch_execute("SELECT pg_logical_emit_message(true, 'test', '')");
        timeout(Duration::from_millis(200), commit).await.is_err()
    })
    .await;
}

/// Whether a transaction of the ledger's waits in its COMMIT for the standby.
async fn decision_waits(client: &tokio_postgres::Client) -> bool {
    let sql = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%COMMIT'";
    !client.query(sql, &[]).await.unwrap().is_empty()
}

/// The same, on a connection that was made before there was anything to wait for.
#[tokio::test]
async fn a_repeat_on_a_connection_that_stands_waits_as_the_first_time() {
    let (mut pair, ledger) = Pair::start("", WAIT_MS).await;
    pair.standby.stop().await;
    let watching = pair.on_primary().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        pair.primary.set(&[("synchronous_standby_names", "")]).await;
        is_permitted(&ledger, 1, attest(1, 2), 1).await;
        let names = [("synchronous_standby_names", "standby")];
        pair.primary.set(&names).await;
        commits_wait(&pair.on_primary().await).await;
        let (outcome, waited) = join(decide(&ledger, 1, attest(1, 2), 1), async {
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(WAIT_MS) {
                if decision_waits(&watching).await {
                    return true;
                }
                sleep(PAUSE).await;
            }
            false
        })
        .await;
        assert!(
            matches!(outcome, Err(Denial::Unavailable(_))),
            "{outcome:?}"
        );
        // The ledger's own beat may have waited in the repeat's place.
        if waited {
            return;
        }
        assert!(Instant::now() < deadline, "no repeat came to its COMMIT");
    }
}

/// Somebody ends every wait there is, as an operator in need might; `end` is how.
async fn check_ended_wait(end: &str) {
    let (mut pair, ledger) = Pair::start("standby", 4 * WAIT_MS).await;
    is_permitted(&ledger, 1, attest(0, 1), 1).await;
    pair.standby.stop().await;
    let client = pair.on_primary().await;
    let end = format!("SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    let asking = async {
        for _ in 0..2 {
            let outcome = decide(&ledger, 1, attest(1, 2), 1).await;
            assert!(
                matches!(outcome, Err(Denial::Unavailable(_))),
                "{outcome:?}"
            );
        }
    };
    let mut ended = 0;
    let ending = async {
        loop {
            ended += client.query(&end, &[]).await.unwrap().len();
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = ending => {}
    }
    // The decision's own, at least; and the server believes that it was committed.
    assert!(ended > 0);
    assert_eq!(visible(&client, 2).await, 1);

    pair.fail_over().await;
    is_permitted(&ledger, 1, attest(1, 2), 2).await;
}

#[tokio::test]
async fn a_cancelled_wait_for_a_standby_permits_nothing() {
    check_ended_wait("pg_cancel_backend").await;
}

#[tokio::test]
async fn a_wait_for_a_standby_that_ends_with_its_session_permits_nothing() {
    check_ended_wait("pg_terminate_backend").await;
}

/// When a trigger acts, and what it does instead of what it was asked for.
const SPOILS: &[(&str, &str)] = &[
    // The statements after it answer that the transaction is aborted, and COMMIT would answer
    // ROLLBACK, which is no error.
    ("BEFORE INSERT ON attestations", "RAISE EXCEPTION 'no'"),
    ("BEFORE INSERT ON blocks", "RAISE EXCEPTION 'no'"),
    ("BEFORE UPDATE ON ratchets", "RAISE EXCEPTION 'no'"),
    // Nothing is written, and nothing is wrong but the count.
    ("BEFORE INSERT ON attestations", "RETURN NULL"),
    ("BEFORE INSERT ON blocks", "RETURN NULL"),
    ("BEFORE UPDATE ON ratchets", "RETURN NULL"),
];
/// The same, at COMMIT.
const SPOILS_LATE: &[(&str, &str)] = &[
    ("AFTER INSERT ON attestations", "RAISE EXCEPTION 'no'"),
    ("AFTER INSERT ON blocks", "RAISE EXCEPTION 'no'"),
];

#[tokio::test]
async fn a_commit_of_an_aborted_transaction_permits_nothing() {
    let place = Place::postgres(throwaway::database().await);
    let ledger = place.registered(waiting(4 * WAIT_MS)).await;
    let early = SPOILS.iter().map(|spoil| (spoil, "", ""));
    let late = "DEFERRABLE INITIALLY DEFERRED";
    let late = SPOILS_LATE.iter().map(|spoil| (spoil, "CONSTRAINT", late));
    for (height, ((when, does), constraint, deferred)) in (1..).zip(early.chain(late)) {
        let spoil = format!(
            "CREATE OR REPLACE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {does}; RETURN NEW; END $$;
            CREATE {constraint} TRIGGER a_spoil {when} {deferred}
                FOR EACH ROW EXECUTE FUNCTION spoil()"
        );
        place.execute(&spoil).await.unwrap();
        let claim = match when.ends_with("blocks") {
            true => propose(height),
            false => attest(height - 1, height),
        };
        let outcome = decide(&ledger, 1, claim, 1).await;
        assert!(
            matches!(outcome, Err(Denial::Unavailable(_))),
            "{when} {does}: {outcome:?}"
        );
        let (_, table) = when.rsplit_once(' ').unwrap();
        let unspoil = format!("DROP TRIGGER a_spoil ON {table}");
        place.execute(&unspoil).await.unwrap();
        // Nothing of it is there: another root is as free as it was.
        wait_until("the ledger answers", async || ledger.ping().await.is_ok()).await;
        let foreseen = ledger.foresee(vec![question(1, claim, 2)]).await.unwrap();
        assert_eq!(foreseen, [Ok(Prospect::Free)], "{when} {does}");
        is_permitted(&ledger, 1, claim, 2).await;
    }
}
