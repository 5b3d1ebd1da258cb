//! Orders on PostgreSQL, each over a connection of its own, whose warnings are heeded.

use std::sync::atomic::{AtomicBool, Ordering};

use duty::PublicKey;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Error, GenericClient, Row, Transaction,
    types::{ToSql, Type},
};

use super::{
    AdministrationError, Changes, Counted, Freezing, Heights, ORDER_STEP, ORDER_WAIT, Order,
    Standing, StandingRow, Stop, Uncounted, Whom, changes,
};
use crate::{
    database::{
        Known, PostgresDatabase,
        postgres::{Connection, clause},
    },
    ledger::columns::{Corrupt, to_column},
    rules::Watermark,
};

/// Whoever holds a row for longer than this has left it behind.
const BEGIN: &str = "/* begin */ BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = '30s'";
const COMMIT: &str = "/* commit */ COMMIT";

/// $1 validators
const FIND_UNKNOWN: &str = "/* find_unknown */
SELECT asked.validator FROM unnest($1::bytea[]) AS asked (validator)
WHERE NOT EXISTS (SELECT 1 FROM ratchets WHERE ratchets.validator = asked.validator)
ORDER BY asked.validator";

/// $1 validators. In the order in which everybody locks them; decisions skip what is locked.
const LOCK_THESE: &str = "/* lock_these */
SELECT count(*) FROM
    (SELECT 1 FROM ratchets WHERE validator = ANY($1) ORDER BY validator FOR UPDATE) AS locked";

const LOCK_EVERYONE: &str = "/* lock_everyone */
SELECT count(*) FROM (SELECT 1 FROM ratchets ORDER BY validator FOR UPDATE) AS locked";

/// $1 validators, $2 whether they are frozen now
const FREEZE_THESE: &str = "/* freeze_these */
UPDATE ratchets SET disabled = $2 WHERE validator = ANY($1) AND disabled <> $2";

/// Whether everyone was frozen, and who is not frozen anyway.
const LOCK_STANDING: &str = "/* lock_standing */
SELECT frozen_all, (SELECT count(*) FROM ratchets WHERE NOT disabled) FROM standing FOR UPDATE";

/// $1 whether everyone is frozen now
const FREEZE_EVERYONE: &str = "/* freeze_everyone */ UPDATE standing SET frozen_all = $1";

/// $1 epoch, $2 slot
const STOP_AT: &str = "/* stop_at */ UPDATE standing SET stop_epoch = $1, stop_slot = $2";

/// $1 source epoch, $2 target epoch, $3 slot. `greatest` leaves NULLs out.
macro_rules! raise {
    ($name:literal, $whom:literal) => {
        concat!(
            "/* ",
            $name,
            " */
UPDATE ratchets SET
    source_epoch = greatest(source_epoch, $1), target_epoch = greatest(target_epoch, $2),
    attestation_root =
        CASE WHEN source_epoch >= $1 AND target_epoch >= $2 THEN attestation_root END,
    slot = greatest(slot, $3),
    block_root = CASE WHEN slot >= $3 THEN block_root END
WHERE (source_epoch >= $1 AND target_epoch >= $2 AND slot >= $3) IS NOT TRUE",
            $whom
        )
    };
}

pub(crate) const RAISE_EVERYONE: &str = raise!("raise_everyone", "");

/// $4 validators
const RAISE_THESE: &str = raise!("raise_these", " AND validator = ANY($4)");

/// $1 by how much commits leap, $2 commits known of, $3 the highest number tried. The last statement of every order and import:
/// decisions wait for this row, and not for the others.
const COUNT_ORDER: &str = "/* count_order */
UPDATE standing SET orders = orders + 1, commits = greatest(commits, $3) + $1
WHERE commits >= $2 RETURNING commits";

const READ_STANDING: &str = "/* read_standing */
SELECT ledger_id, holder, holder_name, commits, quarantined_until, stop_epoch, stop_slot,
    frozen_all, orders, (SELECT count(*) FROM ratchets WHERE disabled), (SELECT count(*) FROM ratchets),
    (SELECT max(source_epoch) FROM ratchets), (SELECT max(target_epoch) FROM ratchets),
    (SELECT max(slot) FROM ratchets)
FROM standing";

