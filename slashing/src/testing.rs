//! What the tests of this crate share: a place for a database of either kind.

use std::{sync::Arc, time::Duration};

use duty::{Claim, Epoch, Permit, PublicKey, Root, SigningRoot, Slot};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use crate::{
    database::{Database, DatabaseConfig, DatabaseError, PostgresConfig, SqliteConfig},
    ledger::{
        self, Ask, Denial, InitialHistory, Ledger, LedgerLimits, OpenError, Opening, Origin,
        Position, Question,
    },
};

pub(crate) const CHAIN: Root = Root([7; 32]);

/// Where a database is. It can be opened again, and by several.
pub(crate) struct Place {
    pub(crate) config: DatabaseConfig,
    /// Where the anchor is, and an SQLite file.
    pub(crate) directory: TempDir,
}

impl Place {
    /// A fresh place of each kind: what must hold holds on both.
    pub(crate) async fn each() -> [Self; 2] {
        [Self::sqlite(), Self::postgres(throwaway::database().await)]
    }

    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.sqlite");
        Self {
            config: DatabaseConfig::Sqlite(SqliteConfig { path }),
            directory,
        }
    }

    pub(crate) fn postgres(url: String) -> Self {
        let config = PostgresConfig {
            url,
            password_file: None,
            ca: None,
            synchronous_standbys_min: 0,
        };
        Self {
            config: DatabaseConfig::Postgres(config),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) async fn open(&self) -> Database {
        Database::open(&self.config, CHAIN).await.unwrap()
    }

    /// How a cosigner whose clock stands at a position would open the ledger.
    pub(crate) fn opening(&self, limits: LedgerLimits, now: Option<Position>) -> Opening {
        Opening {
            limits,
            anchor: self.directory.path().join("anchor"),
            time: Arc::new(move || now),
            origin: Origin::AsLeft,
        }
    }

    pub(crate) async fn try_ledger(&self, limits: LedgerLimits) -> Result<Ledger, OpenError> {
        Ledger::open(self.open().await, self.opening(limits, None)).await
    }

    pub(crate) async fn ledger(&self, limits: LedgerLimits) -> Ledger {
        self.try_ledger(limits).await.unwrap()
    }

    /// A ledger in which validators 1 to 9 are registered as never having signed.
    pub(crate) async fn registered(&self, limits: LedgerLimits) -> Ledger {
        let database = self.open().await;
        for number in 1..=9 {
            register(&database, validator(number), InitialHistory::NeverSigned).await;
        }
        Ledger::open(database, self.opening(limits, None))
            .await
            .unwrap()
    }

    /// Runs SQL as somebody else.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), String> {
        match &self.config {
            DatabaseConfig::Sqlite(config) => {
                let connection = rusqlite::Connection::open(&config.path).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                connection
                    .execute_batch(sql)
                    .map_err(|error| error.to_string())
            }
            DatabaseConfig::Postgres(config) => {
                let done = connect(&config.url).await.batch_execute(sql).await;
                done.map_err(|error| crate::database::postgres::clause(&error))
            }
        }
    }
}

/// A connection of a test's own; it is driven until its client is dropped.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn try_register(
    database: &Database,
    validator: PublicKey,
    history: InitialHistory,
) -> Result<(), ledger::RegisterError> {
    match database {
        Database::Sqlite(database) => {
            let call = database.call(move |connection| {
                let transaction = connection.transaction().unwrap();
                let registered = ledger::sqlite::register(&transaction, validator, &history);
                if registered.is_ok() {
                    transaction.commit().unwrap();
                }
                registered
            });
            call.await.unwrap()
        }
        Database::Postgres(database) => {
            let mut client = database.client().await.unwrap();
            let transaction = client.transaction().await.unwrap();
            ledger::postgres::register(&transaction, validator, &history).await?;
            transaction.commit().await.unwrap();
            Ok(())
        }
    }
}

pub(crate) async fn register(database: &Database, validator: PublicKey, history: InitialHistory) {
    try_register(database, validator, history).await.unwrap();
}

pub(crate) async fn open_error(place: &Place, chain: Root) -> DatabaseError {
    match Database::open(&place.config, chain).await {
        Ok(_) => panic!("{:?} was opened", place.config),
        Err(error) => error,
    }
}

/// Limits with the wait in milliseconds.
pub(crate) fn waiting(ms: u64) -> LedgerLimits {
    LedgerLimits {
        ledger_wait: Duration::from_millis(ms),
        ..LedgerLimits::default()
    }
}

/// Limits whose wait no test that works comes near to.
pub(crate) fn patient() -> LedgerLimits {
    waiting(30_000)
}

pub(crate) const fn validator(number: u8) -> PublicKey {
    PublicKey([number; 48])
}

pub(crate) const fn root(number: u8) -> SigningRoot {
    SigningRoot([number; 32])
}

pub(crate) const fn attest(source: u64, target: u64) -> Claim {
    Claim::Attest {
        source: Epoch(source),
        target: Epoch(target),
    }
}

pub(crate) const fn propose(slot: u64) -> Claim {
    Claim::Propose { slot: Slot(slot) }
}

pub(crate) fn ask(number: u8, claim: Claim, root_number: u8) -> Ask {
    fenced(number, claim, root_number, ())
}

pub(crate) fn fenced(number: u8, claim: Claim, root_number: u8, fence: impl Send + 'static) -> Ask {
    Ask {
        validator: validator(number),
        claim,
        root: root(root_number),
        fence: Box::new(fence),
    }
}

pub(crate) fn question(number: u8, claim: Claim, root_number: u8) -> Question {
    Question {
        validator: validator(number),
        claim,
        root: root(root_number),
    }
}

/// Decides, and holds a permit to what was asked.
pub(crate) async fn decide(
    ledger: &Ledger,
    number: u8,
    claim: Claim,
    root_number: u8,
) -> Result<(), Denial> {
    let permit: Permit = ledger.decide(ask(number, claim, root_number)).await?;
    assert_eq!(permit.validator(), validator(number));
    assert_eq!(permit.root(), root(root_number));
    Ok(())
}

/// Whether a fence that was given away has been dropped.
pub(crate) fn is_dropped(fence: &std::sync::Weak<()>) -> bool {
    fence.upgrade().is_none()
}

pub(crate) fn fence() -> (Arc<()>, std::sync::Weak<()>) {
    let fence = Arc::new(());
    let watched = Arc::downgrade(&fence);
    (fence, watched)
}

/// Waits for a condition, with a deadline.
pub(crate) async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
