//! Orders on SQLite, each one call on the database's writing thread.

use std::collections::BTreeSet;

use duty::PublicKey;
use rusqlite::{
    Connection, Error, ErrorCode, OptionalExtension as _, Row, Transaction, TransactionBehavior,
    named_params, params,
};
use tokio::time::{Duration, Instant, sleep};

use super::{
    AdministrationError, Changes, Counted, Freezing, Heights, ORDER_STEP, ORDER_WAIT, Order,
    Standing, StandingRow, Stop, Uncounted, Whom, changes,
};
use crate::{
    database::{Known, SqliteDatabase},
    ledger::columns::{Corrupt, to_column},
    rules::Watermark,
};

/// The pause after the database said that another process writes.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// ?1 validators, a JSON array of strings in hex with 0x
const FIND_UNKNOWN: &str = "/* find_unknown */
SELECT unhex(substr(value, 3)) AS asked FROM json_each(?1)
WHERE NOT EXISTS (SELECT 1 FROM ratchets WHERE validator = unhex(substr(value, 3)))
ORDER BY asked";

const COUNT_RATCHETS: &str = "/* count_ratchets */ SELECT count(*) FROM ratchets";

/// ?1 validators, ?2 whether they are frozen now
const FREEZE_THESE: &str = "/* freeze_these */
UPDATE ratchets SET disabled = ?2
WHERE validator IN (SELECT unhex(substr(value, 3)) FROM json_each(?1)) AND disabled <> ?2";

/// Whether everyone was frozen, and who is not frozen anyway.
const READ_FROZEN: &str = "/* read_frozen */
SELECT frozen_all, (SELECT count(*) FROM ratchets WHERE NOT disabled) FROM standing";

/// ?1 whether everyone is frozen now
const FREEZE_EVERYONE: &str = "/* freeze_everyone */ UPDATE standing SET frozen_all = ?1";

/// ?1 epoch, ?2 slot
const STOP_AT: &str = "/* stop_at */ UPDATE standing SET stop_epoch = ?1, stop_slot = ?2";

/// The scalar `max` of a NULL is NULL.
macro_rules! raise {
    ($name:literal, $whom:literal) => {
        concat!(
            "/* ",
            $name,
            " */
UPDATE ratchets SET
    source_epoch = max(coalesce(source_epoch, 0), :source),
    target_epoch = max(coalesce(target_epoch, 0), :target),
    attestation_root =
        CASE WHEN source_epoch >= :source AND target_epoch >= :target THEN attestation_root END,
    slot = max(coalesce(slot, 0), :slot),
    block_root = CASE WHEN slot >= :slot THEN block_root END
WHERE (source_epoch >= :source AND target_epoch >= :target AND slot >= :slot) IS NOT TRUE",
            $whom
        )
    };
}

pub(crate) const RAISE_EVERYONE: &str = raise!("raise_everyone", "");

const RAISE_THESE: &str = raise!(
    "raise_these",
    " AND validator IN (SELECT unhex(substr(value, 3)) FROM json_each(:validators))"
);

/// ?1 by how much commits leap, ?2 commits known of, ?3 the highest number tried. The last statement
/// of every order and import.
const COUNT_ORDER: &str = "/* count_order */
UPDATE standing SET orders = orders + 1, commits = max(commits, ?3) + ?1
WHERE commits >= ?2 RETURNING commits";

const READ_STANDING: &str = "/* read_standing */
SELECT ledger_id, holder, holder_name, commits, quarantined_until, stop_epoch, stop_slot,
    frozen_all, orders, (SELECT count(*) FROM ratchets WHERE disabled), (SELECT count(*) FROM ratchets),
    (SELECT max(source_epoch) FROM ratchets), (SELECT max(target_epoch) FROM ratchets),
    (SELECT max(slot) FROM ratchets)
FROM standing";

/// How an order failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Database(#[from] Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("a statement wrote other rows than it was given")]
    Count,
    #[error(transparent)]
    Uncounted(#[from] Uncounted),
    #[error("these validators are unknown")]
    Unknown(Vec<PublicKey>),
    /// COMMIT failed: the log may have it nevertheless.
    #[error("{0}")]
    InDoubt(String),
}

impl Failed {
    fn is_busy(&self) -> bool {
        matches!(self, Self::Database(error)
            if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

impl From<Failed> for AdministrationError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unknown(validators) => Self::Unknown(validators),
            Failed::InDoubt(reason) => Self::InDoubt(reason),
            Failed::Database(_) | Failed::Corrupt(_) | Failed::Count | Failed::Uncounted(_) => {
                Self::Unavailable(failed.to_string())
            }
        }
    }
}

pub(super) async fn state(database: &SqliteDatabase) -> Result<Standing, AdministrationError> {
    let read = database.read(|connection| {
        let row = connection.query_row(READ_STANDING, [], standing)?;
        Ok::<_, Failed>(Standing::try_from(row)?)
    });
    match read.await {
        Ok(standing) => Ok(standing?),
        Err(ended) => Err(AdministrationError::Unavailable(ended.to_string())),
    }
}

/// Tries again while another process writes. Between two tries, the ledger decides.
pub(super) async fn carry_out(
    database: &SqliteDatabase,
    order: Order,
) -> Result<(Changes, Counted), AdministrationError> {
    let deadline = Instant::now() + ORDER_WAIT;
    loop {
        let (order, known) = (order.clone(), database.known().clone());
        let call = database.call(move |connection| transact(connection, &order, &known));
        match call.await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failed)) if failed.is_busy() && Instant::now() < deadline => {
                sleep(BUSY_PAUSE).await;
            }
            Ok(Err(failed)) => return Err(failed.into()),
            Err(ended) => return Err(AdministrationError::InDoubt(ended.to_string())),
        }
    }
}

