//! The row `standing` on PostgreSQL: read, held by every batch, renewed, and taken.

use std::time::Duration;

use duty::{Epoch, PublicKey, Slot};
use tokio_postgres::{
    Client, Error, Row, Statement, Transaction,
    types::{PgLsn, ToSql, Type},
};

use super::{Failed, arrays::validator};
use crate::{
    administration::{Stop, postgres::RAISE_EVERYONE},
    anchor::{Highest, Holder, LedgerId, ServerMark},
    ledger::{
        columns::{Corrupt, to_column, to_height},
        lease::take::{Taking, floor},
        session::{Authority, Renewal, Renewed},
        standing::{Orders, Standing},
    },
};

const READ_STANDING: &str = "/* read_standing */
SELECT frozen_all, stop_epoch, stop_slot, orders, ledger_id, holder, holder_name, commits,
    quarantined_until,
    (extract(epoch FROM clock_timestamp() - renewed_at) * 1000)::bigint AS renewed_ms_ago,
    (extract(epoch FROM renewed_at) * 1000000)::bigint AS renewed,
    (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
    pg_walfile_name(pg_current_wal_insert_lsn()) AS wal_file,
    pg_current_wal_insert_lsn() AS lsn
FROM standing";

/// $1 holder, $2 the commit's number, $3 commits known of: a ledger that was put back in place has
/// fewer. Every batch begins with it: the row is locked until the batch ends, and whoever has
/// taken the ledger, or given an order, was either before or will be after.
pub(super) const HOLD: &str = "/* hold */
UPDATE standing SET commits = greatest(commits + 1, $2), renewed_at = clock_timestamp()
WHERE holder = $1 AND commits >= $3
RETURNING frozen_all, stop_epoch, stop_slot, orders, commits, pg_current_wal_insert_lsn() AS lsn";

/// $1 holder, $2 whether the quarantine is over, $3 commits known of
const RENEW: &str = "/* renew */
UPDATE standing SET renewed_at = clock_timestamp(),
    quarantined_until = CASE WHEN $2 THEN NULL ELSE quarantined_until END
WHERE holder = $1 AND commits >= $3
RETURNING frozen_all, stop_epoch, stop_slot, orders, commits";

/// $1 holder, $2 its name, $3 commits, $4 quarantined until; $5 ledger, $6 holder and $7 commits
/// as they were seen; $8 source epoch, $9 target epoch and $10 slot that all ratchets rise to
const TAKE: &str = "/* take */
UPDATE standing SET holder = $1, holder_name = $2, renewed_at = clock_timestamp(), commits = $3,
    quarantined_until = coalesce($4, quarantined_until),
    floor_source = greatest(floor_source, $8), floor_target = greatest(floor_target, $9),
    floor_slot = greatest(floor_slot, $10)
WHERE ledger_id = $5 AND holder IS NOT DISTINCT FROM $6 AND commits = $7";

const READ_FROZEN: &str = "/* read_frozen */ SELECT validator FROM ratchets WHERE disabled";

const READ_REACH: &str = "/* read_reach */
SELECT max(source_epoch) AS source_epoch, max(target_epoch) AS target_epoch, max(slot) AS slot
FROM ratchets";

/// What a batch holds the ledger with.
pub(super) struct Held {
    pub(super) commits: u64,
    pub(super) lsn: u64,
    pub(super) orders: Orders,
}

pub(super) async fn read(client: &Client) -> Result<Standing, Failed> {
    let row = client.query_typed(READ_STANDING, &[]).await?;
    let row = row.first().ok_or(Corrupt("standing"))?;
    let holder: Option<&[u8]> = row.try_get("holder")?;
    let file: &str = row.try_get("wal_file")?;
    let timeline = file
        .get(..8)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let ago: Option<i64> = row.try_get("renewed_ms_ago")?;
    Ok(Standing {
        ledger_id: LedgerId(sixteen(row.try_get("ledger_id")?)?),
        holder: holder.map(sixteen).transpose()?.map(Holder),
        holder_name: row.try_get("holder_name")?,
        // One of the server's future counts as alive.
        renewed_ago: ago.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default())),
        commits: to_height(row.try_get("commits")?)?,
        quarantined_until: height(row, "quarantined_until")?.map(Epoch),
        orders: orders(row)?,
        server: Some(ServerMark {
            system_identifier: row.try_get("system_identifier")?,
            timeline: timeline.ok_or(Corrupt("timeline"))?,
            lsn: lsn(row)?,
        }),
        logged_since_s: None,
        renewed: row.try_get("renewed")?,
    })
}

