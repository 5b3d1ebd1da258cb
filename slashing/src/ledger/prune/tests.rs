use duty::{Epoch, Slot};
use tokio::{join, time::timeout};

use super::*;
use crate::{
    database::DatabaseConfig,
    ledger::{Denial, Prospect},
    rules::Conflict,
    testing::{Place, attest, connect, decide, patient, propose, question, root},
};

const fn before(epoch: u64, slot: u64) -> Pruning {
    Pruning {
        epoch: Epoch(epoch),
        slot: Slot(slot),
    }
}

/// The numbers of a query's one row.
async fn numbers<const N: usize>(place: &Place, query: &str) -> [i64; N] {
    match &place.config {
        DatabaseConfig::Sqlite(config) => {
            let connection = rusqlite::Connection::open(&config.path).unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok(std::array::from_fn(|at| row.get(at).unwrap()));
            connection.query_row(query, [], row).unwrap()
        }
        DatabaseConfig::Postgres(config) => {
            let row = connect(&config.url)
                .await
                .query_one(query, &[])
                .await
                .unwrap();
            std::array::from_fn(|at| row.get(at))
        }
    }
}

/// Rows and the lowest height of own attestations, own blocks, and those that were imported.
async fn history(place: &Place) -> [i64; 8] {
    let part = |table: &str, height: &str| {
        format!("(SELECT count(*) FROM {table}), (SELECT coalesce(min({height}), -1) FROM {table})")
    };
    let parts = [
        part("attestations", "target_epoch"),
        part("blocks", "slot"),
        part("imported_attestations", "target_epoch"),
        part("imported_blocks", "slot"),
    ];
    numbers(place, &format!("SELECT {}", parts.join(", "))).await
}

async fn ratchets(place: &Place) -> [i64; 5] {
    let query = "SELECT count(*), CAST(coalesce(sum(source_epoch), 0) AS bigint), \
                 CAST(coalesce(sum(target_epoch), 0) AS bigint), CAST(coalesce(sum(slot), 0) AS bigint), \
                 CAST(coalesce(sum(decisions), 0) AS bigint) FROM ratchets";
    numbers(place, query).await
}

/// History of validators that are not registered: for each epoch and slot below `heights`, `each`
/// entries in each table. Imported ones come in twos for one validator.
async fn fill(place: &Place, heights: u64, each: u64) {
    let (numbers, key, root) = match &place.config {
        DatabaseConfig::Sqlite(_) => (
            "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {rows})",
            "CAST(printf('%048d', {n}) AS BLOB)",
            "zeroblob({length})",
        ),
        DatabaseConfig::Postgres(_) => (
            "WITH n (n) AS (SELECT generate_series(0, {rows} - 1))",
            "convert_to(lpad(({n})::text, 48, '0'), 'UTF8')",
            "decode(repeat('00', {length}), 'hex')",
        ),
    };
    let numbers = numbers.replace("{rows}", &(heights * each).to_string());
    let root = |length| root.replace("{length}", length);
    for (prefix, number, root) in [
        ("", "n", root("32")),
        ("imported_", "n / 2", root("32 * (n % 2)")),
    ] {
        let key = key.replace("{n}", number);
        let insert = format!(
            "{numbers} INSERT INTO {prefix}attestations
                (target_epoch, validator, source_epoch, signing_root)
                SELECT n / {each}, {key}, 0, {root} FROM n;
            {numbers} INSERT INTO {prefix}blocks (slot, validator, signing_root)
                SELECT n / {each}, {key}, {root} FROM n"
        );
        place.execute(&insert).await.unwrap();
    }
}

