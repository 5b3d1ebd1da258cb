//! The ledger on SQLite: each batch is one call on the database's writing thread.

use std::collections::BTreeSet;

use duty::{Claim, Epoch, PublicKey};
use rusqlite::{
    Connection, Error, ErrorCode, OptionalExtension as _, Row as SqlRow, Transaction,
    TransactionBehavior, params,
};

use super::{
    InitialHistory, Prospect, Question, Refused, RegisterError, Unavailable,
    batch::{self, Committed, Past, Plan, Row, Terms, Write},
    columns::{Columns, Corrupt, to_column, to_height, to_root},
    lease::{Counter, Frozen, take::Taking},
    session::{Authority, Commit, Decided, Failure, NOT_HELD, Ordered, Renewal, Renewed, reach},
    standing::Standing,
};
use crate::{
    database::{DatabaseError, SqliteDatabase},
    rules::Ratchet,
};

mod standing;

/// ?1 validator. The whole file is locked by then.
const READ_RATCHET: &str = "/* read_ratchet */
SELECT validator, source_epoch, target_epoch, attestation_root, slot, block_root, disabled
FROM ratchets WHERE validator = ?1";

/// ?1 validator, ?2 target epoch
const READ_ATTESTATION: &str = "/* read_attestation */
SELECT signing_root, source_epoch FROM attestations WHERE validator = ?1 AND target_epoch = ?2";

/// ?1 validator, ?2 slot
const READ_BLOCK: &str = "/* read_block */
SELECT signing_root FROM blocks WHERE validator = ?1 AND slot = ?2";

/// ?1 validator, ?2 source epoch, ?3 target epoch, ?4 attestation root, ?5 slot, ?6 block root
const WRITE_RATCHET: &str = "/* write_ratchet */
UPDATE ratchets SET
    source_epoch = ?2, target_epoch = ?3, attestation_root = ?4,
    slot = ?5, block_root = ?6, decisions = decisions + 1
WHERE validator = ?1
RETURNING validator";

/// ?1 target epoch, ?2 validator, ?3 source epoch, ?4 root
const ADD_ATTESTATION: &str = "/* add_attestation */
INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root)
VALUES (?1, ?2, ?3, ?4)";

/// ?1 slot, ?2 validator, ?3 root
const ADD_BLOCK: &str = "/* add_block */
INSERT INTO blocks (slot, validator, signing_root) VALUES (?1, ?2, ?3)";

/// The worker's hold on the database.
pub(super) struct Session(SqliteDatabase);

impl Session {
    /// A session on a fresh connection: nothing of a failed one is left.
    pub(super) async fn connect(
        database: SqliteDatabase,
    ) -> Result<(Self, Standing), DatabaseError> {
        database.reconnect().await?;
        let standing = database.call(|connection| standing::read(connection)).await;
        let standing = match standing {
            Ok(standing) => standing.map_err(|failed| failed.to_string()),
            Err(ended) => Err(ended.to_string()),
        };
        let mut standing = standing.map_err(DatabaseError::Unavailable)?;
        standing.logged_since_s = database.logged_since_s();
        Ok((Self(database), standing))
    }

    pub(super) async fn take(&mut self, taking: Taking) -> Result<bool, Failure> {
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let taken = standing::take(&transaction, &taking)?;
            transaction.commit()?;
            Ok(taken)
        })
        .await
    }

    pub(super) async fn renew(&mut self, renewal: Renewal) -> Result<Option<Renewed>, Failure> {
        if !self.0.is_in_place() {
            return Err(Failure::Lost("the database's file was replaced".to_owned()));
        }
        self.run(move |connection| standing::renew(connection, &renewal))
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failure> {
        match self.0.call(work).await {
            Ok(done) => done.map_err(Failed::into_failure),
            Err(ended) => Err(Failure::Lost(ended.to_string())),
        }
    }

    /// Waits for the thread however long it takes, as nothing is known before: an asker has its
    /// own deadline.
    pub(super) async fn decide(
        &mut self,
        batch: Vec<Question>,
        authority: Authority,
        counter: Counter,
    ) -> Result<Decided, Failure> {
        let call = self
            .0
            .call(move |connection| transact(connection, &batch, authority, counter))
            .await;
        call.unwrap_or_else(|ended| Err(Failure::InDoubt(ended.to_string())))
    }

    /// On a fresh connection, no transaction of the old one is left: once this one holds the write
    /// lock, whatever was in doubt is decided.
    pub(super) async fn settled(
        &mut self,
        validators: &BTreeSet<PublicKey>,
    ) -> Result<BTreeSet<PublicKey>, Failure> {
        let validators = validators.clone();
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            Ok(transaction.rollback().map(|()| validators)?)
        })
        .await
    }
}

