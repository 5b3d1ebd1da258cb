//! Histories in and out of a ledger on SQLite.
//!
//! An import writes on the ledger's own writing thread, between its batches: the ratchets first,
//! all in one transaction, and then the history in small ones, with pauses for whoever signs.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use duty::{PublicKey, Root};
use rusqlite::{
    Connection, Error, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params,
};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    ExportError, Exported, ImportError, Imported, Progress, Staged, Step, Taken,
    rows::{Batch, Corrupt, Rise, RiseColumns, count, root_column, to_column, to_height},
    spool::parse_line,
    write::Writer,
};
use crate::{
    administration::{Counted, Uncounted, sqlite::count as count_order},
    database::{Database, SqliteDatabase},
};

/// How long one transaction is tried while others write.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// Batches that wait to be written.
const BATCHES_AHEAD: usize = 2;

/// ?1 validator, ?2 source epoch, ?3 target epoch, ?4 slot; what the file does not have is NULL.
/// A side that rises has no root from then on: its top is no message of this ledger's.
const RAISE_RATCHET: &str = "/* raise_ratchet */
INSERT INTO ratchets (validator, source_epoch, target_epoch, slot) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (validator) DO UPDATE SET
    source_epoch = coalesce(max(ratchets.source_epoch, excluded.source_epoch),
                            ratchets.source_epoch, excluded.source_epoch),
    target_epoch = coalesce(max(ratchets.target_epoch, excluded.target_epoch),
                            ratchets.target_epoch, excluded.target_epoch),
    attestation_root = CASE
        WHEN coalesce(ratchets.source_epoch >= excluded.source_epoch
                      AND ratchets.target_epoch >= excluded.target_epoch,
                      excluded.target_epoch IS NULL)
        THEN ratchets.attestation_root END,
    slot = coalesce(max(ratchets.slot, excluded.slot), ratchets.slot, excluded.slot),
    block_root = CASE
        WHEN coalesce(ratchets.slot >= excluded.slot, excluded.slot IS NULL)
        THEN ratchets.block_root END
WHERE NOT (coalesce(ratchets.source_epoch >= excluded.source_epoch
                    AND ratchets.target_epoch >= excluded.target_epoch,
                    excluded.target_epoch IS NULL)
           AND coalesce(ratchets.slot >= excluded.slot, excluded.slot IS NULL))";

/// ?1 target epoch, ?2 validator, ?3 source epoch, ?4 root. What was imported before is kept once.
const ADD_IMPORTED_ATTESTATION: &str = "/* add_imported_attestation */
INSERT INTO imported_attestations (target_epoch, validator, source_epoch, signing_root)
VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";

/// ?1 slot, ?2 validator, ?3 root
const ADD_IMPORTED_BLOCK: &str = "/* add_imported_block */
INSERT INTO imported_blocks (slot, validator, signing_root)
VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

const COUNT_VALIDATORS: &str = "/* count_validators */ SELECT count(*) FROM ratchets";

/// ?1 validator
const FIND_VALIDATOR: &str = "/* find_validator */ SELECT 1 FROM ratchets WHERE validator = ?1";

/// Per validator its ratchet, its blocks and its attestations, own and imported. Of one message,
/// the row with a root comes first.
const READ_LINES: &str = "/* read_lines */
SELECT validator, 0 AS kind, source_epoch AS source, target_epoch AS height, slot,
    attestation_root AS root, block_root
FROM ratchets
UNION ALL SELECT validator, 1, NULL, slot, NULL, signing_root, NULL FROM blocks
UNION ALL SELECT validator, 1, NULL, slot, NULL, signing_root, NULL FROM imported_blocks
UNION ALL SELECT validator, 2, source_epoch, target_epoch, NULL, signing_root, NULL
    FROM attestations
UNION ALL SELECT validator, 2, source_epoch, target_epoch, NULL, signing_root, NULL
    FROM imported_attestations
ORDER BY validator, kind, height, source, root DESC";

/// How a transaction failed before its COMMIT.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Database(#[from] Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Uncounted(#[from] Uncounted),
}

impl Failed {
    fn is_busy(&self) -> bool {
        match self {
            Self::Database(error) => error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy),
            Self::Corrupt(_) | Self::Uncounted(_) => false,
        }
    }
}

/// What came of a transaction that did not commit, as far as is known.
enum Unwritten {
    Nothing(String),
    InDoubt(String),
}

