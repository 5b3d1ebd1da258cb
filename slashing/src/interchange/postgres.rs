//! Histories in and out of a ledger on PostgreSQL, each over a connection of its own.
//!
//! An import is one transaction. It appends the history first, which nobody else looks at, and
//! raises the ratchets in its last statement: what it locks, it locks for that statement and the
//! commit, in the order in which everybody locks them.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    pin::pin,
    time::Duration,
};

use duty::{PublicKey, Root};
use futures_util::TryStreamExt as _;
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tokio_postgres::{Client, Error, GenericClient, Row, Statement, Transaction, types::ToSql};

use super::{
    ExportError, Exported, ImportError, Imported, Progress, Staged, Step, Taken,
    rows::{
        Batch, Corrupt, Line, LineColumns, Rise, RiseColumns, count, root_column, to_column,
        to_height, to_validator,
    },
    write::Writer,
};
use crate::{
    administration::{Counted, Uncounted, postgres::count as count_order},
    database::{
        PostgresDatabase,
        postgres::{Connection, clause},
    },
};

/// How long one statement may take, waiting for the server, for rows or for replicas included.
const STATEMENT_WAIT: Duration = Duration::from_secs(60);
/// How long whoever takes an export may let the server wait.
const WRITER_WAIT: Duration = Duration::from_secs(600);
/// Batches that wait to be written.
const BATCHES_AHEAD: usize = 2;
/// Lines of an export that are handed on together.
const LINES_MAX: usize = 1024;

/// The temporary database may take its time to sort: it holds no row of the ledger's meanwhile.
const BEGIN: &str = "/* begin */ BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '300s'";
const COMMIT: &str = "/* commit */ COMMIT";

/// $1 target epochs, $2 validators, $3 source epochs, $4 roots. What was imported before is kept
/// once.
const ADD_IMPORTED_ATTESTATIONS: &str = "/* add_imported_attestations */
INSERT INTO imported_attestations (target_epoch, validator, source_epoch, signing_root)
SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[])
ON CONFLICT DO NOTHING";

/// $1 slots, $2 validators, $3 roots
const ADD_IMPORTED_BLOCKS: &str = "/* add_imported_blocks */
INSERT INTO imported_blocks (slot, validator, signing_root)
SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])
ON CONFLICT DO NOTHING";

/// $1 validators, $2 source epochs, $3 target epochs, $4 slots; what the file does not have is
/// NULL, which `greatest` leaves out. A side that rises has no root from then on: its top is no
/// message of this ledger's. A row that does not rise is locked all the same, which is enough for
/// the commit to be waited for.
const RAISE_RATCHETS: &str = "/* raise_ratchets */
INSERT INTO ratchets (validator, source_epoch, target_epoch, slot)
SELECT validator, source_epoch, target_epoch, slot
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS file (validator, source_epoch, target_epoch, slot)
ORDER BY validator
ON CONFLICT (validator) DO UPDATE SET
    source_epoch = greatest(ratchets.source_epoch, excluded.source_epoch),
    target_epoch = greatest(ratchets.target_epoch, excluded.target_epoch),
    attestation_root = CASE
        WHEN coalesce(ratchets.source_epoch >= excluded.source_epoch
                      AND ratchets.target_epoch >= excluded.target_epoch,
                      excluded.target_epoch IS NULL)
        THEN ratchets.attestation_root END,
    slot = greatest(ratchets.slot, excluded.slot),
    block_root = CASE
        WHEN coalesce(ratchets.slot >= excluded.slot, excluded.slot IS NULL)
        THEN ratchets.block_root END
WHERE NOT (coalesce(ratchets.source_epoch >= excluded.source_epoch
                    AND ratchets.target_epoch >= excluded.target_epoch,
                    excluded.target_epoch IS NULL)
           AND coalesce(ratchets.slot >= excluded.slot, excluded.slot IS NULL))";

/// One snapshot for everything that is read. The whole history is sorted once.
const BEGIN_EXPORT: &str = "/* begin_export */
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL work_mem = '64MB';
SET LOCAL idle_in_transaction_session_timeout = '300s'";

