//! The ledger on PostgreSQL: three round trips per batch, four if a claim conflicts or is absent.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use duty::PublicKey;
use futures_util::future::{BoxFuture, FutureExt as _, join3, try_join, try_join_all};
use tokio::time::timeout;
use tokio_postgres::{Error, Statement, error::Severity, types::ToSql};

use super::{
    Question,
    batch::{Committed, Past, Plan, Terms},
    columns::Corrupt,
    lease::take::Taking,
    session::{Accept, Authority, Commit, Decided, Failure, NOT_HELD, Renewal, Renewed},
    standing::Standing,
};
use crate::database::{
    DatabaseError, PostgresDatabase,
    postgres::{Check, Connection, clause},
};
use arrays::{HistoryArrays, RatchetArrays, keys, parse_row, validator};
use reads::Reads;
use standing::HOLD;

pub(super) use reads::Reader;
pub use register::register;

mod arrays;

mod reads;

mod register;

mod standing;

/// How long the ledger may take to be taken: every ratchet may have to rise.
const TAKE_WAIT: Duration = Duration::from_secs(60);
/// How long it may take to say that the holder lives: longer than other writers hold the row.
const RENEW_WAIT: Duration = Duration::from_secs(5);

const BEGIN: &str = "/* begin */ BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const COMMIT: &str = "/* commit */ COMMIT";
const ROLLBACK: &str = "/* rollback */ ROLLBACK";

/// $1 validators. A row that another transaction holds is left out: it must not stop the others.
const LOCK_RATCHETS: &str = "/* lock_ratchets */
SELECT validator, source_epoch, target_epoch, attestation_root, slot, block_root, disabled
FROM ratchets WHERE validator = ANY($1) ORDER BY validator FOR UPDATE SKIP LOCKED";

/// $1 validators, $2 source epochs, $3 target epochs, $4 attestation roots, $5 slots, $6 block
/// roots
const WRITE_RATCHETS: &str = "/* write_ratchets */
UPDATE ratchets SET
    source_epoch = raised.source_epoch, target_epoch = raised.target_epoch,
    attestation_root = raised.attestation_root,
    slot = raised.slot, block_root = raised.block_root, decisions = decisions + 1
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[])
    AS raised (validator, source_epoch, target_epoch, attestation_root, slot, block_root)
WHERE ratchets.validator = raised.validator
RETURNING ratchets.validator";

/// $1 target epochs, $2 validators, $3 source epochs, $4 roots
const ADD_ATTESTATIONS: &str = "/* add_attestations */
INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root)
SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[])";

/// $1 slots, $2 validators, $3 roots
const ADD_BLOCKS: &str = "/* add_blocks */
INSERT INTO blocks (slot, validator, signing_root)
SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])";

/// The worker's connection, with its statements prepared.
pub(super) struct Session {
    database: PostgresDatabase,
    connection: Connection,
    ledger_wait: Duration,
    hold: Statement,
    lock_ratchets: Statement,
    write_ratchets: Statement,
    add_attestations: Statement,
    add_blocks: Statement,
    reads: Reads,
}

/// A server whose ledger is accepted.
struct Accepted<'c>(Accept<'c>);

impl Check for Accepted<'_> {
    type Passed = Standing;

    fn check<'a>(
        &'a self,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Result<Standing, DatabaseError>> {
        async {
            let standing = standing::read(&connection.client).await;
            let standing =
                standing.map_err(|failed| DatabaseError::Unavailable(failed.to_string()))?;
            (self.0)(&standing).map_err(DatabaseError::Unavailable)?;
            Ok(standing)
        }
        .boxed()
    }
}