/// `None` if another holds the ledger.
pub(super) async fn hold(
    client: &Client,
    statement: &Statement,
    authority: &Authority,
) -> Result<Option<Held>, Failed> {
    let holder = authority.holder.0.as_slice();
    let number = to_column(authority.number)?;
    let known = to_column(authority.known)?;
    let row = client
        .query_opt(statement, &[&holder, &number, &known])
        .await?;
    row.map(|row| {
        Ok(Held {
            commits: to_height(row.try_get("commits")?)?,
            lsn: lsn(&row)?,
            orders: orders(&row)?,
        })
    })
    .transpose()
}

/// `None` if another holds the ledger.
pub(super) async fn renew(client: &Client, renewal: &Renewal) -> Result<Option<Renewed>, Failed> {
    let holder = renewal.holder.0.as_slice();
    let known = to_column(renewal.known)?;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&holder, Type::BYTEA),
        (&renewal.quarantine_is_over, Type::BOOL),
        (&known, Type::INT8),
    ];
    let row = client.query_typed_opt(RENEW, &parameters).await?;
    row.map(|row| {
        Ok(Renewed {
            commits: to_height(row.try_get("commits")?)?,
            orders: orders(&row)?,
        })
    })
    .transpose()
}

pub(super) async fn frozen(client: &Client) -> Result<Vec<PublicKey>, Failed> {
    let rows = client.query_typed(READ_FROZEN, &[]).await?;
    rows.iter().map(validator).collect()
}

/// How high the highest ratchets are.
pub(super) async fn reach(client: &Client) -> Result<Highest, Failed> {
    let rows = client.query_typed(READ_REACH, &[]).await?;
    let row = rows.first().ok_or(Corrupt("ratchets"))?;
    let highest = |column| height(row, column).map(Option::unwrap_or_default);
    Ok(Highest {
        source: Epoch(highest("source_epoch")?),
        target: Epoch(highest("target_epoch")?),
        slot: Slot(highest("slot")?),
    })
}

/// Everything between `BEGIN` and `COMMIT` of taking the ledger. Whether it was still as seen.
pub(super) async fn take(transaction: &Transaction<'_>, taking: &Taking) -> Result<bool, Failed> {
    let (holder, seen) = (taking.holder.0.as_slice(), &taking.seen);
    let ledger_id = seen.ledger_id.0.as_slice();
    let before = seen.holder.as_ref().map(|holder| holder.0.as_slice());
    let commits = to_column(taking.commits)?;
    let seen_commits = to_column(seen.commits)?;
    let until = taking
        .raising
        .as_ref()
        .and_then(|raising| raising.quarantine.as_ref())
        .map(|quarantine| to_column(quarantine.until.0))
        .transpose()?;
    let [source, target, slot] = floor(taking)?;
    let taken = transaction
        .execute_typed(
            TAKE,
            &[
                (&holder, Type::BYTEA),
                (&taking.name, Type::TEXT),
                (&commits, Type::INT8),
                (&until, Type::INT8),
                (&ledger_id, Type::BYTEA),
                (&before, Type::BYTEA),
                (&seen_commits, Type::INT8),
                (&source, Type::INT8),
                (&target, Type::INT8),
                (&slot, Type::INT8),
            ],
        )
        .await?;
    if taken != 1 {
        return Ok(false);
    }
    if taking.raising.is_some() {
        transaction
            .execute_typed(
                RAISE_EVERYONE,
                &[
                    (&source, Type::INT8),
                    (&target, Type::INT8),
                    (&slot, Type::INT8),
                ],
            )
            .await?;
    }
    Ok(true)
}

fn orders(row: &Row) -> Result<Orders, Failed> {
    Ok(Orders {
        stop: Stop {
            epoch: height(row, "stop_epoch")?.map(Epoch),
            slot: height(row, "stop_slot")?.map(Slot),
        },
        frozen_all: row.try_get("frozen_all")?,
        number: to_height(row.try_get("orders")?)?,
    })
}

fn height(row: &Row, column: &str) -> Result<Option<u64>, Failed> {
    let height: Option<i64> = row.try_get(column)?;
    Ok(height.map(to_height).transpose()?)
}

fn lsn(row: &Row) -> Result<u64, Error> {
    row.try_get::<_, PgLsn>("lsn").map(u64::from)
}

fn sixteen(bytes: &[u8]) -> Result<[u8; 16], Corrupt> {
    bytes.try_into().map_err(|_| Corrupt("identity"))
}
