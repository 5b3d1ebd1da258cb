//! Pruning on the thread that writes, one call per transaction: decisions go between them, and no
//! second connection holds the file's write lock.

use std::time::Instant;

use tokio::time::sleep;

use super::{Pace, Pruning, bound, failed};
use crate::{database::SqliteDatabase, ledger::Unavailable};

/// ?1 target epoch, ?2 rows
const PRUNE_ATTESTATIONS: &str = "/* prune_attestations */
DELETE FROM attestations WHERE (target_epoch, validator) IN (
    SELECT target_epoch, validator FROM attestations
    WHERE target_epoch < ?1 ORDER BY target_epoch, validator LIMIT ?2)";

/// ?1 target epoch, ?2 rows
const PRUNE_IMPORTED_ATTESTATIONS: &str = "/* prune_imported_attestations */
DELETE FROM imported_attestations
WHERE (target_epoch, validator, source_epoch, signing_root) IN (
    SELECT target_epoch, validator, source_epoch, signing_root FROM imported_attestations
    WHERE target_epoch < ?1 ORDER BY target_epoch, validator LIMIT ?2)";

/// ?1 slot, ?2 rows
const PRUNE_BLOCKS: &str = "/* prune_blocks */
DELETE FROM blocks WHERE (slot, validator) IN (
    SELECT slot, validator FROM blocks
    WHERE slot < ?1 ORDER BY slot, validator LIMIT ?2)";

/// ?1 slot, ?2 rows
const PRUNE_IMPORTED_BLOCKS: &str = "/* prune_imported_blocks */
DELETE FROM imported_blocks WHERE (slot, validator, signing_root) IN (
    SELECT slot, validator, signing_root FROM imported_blocks
    WHERE slot < ?1 ORDER BY slot, validator LIMIT ?2)";

pub(super) async fn prune(database: &SqliteDatabase, before: Pruning) -> Result<u64, Unavailable> {
    let (epoch, slot) = (bound(before.epoch.0), bound(before.slot.0));
    let mut pruned = 0;
    for (delete, below) in [
        (PRUNE_ATTESTATIONS, epoch),
        (PRUNE_IMPORTED_ATTESTATIONS, epoch),
        (PRUNE_BLOCKS, slot),
        (PRUNE_IMPORTED_BLOCKS, slot),
    ] {
        pruned += prune_table(database, delete, below).await?;
    }
    Ok(pruned)
}

async fn prune_table(
    database: &SqliteDatabase,
    delete: &'static str,
    below: i64,
) -> Result<u64, Unavailable> {
    let mut pruned = 0;
    let mut pace = Pace::START;
    loop {
        let rows = pace.rows;
        let call = database.call(move |connection| {
            let began = Instant::now();
            let deleted = connection.execute(delete, (below, rows))?;
            Ok((deleted, began.elapsed()))
        });
        let (deleted, took) = call
            .await
            .map_err(|ended| Unavailable::Unreachable(ended.to_string()))?
            .map_err(|error: rusqlite::Error| failed(&error))?;
        let deleted = u32::try_from(deleted).map_err(|error| failed(&error))?;
        pruned += u64::from(deleted);
        if deleted < rows {
            return Ok(pruned);
        }
        sleep(pace.after(took)).await;
    }
}