impl Session {
    /// Of several servers, the first that is fit and whose ledger is accepted.
    pub(super) async fn connect(
        database: &PostgresDatabase,
        ledger_wait: Duration,
        accept: Accept<'_>,
    ) -> Result<(Self, Standing), DatabaseError> {
        let (connection, standing) = database.connect_where(&Accepted(accept)).await?;
        let client = &connection.client;
        let prepared = timeout(ledger_wait, async {
            try_join(
                try_join_all([
                    client.prepare(HOLD),
                    client.prepare(LOCK_RATCHETS),
                    client.prepare(WRITE_RATCHETS),
                    client.prepare(ADD_ATTESTATIONS),
                    client.prepare(ADD_BLOCKS),
                ]),
                Reads::prepare(client),
            )
            .await
        });
        let (writes, reads) = prepared
            .await
            .map_err(|_| DatabaseError::Unavailable("the server does not answer".to_owned()))?
            .map_err(|error| DatabaseError::Unavailable(clause(&error)))?;
        let [
            hold,
            lock_ratchets,
            write_ratchets,
            add_attestations,
            add_blocks,
        ] = <[Statement; 5]>::try_from(writes)
            .map_err(|_| DatabaseError::Schema("five statements were prepared".to_owned()))?;
        let session = Self {
            database: database.clone(),
            connection,
            ledger_wait,
            hold,
            lock_ratchets,
            write_ratchets,
            add_attestations,
            add_blocks,
            reads,
        };
        Ok((session, standing))
    }

    /// `BEGIN … COMMIT` of taking the ledger.
    pub(super) async fn take(&mut self, taking: &Taking) -> Result<bool, Failure> {
        self.connection.take_warning();
        let working = async {
            let transaction = self.connection.client.transaction().await?;
            let taken = standing::take(&transaction, taking).await?;
            transaction.commit().await?;
            self.unwarned().map(|()| taken)
        };
        let taken = match timeout(TAKE_WAIT, working).await {
            Ok(taken) => taken,
            Err(_) => Err(Failed::NoAnswer(TAKE_WAIT)),
        };
        taken.map_err(|failed| failed.into_failure(true))
    }

    /// Looks as well whether the server still keeps what it commits.
    pub(super) async fn renew(&mut self, renewal: Renewal) -> Result<Option<Renewed>, Failure> {
        let kept = self.database.recheck(&self.connection).await;
        kept.map_err(|error| Failure::Lost(error.to_string()))?;
        self.connection.take_warning();
        let client = &self.connection.client;
        let working = async {
            let renewed = standing::renew(client, &renewal).await?;
            self.unwarned().map(|()| renewed)
        };
        let renewed = match timeout(RENEW_WAIT, working).await {
            Ok(renewed) => renewed,
            Err(_) => Err(Failed::NoAnswer(RENEW_WAIT)),
        };
        renewed.map_err(|failed| failed.into_failure(false))
    }

    pub(super) async fn closed(&mut self) {
        self.connection.closed().await;
    }

    /// After any failure the connection must be dropped: the server then ends what it has begun.
    pub(super) async fn decide(
        &mut self,
        batch: &[Question],
        authority: Authority,
    ) -> Result<Decided, Failure> {
        let commit_sent = AtomicBool::new(false);
        let transaction = self.transact(batch, authority, &commit_sent);
        let failed = match timeout(self.ledger_wait, transaction).await {
            Ok(Ok(decided)) => return Ok(decided),
            Ok(Err(failed)) => failed,
            Err(_) => Failed::NoAnswer(self.ledger_wait),
        };
        Err(failed.into_failure(commit_sent.load(Ordering::Relaxed)))
    }

    /// The one transaction. COMMIT is sent only after every result was read and counted, for
    /// COMMIT of an aborted transaction would answer without an error.
    async fn transact(
        &self,
        batch: &[Question],
        authority: Authority,
        commit_sent: &AtomicBool,
    ) -> Result<Decided, Failed> {
        let client = &self.connection.client;
        self.connection.take_warning();

        let validators = keys(batch.iter().map(|question| &question.validator));
        let lock: [&(dyn ToSql + Sync); 1] = [&validators];
        let (begun, held, locked) = join3(
            client.batch_execute(BEGIN),
            standing::hold(client, &self.hold, &authority),
            client.query(&self.lock_ratchets, &lock),
        )
        .await;
        begun?;
        let held = held?.ok_or(Failed::NotHeld)?;
        let rows = locked?
            .iter()
            .map(parse_row)
            .collect::<Result<Vec<_>, Failed>>()?;
        let terms = Terms {
            rule: authority.rule,
            orders: held.orders,
        };
        let mut plan = Plan::new(batch, &rows, terms);
        self.look_up(&mut plan).await?;

        let (writes, appends) = (plan.writes(), plan.appends());
        if writes.is_empty() {
            client.batch_execute(ROLLBACK).await?;
            return Ok(Decided {
                decisions: plan.conclude(&Committed::NOTHING),
                commit: None,
                orders: held.orders,
            });
        }
        let ratchets = RatchetArrays::try_from(writes.as_slice())?;
        let history = HistoryArrays::try_from(appends.as_slice())?;
        let (written, attestations, blocks) = join3(
            client.query(&self.write_ratchets, &ratchets.parameters()),
            history.add_attestations(client, &self.add_attestations),
            history.add_blocks(client, &self.add_blocks),
        )
        .await;
        let written = written?
            .iter()
            .map(validator)
            .collect::<Result<BTreeSet<_>, Failed>>()?;
        let expected: BTreeSet<_> = writes.iter().map(|write| write.validator).collect();
        if written != expected || attestations? + blocks? != history.rows() {
            return Err(Failed::Count);
        }
        self.unwarned()?;

        commit_sent.store(true, Ordering::Relaxed);
        client.batch_execute(COMMIT).await?;
        self.unwarned()?;
        Ok(Decided {
            decisions: plan.conclude(&Committed::after_commit(written)),
            commit: Some(Commit {
                count: held.commits,
                lsn: Some(held.lsn),
                counted: None,
            }),
            orders: held.orders,
        })
    }