pub(super) async fn import<P>(
    database: &SqliteDatabase,
    staged: Staged,
    progress: P,
) -> Result<(Imported, Counted), ImportError>
where
    P: Fn(Progress) + Send + 'static,
{
    // A task of its own: whoever gives up half-way does not leave half of the history.
    let storing = tokio::spawn(store(database.clone(), staged, progress));
    storing
        .await
        .unwrap_or_else(|error| Err(ImportError::InDoubt(error.to_string())))
}

async fn store<P: Fn(Progress) + Send>(
    database: SqliteDatabase,
    mut staged: Staged,
    progress: P,
) -> Result<(Imported, Counted), ImportError> {
    let entries = staged.entries;
    let rises = std::mem::take(&mut staged.rises);
    let known = database.known().clone();
    let raised = write(&database, move |transaction| {
        let raised = raise(transaction, &rises)?;
        Ok((raised, count_order(transaction, &known)?))
    });
    let (raised, counted) = raised.await.map_err(|unwritten| match unwritten {
        Unwritten::Nothing(problem) => ImportError::Database(problem),
        Unwritten::InDoubt(problem) => ImportError::InDoubt(problem),
    })?;
    // Here already: what follows may fail, and what was raised must not be lost unnoticed.
    counted.committed(&Database::Sqlite(database.clone()));

    let (send, mut batches) = mpsc::channel::<Batch>(BATCHES_AHEAD);
    let reading = spawn_blocking(move || {
        let read = staged.spool.batches(|batch| {
            send.blocking_send(batch)
                .map_err(|_| ImportError::Staging("stopped".to_owned()))
        });
        read.map(|()| staged)
    });
    let mut keeping = Progress {
        step: Step::Keeping,
        done: 0,
        total: Some(entries),
    };
    while let Some(batch) = batches.recv().await {
        let (started, length) = (Instant::now(), batch.len());
        let kept = write(&database, move |transaction| keep(transaction, &batch));
        kept.await.map_err(incomplete)?;
        keeping.done = keeping.done.saturating_add(count(length));
        progress(keeping);
        // As much time for the ledger as was taken from it.
        sleep(started.elapsed()).await;
    }
    let staged = reading
        .await
        .map_err(|error| ImportError::Incomplete(error.to_string()))?
        .map_err(|error| ImportError::Incomplete(error.to_string()))?;
    let known = database.known().clone();
    let counted = write(&database, move |transaction| {
        Ok(count_order(transaction, &known)?)
    });
    let counted = counted.await.map_err(incomplete)?;
    Ok((staged.imported(raised), counted))
}

fn incomplete(unwritten: Unwritten) -> ImportError {
    match unwritten {
        Unwritten::Nothing(problem) | Unwritten::InDoubt(problem) => {
            ImportError::Incomplete(problem)
        }
    }
}

/// One transaction on the writing thread, tried again while another process writes.
async fn write<T, F>(database: &SqliteDatabase, work: F) -> Result<T, Unwritten>
where
    T: Send + 'static,
    F: Fn(&Transaction<'_>) -> Result<T, Failed> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let trying = async {
        loop {
            let work = Arc::clone(&work);
            let call = database.call(move |connection| transact(connection, &*work));
            match call.await {
                Ok(Ok(Some(value))) => return Ok(value),
                Ok(Ok(None)) => {}
                Ok(Err(unwritten)) => return Err(unwritten),
                Err(ended) => return Err(Unwritten::InDoubt(ended.to_string())),
            }
        }
    };
    let busy = || Unwritten::InDoubt("another process keeps writing".to_owned());
    timeout(WRITE_WAIT, trying)
        .await
        .unwrap_or_else(|_| Err(busy()))
}

/// `BEGIN … COMMIT`. `None`: another process writes, and nothing was done.
fn transact<T>(
    connection: &mut Connection,
    work: &impl Fn(&Transaction<'_>) -> Result<T, Failed>,
) -> Result<Option<T>, Unwritten> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let done = begun.map_err(Failed::from).and_then(|transaction| {
        let value = work(&transaction)?;
        Ok((transaction, value))
    });
    match done {
        Ok((transaction, value)) => match transaction.commit() {
            Ok(()) => Ok(Some(value)),
            // One that fails (the disk) may still be found in the log after a crash.
            Err(error) => Err(Unwritten::InDoubt(error.to_string())),
        },
        Err(failed) if failed.is_busy() => Ok(None),
        Err(failed) => Err(Unwritten::Nothing(failed.to_string())),
    }
}

/// Raises the ratchets, or makes them. Returns how many rose or are new.
fn raise(transaction: &Transaction<'_>, rises: &[Rise]) -> Result<u64, Failed> {
    let mut raise = transaction.prepare(RAISE_RATCHET)?;
    let mut raised = 0;
    for rise in rises {
        let columns = RiseColumns::try_from(rise)?;
        let key = rise.validator.as_bytes();
        raised += raise.execute(params![key, columns.source, columns.target, columns.slot])?;
    }
    Ok(count(raised))
}