/// $1 validators, or NULL for all
const COUNT_VALIDATORS: &str = "/* count_validators */
SELECT count(*) FROM ratchets WHERE $1::bytea[] IS NULL OR validator = ANY($1)";

/// $1 validators, or NULL
const FIND_UNKNOWN: &str = "/* find_unknown */
SELECT asked.validator FROM unnest($1::bytea[]) AS asked (validator)
WHERE NOT EXISTS (SELECT 1 FROM ratchets WHERE ratchets.validator = asked.validator)
ORDER BY asked.validator";

/// $1 validators, or NULL for all. Per validator its ratchet, its blocks and its attestations, own
/// and imported. Of one message, the row with a root comes first.
const READ_LINES: &str = "/* read_lines */
SELECT validator, kind, source, height, slot, root, block_root FROM (
    SELECT validator, 0::bigint AS kind, source_epoch AS source, target_epoch AS height, slot,
        attestation_root AS root, block_root
    FROM ratchets
    UNION ALL SELECT validator, 1, NULL, slot, NULL, signing_root, NULL FROM blocks
    UNION ALL SELECT validator, 1, NULL, slot, NULL, signing_root, NULL FROM imported_blocks
    UNION ALL SELECT validator, 2, source_epoch, target_epoch, NULL, signing_root, NULL
        FROM attestations
    UNION ALL SELECT validator, 2, source_epoch, target_epoch, NULL, signing_root, NULL
        FROM imported_attestations
) AS lines
WHERE $1::bytea[] IS NULL OR validator = ANY($1)
ORDER BY validator, kind, height, source, root DESC";

/// How a statement failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}", clause(.0))]
    Database(#[from] Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Uncounted(#[from] Uncounted),
    #[error("the server warned: {0}")]
    Warned(String),
    #[error("the server did not answer within {} s", STATEMENT_WAIT.as_secs())]
    NoAnswer,
}

impl From<Failed> for ImportError {
    fn from(failed: Failed) -> Self {
        Self::Database(failed.to_string())
    }
}

impl From<Failed> for ExportError {
    fn from(failed: Failed) -> Self {
        Self::Database(failed.to_string())
    }
}

async fn within<T>(statement: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    match timeout(STATEMENT_WAIT, statement).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failed::NoAnswer),
    }
}

fn unwarned(connection: &Connection) -> Result<(), Failed> {
    connection
        .take_warning()
        .map_or(Ok(()), |warning| Err(Failed::Warned(warning)))
}

/// `BEGIN … COMMIT`. The connection ends with it: what failed is rolled back by the server.
pub(super) async fn import<P: Fn(Progress) + Send>(
    database: &PostgresDatabase,
    staged: Staged,
    progress: P,
) -> Result<(Imported, Counted), ImportError> {
    let connection = database
        .connect()
        .await
        .map_err(|error| ImportError::Database(error.to_string()))?;
    let client = &connection.client;
    within(client.batch_execute(BEGIN)).await?;
    let imported = take_in(client, staged, progress).await?;
    let counted = timeout(STATEMENT_WAIT, count_order(client, database.known()));
    let counted = counted.await.map_err(|_| Failed::NoAnswer)?;
    let counted = counted.map_err(Failed::from)?;
    unwarned(&connection)?;
    let committed = within(client.batch_execute(COMMIT)).await;
    committed
        .and_then(|()| unwarned(&connection))
        .map_err(|failed| ImportError::InDoubt(failed.to_string()))?;
    Ok((imported, counted))
}

/// Imports what a file has about these validators within the caller's transaction, so that their
/// keys and their histories become active together. Validators that the file names are registered
/// by this; the others are not. The caller must heed the server's warnings, and count the change as
/// the last thing of its transaction ([`crate::administration::postgres::count_in`]).
///
/// # Errors
/// [`ImportError`]; the transaction must then be rolled back.
pub async fn import_in(
    transaction: &Transaction<'_>,
    mut staged: Staged,
    validators: &BTreeSet<PublicKey>,
) -> Result<Taken, ImportError> {
    let to = validators.clone();
    let restricting = spawn_blocking(move || {
        let (unnamed, without_entries) = staged.restrict(&to)?;
        Ok::<_, ImportError>((staged, unnamed, without_entries))
    });
    let (staged, unnamed, without_entries) = restricting
        .await
        .map_err(|error| ImportError::Staging(error.to_string()))??;
    Ok(Taken {
        imported: take_in(transaction, staged, |_| {}).await?,
        unnamed,
        without_entries,
    })
}