    /// Asks the history about conflicts and the table about absent rows: mostly about nothing.
    async fn look_up(&self, plan: &mut Plan<'_>) -> Result<(), Failed> {
        let client = &self.connection.client;
        let (conflicting, absent) = (plan.conflicting(), plan.absent());
        let past = async {
            match conflicting.is_empty() {
                true => Ok(Past::default()),
                false => self.reads.past(client, &conflicting).await,
            }
        };
        let registered = async {
            match absent.is_empty() {
                true => Ok(Vec::new()),
                false => self.reads.rows(client, absent.iter()).await,
            }
        };
        let (past, registered) = try_join(past, registered).await?;
        plan.recall(&past);
        plan.know(&registered.iter().map(|row| row.validator).collect());
        Ok(())
    }

    /// A warning means that something did not happen as asked: a commit that came with one was
    /// not waited for.
    fn unwarned(&self) -> Result<(), Failed> {
        self.connection
            .take_warning()
            .map_or(Ok(()), |warning| Err(Failed::Warned(warning)))
    }

    /// A transaction that wrote these rows holds them until it has ended, so those that can be
    /// locked are in doubt no more. The lock goes as it comes: the statement is a transaction.
    pub(super) async fn settled(
        &mut self,
        validators: &BTreeSet<PublicKey>,
    ) -> Result<BTreeSet<PublicKey>, Failure> {
        let keys = keys(validators.iter());
        let parameters: [&(dyn ToSql + Sync); 1] = [&keys];
        let locking = self
            .connection
            .client
            .query(&self.lock_ratchets, &parameters);
        let locked = match timeout(self.ledger_wait, locking).await {
            Ok(locked) => locked.map_err(Failed::from),
            Err(_) => Err(Failed::NoAnswer(self.ledger_wait)),
        };
        locked
            .and_then(|rows| rows.iter().map(validator).collect())
            .map_err(|failed| failed.into_failure(false))
    }
}

/// How a transaction failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}", clause(.0))]
    Database(#[from] Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("a statement wrote other rows than it was given")]
    Count,
    #[error("the server warned: {0}")]
    Warned(String),
    #[error("{NOT_HELD}")]
    NotHeld,
    #[error("the server did not answer within {} ms", .0.as_millis())]
    NoAnswer(Duration),
}

impl Failed {
    fn into_failure(self, commit_sent: bool) -> Failure {
        let reason = self.to_string();
        if commit_sent {
            return Failure::InDoubt(reason);
        }
        match self {
            Self::Corrupt(_) | Self::Count => Failure::Rejected(reason),
            Self::Database(error) if is_about_a_statement(&error) => Failure::Rejected(reason),
            Self::Database(_) | Self::Warned(_) | Self::NotHeld | Self::NoAnswer(_) => {
                Failure::Lost(reason)
            }
        }
    }
}

/// Whether the server refused a statement, and not the whole connection (it is shutting down).
fn is_about_a_statement(error: &Error) -> bool {
    error
        .as_db_error()
        .is_some_and(|error| error.parsed_severity() == Some(Severity::Error))
}
