//! SQLite: one file, one thread that writes and one that reads, and settings that must hold.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use duty::Root;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    DatabaseError, Known, SqliteConfig,
    migrations::{self, Applied},
    same_chain,
};

/// How long one statement waits for another process that writes. Longer waits are many of these,
/// so that the thread looks up in between.
const BUSY_WAIT: Duration = Duration::from_millis(100);
/// How long opening waits for another process that writes, or migrates the same file.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// Calls that wait for a thread at most; further callers wait before they are queued.
const CALLS_MAX: usize = 256;

/// An SQLite file with the current schema. Cheap to clone; its threads end with the last clone.
#[derive(Clone)]
pub struct SqliteDatabase {
    path: PathBuf,
    writer: Thread,
    reader: Thread,
    genesis_validators_root: Root,
    /// Device and inode of the file that the writer has open.
    opened: Arc<Mutex<Option<(u64, u64)>>>,
    pub(super) known: Known,
    /// When the file was last changed before it was opened, in seconds since 1970, if there was a
    /// log beside it then: that log goes with no other file.
    logged_since_s: Option<i64>,
    /// There is no file and no thread, but a simulated store.
    #[cfg(feature = "test-seams")]
    pub(crate) simulated: Option<crate::simulation::Process>,
}

/// The database's thread has ended, which only a panic in a call can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database's thread has ended")]
pub struct ThreadEnded;

impl SqliteDatabase {
    /// Runs `work` on the thread of the one connection that writes, after the calls before it. The
    /// ledger decides on this thread, too: what takes long here delays signatures.
    ///
    /// # Errors
    /// `ThreadEnded`; whatever `work` returns is the value.
    pub async fn call<T, F>(&self, work: F) -> Result<T, ThreadEnded>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        self.writer.call(work).await
    }

    /// Runs `work` on the thread of a connection that only reads, and waits for no commit.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, ThreadEnded>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        self.reader.call(work).await
    }

    /// A connection of the caller's own that only reads, for what takes long. Opening it blocks.
    pub(crate) fn own_reader(&self) -> Result<Connection, DatabaseError> {
        let connection = connect(&self.path, Access::Read)?;
        check_chain(&connection, self.genesis_validators_root)?;
        Ok(connection)
    }

    pub(super) async fn open(
        config: &SqliteConfig,
        genesis_validators_root: Root,
    ) -> Result<Self, DatabaseError> {
        let file = absolute(&config.path)?;
        let logged_since_s = changed_beside_log(&file);
        let path = file.clone();
        let writer = Thread::start("ledger-writer", move || {
            create(&path)?;
            let mut connection = connect(&path, Access::Write)?;
            migrate(&mut connection)?;
            bind(&mut connection, genesis_validators_root)?;
            connection.busy_timeout(BUSY_WAIT).map_err(unavailable)?;
            Ok(connection)
        })
        .await?;
        let path = file.clone();
        let reader = Thread::start("ledger-reader", move || connect(&path, Access::Read)).await?;
        Ok(Self {
            opened: Arc::new(Mutex::new(identity(&file))),
            known: Known::default(),
            logged_since_s,
            path: file,
            writer,
            reader,
            genesis_validators_root,
            #[cfg(feature = "test-seams")]
            simulated: None,
        })
    }

    /// No file: the ledger knows the simulated store, and whoever else calls learns that the
    /// threads have ended.
    #[cfg(feature = "test-seams")]
    pub(crate) fn simulated(process: crate::simulation::Process) -> Self {
        let ended = Thread {
            calls: mpsc::channel(1).0,
        };
        Self {
            opened: Arc::default(),
            known: Known::default(),
            logged_since_s: None,
            path: PathBuf::from("a simulated ledger"),
            writer: ended.clone(),
            reader: ended,
            genesis_validators_root: Root([0; 32]),
            simulated: Some(process),
        }
    }

    pub(super) async fn migrate(config: &SqliteConfig) -> Result<(), DatabaseError> {
        let path = absolute(&config.path)?;
        Thread::start("ledger-writer", move || {
            create(&path)?;
            let mut connection = connect(&path, Access::Write)?;
            migrate(&mut connection)?;
            Ok(connection)
        })
        .await
        .map(|_| ())
    }

    /// Replaces the connection that writes, so that nothing of a failed one is left, and looks
    /// that the file still holds this chain's ledger. Never makes a file.
    pub(crate) async fn reconnect(&self) -> Result<(), DatabaseError> {
        let (path, root) = (self.path.clone(), self.genesis_validators_root);
        *self.opened.lock() = identity(&path);
        let reader_path = path.clone();
        let reread = self.read(move |connection| {
            // The old one would go on with a file that was replaced.
            connect(&reader_path, Access::Read).map(|fresh| *connection = fresh)
        });
        reread
            .await
            .map_err(|error| DatabaseError::Unavailable(error.to_string()))??;
        let reconnected = self.call(move |connection| {
            let fresh = connect(&path, Access::Write)?;
            check_chain(&fresh, root)?;
            fresh.busy_timeout(BUSY_WAIT).map_err(unavailable)?;
            *connection = fresh;
            Ok(())
        });
        reconnected
            .await
            .map_err(|error| DatabaseError::Unavailable(error.to_string()))?
    }
}