/// The one transaction, and its place in the anchor.
fn transact(
    connection: &mut Connection,
    batch: &[Question],
    authority: Authority,
    counter: Counter,
) -> Result<Decided, Failure> {
    let failed = |error: Error| Failed::from(error).into_failure();
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let held = standing::hold(&transaction, &authority).map_err(Failed::into_failure)?;
    let held = held.ok_or_else(|| Failure::Lost(NOT_HELD.to_owned()))?;
    let terms = Terms {
        rule: authority.rule,
        orders: held.orders,
    };
    let (plan, written) = write(&transaction, batch, terms).map_err(Failed::into_failure)?;
    if written.is_empty() {
        transaction.rollback().map_err(failed)?;
        return Ok(Decided {
            decisions: plan.conclude(&Committed::NOTHING),
            commit: None,
            orders: held.orders,
        });
    }
    // A COMMIT that fails (the disk) may still be found in the log after a crash.
    transaction
        .commit()
        .map_err(|error| Failure::InDoubt(error.to_string()))?;
    let decisions = plan.conclude(&Committed::after_commit(written));
    let reach = reach(batch.iter().map(|question| question.claim), &decisions);
    let counted = counter.count(held.commits, None, reach);
    Ok(Decided {
        decisions,
        commit: Some(Commit {
            count: held.commits,
            lsn: None,
            counted: Some(counted),
        }),
        orders: held.orders,
    })
}

/// Everything between BEGIN and COMMIT. Returns the validators whose rows were written.
fn write<'a>(
    transaction: &Transaction<'_>,
    batch: &'a [Question],
    terms: Terms,
) -> Result<(Plan<'a>, BTreeSet<PublicKey>), Failed> {
    let rows = read_rows(transaction, batch)?;
    let mut plan = Plan::new(batch, &rows, terms);
    plan.recall(&read_past(transaction, &plan.conflicting())?);
    // The whole file is locked by this transaction, so a row that is not there is nobody's.
    plan.know(&BTreeSet::new());
    let written = write_ratchets(transaction, &plan.writes())?;
    append(transaction, &plan.appends())?;
    Ok((plan, written))
}

/// How a transaction failed before its COMMIT.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Database(#[from] Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("a statement wrote other rows than it was given")]
    Count,
}

impl Failed {
    fn into_failure(self) -> Failure {
        let reason = self.to_string();
        match self {
            Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                Failure::Busy
            }
            Self::Database(_) | Self::Corrupt(_) | Self::Count => Failure::Rejected(reason),
        }
    }
}

fn read_rows(connection: &Connection, questions: &[Question]) -> Result<Vec<Row>, Failed> {
    let mut read = connection.prepare_cached(READ_RATCHET)?;
    let mut rows = Vec::with_capacity(questions.len());
    for question in questions {
        let key = [question.validator.as_bytes()];
        if let Some(row) = read.query_row(key, |row| Ok(parse_row(row))).optional()? {
            rows.push(row?);
        }
    }
    Ok(rows)
}

fn parse_row(row: &SqlRow<'_>) -> Result<Row, Failed> {
    let columns = Columns {
        source: row.get(1)?,
        target: row.get(2)?,
        attestation_root: row.get(3)?,
        slot: row.get(4)?,
        block_root: row.get(5)?,
    };
    Ok(Row {
        validator: validator(row)?,
        ratchet: Ratchet::try_from(columns)?,
        disabled: row.get(6)?,
    })
}

/// A row's first column.
fn validator(row: &SqlRow<'_>) -> Result<PublicKey, Failed> {
    let bytes: Vec<u8> = row.get(0)?;
    PublicKey::try_from(bytes.as_slice()).map_err(|_| Corrupt("validator").into())
}