/// `BEGIN … COMMIT`.
fn transact(
    connection: &mut Connection,
    order: &Order,
    known: &Known,
) -> Result<(Changes, Counted), Failed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let these = order.whom().map(json);
    if let Some(these) = &these {
        let mut find = transaction.prepare(FIND_UNKNOWN)?;
        let unknown = find
            .query_map([these], |row| row.get::<_, Vec<u8>>(0))?
            .map(|bytes| {
                PublicKey::try_from(bytes?.as_slice()).map_err(|_| Corrupt("validator").into())
            })
            .collect::<Result<Vec<_>, Failed>>()?;
        if !unknown.is_empty() {
            return Err(Failed::Unknown(unknown));
        }
    }
    let changes = match order {
        Order::Freeze(whom, freezing) => freeze(&transaction, whom, *freezing)?,
        Order::Stop(stop) => stop_at(&transaction, *stop)?,
        Order::Raise(whom, watermark) => raise(&transaction, whom, watermark)?,
    };
    let counted = count(&transaction, known)?;
    transaction
        .commit()
        .map_err(|error| Failed::InDoubt(error.to_string()))?;
    Ok((changes, counted))
}

/// Counts a change among the ledger's commits, as the last statement of the caller's transaction,
/// which must have begun as `IMMEDIATE`. After COMMIT the caller says that it was
/// [`Counted::committed`].
///
/// # Errors
/// [`Uncounted`]; the transaction must then be rolled back.
pub fn count_in(
    transaction: &Transaction<'_>,
    database: &SqliteDatabase,
) -> Result<Counted, Uncounted> {
    count(transaction, database.known())
}

pub(crate) fn count(transaction: &Transaction<'_>, known: &Known) -> Result<Counted, Uncounted> {
    // Both came from a column.
    let [held, tried] =
        [known.commits(), known.tried()].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    let parameters = params![ORDER_STEP, held, tried];
    let counted = transaction.query_row(COUNT_ORDER, parameters, |row| row.get(0));
    let counted = counted.optional();
    match counted.map_err(|error| Uncounted::Failed(error.to_string()))? {
        Some(commits) => Counted::read(commits, known),
        None => Err(Uncounted::Older(known.commits())),
    }
}

fn freeze(
    transaction: &Transaction<'_>,
    whom: &Whom,
    freezing: Freezing,
) -> Result<Changes, Failed> {
    let frozen = freezing == Freezing::Freeze;
    match whom {
        Whom::Everyone => {
            let read = transaction.query_row(READ_FROZEN, [], |row| Ok((row.get(0)?, row.get(1)?)));
            let (before, others): (bool, i64) = read?;
            let others = counted(others)?;
            one(transaction.execute(FREEZE_EVERYONE, [frozen])?)?;
            Ok(changes(others, if before == frozen { 0 } else { others }))
        }
        Whom::These(these) => {
            let changed = transaction.execute(FREEZE_THESE, params![json(these), frozen])?;
            Ok(changes(counted(these.len())?, counted(changed)?))
        }
    }
}

fn stop_at(transaction: &Transaction<'_>, stop: Stop) -> Result<Changes, Failed> {
    let epoch = stop.epoch.map(|epoch| to_column(epoch.0)).transpose()?;
    let slot = stop.slot.map(|slot| to_column(slot.0)).transpose()?;
    one(transaction.execute(STOP_AT, params![epoch, slot])?)?;
    Ok(changes(1, 1))
}

fn raise(
    transaction: &Transaction<'_>,
    whom: &Whom,
    watermark: &Watermark,
) -> Result<Changes, Failed> {
    let Heights {
        source,
        target,
        slot,
    } = Heights::of(watermark)?;
    let (of, changed) = match whom {
        Whom::Everyone => {
            let of: i64 = transaction.query_row(COUNT_RATCHETS, [], |row| row.get(0))?;
            let heights = named_params! { ":source": source, ":target": target, ":slot": slot };
            (counted(of)?, transaction.execute(RAISE_EVERYONE, heights)?)
        }
        Whom::These(these) => {
            let validators = json(these);
            let parameters = named_params! {
                ":source": source, ":target": target, ":slot": slot, ":validators": validators
            };
            let changed = transaction.execute(RAISE_THESE, parameters)?;
            (counted(these.len())?, changed)
        }
    };
    Ok(changes(of, counted(changed)?))
}

/// Many keys as one parameter.
fn json(validators: &BTreeSet<PublicKey>) -> String {
    let quoted: Vec<String> = validators.iter().map(|key| format!("\"{key}\"")).collect();
    format!("[{}]", quoted.join(","))
}

fn counted(rows: impl TryInto<u64>) -> Result<u64, Failed> {
    rows.try_into().map_err(|_| Failed::Count)
}

const fn one(written: usize) -> Result<(), Failed> {
    match written {
        1 => Ok(()),
        _ => Err(Failed::Count),
    }
}

fn standing(row: &Row<'_>) -> rusqlite::Result<StandingRow> {
    Ok(StandingRow {
        ledger_id: row.get(0)?,
        holder: row.get(1)?,
        holder_name: row.get(2)?,
        commits: row.get(3)?,
        quarantined_until: row.get(4)?,
        stop_epoch: row.get(5)?,
        stop_slot: row.get(6)?,
        frozen_all: row.get(7)?,
        orders: row.get(8)?,
        frozen: row.get(9)?,
        validators: row.get(10)?,
        highest_source: row.get(11)?,
        highest_target: row.get(12)?,
        highest_slot: row.get(13)?,
    })
}
