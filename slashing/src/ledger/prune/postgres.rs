//! Pruning on a connection of its own, which neither the ledger nor the vault waits for, and which
//! is closed if it fails. Each statement is a transaction.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::{Row, types::ToSql};

use super::{Pace, Pruning, bound, failed};
use crate::{
    database::{
        PostgresDatabase,
        postgres::{Connection, clause},
    },
    ledger::Unavailable,
};

/// How long one transaction may take before the server counts as lost.
const TRANSACTION_WAIT: Duration = Duration::from_secs(10);

/// Nothing is permitted over this connection, and a deletion that a crash undoes is done again: it
/// need not make the disk work, nor wait for replicas. And each statement is planned once: a
/// planner that knows the bounds looks the table's lowest key up every time, stepping over all
/// that is dead and not vacuumed yet, which took 35 ms after four million rows.
const SET_SESSION: &str = "/* set_pruning_session */
SET synchronous_commit = off; SET plan_cache_mode = force_generic_plan";

/// $1 target epoch and $2 validator to begin from, $3 target epoch, $4 rows
const PRUNE_ATTESTATIONS: &str = "/* prune_attestations */
DELETE FROM attestations WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM attestations
    WHERE (target_epoch, validator) >= ($1, $2) AND target_epoch < $3
    ORDER BY target_epoch, validator LIMIT $4))
RETURNING target_epoch, validator";

/// $1 target epoch and $2 validator to begin from, $3 target epoch, $4 rows
const PRUNE_IMPORTED_ATTESTATIONS: &str = "/* prune_imported_attestations */
DELETE FROM imported_attestations WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM imported_attestations
    WHERE (target_epoch, validator) >= ($1, $2) AND target_epoch < $3
    ORDER BY target_epoch, validator LIMIT $4))
RETURNING target_epoch, validator";

/// $1 slot and $2 validator to begin from, $3 slot, $4 rows
const PRUNE_BLOCKS: &str = "/* prune_blocks */
DELETE FROM blocks WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM blocks
    WHERE (slot, validator) >= ($1, $2) AND slot < $3
    ORDER BY slot, validator LIMIT $4))
RETURNING slot, validator";

/// $1 slot and $2 validator to begin from, $3 slot, $4 rows
const PRUNE_IMPORTED_BLOCKS: &str = "/* prune_imported_blocks */
DELETE FROM imported_blocks WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM imported_blocks
    WHERE (slot, validator) >= ($1, $2) AND slot < $3
    ORDER BY slot, validator LIMIT $4))
RETURNING slot, validator";

pub(super) async fn prune(
    database: &PostgresDatabase,
    before: Pruning,
) -> Result<u64, Unavailable> {
    let connection = database
        .connect()
        .await
        .map_err(|error| Unavailable::Unreachable(error.to_string()))?;
    in_time(connection.client.batch_execute(SET_SESSION)).await?;
    let (epoch, slot) = (bound(before.epoch.0), bound(before.slot.0));
    let mut pruned = 0;
    for (delete, below) in [
        (PRUNE_ATTESTATIONS, epoch),
        (PRUNE_IMPORTED_ATTESTATIONS, epoch),
        (PRUNE_BLOCKS, slot),
        (PRUNE_IMPORTED_BLOCKS, slot),
    ] {
        pruned += prune_table(&connection, delete, below).await?;
    }
    Ok(pruned)
}

/// Goes on from the last key it deleted: what lies before it in the index is dead, but stays to be
/// stepped over until the table is vacuumed.
async fn prune_table(
    connection: &Connection,
    delete: &str,
    below: i64,
) -> Result<u64, Unavailable> {
    let delete = in_time(connection.client.prepare(delete)).await?;
    let mut pruned = 0;
    let mut pace = Pace::START;
    let mut last = Key::default();
    loop {
        let began = Instant::now();
        let rows = i64::from(pace.rows);
        let parameters: [&(dyn ToSql + Sync); 4] = [&last.0, &last.1, &below, &rows];
        let deleted = in_time(connection.client.query(&delete, &parameters)).await?;
        let count = u32::try_from(deleted.len()).map_err(|error| failed(&error))?;
        pruned += u64::from(count);
        if count < pace.rows {
            return Ok(pruned);
        }
        for row in &deleted {
            last = last.max(key(row).map_err(|error| failed(&error))?);
        }
        sleep(pace.after(began.elapsed())).await;
    }
}

/// A height and a validator, in the order of the tables' keys.
type Key = (i64, Vec<u8>);

fn key(row: &Row) -> Result<Key, tokio_postgres::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn in_time<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Unavailable> {
    match timeout(TRANSACTION_WAIT, work).await {
        Ok(done) => done.map_err(|error| failed(&clause(&error))),
        Err(_) => Err(Unavailable::Slow(TRANSACTION_WAIT)),
    }
}
