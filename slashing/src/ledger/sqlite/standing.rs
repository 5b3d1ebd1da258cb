//! The row `standing` on SQLite: read, held by every batch, renewed, and taken.

use std::time::Duration;

use duty::{Epoch, PublicKey, Slot};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{Failed, validator};
use crate::{
    administration::{Stop, sqlite::RAISE_EVERYONE},
    anchor::{Highest, Holder, LedgerId},
    ledger::{
        columns::{Corrupt, to_column, to_height},
        lease::take::{Taking, floor},
        session::{Authority, Renewal, Renewed},
        standing::{Orders, Standing},
    },
};

const READ_STANDING: &str = "/* read_standing */
SELECT frozen_all, stop_epoch, stop_slot, orders, ledger_id, holder, holder_name, commits,
    quarantined_until, renewed_at AS renewed,
    CAST(unixepoch('subsec') * 1000 AS INTEGER) - renewed_at AS renewed_ms_ago
FROM standing";

/// ?1 holder, ?2 the commit's number, ?3 commits known of. Every batch begins with it.
const HOLD: &str = "/* hold */
UPDATE standing
SET commits = max(commits + 1, ?2), renewed_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
WHERE holder = ?1 AND commits >= ?3
RETURNING frozen_all, stop_epoch, stop_slot, orders, commits";

/// ?1 holder, ?2 whether the quarantine is over, ?3 commits known of
const RENEW: &str = "/* renew */
UPDATE standing
SET renewed_at = CAST(unixepoch('subsec') * 1000 AS INTEGER),
    quarantined_until = CASE WHEN ?2 THEN NULL ELSE quarantined_until END
WHERE holder = ?1 AND commits >= ?3
RETURNING frozen_all, stop_epoch, stop_slot, orders, commits";

/// ?1 holder, ?2 its name, ?3 commits, ?4 quarantined until; ?5 ledger, ?6 holder and ?7 commits
/// as they were seen; ?8 source epoch, ?9 target epoch and ?10 slot that all ratchets rise to
const TAKE: &str = "/* take */
UPDATE standing
SET holder = ?1, holder_name = ?2, commits = ?3,
    renewed_at = CAST(unixepoch('subsec') * 1000 AS INTEGER),
    quarantined_until = coalesce(?4, quarantined_until),
    floor_source = coalesce(max(floor_source, ?8), floor_source, ?8),
    floor_target = coalesce(max(floor_target, ?9), floor_target, ?9),
    floor_slot = coalesce(max(floor_slot, ?10), floor_slot, ?10)
WHERE ledger_id = ?5 AND holder IS ?6 AND commits = ?7";

const READ_FROZEN: &str = "/* read_frozen */ SELECT validator FROM ratchets WHERE disabled";

const READ_REACH: &str = "/* read_reach */
SELECT max(source_epoch) AS source_epoch, max(target_epoch) AS target_epoch, max(slot) AS slot
FROM ratchets";

/// What a batch holds the ledger with.
pub(super) struct Held {
    pub(super) commits: u64,
    pub(super) orders: Orders,
}

pub(super) fn read(connection: &Connection) -> Result<Standing, Failed> {
    connection.query_row(READ_STANDING, [], |row| Ok(parse(row)))?
}

/// `None` if another holds the ledger.
pub(super) fn hold(
    transaction: &Transaction<'_>,
    authority: &Authority,
) -> Result<Option<Held>, Failed> {
    let mut statement = transaction.prepare_cached(HOLD)?;
    let parameters = params![
        authority.holder.0.as_slice(),
        to_column(authority.number)?,
        to_column(authority.known)?
    ];
    let held = |row: &Row<'_>| {
        Ok(Held {
            commits: to_height(row.get("commits")?)?,
            orders: orders(row)?,
        })
    };
    statement
        .query_row(parameters, |row| Ok(held(row)))
        .optional()?
        .transpose()
}

