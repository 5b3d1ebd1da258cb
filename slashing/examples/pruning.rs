//! How long decisions take while history is pruned, and while it is not, on SQLite and on a
//! throw-away Postgres:
//! `cargo run --release -p slashing --example pruning [-- ROWS [sqlite | postgres]]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement is printed, and one that fails has failed"
)]

#[path = "../benches/support/validators.rs"]
mod validators;

use std::{
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use duty::{Claim, Epoch, Root, SigningRoot, Slot};
use futures_util::future::join_all;
use slashing::{
    database::{Database, DatabaseConfig, PostgresConfig, SqliteConfig},
    ledger::{Ask, Ledger, LedgerLimits, Opening, Origin, Pruning},
};
use tokio::{select, time::sleep};
use validators::{register, validator};

/// Entries of history that are pruned, unless the command says another number.
const ROWS: u64 = 10_000_000;
/// Entries of one epoch.
const ROWS_PER_EPOCH: u64 = 100_000;
/// Entries that one statement adds while the history is made.
const ROWS_PER_INSERT: u64 = 500_000;
/// Validators that sign during the measurement.
const VALIDATORS: u16 = 64;
/// Between two bursts in each of which all of them sign.
const BURST_PAUSE: Duration = Duration::from_millis(20);
/// How long is measured before pruning and after it.
const NORMAL: Duration = Duration::from_secs(30);
/// No decision is to wait so long that it counts as failed.
const WAIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows = arguments.next().map_or(ROWS, |rows| rows.parse().unwrap());
    let only = arguments.next();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let directory = tempfile::tempdir().unwrap();
    if wanted("sqlite") {
        let path = directory.path().join("ledger.sqlite");
        let config = DatabaseConfig::Sqlite(SqliteConfig { path });
        measure("SQLite", &config, directory.path(), rows).await;
    }
    if wanted("postgres") {
        let config = DatabaseConfig::Postgres(PostgresConfig {
            url: throwaway::database().await,
            password_file: None,
            ca: None,
            synchronous_standbys_min: 0,
        });
        measure("Postgres", &config, directory.path(), rows).await;
    }
}

async fn measure(name: &str, config: &DatabaseConfig, anchors: &Path, rows: u64) {
    let database = Database::open(config, Root::ZERO).await.unwrap();
    register(&database, VALIDATORS).await;
    let began = Instant::now();
    fill(config, rows).await;
    let took = began.elapsed().as_secs();
    println!("{name:<9} {rows} entries of history made in {took} s");
    let limits = LedgerLimits {
        ledger_wait: WAIT,
        ..LedgerLimits::default()
    };
    let opening = Opening {
        limits,
        anchor: anchors.join(name),
        time: Arc::new(|| None),
        origin: Origin::AsLeft,
    };
    let ledger = Ledger::open(database, opening).await.unwrap();
    let mut load = Load {
        ledger: ledger.clone(),
        epoch: rows / ROWS_PER_EPOCH + 1,
    };
    // The first decisions find everything cold.
    load.until(sleep(Duration::from_secs(2))).await;

    let (normal, ()) = load.until(sleep(NORMAL)).await;
    report(name, "before", &normal, NORMAL);
    let before = Pruning {
        epoch: Epoch(rows / ROWS_PER_EPOCH),
        slot: Slot(0),
    };
    let began = Instant::now();
    let (pruning, pruned) = load.until(ledger.prune(before)).await;
    assert_eq!(pruned, Ok(rows));
    report(name, "pruning", &pruning, began.elapsed());
    let (after, ()) = load.until(sleep(NORMAL)).await;
    report(name, "after", &after, NORMAL);
    let ratio = percentile(&pruning, 99).as_secs_f64() / percentile(&normal, 99).as_secs_f64();
    println!("{name:<9} p99 while pruning is {ratio:.2} times that before");
}

/// Bursts of attestations, as at the beginning of a slot.
struct Load {
    ledger: Ledger,
    epoch: u64,
}

impl Load {
    /// Signs until `work` is done. Returns how long each decision took, in order of length.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> (Vec<Duration>, T) {
        let mut took = Vec::new();
        let signing = async {
            loop {
                took.extend(join_all((0..VALIDATORS).map(|number| self.decide(number))).await);
                self.epoch += 1;
                sleep(BURST_PAUSE).await;
            }
        };
        let done = select! {
            () = signing => unreachable!("it goes on for ever"),
            done = work => done,
        };
        took.sort_unstable();
        (took, done)
    }

    async fn decide(&self, number: u16) -> Duration {
        let began = Instant::now();
        let ask = Ask {
            validator: validator(number),
            claim: Claim::Attest {
                source: Epoch(self.epoch - 1),
                target: Epoch(self.epoch),
            },
            root: SigningRoot([1; 32]),
            fence: Box::new(()),
        };
        let _permit = self.ledger.decide(ask).await.unwrap();
        began.elapsed()
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    *sorted.get(sorted.len() * percent / 100).unwrap()
}

fn report(name: &str, when: &str, sorted: &[Duration], length: Duration) {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "{name:<9} {when:<8} {:>4} s {:>8} decisions  p50 {:>6.2} ms  p99 {:>6.2} ms  max {:>7.2} ms",
        length.as_secs(),
        sorted.len(),
        ms(percentile(sorted, 50)),
        ms(percentile(sorted, 99)),
        ms(*sorted.last().unwrap()),
    );
}

/// Makes the history of as many other validators as an epoch has entries.
async fn fill(config: &DatabaseConfig, rows: u64) {
    let steps = (0..rows).step_by(usize::try_from(ROWS_PER_INSERT).unwrap());
    let parts = steps.map(|first| first..=(first + ROWS_PER_INSERT).min(rows) - 1);
    match config {
        DatabaseConfig::Sqlite(config) => {
            let connection = rusqlite::Connection::open(&config.path).unwrap();
            for part in parts {
                connection.execute_batch(&sqlite_insert(&part)).unwrap();
            }
        }
        DatabaseConfig::Postgres(config) => {
            let (client, driver) = tokio_postgres::connect(&config.url, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::spawn(driver);
            for part in parts {
                client.batch_execute(&postgres_insert(&part)).await.unwrap();
            }
        }
    }
}

fn sqlite_insert(part: &RangeInclusive<u64>) -> String {
    format!(
        "WITH RECURSIVE n (n) AS (SELECT {} UNION ALL SELECT n + 1 FROM n WHERE n < {})
        INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root)
        SELECT n / {ROWS_PER_EPOCH}, CAST(printf('%048d', n % {ROWS_PER_EPOCH}) AS BLOB), 0,
            randomblob(32) FROM n",
        part.start(),
        part.end(),
    )
}

fn postgres_insert(part: &RangeInclusive<u64>) -> String {
    format!(
        "INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root)
        SELECT n / {ROWS_PER_EPOCH},
            convert_to(lpad((n % {ROWS_PER_EPOCH})::text, 48, '0'), 'UTF8'), 0,
            sha256(int8send(n)) FROM generate_series({}::bigint, {}) AS n",
        part.start(),
        part.end(),
    )
}
