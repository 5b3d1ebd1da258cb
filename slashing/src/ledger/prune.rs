//! Takes history away at its old end, while decisions go on.
//!
//! The ratchets stay, so nothing becomes permitted by it: what goes is only what an old message
//! could be repeated from, and what an export shows. Small transactions with pauses between them
//! keep out of the way of the ledger's own.

use std::{fmt, time::Duration};

use duty::{Epoch, Slot};

use super::{Ledger, Unavailable};
use crate::database::Database;

mod sqlite;

mod postgres;

/// What history is taken away; the ratchets stay whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruning {
    /// Attestations whose target is below this.
    pub epoch: Epoch,
    /// Blocks whose slot is below this.
    pub slot: Slot,
}

impl Ledger {
    /// Deletes history from its old end and returns how many entries went. It takes its time: some
    /// ten thousand entries per second. Dropped, it stops after the transaction under way; called
    /// again, it goes on where it was.
    ///
    /// # Errors
    /// [`Unavailable`] when the database fails or does not answer; what went until then is gone.
    pub async fn prune(&self, before: Pruning) -> Result<u64, Unavailable> {
        match self.database() {
            Database::Sqlite(database) => sqlite::prune(database, before).await,
            Database::Postgres(database) => postgres::prune(database, before).await,
        }
    }
}

/// How long a transaction should take: what a decision waits for it at most on SQLite.
const TRANSACTION_AIM: Duration = Duration::from_millis(2);
/// Rows that one transaction deletes at first and at least: fewer are hardly faster, as it is then
/// the disk that takes the time.
const ROWS_MIN: u32 = 256;
/// Rows that one transaction deletes at most.
const ROWS_MAX: u32 = 2048;
/// Pauses are so many times as long as the transactions before them.
const PAUSE_FACTOR: u32 = 4;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How much is deleted at a time, and how long to leave the database alone after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    rows: u32,
}

impl Pace {
    const START: Self = Self { rows: ROWS_MIN };

    /// Takes up how long a transaction took. Returns the pause until the next.
    fn after(&mut self, took: Duration) -> Duration {
        if took > TRANSACTION_AIM {
            self.rows = (self.rows / 2).max(ROWS_MIN);
        } else if took < TRANSACTION_AIM / 2 {
            self.rows = (self.rows * 2).min(ROWS_MAX);
        }
        took.saturating_mul(PAUSE_FACTOR).min(PAUSE_MAX)
    }
}

/// A height as a column's bound: nothing in the database is above what it holds.
fn bound(height: u64) -> i64 {
    i64::try_from(height).unwrap_or(i64::MAX)
}

fn failed(reason: &dyn fmt::Display) -> Unavailable {
    Unavailable::Failed(format!("pruning: {reason}"))
}

#[cfg(test)]
mod tests;
