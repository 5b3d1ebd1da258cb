//! A connection to either database, as the worker and the readers use it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use duty::{Claim, PublicKey};
use tokio::time::timeout;

#[cfg(feature = "test-seams")]
use super::memory;
use super::{
    Prospect, Question, Refused, Unavailable,
    batch::{Decision, Rule},
    lease::{Counter, Frozen, Lease, take::Taking},
    postgres, sqlite,
    standing::{Orders, Standing},
};
use crate::{
    anchor::{AnchorError, Highest, Holder},
    database::{Database, DatabaseError, SqliteDatabase},
};

/// How a batch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was committed, and the session is as good as before: another process writes.
    #[error("another process writes")]
    Busy,
    /// Nothing was committed. The session is of no more use.
    #[error("{0}")]
    Lost(String),
    /// The database refused a statement; nothing was committed. The session is of no more use.
    #[error("{0}")]
    Rejected(String),
    /// COMMIT was sent, and nothing is known. The session is of no more use.
    #[error("{0}")]
    InDoubt(String),
}

/// Who decides, and by which rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authority {
    pub(super) holder: Holder,
    pub(super) rule: Rule,
    /// The commit's number, which no other attempt of any run has had: a commit that is in doubt on
    /// one server is never taken for another one on its successor.
    pub(super) number: u64,
    /// Commits known of: a ledger with fewer was put back.
    pub(super) known: u64,
}

/// The holder says that it lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    pub(super) holder: Holder,
    pub(super) quarantine_is_over: bool,
    pub(super) known: u64,
}

/// What it learns by that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewed {
    pub(super) commits: u64,
    pub(super) orders: Orders,
}

/// A batch that was decided. Nothing of it is given away before the anchor counts it.
pub(super) struct Decided {
    pub(super) decisions: Vec<Decision>,
    /// Set if something was written and committed.
    pub(super) commit: Option<Commit>,
    pub(super) orders: Orders,
}

/// How high decisions go; `claims` are those of the batch, in its order.
pub(super) fn reach(claims: impl Iterator<Item = Claim>, decisions: &[Decision]) -> Highest {
    let permitted = claims.zip(decisions);
    Highest::of(permitted.filter_map(|(claim, decision)| match decision {
        Decision::Permitted(_) => Some(claim),
        Decision::Refused(_) | Decision::Locked => None,
    }))
}

/// A commit of decisions.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) count: u64,
    /// Where PostgreSQL's log stood just before.
    pub(super) lsn: Option<u64>,
    /// What came of counting it in the anchor, where the thread that committed did that, too.
    pub(super) counted: Option<Result<(), AnchorError>>,
}

/// What an operator has ordered, whom that freezes, how high any ratchet has come, imported or
/// decided, and the commit as of which that is so at least.
pub(super) struct Ordered {
    pub(super) orders: Orders,
    pub(super) frozen: Frozen,
    pub(super) reach: Highest,
    pub(super) commits: u64,
}

/// Whether a database's ledger is one to work with; the text says why not.
pub(super) type Accept<'a> = &'a (dyn Fn(&Standing) -> Result<(), String> + Send + Sync);

/// What is said when the row `standing` names another holder.
pub(super) const NOT_HELD: &str = "another cosigner has taken the ledger, or it was put back";

/// The worker's connection.
pub(super) enum Session {
    Sqlite(sqlite::Session),
    Postgres(Box<postgres::Session>),
    #[cfg(feature = "test-seams")]
    Memory(memory::Session),
}

impl Session {
    /// A session with a database whose ledger is accepted: of several servers, the first.
    pub(super) async fn connect(
        database: &Database,
        ledger_wait: Duration,
        accept: Accept<'_>,
    ) -> Result<(Self, Standing), DatabaseError> {
        match database {
            #[cfg(feature = "test-seams")]
            Database::Sqlite(SqliteDatabase {
                simulated: Some(process),
                ..
            }) => {
                let (session, standing) = memory::Session::connect(process.clone()).await?;
                accept(&standing).map_err(DatabaseError::Unavailable)?;
                Ok((Self::Memory(session), standing))
            }
            Database::Sqlite(database) => {
                let (session, standing) = sqlite::Session::connect(database.clone()).await?;
                accept(&standing).map_err(DatabaseError::Unavailable)?;
                Ok((Self::Sqlite(session), standing))
            }
            Database::Postgres(database) => {
                let connected = postgres::Session::connect(database, ledger_wait, accept).await;
                connected.map(|(session, standing)| (Self::Postgres(Box::new(session)), standing))
            }
        }
    }

