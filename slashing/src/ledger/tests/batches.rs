//! What a batch is, and that one claim in it does not spoil the others.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use tokio::sync::oneshot;

use crate::{
    database::DatabaseConfig,
    ledger::{
        Ask, Denial, LedgerLimits, Unavailable,
        queue::{Lane, Queue},
    },
    testing::{Place, ask, attest, connect, decide, patient, propose, waiting},
};

/// Queues asks, and says which validators each batch then takes.
fn batches(batch_max: usize, asks: Vec<(Lane, Ask)>) -> Vec<Vec<u8>> {
    let queue = Arc::new(Queue::new(LedgerLimits {
        batch_max,
        ..patient()
    }));
    let queued: Vec<_> = asks
        .into_iter()
        .map(|(lane, ask)| {
            let (reply, answer) = oneshot::channel();
            (Queue::push(&queue, lane, ask, reply).unwrap(), answer)
        })
        .collect();
    let mut batches = Vec::new();
    loop {
        let batch = queue.take();
        if batch.is_empty() {
            break;
        }
        batches.push(batch.iter().map(|entry| entry.ask.validator.0[0]).collect());
    }
    drop(queued);
    batches
}

fn vote(number: u8) -> (Lane, Ask) {
    (Lane::Attestations, ask(number, attest(0, 1), 1))
}

fn block(number: u8) -> (Lane, Ask) {
    (Lane::Blocks, ask(number, propose(1), 1))
}

#[test]
fn a_batch_is_bounded_has_each_validator_once_and_takes_blocks_first() {
    assert_eq!(
        batches(3, vec![vote(1), vote(2), vote(3), vote(4)]),
        [vec![1, 2, 3], vec![4]]
    );
    assert_eq!(
        batches(9, vec![vote(1), vote(1), vote(2), vote(1)]),
        [vec![1, 2], vec![1], vec![1]]
    );
    assert_eq!(
        batches(2, vec![vote(1), vote(2), block(3), block(1)]),
        [vec![3, 1], vec![1, 2]]
    );
    assert_eq!(batches(0, vec![vote(1), vote(2)]), [vec![1], vec![2]]);
}

#[test]
fn an_ask_whose_asker_went_is_not_taken_and_its_fence_goes() {
    let queue = Arc::new(Queue::new(patient()));
    let (fence, watched) = crate::testing::fence();
    let (reply, answer) = oneshot::channel();
    let ask = crate::testing::fenced(1, attest(0, 1), 1, fence);
    let place = Queue::push(&queue, Lane::Attestations, ask, reply).unwrap();
    drop((answer, place));
    assert!(crate::testing::is_dropped(&watched));
    assert!(queue.take().is_empty());
}

#[tokio::test]
async fn a_full_queue_is_busy() {
    for place in Place::each().await {
        let limits = LedgerLimits {
            queue_max: 2,
            ..waiting(200)
        };
        let ledger = place.registered(limits).await;
        // Nothing gets through while somebody else holds everything.
        let held = Held::everything(&place).await;
        let asks = (1..=9).map(|number| decide(&ledger, number, attest(0, 1), 1));
        let outcomes = join_all(asks).await;
        let busy = Err(Denial::Unavailable(Unavailable::Busy));
        assert!(
            outcomes.iter().filter(|outcome| **outcome == busy).count() >= 6,
            "{outcomes:?}"
        );
        assert!(
            outcomes.iter().all(|outcome| outcome.is_err()),
            "{outcomes:?}"
        );
        held.release().await;
        assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    }
}

#[tokio::test]
async fn claims_of_one_validator_follow_each_other() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        let asks = (1..=50).map(|epoch| decide(&ledger, 1, attest(epoch - 1, epoch), 1));
        for outcome in join_all(asks).await {
            assert_eq!(outcome, Ok(()));
        }
    }
}

/// Rows that somebody else has locked: one validator's on Postgres, the whole file on SQLite.
enum Held {
    Postgres(tokio_postgres::Client),
    Sqlite(rusqlite::Connection),
}

