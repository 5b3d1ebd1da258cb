//! How many claims per second the ledger decides, on SQLite and on a throw-away Postgres:
//! `cargo run --release -p slashing --example throughput`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement is printed, and one that fails has failed"
)]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use duty::{Claim, Epoch, PublicKey, Root, SigningRoot};
use futures_util::future::join_all;
use slashing::{
    database::{Database, DatabaseConfig, PostgresConfig, SqliteConfig},
    ledger::{self, Ask, InitialHistory, Ledger, LedgerLimits, Opening, Origin, Question},
};

const VALIDATORS: u16 = 1024;
const EPOCHS: u64 = 20;

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let anchor = |name: &str| directory.path().join(name);
    let sqlite = DatabaseConfig::Sqlite(SqliteConfig { path });
    measure("SQLite", sqlite, anchor("sqlite.anchor")).await;
    let url = throwaway::database().await;
    let config = PostgresConfig {
        url,
        password_file: None,
        ca: None,
        synchronous_standbys_min: 0,
    };
    let postgres = DatabaseConfig::Postgres(config);
    measure("Postgres", postgres, anchor("postgres.anchor")).await;
}

async fn measure(name: &str, config: DatabaseConfig, anchor: PathBuf) {
    let database = Database::open(&config, Root::ZERO).await.unwrap();
    register(&database).await;
    let limits = LedgerLimits {
        ledger_wait: Duration::from_secs(60),
        ..LedgerLimits::default()
    };
    let opening = Opening {
        limits,
        anchor,
        time: Arc::new(|| None),
        origin: Origin::AsLeft,
    };
    let ledger = Ledger::open(database, opening).await.unwrap();

    let started = Instant::now();
    for epoch in 1..=EPOCHS {
        for outcome in
            join_all((0..VALIDATORS).map(|number| ledger.decide(ask(number, epoch)))).await
        {
            let _permit = outcome.unwrap();
        }
    }
    report(
        name,
        "decided in batches",
        EPOCHS * u64::from(VALIDATORS),
        started,
    );

    let started = Instant::now();
    for epoch in 1..=EPOCHS {
        let all: Vec<_> = (0..VALIDATORS)
            .map(|number| question(number, epoch + EPOCHS))
            .collect();
        for questions in all.chunks(limits.batch_max) {
            ledger.foresee(questions.to_vec()).await.unwrap();
        }
    }
    report(
        name,
        "foreseen in batches",
        EPOCHS * u64::from(VALIDATORS),
        started,
    );

    let started = Instant::now();
    for number in 0..VALIDATORS {
        let _permit = ledger.decide(ask(number, EPOCHS + 1)).await.unwrap();
    }
    report(name, "decided one by one", u64::from(VALIDATORS), started);
}

fn report(name: &str, what: &str, count: u64, started: Instant) {
    let took = started.elapsed();
    let each = took.as_secs_f64() / f64::from(u32::try_from(count).unwrap());
    println!(
        "{name:<9} {what:<20} {:>9.0}/s  {:>8.1} µs each",
        1.0 / each,
        each * 1e6
    );
}

fn validator(number: u16) -> PublicKey {
    let mut key = [0; 48];
    key[..2].copy_from_slice(&number.wrapping_mul(40_503).to_be_bytes());
    PublicKey(key)
}

fn question(number: u16, epoch: u64) -> Question {
    Question {
        validator: validator(number),
        claim: Claim::Attest {
            source: Epoch(epoch - 1),
            target: Epoch(epoch),
        },
        root: SigningRoot([1; 32]),
    }
}

fn ask(number: u16, epoch: u64) -> Ask {
    let Question {
        validator,
        claim,
        root,
    } = question(number, epoch);
    Ask {
        validator,
        claim,
        root,
        fence: Box::new(()),
    }
}

async fn register(database: &Database) {
    let started = Instant::now();
    let history = InitialHistory::NeverSigned;
    match database {
        Database::Sqlite(database) => {
            let call = database.call(move |connection| {
                let transaction = connection.transaction().unwrap();
                for number in 0..VALIDATORS {
                    ledger::sqlite::register(&transaction, validator(number), &history).unwrap();
                }
                transaction.commit().unwrap();
            });
            call.await.unwrap();
        }
        Database::Postgres(database) => {
            let mut client = database.client().await.unwrap();
            let transaction = client.transaction().await.unwrap();
            for number in 0..VALIDATORS {
                let key = validator(number);
                ledger::postgres::register(&transaction, key, &history)
                    .await
                    .unwrap();
            }
            transaction.commit().await.unwrap();
        }
    }
    report("", "registered", VALIDATORS.into(), started);
}