impl SqliteDatabase {
    /// When the file was last changed before it was opened, in seconds since 1970, if there was a
    /// log beside it then.
    pub(crate) const fn logged_since_s(&self) -> Option<i64> {
        self.logged_since_s
    }

    /// Whether the path still names the file that is open.
    pub(crate) fn is_in_place(&self) -> bool {
        let named = identity(&self.path);
        named.is_some() && named == *self.opened.lock()
    }
}

type Call = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread that owns a connection and runs what is sent to it.
#[derive(Clone)]
struct Thread {
    calls: mpsc::Sender<Call>,
}

impl Thread {
    async fn start(
        name: &str,
        open: impl FnOnce() -> Result<Connection, DatabaseError> + Send + 'static,
    ) -> Result<Self, DatabaseError> {
        let (calls, mut waiting) = mpsc::channel::<Call>(CALLS_MAX);
        let (opened, outcome) = oneshot::channel();
        let body = move || {
            let mut connection = match open() {
                Ok(connection) => connection,
                Err(error) => {
                    // Whoever no longer waits for it needs no error.
                    let _unheard = opened.send(Err(error));
                    return;
                }
            };
            if opened.send(Ok(())).is_err() {
                return;
            }
            while let Some(call) = waiting.blocking_recv() {
                call(&mut connection);
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|error| DatabaseError::Unavailable(format!("a thread: {error}")))?;
        outcome
            .await
            .unwrap_or_else(|_| Err(DatabaseError::Unavailable(ThreadEnded.to_string())))?;
        Ok(Self { calls })
    }

    async fn call<T, F>(&self, work: F) -> Result<T, ThreadEnded>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        let (done, value) = oneshot::channel();
        let call: Call = Box::new(move |connection| {
            // A caller that gave up has no use for the value.
            let _unheard = done.send(work(connection));
        });
        self.calls.send(call).await.map_err(|_| ThreadEnded)?;
        value.await.map_err(|_| ThreadEnded)
    }
}

/// When the file was changed, if there is a log beside it that holds more.
fn changed_beside_log(path: &Path) -> Option<i64> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = fs::metadata(log).ok()?;
    (log.len() > 0).then_some(fs::metadata(path).ok()?.ctime())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

/// The path from the root: names that SQLite takes for something else (`:memory:`) are files, too.
fn absolute(path: &Path) -> Result<PathBuf, DatabaseError> {
    std::path::absolute(path)
        .map_err(|error| DatabaseError::Config(format!("{}: {error}", path.display())))
}

/// Makes the file, for its owner's eyes only, if there is none, and makes its name durable: a
/// ledger whose file a power cut can unname is a ledger that forgets.
fn create(path: &Path) -> Result<(), DatabaseError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let synced = match made {
        Ok(file) => file.sync_all().and_then(|()| {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    synced.map_err(|error| DatabaseError::Unavailable(format!("{}: {error}", path.display())))
}

fn connect(path: &Path, access: Access) -> Result<Connection, DatabaseError> {
    let unavailable = |error| DatabaseError::Unavailable(format!("{}: {error}", path.display()));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unavailable)?;
    connection.busy_timeout(OPEN_WAIT).map_err(unavailable)?;
    let query_only = if access == Access::Read { "1" } else { "0" };
    for (pragma, wanted) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("fullfsync", "1"),
        ("foreign_keys", "1"),
        ("recursive_triggers", "1"),
        ("query_only", query_only),
    ] {
        let got = set(&connection, pragma, wanted).map_err(unavailable)?;
        if got != wanted {
            return Err(DatabaseError::Config(format!(
                "SQLite's {pragma} is {got} and can not be set to {wanted} for {}",
                path.display()
            )));
        }
    }
    Ok(connection)
}