/// How an order failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}", clause(.0))]
    Database(#[from] Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("a statement wrote other rows than it was given")]
    Count,
    #[error(transparent)]
    Uncounted(#[from] Uncounted),
    #[error("the server warned: {0}")]
    Warned(String),
    #[error("these validators are unknown")]
    Unknown(Vec<PublicKey>),
}

pub(super) async fn state(database: &PostgresDatabase) -> Result<Standing, AdministrationError> {
    let reading = async {
        let connection = database.connect().await.map_err(unavailable)?;
        let row = connection.client.query_one(READ_STANDING, &[]).await;
        row.map_err(Failed::from)
            .and_then(|row| standing(&row))
            .map_err(unavailable)
    };
    timeout(ORDER_WAIT, reading)
        .await
        .unwrap_or_else(|_| Err(unavailable("it does not answer")))
}

/// The connection ends with the order: one that did not answer in time is never asked to cancel.
pub(super) async fn carry_out(
    database: &PostgresDatabase,
    order: &Order,
) -> Result<(Changes, Counted), AdministrationError> {
    let commit_sent = AtomicBool::new(false);
    let working = async {
        let connection = database.connect().await.map_err(unavailable)?;
        let done = transact(&connection, order, database.known(), &commit_sent).await;
        // A connection that was warned ends, which says less than the warning.
        let warned = |failed| connection.take_warning().map_or(failed, Failed::Warned);
        done.map_err(warned).map_err(|failed| match failed {
            Failed::Unknown(validators) => AdministrationError::Unknown(validators),
            Failed::Database(_)
            | Failed::Corrupt(_)
            | Failed::Count
            | Failed::Uncounted(_)
            | Failed::Warned(_) => why(&commit_sent, &failed),
        })
    };
    timeout(ORDER_WAIT, working)
        .await
        .unwrap_or_else(|_| Err(why(&commit_sent, "it does not answer")))
}

fn why(commit_sent: &AtomicBool, problem: impl ToString) -> AdministrationError {
    match commit_sent.load(Ordering::Relaxed) {
        true => AdministrationError::InDoubt(problem.to_string()),
        false => unavailable(problem),
    }
}

fn unavailable(problem: impl ToString) -> AdministrationError {
    AdministrationError::Unavailable(problem.to_string())
}

/// `BEGIN … COMMIT`. A COMMIT that came with a warning was not waited for by whom it should.
async fn transact(
    connection: &Connection,
    order: &Order,
    known: &Known,
    commit_sent: &AtomicBool,
) -> Result<(Changes, Counted), Failed> {
    let client = &connection.client;
    let unwarned = || match connection.take_warning() {
        None => Ok(()),
        Some(warning) => Err(Failed::Warned(warning)),
    };
    connection.take_warning();
    client.batch_execute(BEGIN).await?;
    if let Some(these) = order.whom() {
        let keys: Vec<&[u8]> = these.iter().map(|key| key.as_bytes().as_slice()).collect();
        let rows = client
            .query_typed(FIND_UNKNOWN, &[(&keys, Type::BYTEA_ARRAY)])
            .await?;
        if !rows.is_empty() {
            return Err(Failed::Unknown(
                rows.iter().map(validator).collect::<Result<_, _>>()?,
            ));
        }
    }
    let changes = match order {
        Order::Freeze(whom, freezing) => freeze(client, whom, *freezing).await?,
        Order::Stop(stop) => stop_at(client, *stop).await?,
        Order::Raise(whom, watermark) => raise(client, whom, watermark).await?,
    };
    let counted = count(client, known).await?;
    unwarned()?;
    commit_sent.store(true, Ordering::Relaxed);
    client.batch_execute(COMMIT).await?;
    unwarned()?;
    Ok((changes, counted))
}

/// Counts a change among the ledger's commits, as the last statement of the caller's transaction:
/// decisions wait from here to its end. The caller must heed the server's warnings, and say after
/// COMMIT that it was [`Counted::committed`].
///
/// # Errors
/// [`Uncounted`]; the transaction must then be rolled back.
pub async fn count_in(
    transaction: &Transaction<'_>,
    database: &PostgresDatabase,
) -> Result<Counted, Uncounted> {
    count(transaction, database.known()).await
}

pub(crate) async fn count(
    client: &impl GenericClient,
    known: &Known,
) -> Result<Counted, Uncounted> {
    let failed = |error: Error| Uncounted::Failed(clause(&error));
    // Both came from a column.
    let [held, tried] =
        [known.commits(), known.tried()].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&ORDER_STEP, Type::INT8),
        (&held, Type::INT8),
        (&tried, Type::INT8),
    ];
    let rows = client.query_typed(COUNT_ORDER, &parameters).await;
    let rows = rows.map_err(failed)?;
    let row = rows.first().ok_or(Uncounted::Older(known.commits()))?;
    Counted::read(row.try_get(0).map_err(failed)?, known)
}