/// What this ledger decided for the same targets and slots.
fn read_past(connection: &Connection, questions: &[Question]) -> Result<Past, Failed> {
    let mut past = Past::default();
    if questions.is_empty() {
        return Ok(past);
    }
    let mut read_attestation = connection.prepare_cached(READ_ATTESTATION)?;
    let mut read_block = connection.prepare_cached(READ_BLOCK)?;
    for question in questions {
        let key = question.validator.as_bytes();
        match question.claim {
            Claim::Attest { target, .. } => {
                let found: Option<(Vec<u8>, i64)> = read_attestation
                    .query_row(params![key, to_column(target.0)?], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?;
                if let Some((root, source)) = found {
                    let source = Epoch(to_height(source)?);
                    let claim = Claim::Attest { source, target };
                    past.add(question.validator, claim, to_root(&root)?);
                }
            }
            Claim::Propose { slot } => {
                let found: Option<Vec<u8>> = read_block
                    .query_row(params![key, to_column(slot.0)?], |row| row.get(0))
                    .optional()?;
                if let Some(root) = found {
                    past.add(question.validator, Claim::Propose { slot }, to_root(&root)?);
                }
            }
        }
    }
    Ok(past)
}

fn write_ratchets(
    transaction: &Transaction<'_>,
    writes: &[Write],
) -> Result<BTreeSet<PublicKey>, Failed> {
    let mut written = BTreeSet::new();
    if writes.is_empty() {
        return Ok(written);
    }
    let mut update = transaction.prepare_cached(WRITE_RATCHET)?;
    for write in writes {
        let columns = Columns::try_from(&write.ratchet)?;
        let mut rows = update.query(params![
            write.validator.as_bytes(),
            columns.source,
            columns.target,
            columns.attestation_root,
            columns.slot,
            columns.block_root,
        ])?;
        // To the end: the statement has run only when no row is left.
        while let Some(row) = rows.next()? {
            written.insert(validator(row)?);
        }
    }
    let expected = writes.iter().map(|write| write.validator);
    if !expected.eq(written.iter().copied()) {
        return Err(Failed::Count);
    }
    Ok(written)
}

fn append(transaction: &Transaction<'_>, decided: &[Question]) -> Result<(), Failed> {
    if decided.is_empty() {
        return Ok(());
    }
    let mut add_attestation = transaction.prepare_cached(ADD_ATTESTATION)?;
    let mut add_block = transaction.prepare_cached(ADD_BLOCK)?;
    for question in decided {
        let (key, root) = (question.validator.as_bytes(), question.root.as_bytes());
        let added = match question.claim {
            Claim::Attest { source, target } => add_attestation.execute(params![
                to_column(target.0)?,
                key,
                to_column(source.0)?,
                root,
            ])?,
            Claim::Propose { slot } => add_block.execute(params![to_column(slot.0)?, key, root])?,
        };
        if added != 1 {
            return Err(Failed::Count);
        }
    }
    Ok(())
}

/// What an operator has ordered, and whom that freezes, as of one commit.
pub(super) async fn orders(database: &SqliteDatabase) -> Result<Ordered, Unavailable> {
    let call = database.read(|connection| {
        let transaction = connection.transaction()?;
        let Standing {
            orders, commits, ..
        } = standing::read(&transaction)?;
        let validators = standing::frozen(&transaction)?;
        let frozen = Frozen {
            all: orders.frozen_all,
            validators: validators.into_iter().collect(),
        };
        Ok(Ordered {
            orders,
            frozen,
            reach: standing::reach(&transaction)?,
            commits,
        })
    });
    match call.await {
        Ok(read) => read.map_err(|failed: Failed| Unavailable::Failed(failed.to_string())),
        Err(ended) => Err(Unavailable::Unreachable(ended.to_string())),
    }
}

/// Answers questions on the reading thread, in one transaction: as of one commit.
pub(super) async fn foresee(
    database: &SqliteDatabase,
    questions: Vec<Question>,
) -> Result<Vec<Result<Prospect, Refused>>, Unavailable> {
    let call = database.read(move |connection| {
        let transaction = connection.transaction()?;
        let rows = read_rows(&transaction, &questions)?;
        let past = read_past(&transaction, &batch::conflicting_now(&questions, &rows))?;
        Ok(batch::foresee(&questions, &rows, &past))
    });
    match call.await {
        Ok(answers) => answers.map_err(|failed: Failed| Unavailable::Failed(failed.to_string())),
        Err(ended) => Err(Unavailable::Unreachable(ended.to_string())),
    }
}

/// ?1 validator, ?2 source epoch, ?3 target epoch, ?4 attestation root, ?5 slot, ?6 block root
const ADD_RATCHET: &str = "/* add_ratchet */
INSERT INTO ratchets
    (validator, source_epoch, target_epoch, attestation_root, slot, block_root)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// ?1 validator, ?2 source epoch, ?3 target epoch, ?4 attestation root, ?5 slot, ?6 block root
const RAISE_RATCHET: &str = "/* raise_ratchet */
UPDATE ratchets SET
    source_epoch = ?2, target_epoch = ?3, attestation_root = ?4, slot = ?5, block_root = ?6
WHERE validator = ?1";

/// Registers a validator within the caller's transaction, so that its key and its history become
/// active together. A validator that is registered keeps its ratchet, raised if need be. The
/// transaction must have begun as `IMMEDIATE`.
///
/// # Errors
/// [`RegisterError`]; the transaction must then be rolled back.
pub fn register(
    transaction: &Transaction<'_>,
    validator: PublicKey,
    history: &InitialHistory,
) -> Result<(), RegisterError> {
    let failed = |failed: Failed| RegisterError::Database(failed.to_string());
    let key = validator.as_bytes();
    let existing = transaction
        .query_row(READ_RATCHET, [key], |row| Ok(parse_row(row)))
        .optional()
        .map_err(|error| failed(error.into()))?
        .transpose()
        .map_err(failed)?;
    let ratchet = history.ratchet(existing.map(|row| row.ratchet).unwrap_or_default())?;
    let columns = Columns::try_from(&ratchet).map_err(|error| failed(error.into()))?;
    let written = transaction
        .execute(
            if existing.is_some() {
                RAISE_RATCHET
            } else {
                ADD_RATCHET
            },
            params![
                key,
                columns.source,
                columns.target,
                columns.attestation_root,
                columns.slot,
                columns.block_root,
            ],
        )
        .map_err(|error| failed(error.into()))?;
    match written {
        1 => Ok(()),
        _ => Err(failed(Failed::Count)),
    }
}