/// Sets a pragma and reads it back: SQLite ignores what it can not set, without an error.
fn set(connection: &Connection, pragma: &str, wanted: &str) -> Result<String, rusqlite::Error> {
    connection.pragma_update(None, pragma, wanted)?;
    connection.pragma_query_value(None, pragma, |row| {
        let number = row.get::<_, i64>(0);
        number.map_or_else(|_| row.get(0), |number| Ok(number.to_string()))
    })
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn unavailable(error: rusqlite::Error) -> DatabaseError {
    DatabaseError::Unavailable(error.to_string())
}

const READ_CHAIN: &str = "/* read_chain */ SELECT genesis_validators_root FROM ledger";

/// ?1 genesis validators root
const WRITE_CHAIN: &str = "/* write_chain */
INSERT INTO ledger (genesis_validators_root)
SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM ledger)";

/// Binds the ledger to a chain, unless it is bound already.
fn bind(connection: &mut Connection, root: Root) -> Result<(), DatabaseError> {
    if check_chain(connection, root).is_ok() {
        return Ok(());
    }
    connection
        .execute(WRITE_CHAIN, [root.as_bytes()])
        .map_err(unavailable)?;
    check_chain(connection, root)
}

fn check_chain(connection: &Connection, root: Root) -> Result<(), DatabaseError> {
    let bound: Option<Vec<u8>> = connection
        .query_row(READ_CHAIN, [], |row| row.get(0))
        .optional()
        .map_err(unavailable)?;
    match bound {
        Some(bound) => same_chain(&bound, root),
        None => Err(DatabaseError::Schema(
            "its ledger is bound to no chain".to_owned(),
        )),
    }
}

const MAKE_VERSIONS: &str = "/* make_versions */
CREATE TABLE IF NOT EXISTS schema_versions (
    version    INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    checksum   BLOB    NOT NULL,
    applied_at INTEGER NOT NULL DEFAULT (unixepoch()) -- seconds since 1970
) STRICT";

const READ_VERSIONS: &str =
    "/* read_versions */ SELECT version, checksum FROM schema_versions ORDER BY version";

/// ?1 version, ?2 name, ?3 checksum
const ADD_VERSION: &str = "/* add_version */
INSERT INTO schema_versions (version, name, checksum) VALUES (?1, ?2, ?3)";

/// Applies what is pending in one transaction, which takes the file's write lock first.
fn migrate(connection: &mut Connection) -> Result<(), DatabaseError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(unavailable)?;
    transaction
        .execute_batch(MAKE_VERSIONS)
        .map_err(unavailable)?;
    for migration in migrations::pending(migrations::SQLITE, &applied(&transaction)?)? {
        let row = (migration.version, migration.name, migration.checksum());
        transaction
            .execute_batch(migration.sql)
            .and_then(|()| transaction.execute(ADD_VERSION, row))
            .map_err(|error| {
                let (version, name) = (migration.version, migration.name);
                DatabaseError::Unavailable(format!("migration {version} ({name}): {error}"))
            })?;
    }
    transaction.commit().map_err(unavailable)
}

fn applied(connection: &Connection) -> Result<Vec<Applied>, DatabaseError> {
    let mut statement = connection.prepare(READ_VERSIONS).map_err(unavailable)?;
    let rows = statement.query_map([], |row| {
        Ok(Applied {
            version: row.get(0)?,
            checksum: row.get(1)?,
        })
    });
    rows.and_then(Iterator::collect).map_err(unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_does_not_take_is_seen() {
        let connection = Connection::open_in_memory().unwrap();
        assert_eq!(set(&connection, "journal_mode", "wal").unwrap(), "memory");
        assert_eq!(set(&connection, "foreign_keys", "1").unwrap(), "1");
    }
}