/// Everything between BEGIN and COMMIT.
async fn take_in<P: Fn(Progress) + Send>(
    client: &impl GenericClient,
    mut staged: Staged,
    progress: P,
) -> Result<Imported, ImportError> {
    let entries = staged.entries;
    let rises = std::mem::take(&mut staged.rises);
    let add_votes = within(client.prepare(ADD_IMPORTED_ATTESTATIONS)).await?;
    let add_blocks = within(client.prepare(ADD_IMPORTED_BLOCKS)).await?;
    let raise = within(client.prepare(RAISE_RATCHETS)).await?;

    let (send, mut batches) = mpsc::channel::<Batch>(BATCHES_AHEAD);
    let reading = spawn_blocking(move || {
        let read = staged.spool.batches(|batch| {
            send.blocking_send(batch)
                .map_err(|_| ImportError::Staging("stopped".to_owned()))
        });
        read.map(|()| staged)
    });
    let mut done = 0_u64;
    while let Some(batch) = batches.recv().await {
        keep(client, &add_votes, &add_blocks, &batch).await?;
        done = done.saturating_add(count(batch.len()));
        progress(Progress {
            step: Step::Keeping,
            done,
            total: Some(entries),
        });
    }
    let staged = reading
        .await
        .map_err(|error| ImportError::Staging(error.to_string()))??;

    let raised = raise_ratchets(client, &raise, &rises).await?;
    Ok(staged.imported(raised))
}

/// Keeps history, each message once.
async fn keep(
    client: &impl GenericClient,
    add_votes: &Statement,
    add_blocks: &Statement,
    batch: &Batch,
) -> Result<(), Failed> {
    let mut validators: Vec<&[u8]> = Vec::with_capacity(batch.len());
    let mut roots: Vec<&[u8]> = Vec::with_capacity(batch.len());
    let mut heights = Vec::with_capacity(batch.len());
    match batch {
        Batch::Votes(votes) => {
            let mut sources = Vec::with_capacity(batch.len());
            for (validator, vote) in votes {
                heights.push(to_column(vote.target.0)?);
                validators.push(validator.as_bytes());
                sources.push(to_column(vote.source.0)?);
                roots.push(root_column(&vote.root));
            }
            let columns: [&(dyn ToSql + Sync); 4] = [&heights, &validators, &sources, &roots];
            within(client.execute(add_votes, &columns)).await?;
        }
        Batch::Blocks(blocks) => {
            for (validator, block) in blocks {
                heights.push(to_column(block.slot.0)?);
                validators.push(validator.as_bytes());
                roots.push(root_column(&block.root));
            }
            let columns: [&(dyn ToSql + Sync); 3] = [&heights, &validators, &roots];
            within(client.execute(add_blocks, &columns)).await?;
        }
    }
    Ok(())
}

/// Raises the ratchets, or makes them. Returns how many rose or are new.
async fn raise_ratchets(
    client: &impl GenericClient,
    raise: &Statement,
    rises: &[Rise],
) -> Result<u64, Failed> {
    let columns = rises.iter().map(RiseColumns::try_from);
    let columns = columns.collect::<Result<Vec<_>, Corrupt>>()?;
    let validators: Vec<&[u8]> = rises
        .iter()
        .map(|rise| rise.validator.as_bytes().as_slice())
        .collect();
    let sources: Vec<_> = columns.iter().map(|rise| rise.source).collect();
    let targets: Vec<_> = columns.iter().map(|rise| rise.target).collect();
    let slots: Vec<_> = columns.iter().map(|rise| rise.slot).collect();
    let arrays: [&(dyn ToSql + Sync); 4] = [&validators, &sources, &targets, &slots];
    within(client.execute(raise, &arrays)).await
}

