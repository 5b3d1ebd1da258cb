//! A connection to either database, as the worker and the readers use it.

use std::{collections::BTreeSet, time::Duration};

use duty::PublicKey;
use tokio::time::timeout;

use super::{Prospect, Question, Refused, Unavailable, batch::Decision, postgres, sqlite};
use crate::database::{Database, DatabaseError, SqliteDatabase};

/// How a batch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was committed, and the session is as good as before: another process writes.
    Busy,
    /// Nothing was committed. The session is of no more use.
    Lost(String),
    /// The database refused a statement; nothing was committed. The session is of no more use.
    Rejected(String),
    /// COMMIT was sent, and nothing is known. The session is of no more use.
    InDoubt(String),
}

/// The worker's connection.
pub(super) enum Session {
    Sqlite(sqlite::Session),
    Postgres(Box<postgres::Session>),
}

impl Session {
    pub(super) async fn connect(
        database: &Database,
        ledger_wait: Duration,
    ) -> Result<Self, DatabaseError> {
        match database {
            Database::Sqlite(database) => sqlite::Session::connect(database.clone())
                .await
                .map(Self::Sqlite),
            Database::Postgres(database) => postgres::Session::connect(database, ledger_wait)
                .await
                .map(|session| Self::Postgres(Box::new(session))),
        }
    }

    /// Decides a batch of at most one question per validator, ordered by validator, in one
    /// transaction. The decisions are in the batch's order.
    pub(super) async fn decide(&mut self, batch: Vec<Question>) -> Result<Vec<Decision>, Failure> {
        match self {
            Self::Sqlite(session) => session.decide(batch).await,
            Self::Postgres(session) => session.decide(&batch).await,
        }
    }

    /// Those of the validators whose rows are in no transaction any more, so that whatever was in
    /// doubt about them has happened or never will.
    pub(super) async fn settled(
        &mut self,
        validators: &BTreeSet<PublicKey>,
    ) -> Result<BTreeSet<PublicKey>, Failure> {
        match self {
            Self::Sqlite(session) => session.settled(validators).await,
            Self::Postgres(session) => session.settled(validators).await,
        }
    }

    /// Returns when the connection has ended by itself.
    pub(super) async fn closed(&mut self) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Postgres(session) => session.closed().await,
        }
    }
}

/// The connections that questions are answered over.
#[derive(Clone)]
pub(super) enum Reader {
    Sqlite(SqliteDatabase),
    Postgres(postgres::Reader),
}

impl Reader {
    pub(super) fn new(database: Database) -> Self {
        match database {
            Database::Sqlite(database) => Self::Sqlite(database),
            Database::Postgres(database) => Self::Postgres(postgres::Reader::new(database)),
        }
    }

    pub(super) async fn foresee(
        &self,
        questions: Vec<Question>,
        ledger_wait: Duration,
    ) -> Result<Vec<Result<Prospect, Refused>>, Unavailable> {
        match self {
            Self::Sqlite(database) => timeout(ledger_wait, sqlite::foresee(database, questions))
                .await
                .unwrap_or(Err(Unavailable::Slow(ledger_wait))),
            Self::Postgres(reader) => reader.foresee(&questions, ledger_wait).await,
        }
    }
}