    /// Takes the ledger, if it still stands as it was seen. Whether it did.
    pub(super) async fn take(&mut self, taking: &Taking) -> Result<bool, Failure> {
        match self {
            Self::Sqlite(session) => session.take(taking.clone()).await,
            Self::Postgres(session) => session.take(taking).await,
            #[cfg(feature = "test-seams")]
            Self::Memory(session) => session.take(taking).await,
        }
    }

    /// Says that the holder lives, and learns of orders. `None` if another has taken the ledger, or
    /// it was put back.
    pub(super) async fn renew(&mut self, renewal: Renewal) -> Result<Option<Renewed>, Failure> {
        match self {
            Self::Sqlite(session) => session.renew(renewal).await,
            Self::Postgres(session) => session.renew(renewal).await,
            #[cfg(feature = "test-seams")]
            Self::Memory(session) => session.renew(renewal).await,
        }
    }

    /// Decides a batch of at most one question per validator, ordered by validator, in one
    /// transaction. The decisions are in the batch's order. The counter is for a thread that can
    /// write the anchor as well: each change of threads costs as much as a write.
    pub(super) async fn decide(
        &mut self,
        batch: Vec<Question>,
        authority: Authority,
        counter: Counter,
    ) -> Result<Decided, Failure> {
        match self {
            Self::Sqlite(session) => session.decide(batch, authority, counter).await,
            Self::Postgres(session) => session.decide(&batch, authority).await,
            #[cfg(feature = "test-seams")]
            Self::Memory(session) => session.decide(&batch, authority).await,
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
            #[cfg(feature = "test-seams")]
            Self::Memory(session) => session.settled(validators).await,
        }
    }

    /// Returns when the connection has ended by itself.
    pub(super) async fn closed(&mut self) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Postgres(session) => session.closed().await,
            #[cfg(feature = "test-seams")]
            Self::Memory(_) => std::future::pending().await,
        }
    }
}

/// The connections that questions are answered over.
#[derive(Clone)]
pub(super) enum Reader {
    Sqlite(SqliteDatabase),
    Postgres(postgres::Reader),
    #[cfg(feature = "test-seams")]
    Memory(memory::Reader),
}

impl Reader {
    /// Of several servers, one that holds all that was decided under this lease.
    pub(super) fn new(database: Database, lease: Arc<Lease>) -> Self {
        match database {
            #[cfg(feature = "test-seams")]
            Database::Sqlite(SqliteDatabase {
                simulated: Some(process),
                ..
            }) => Self::Memory(memory::Reader(process)),
            Database::Sqlite(database) => Self::Sqlite(database),
            Database::Postgres(database) => Self::Postgres(postgres::Reader::new(database, lease)),
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
            #[cfg(feature = "test-seams")]
            Self::Memory(reader) => timeout(ledger_wait, reader.foresee(&questions))
                .await
                .unwrap_or(Err(Unavailable::Slow(ledger_wait))),
        }
    }

    /// What an operator has ordered, and whom that freezes.
    pub(super) async fn orders(&self, ledger_wait: Duration) -> Result<Ordered, Unavailable> {
        match self {
            Self::Sqlite(database) => timeout(ledger_wait, sqlite::orders(database))
                .await
                .unwrap_or(Err(Unavailable::Slow(ledger_wait))),
            Self::Postgres(reader) => reader.orders(ledger_wait).await,
            #[cfg(feature = "test-seams")]
            Self::Memory(reader) => timeout(ledger_wait, reader.orders())
                .await
                .unwrap_or(Err(Unavailable::Slow(ledger_wait))),
        }
    }
}
