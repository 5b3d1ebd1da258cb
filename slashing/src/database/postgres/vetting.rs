//! What a server must be before anything is decided on it: one that keeps what it commits, and
//! that commits.

use tokio_postgres::Row;

use super::{Connection, server::Server, standbys::awaited, unavailable};
use crate::database::DatabaseError;

/// How long one of our commits may have waited for standbys on a server that is used all the
/// same, in seconds.
const STUCK_SECONDS_MAX: f64 = 1.0;

/// Waits for a commit to be on disk, here and on the standbys, even where the server's default is
/// not to, and lets no timeout of the server's cancel that wait. A session that waits for a lock
/// ends when its client has gone; one that waits for standbys does not.
const SET_DURABLE: &str = "/* set_durable */
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
SELECT set_config(name, value, false)
    FROM (VALUES ('statement_timeout', '0'), ('transaction_timeout', '0'),
        ('idle_session_timeout', '0'), ('client_connection_check_interval', '1s'))
        AS wanted (name, value)
    WHERE current_setting(name, true) IS NOT NULL";

/// For a session of the ledger: look rows up by their keys whatever the statistics say, and
/// compile nothing for that; and let the server end a transaction whose client is gone: the next batch
/// waits for the rows that it holds.
const SET_PLANNER: &str = "/* set_planner */
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
SET idle_in_transaction_session_timeout = '3s';
SET default_transaction_isolation = 'read committed'";

const READ_SETTINGS: &str = "/* read_settings */
SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('data_sync_retry', true),
    current_setting('synchronous_commit'), current_setting('synchronous_standby_names')";

/// The longest, in seconds, that a commit of this role has waited for standbys so far.
const READ_STUCK: &str = "/* read_stuck */
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8
FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = current_user";

/// Writes a record that means nothing, and commits: where standbys are waited for, so is this.
const PROBE_COMMIT: &str = "/* probe_commit */
SELECT FROM pg_logical_emit_message(true, 'countersign', 'does this server commit?')";

impl Server {
    /// Everything about a fresh connection. From here on a warning ends it.
    pub(super) async fn vet(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let client = &connection.client;
        client
            .batch_execute(SET_DURABLE)
            .await
            .map_err(unavailable)?;
        self.check_settings(connection).await?;
        connection.warnings.arm();
        let row = client.query_one(READ_STUCK, &[]).await;
        let stuck: f64 = row.and_then(|row| row.try_get(0)).map_err(unavailable)?;
        if stuck > STUCK_SECONDS_MAX {
            return Err(DatabaseError::Unavailable(format!(
                "a commit has waited {stuck:.0} s for its synchronous standbys: bring one back, or \
                 promote the one that has everything and stop this server"
            )));
        }
        client
            .execute(PROBE_COMMIT, &[])
            .await
            .map(|_| ())
            .map_err(unavailable)
    }

    /// Whether the server is set up to keep what it commits.
    pub(super) async fn check_settings(
        &self,
        connection: &Connection,
    ) -> Result<(), DatabaseError> {
        let row = connection.client.query_one(READ_SETTINGS, &[]).await;
        let settings = row
            .and_then(|row| Settings::try_from(&row))
            .map_err(unavailable)?;
        let wrongs = settings.wrongs(self.synchronous_standbys_min);
        if wrongs.is_empty() {
            return Ok(());
        }
        Err(DatabaseError::Unavailable(wrongs.join("; ")))
    }
}

/// Prepares a connection for what the ledger asks.
pub(super) async fn set_planner(connection: &Connection) -> Result<(), DatabaseError> {
    let set = connection.client.batch_execute(SET_PLANNER).await;
    set.map_err(unavailable)
}

/// A server's settings, as this session sees them.
#[derive(Debug)]
struct Settings {
    in_recovery: bool,
    transaction_read_only: String,
    fsync: String,
    full_page_writes: String,
    /// Absent where there is none, which is as if it were off.
    data_sync_retry: Option<String>,
    synchronous_commit: String,
    synchronous_standby_names: String,
}

impl TryFrom<&Row> for Settings {
    type Error = tokio_postgres::Error;

    fn try_from(row: &Row) -> Result<Self, Self::Error> {
        Ok(Self {
            in_recovery: row.try_get(0)?,
            transaction_read_only: row.try_get(1)?,
            fsync: row.try_get(2)?,
            full_page_writes: row.try_get(3)?,
            data_sync_retry: row.try_get(4)?,
            synchronous_commit: row.try_get(5)?,
            synchronous_standby_names: row.try_get(6)?,
        })
    }
}

impl Settings {
    /// What is wrong, and what to change.
    fn wrongs(&self, synchronous_standbys_min: u32) -> Vec<String> {
        if self.in_recovery {
            return vec!["it is a standby: give the primary's address, or promote it".to_owned()];
        }
        let mut wrongs = Vec::new();
        if self.transaction_read_only != "off" {
            wrongs.push("it is read-only: set default_transaction_read_only = off".to_owned());
        }
        if self.fsync != "on" {
            wrongs.push(
                "fsync is off, so that a crash loses what was committed: set fsync = on".to_owned(),
            );
        }
        if self.full_page_writes != "on" {
            wrongs.push(
                "full_page_writes is off, so that a crash can leave torn pages: \
                 set full_page_writes = on"
                    .to_owned(),
            );
        }
        if self
            .data_sync_retry
            .as_deref()
            .is_some_and(|set| set != "off")
        {
            wrongs.push(
                "data_sync_retry is on, so that a failed fsync can pass for a good one: \
                 set data_sync_retry = off"
                    .to_owned(),
            );
        }
        if !["on", "remote_apply"].contains(&self.synchronous_commit.as_str()) {
            wrongs.push(format!(
                "synchronous_commit is {}, so that a commit returns too early: \
                 set synchronous_commit = on",
                self.synchronous_commit
            ));
        }
        match awaited(&self.synchronous_standby_names) {
            Ok(count) if count >= synchronous_standbys_min => {}
            Ok(count) => wrongs.push(format!(
                "synchronous_standby_names = '{}' makes a commit wait for {count} standbys, fewer \
                 than synchronous_standbys_min = {synchronous_standbys_min}: \
                 set synchronous_standby_names = 'ANY {synchronous_standbys_min} (…)'",
                self.synchronous_standby_names
            )),
            // What nobody asks for need not be understood.
            Err(_) if synchronous_standbys_min == 0 => {}
            Err(error) => wrongs.push(error),
        }
        wrongs
    }
}