/// `None` if another holds the ledger.
pub(super) fn renew(connection: &Connection, renewal: &Renewal) -> Result<Option<Renewed>, Failed> {
    let parameters = params![
        renewal.holder.0.as_slice(),
        renewal.quarantine_is_over,
        to_column(renewal.known)?
    ];
    let renewed = |row: &Row<'_>| {
        Ok(Renewed {
            commits: to_height(row.get("commits")?)?,
            orders: orders(row)?,
        })
    };
    connection
        .query_row(RENEW, parameters, |row| Ok(renewed(row)))
        .optional()?
        .transpose()
}

pub(super) fn frozen(connection: &Connection) -> Result<Vec<PublicKey>, Failed> {
    let mut statement = connection.prepare(READ_FROZEN)?;
    let rows = statement.query_map([], |row| Ok(validator(row)))?;
    rows.map(|row| row?).collect()
}

/// How high the highest ratchets are.
pub(super) fn reach(connection: &Connection) -> Result<Highest, Failed> {
    connection.query_row(READ_REACH, [], |row| {
        let highest = |column| height(row, column).map(Option::unwrap_or_default);
        Ok((|| {
            Ok(Highest {
                source: Epoch(highest("source_epoch")?),
                target: Epoch(highest("target_epoch")?),
                slot: Slot(highest("slot")?),
            })
        })())
    })?
}

/// Everything between `BEGIN` and `COMMIT` of taking the ledger. Whether it was still as seen.
pub(super) fn take(transaction: &Transaction<'_>, taking: &Taking) -> Result<bool, Failed> {
    let seen = &taking.seen;
    let until = taking
        .raising
        .as_ref()
        .and_then(|raising| raising.quarantine.as_ref())
        .map(|quarantine| to_column(quarantine.until.0))
        .transpose()?;
    let [source, target, slot] = floor(taking)?;
    let taken = transaction.execute(
        TAKE,
        params![
            taking.holder.0.as_slice(),
            taking.name,
            to_column(taking.commits)?,
            until,
            seen.ledger_id.0.as_slice(),
            seen.holder.as_ref().map(|holder| holder.0.as_slice()),
            to_column(seen.commits)?,
            source,
            target,
            slot,
        ],
    )?;
    if taken != 1 {
        return Ok(false);
    }
    if taking.raising.is_some() {
        transaction.execute(RAISE_EVERYONE, params![source, target, slot])?;
    }
    Ok(true)
}

fn parse(row: &Row<'_>) -> Result<Standing, Failed> {
    let holder: Option<Vec<u8>> = row.get("holder")?;
    let ledger_id: Vec<u8> = row.get("ledger_id")?;
    let ago: Option<i64> = row.get("renewed_ms_ago")?;
    Ok(Standing {
        ledger_id: LedgerId(sixteen(&ledger_id)?),
        holder: holder.as_deref().map(sixteen).transpose()?.map(Holder),
        holder_name: row.get("holder_name")?,
        // One of the clock's future counts as alive.
        renewed_ago: ago.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default())),
        commits: to_height(row.get("commits")?)?,
        quarantined_until: height(row, "quarantined_until")?.map(Epoch),
        orders: orders(row)?,
        server: None,
        logged_since_s: None,
        renewed: row.get("renewed")?,
    })
}

fn orders(row: &Row<'_>) -> Result<Orders, Failed> {
    Ok(Orders {
        stop: Stop {
            epoch: height(row, "stop_epoch")?.map(Epoch),
            slot: height(row, "stop_slot")?.map(Slot),
        },
        frozen_all: row.get("frozen_all")?,
        number: to_height(row.get("orders")?)?,
    })
}

fn height(row: &Row<'_>, column: &str) -> Result<Option<u64>, Failed> {
    let height: Option<i64> = row.get(column)?;
    Ok(height.map(to_height).transpose()?)
}

fn sixteen(bytes: &[u8]) -> Result<[u8; 16], Corrupt> {
    bytes.try_into().map_err(|_| Corrupt("identity"))
}
