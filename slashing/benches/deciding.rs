//! How long the ledger takes to decide, on SQLite and on a throw-away Postgres, both on disk with
//! `fsync`, by how many claims are asked at once:
//!
//!     cargo bench -p slashing --bench deciding
#![expect(clippy::unwrap_used, reason = "a measurement that fails has failed")]

#[path = "support/validators.rs"]
mod validators;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use divan::{Bencher, counter::ItemsCount};
use duty::{Claim, Epoch, Root, SigningRoot};
use futures_util::future::join_all;
use slashing::{
    database::{Database, DatabaseConfig, PostgresConfig, SqliteConfig},
    ledger::{Ask, Ledger, LedgerLimits, Opening, Origin, Question},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use validators::{register, validator};

/// Claims asked at once at most, each another validator's.
const VALIDATORS: u16 = 1024;

/// No decision is to wait so long that it counts as failed.
const WAIT: Duration = Duration::from_secs(60);

/// A ledger in which all validators are registered.
struct Place {
    ledger: Ledger,
    /// The last target epoch that was asked about.
    epoch: AtomicU64,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
/// Where the anchors are, and the SQLite file.
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

static SQLITE: LazyLock<Place> = LazyLock::new(|| {
    let path = DIRECTORY.path().join("ledger.sqlite");
    let config = DatabaseConfig::Sqlite(SqliteConfig { path });
    RUNTIME.block_on(Place::open(&config, DIRECTORY.path().join("sqlite.anchor")))
});

static POSTGRES: LazyLock<Place> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let config = DatabaseConfig::Postgres(PostgresConfig {
            url: throwaway::database().await,
            password_file: None,
            ca: None,
            synchronous_standbys_min: 0,
        });
        Place::open(&config, DIRECTORY.path().join("postgres.anchor")).await
    })
});

fn main() {
    divan::main();
    // What is static is never dropped: the directory would stay.
    fs::remove_dir_all(DIRECTORY.path()).unwrap();
}

impl Place {
    async fn open(config: &DatabaseConfig, anchor: PathBuf) -> Self {
        let database = Database::open(config, Root::ZERO).await.unwrap();
        register(&database, VALIDATORS).await;
        let opening = Opening {
            limits: LedgerLimits {
                ledger_wait: WAIT,
                ..LedgerLimits::default()
            },
            anchor,
            time: Arc::new(|| None),
            origin: Origin::AsLeft,
        };
        Self {
            ledger: Ledger::open(database, opening).await.unwrap(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Claims of so many validators, beyond all that were made before.
    fn questions(&self, at_once: u16) -> Vec<Question> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        (0..at_once).map(|number| question(number, epoch)).collect()
    }

    /// All are asked at once; the ledger makes its batches of them.
    fn decide(&self, questions: Vec<Question>) {
        RUNTIME.block_on(async {
            let decided = questions.into_iter().map(|question| {
                self.ledger.decide(Ask {
                    validator: question.validator,
                    claim: question.claim,
                    root: question.root,
                    fence: Box::new(()),
                })
            });
            for outcome in join_all(decided).await {
                let _permit = outcome.unwrap();
            }
        });
    }

    /// What promises ask before anything is decided.
    fn foresee(&self, questions: Vec<Question>) {
        RUNTIME.block_on(async {
            for prospect in self.ledger.foresee(questions).await.unwrap() {
                prospect.unwrap();
            }
        });
    }
}

#[divan::bench(args = [1, 64, 1024])]
fn decide_on_sqlite(bencher: Bencher, at_once: u16) {
    measure(bencher, &SQLITE, at_once, Place::decide);
}

#[divan::bench(args = [1, 64, 1024])]
fn decide_on_postgres(bencher: Bencher, at_once: u16) {
    measure(bencher, &POSTGRES, at_once, Place::decide);
}

#[divan::bench(args = [1, 64, 128])]
fn foresee_on_sqlite(bencher: Bencher, at_once: u16) {
    measure(bencher, &SQLITE, at_once, Place::foresee);
}

#[divan::bench(args = [1, 64, 128])]
fn foresee_on_postgres(bencher: Bencher, at_once: u16) {
    measure(bencher, &POSTGRES, at_once, Place::foresee);
}

fn measure(bencher: Bencher, place: &Place, at_once: u16, ask: fn(&Place, Vec<Question>)) {
    bencher
        .counter(ItemsCount::new(at_once))
        .with_inputs(|| place.questions(at_once))
        .bench_local_values(|questions| ask(place, questions));
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