/// Keeps history, each message once.
fn keep(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), Failed> {
    match batch {
        Batch::Votes(votes) => {
            let mut add = transaction.prepare(ADD_IMPORTED_ATTESTATION)?;
            for (validator, vote) in votes {
                add.execute(params![
                    to_column(vote.target.0)?,
                    validator.as_bytes(),
                    to_column(vote.source.0)?,
                    root_column(&vote.root),
                ])?;
            }
        }
        Batch::Blocks(blocks) => {
            let mut add = transaction.prepare(ADD_IMPORTED_BLOCK)?;
            for (validator, block) in blocks {
                let slot = to_column(block.slot.0)?;
                add.execute(params![
                    slot,
                    validator.as_bytes(),
                    root_column(&block.root)
                ])?;
            }
        }
    }
    Ok(())
}

/// Imports what a file has about these validators within the caller's transaction, so that their
/// keys and their histories become active together. The transaction must have begun as
/// `IMMEDIATE`. Validators that the file names are registered by this; the others are not. The caller
/// counts the change as the last thing of its transaction
/// ([`crate::administration::sqlite::count_in`]).
///
/// # Errors
/// [`ImportError`]; the transaction must then be rolled back.
pub fn import_in(
    transaction: &Transaction<'_>,
    mut staged: Staged,
    validators: &BTreeSet<PublicKey>,
) -> Result<Taken, ImportError> {
    let failed = |failed: Failed| ImportError::Database(failed.to_string());
    let (unnamed, without_entries) = staged.restrict(validators)?;
    staged
        .spool
        .batches(|batch| keep(transaction, &batch).map_err(failed))?;
    let raised = raise(transaction, &staged.rises).map_err(failed)?;
    Ok(Taken {
        imported: staged.imported(raised),
        unnamed,
        without_entries,
    })
}

pub(super) async fn export<W, P>(
    database: &SqliteDatabase,
    root: Root,
    wanted: Option<BTreeSet<PublicKey>>,
    writer: W,
    progress: P,
) -> Result<Exported, ExportError>
where
    W: Write + Send + 'static,
    P: Fn(Progress) + Send + 'static,
{
    let database = database.clone();
    // A connection of its own: this reads for long, and the others have questions to answer.
    let exporting = spawn_blocking(move || {
        let mut connection = database
            .own_reader()
            .map_err(|error| ExportError::Database(error.to_string()))?;
        read_out(&mut connection, root, wanted, writer, progress)
    });
    exporting
        .await
        .unwrap_or_else(|error| Err(ExportError::Database(error.to_string())))
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn unreadable(error: Error) -> ExportError {
    ExportError::Database(error.to_string())
}

/// One transaction: as of one commit.
fn read_out<W: Write, P: Fn(Progress)>(
    connection: &mut Connection,
    root: Root,
    wanted: Option<BTreeSet<PublicKey>>,
    out: W,
    progress: P,
) -> Result<Exported, ExportError> {
    let transaction = connection.transaction().map_err(unreadable)?;
    let total = match &wanted {
        Some(wanted) => {
            registered(&transaction, wanted)?;
            count(wanted.len())
        }
        None => {
            let counted = transaction.query_row(COUNT_VALIDATORS, [], |row| row.get(0));
            to_height(counted.map_err(unreadable)?)?
        }
    };
    let mut writer = Writer::new(out, root, total, progress).map_err(ExportError::Write)?;
    let mut read = transaction.prepare(READ_LINES).map_err(unreadable)?;
    let mut rows = read.query([]).map_err(unreadable)?;
    while let Some(row) = rows.next().map_err(unreadable)? {
        let (validator, line) = parse_line(row).map_err(unreadable)??;
        if wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&validator))
        {
            writer.line(validator, line).map_err(ExportError::Write)?;
        }
    }
    writer.finish().map_err(ExportError::Write)
}

fn registered(connection: &Connection, wanted: &BTreeSet<PublicKey>) -> Result<(), ExportError> {
    let mut find = connection.prepare(FIND_VALIDATOR).map_err(unreadable)?;
    let mut unknown = Vec::new();
    for validator in wanted {
        let found = find.query_row([validator.as_bytes()], |_| Ok(()));
        if found.optional().map_err(unreadable)?.is_none() {
            unknown.push(*validator);
        }
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(ExportError::Unknown(unknown)),
    }
}