impl Held {
    async fn everything(place: &Place) -> Self {
        Self::hold(place, "true").await
    }

    async fn hold(place: &Place, which: &str) -> Self {
        match &place.config {
            DatabaseConfig::Postgres(config) => {
                let client = connect(&config.url).await;
                let lock = format!("BEGIN; SELECT FROM ratchets WHERE {which} FOR UPDATE");
                client.batch_execute(&lock).await.unwrap();
                Self::Postgres(client)
            }
            DatabaseConfig::Sqlite(config) => {
                let connection = rusqlite::Connection::open(&config.path).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                Self::Sqlite(connection)
            }
        }
    }

    async fn release(self) {
        match self {
            Self::Postgres(client) => client.batch_execute("ROLLBACK").await.unwrap(),
            Self::Sqlite(connection) => connection.execute_batch("ROLLBACK").unwrap(),
        }
    }
}

#[tokio::test]
async fn a_locked_row_fails_alone_and_only_while_it_is_locked() {
    let place = Place::postgres(throwaway::database().await);
    let ledger = place.registered(waiting(300)).await;
    let held = Held::hold(&place, "validator = decode(repeat('01', 48), 'hex')").await;
    let both = join(
        decide(&ledger, 1, attest(0, 1), 1),
        decide(&ledger, 2, attest(0, 1), 1),
    );
    let slow = Unavailable::Slow(Duration::from_millis(300));
    assert_eq!(both.await, (Err(slow.into()), Ok(())));

    let release = async {
        crate::testing::wait_until("other validators go on", async || {
            decide(&ledger, 2, attest(1, 2), 1).await.is_ok()
        })
        .await;
        held.release().await;
    };
    let (outcome, ()) = join(decide(&ledger, 1, attest(0, 1), 2), release).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn a_file_that_another_process_writes_is_waited_for() {
    let place = Place::sqlite();
    let ledger = place.registered(waiting(5_000)).await;
    let held = Held::everything(&place).await;
    let release = async {
        // Reads go on meanwhile.
        ledger.ping().await.unwrap();
        held.release().await;
    };
    let (outcome, ()) = join(decide(&ledger, 1, attest(0, 1), 1), release).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn a_claim_that_the_schema_rejects_does_not_spoil_its_batch() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        // A history that its ratchet does not know of: no decision leads here.
        let bytes = |byte: &str, count| match &place.config {
            DatabaseConfig::Sqlite(_) => format!("x'{}'", byte.repeat(count)),
            DatabaseConfig::Postgres(_) => format!("'\\x{}'", byte.repeat(count)),
        };
        let (key, root) = (bytes("01", 48), bytes("02", 32));
        let insert = format!(
            "INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root) \
             VALUES (1, {key}, 0, {root})"
        );
        place.execute(&insert).await.unwrap();
        let asks = (1..=9).map(|number| decide(&ledger, number, attest(0, 1), 1));
        let mut outcomes = join_all(asks).await.into_iter();
        let rejected = outcomes.next().unwrap();
        let failed = matches!(&rejected, Err(Denial::Unavailable(Unavailable::Failed(_))));
        assert!(failed, "{rejected:?}");
        for outcome in outcomes {
            assert_eq!(outcome, Ok(()));
        }
    }
}

#[tokio::test]
async fn a_commit_that_comes_with_a_warning_permits_nothing() {
    let place = Place::postgres(throwaway::database().await);
    let ledger = place.registered(waiting(300)).await;
    let warn = "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE WARNING 'not replicated'; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER warn AFTER UPDATE ON ratchets DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION warn()";
    place.execute(warn).await.unwrap();
    let outcome = decide(&ledger, 1, attest(0, 1), 1).await;
    assert!(
        matches!(outcome, Err(Denial::Unavailable(_))),
        "{outcome:?}"
    );
    place
        .execute("DROP TRIGGER warn ON ratchets")
        .await
        .unwrap();
    // It was committed all the same, so nothing else may be signed, and it is now confirmed.
    assert!(decide(&ledger, 1, attest(0, 1), 2).await.is_err());
    assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
}