/// Lines on their way to the writer; `None` ends the file.
type Lines = Option<Vec<(PublicKey, Line)>>;

pub(super) async fn export<W, P>(
    database: &PostgresDatabase,
    root: Root,
    wanted: Option<BTreeSet<PublicKey>>,
    out: W,
    progress: P,
) -> Result<Exported, ExportError>
where
    W: Write + Send + 'static,
    P: Fn(Progress) + Send + 'static,
{
    let connection = database
        .connect()
        .await
        .map_err(|error| ExportError::Database(error.to_string()))?;
    let client = &connection.client;
    let wanted: Option<Vec<Vec<u8>>> = wanted.map(|wanted| {
        let keys = wanted.iter();
        keys.map(|validator| validator.as_bytes().to_vec())
            .collect()
    });
    within(client.batch_execute(BEGIN_EXPORT)).await?;
    let unknown = within(client.query(FIND_UNKNOWN, &[&wanted])).await?;
    if !unknown.is_empty() {
        let unknown = unknown.iter().map(|row| {
            let key = row.try_get(0).map_err(Failed::from)?;
            Ok::<_, Failed>(to_validator(key)?)
        });
        return Err(ExportError::Unknown(unknown.collect::<Result<_, _>>()?));
    }
    let counted = within(client.query_one(COUNT_VALIDATORS, &[&wanted])).await?;
    let total = to_height(counted.try_get(0).map_err(Failed::from)?)?;

    let (send, lines) = mpsc::channel::<Lines>(BATCHES_AHEAD);
    let writing = spawn_blocking(move || write_lines(out, root, total, progress, lines));
    let sent = send_lines(client, &wanted, &send).await;
    drop(send);
    let written = writing
        .await
        .map_err(|error| ExportError::Database(error.to_string()))?;
    // A writer that failed is why nothing more could be sent.
    let exported = written.map_err(ExportError::Write)?;
    sent?;
    exported.ok_or_else(|| ExportError::Database("it was not read to its end".to_owned()))
}

/// Writes until the end is told; `None` if it never is.
fn write_lines<W: Write, P: Fn(Progress)>(
    out: W,
    root: Root,
    total: u64,
    progress: P,
    mut lines: mpsc::Receiver<Lines>,
) -> io::Result<Option<Exported>> {
    let mut writer = Writer::new(out, root, total, progress)?;
    while let Some(told) = lines.blocking_recv() {
        let Some(told) = told else {
            return writer.finish().map(Some);
        };
        for (validator, line) in told {
            writer.line(validator, line)?;
        }
    }
    Ok(None)
}

async fn send_lines(
    client: &Client,
    wanted: &Option<Vec<Vec<u8>>>,
    send: &mpsc::Sender<Lines>,
) -> Result<(), ExportError> {
    let hand_on = async |lines: Lines| {
        let sent = timeout(WRITER_WAIT, send.send(lines)).await;
        let stopped = || ExportError::Database("whoever takes the file has stopped".to_owned());
        sent.map_err(|_| stopped())?.map_err(|_| stopped())
    };
    let reading = client.query_raw(READ_LINES, [wanted]);
    let mut rows = pin!(within(reading).await?);
    let mut lines = Vec::with_capacity(LINES_MAX);
    while let Some(row) = within(rows.try_next()).await? {
        lines.push(parse_line(&row)?);
        if lines.len() == LINES_MAX {
            hand_on(Some(std::mem::take(&mut lines))).await?;
        }
    }
    hand_on(Some(lines)).await?;
    hand_on(None).await
}

fn parse_line(row: &Row) -> Result<(PublicKey, Line), Failed> {
    let columns = LineColumns {
        validator: row.try_get(0)?,
        kind: row.try_get(1)?,
        source: row.try_get(2)?,
        height: row.try_get(3)?,
        slot: row.try_get(4)?,
        root: row.try_get(5)?,
        block_root: row.try_get(6)?,
    };
    Ok(columns.parse()?)
}