#[tokio::test]
async fn history_below_goes_and_the_rest_and_the_ratchets_stay() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        for number in 1..=3 {
            for height in 1..=10 {
                let vote = decide(&ledger, number, attest(height - 1, height), 1);
                assert_eq!(vote.await, Ok(()));
                assert_eq!(decide(&ledger, number, propose(height), 1).await, Ok(()));
            }
        }
        // Besides, for heights 0 to 9, two entries of each kind.
        fill(&place, 10, 2).await;
        let ratchets_before = ratchets(&place).await;
        assert_eq!(history(&place).await, [50, 0, 50, 0, 20, 0, 20, 0]);

        for (pruning, pruned, left) in [
            (before(0, 0), 0, [50, 0, 50, 0, 20, 0, 20, 0]),
            (before(1, 1), 8, [48, 1, 48, 1, 18, 1, 18, 1]),
            (before(5, 1), 28, [28, 5, 48, 1, 10, 5, 18, 1]),
            (before(5, 8), 49, [28, 5, 13, 8, 10, 5, 4, 8]),
            (before(3, 3), 0, [28, 5, 13, 8, 10, 5, 4, 8]),
        ] {
            assert_eq!(ledger.prune(pruning).await, Ok(pruned), "{pruning:?}");
            assert_eq!(history(&place).await, left, "{pruning:?}");
        }
        assert_eq!(ratchets(&place).await, ratchets_before);

        // What is kept can be repeated; what is gone is refused like anything that is too low.
        assert_eq!(decide(&ledger, 1, attest(4, 5), 1).await, Ok(()));
        assert_eq!(decide(&ledger, 1, propose(8), 1).await, Ok(()));
        for (claim, root_number) in [(attest(3, 4), 1), (attest(3, 4), 2), (propose(7), 1)] {
            let outcome = decide(&ledger, 1, claim, root_number).await;
            let refused = matches!(outcome, Err(Denial::Refused(_)));
            assert!(refused, "{claim:?}: {outcome:?}");
        }
        assert_eq!(decide(&ledger, 1, attest(10, 11), 2).await, Ok(()));
    }
}

#[tokio::test]
async fn the_top_of_a_ratchet_can_be_repeated_when_all_history_is_gone() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        decide(&ledger, 1, attest(3, 4), 1).await.unwrap();
        decide(&ledger, 1, propose(9), 1).await.unwrap();
        assert_eq!(ledger.prune(before(u64::MAX, u64::MAX)).await, Ok(2));
        assert_eq!(history(&place).await, [0, -1, 0, -1, 0, -1, 0, -1]);

        assert_eq!(decide(&ledger, 1, attest(3, 4), 1).await, Ok(()));
        assert_eq!(decide(&ledger, 1, propose(9), 1).await, Ok(()));
        let questions = vec![question(1, attest(3, 4), 1), question(1, propose(9), 2)];
        let signed = Ok(Prospect::Signed(root(1)));
        assert_eq!(ledger.foresee(questions).await, Ok(vec![signed, signed]));
        let conflict = Conflict::SlotNotAbove {
            slot: Slot(9),
            highest: Slot(9),
        };
        let refused = Err(Denial::Refused(conflict.into()));
        assert_eq!(decide(&ledger, 1, propose(9), 2).await, refused);
    }
}

#[tokio::test]
async fn decisions_go_on_while_much_is_pruned() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        fill(&place, 20, 500).await;
        let decisions = async {
            for height in 100..120 {
                for number in 1..=9 {
                    let vote = decide(&ledger, number, attest(height - 1, height), 1);
                    assert_eq!(vote.await, Ok(()));
                    assert_eq!(ledger.ping().await, Ok(()));
                }
            }
        };
        let (pruned, ()) = join!(ledger.prune(before(15, 18)), decisions);
        assert_eq!(pruned, Ok(2 * (15 + 18) * 500));
        let left = [2_500 + 9 * 20, 15, 1_000, 18, 2_500, 15, 1_000, 18];
        assert_eq!(history(&place).await, left);
        assert_eq!(ratchets(&place).await[4], 9 * 20);
    }
}

#[tokio::test]
async fn pruning_that_was_given_up_goes_on_where_it_was() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        fill(&place, 10, 500).await;
        let all = before(10, 0);
        let mut patience = Duration::from_millis(1);
        crate::testing::wait_until("something is pruned", async || {
            let _given_up = timeout(patience, ledger.prune(all)).await;
            patience *= 2;
            history(&place).await[0] < 5_000
        })
        .await;
        assert!(ledger.prune(all).await.is_ok());
        assert_eq!(history(&place).await, [0, -1, 5_000, 0, 0, -1, 5_000, 0]);
    }
}

#[test]
fn what_takes_long_takes_less_the_next_time_and_pauses_are_in_proportion() {
    let ms = Duration::from_millis;
    let mut pace = Pace::START;
    assert_eq!(pace.after(ms(1)), ms(4));
    assert_eq!(pace.rows, ROWS_MIN);
    assert_eq!(pace.after(Duration::ZERO), Duration::ZERO);
    assert_eq!(pace.rows, 2 * ROWS_MIN);
    for _ in 0..20 {
        pace.after(Duration::ZERO);
    }
    assert_eq!(pace.rows, ROWS_MAX);
    assert_eq!(pace.after(ms(10)), ms(40));
    assert_eq!(pace.rows, ROWS_MAX / 2);
    for _ in 0..20 {
        pace.after(Duration::MAX);
    }
    assert_eq!(pace.rows, ROWS_MIN);
    assert_eq!(pace.after(Duration::MAX), PAUSE_MAX);
}