async fn freeze(client: &Client, whom: &Whom, freezing: Freezing) -> Result<Changes, Failed> {
    let frozen = freezing == Freezing::Freeze;
    let Whom::These(these) = whom else {
        let row = client.query_one(LOCK_STANDING, &[]).await?;
        let (before, others): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
        let set = client
            .execute_typed(FREEZE_EVERYONE, &[(&frozen, Type::BOOL)])
            .await?;
        one(set)?;
        let others = counted(others)?;
        return Ok(changes(others, if before == frozen { 0 } else { others }));
    };
    let of = lock(client, whom).await?;
    let keys: Vec<&[u8]> = these.iter().map(|key| key.as_bytes().as_slice()).collect();
    let changed = client
        .execute_typed(
            FREEZE_THESE,
            &[(&keys, Type::BYTEA_ARRAY), (&frozen, Type::BOOL)],
        )
        .await?;
    Ok(changes(of, changed))
}

async fn stop_at(client: &Client, stop: Stop) -> Result<Changes, Failed> {
    let epoch = stop.epoch.map(|epoch| to_column(epoch.0)).transpose()?;
    let slot = stop.slot.map(|slot| to_column(slot.0)).transpose()?;
    let set = client
        .execute_typed(STOP_AT, &[(&epoch, Type::INT8), (&slot, Type::INT8)])
        .await?;
    one(set)?;
    Ok(changes(1, 1))
}

async fn raise(client: &Client, whom: &Whom, watermark: &Watermark) -> Result<Changes, Failed> {
    let of = lock(client, whom).await?;
    let Heights {
        source,
        target,
        slot,
    } = Heights::of(watermark)?;
    let changed = match whom {
        Whom::Everyone => {
            client
                .execute_typed(
                    RAISE_EVERYONE,
                    &[
                        (&source, Type::INT8),
                        (&target, Type::INT8),
                        (&slot, Type::INT8),
                    ],
                )
                .await?
        }
        Whom::These(these) => {
            let keys: Vec<&[u8]> = these.iter().map(|key| key.as_bytes().as_slice()).collect();
            client
                .execute_typed(
                    RAISE_THESE,
                    &[
                        (&source, Type::INT8),
                        (&target, Type::INT8),
                        (&slot, Type::INT8),
                        (&keys, Type::BYTEA_ARRAY),
                    ],
                )
                .await?
        }
    };
    Ok(changes(of, changed))
}

/// Locks the rows, and counts them: all that were named, as none is ever deleted.
async fn lock(client: &Client, whom: &Whom) -> Result<u64, Failed> {
    let locked = match whom {
        Whom::Everyone => client.query_typed(LOCK_EVERYONE, &[]).await?,
        Whom::These(these) => {
            let keys: Vec<&[u8]> = these.iter().map(|key| key.as_bytes().as_slice()).collect();
            client
                .query_typed(LOCK_THESE, &[(&keys, Type::BYTEA_ARRAY)])
                .await?
        }
    };
    let locked = counted(locked.first().ok_or(Failed::Count)?.try_get(0)?)?;
    match whom {
        Whom::These(these) if u64::try_from(these.len()) != Ok(locked) => Err(Failed::Count),
        Whom::These(_) | Whom::Everyone => Ok(locked),
    }
}

fn counted(count: i64) -> Result<u64, Failed> {
    u64::try_from(count).map_err(|_| Failed::Count)
}

const fn one(written: u64) -> Result<(), Failed> {
    match written {
        1 => Ok(()),
        _ => Err(Failed::Count),
    }
}

fn validator(row: &Row) -> Result<PublicKey, Failed> {
    let bytes: &[u8] = row.try_get(0)?;
    PublicKey::try_from(bytes).map_err(|_| Corrupt("validator").into())
}

fn standing(row: &Row) -> Result<Standing, Failed> {
    let row = StandingRow {
        ledger_id: row.try_get(0)?,
        holder: row.try_get(1)?,
        holder_name: row.try_get(2)?,
        commits: row.try_get(3)?,
        quarantined_until: row.try_get(4)?,
        stop_epoch: row.try_get(5)?,
        stop_slot: row.try_get(6)?,
        frozen_all: row.try_get(7)?,
        orders: row.try_get(8)?,
        frozen: row.try_get(9)?,
        validators: row.try_get(10)?,
        highest_source: row.try_get(11)?,
        highest_target: row.try_get(12)?,
        highest_slot: row.try_get(13)?,
    };
    Ok(Standing::try_from(row)?)
}
