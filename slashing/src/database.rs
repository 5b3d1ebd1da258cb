//! One database per cosigner: opened, bound to one chain, and migrated before anything uses it.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use duty::Root;

use crate::machine::Machine;

pub use postgres::PostgresDatabase;
pub use sqlite::SqliteDatabase;

pub(crate) mod postgres;
pub(crate) mod sqlite;

mod migrations;

/// Which database, as a configuration file says it: `[database.sqlite]` or `[database.postgres]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DatabaseConfig {
    /// One file, in this process.
    Sqlite(SqliteConfig),
    /// A PostgreSQL server.
    Postgres(PostgresConfig),
}

impl DatabaseConfig {
    /// Whether what is configured can be used at all, before anything is opened.
    ///
    /// # Errors
    /// [`DatabaseError::Config`]: a URL that is none, or that holds a password.
    pub fn check(&self) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(config) => postgres::parse(&config.url)
                .map(|_| ())
                .map_err(DatabaseError::Config),
        }
    }
}

/// Where the SQLite file is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The file; made, readable by its owner only, if it does not exist. Its directory must exist.
    pub path: PathBuf,
}

/// How a PostgreSQL server is reached.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// A connection URL or key-value string of libpq. Never with a password.
    pub url: String,
    /// The file that holds the password, if there is one; a final line break is not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM file of the certificates that the server's must chain to. Given, TLS is required
    /// unless the URL says `sslmode=disable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How many synchronous standbys a commit must wait for at least: a server whose
    /// `synchronous_standby_names` asks for fewer is refused.
    #[serde(default)]
    pub synchronous_standbys_min: u32,
}

impl fmt::Debug for PostgresConfig {
    /// Leaves a URL out that might hold a password, which [`Database::open`] will refuse.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match postgres::parse(&self.url) {
            Ok(_) => &self.url,
            Err(_) => "(not shown)",
        };
        f.debug_struct("PostgresConfig")
            .field("url", &url)
            .field("password_file", &self.password_file)
            .field("ca", &self.ca)
            .field("synchronous_standbys_min", &self.synchronous_standbys_min)
            .finish()
    }
}

/// What lets this process into a database and whom it trusts there, as files say it at present:
/// the password and the certificates of a PostgreSQL server.
pub struct Access(Option<postgres::Server>);

impl Access {
    /// Reads and checks the files that `now` names, for the server that `opened` names: which one
    /// that is does not change while it is open.
    ///
    /// # Errors
    /// [`DatabaseError::Config`]: a file that is missing or wrong.
    pub fn read(opened: &DatabaseConfig, now: &DatabaseConfig) -> Result<Self, DatabaseError> {
        let (DatabaseConfig::Postgres(opened), DatabaseConfig::Postgres(now)) = (opened, now)
        else {
            return Ok(Self(None));
        };
        let server = postgres::Server::configured(&PostgresConfig {
            password_file: now.password_file.clone(),
            ca: now.ca.clone(),
            ..opened.clone()
        })?;
        Ok(Self(Some(server)))
    }
}

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// What the configuration says can not be used, whatever the server does.
    #[error("the database's configuration is wrong: {0}")]
    Config(String),
    /// The server or the file could not be reached, or failed. Trying again may help.
    #[error("cannot open the database: {0}")]
    Unavailable(String),
    /// What the database holds is not what this program works with.
    #[error("the database does not fit this program: {0}")]
    Schema(String),
    /// The ledger is another chain's.
    #[error(
        "the database's ledger is for genesis validators root {bound}, not for {configured}: \
         configure the right network or another database"
    )]
    AnotherChain {
        /// What the ledger was first opened for.
        bound: Root,
        /// What it was to be opened for now.
        configured: Root,
    },
}

/// The number of the ledger's last commit that this process knows of, whoever made it: a server
/// whose ledger has a lower one holds an older state of it. Shared by all clones of a database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    commits: Arc<AtomicU64>,
    /// Also of those orders and imports of which it is not known whether they were committed.
    tried: Arc<AtomicU64>,
}

impl Known {
    /// A commit was made, or is known of from the anchor.
    pub(crate) fn at_least(&self, commits: u64) {
        self.commits.fetch_max(commits, Ordering::Relaxed);
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// A commit of an order or an import is about to be tried. Whatever becomes of it, the numbers
    /// of all later ones must be beyond: a server that has it and lacks those must count less.
    pub(crate) fn try_at(&self, commits: u64) {
        self.tried.fetch_max(commits, Ordering::Relaxed);
    }

    /// The highest number that a commit was tried with, or is known with.
    pub(crate) fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed).max(self.commits())
    }
}

/// An open database with the current schema, bound to one chain. Cheap to clone.
#[derive(Clone)]
pub enum Database {
    /// One file, in this process.
    Sqlite(SqliteDatabase),
    /// A PostgreSQL server.
    Postgres(PostgresDatabase),
}

impl SqliteDatabase {
    pub(crate) const fn known(&self) -> &Known {
        &self.known
    }
}

impl PostgresDatabase {
    pub(crate) const fn known(&self) -> &Known {
        &self.known
    }
}

impl Database {
    /// The machine that uses it.
    pub(crate) fn machine(&self) -> Machine {
        match self {
            #[cfg(feature = "test-seams")]
            Self::Sqlite(SqliteDatabase {
                simulated: Some(process),
                ..
            }) => Machine::Simulated(process.clone()),
            Self::Sqlite(_) | Self::Postgres(_) => Machine::Real,
        }
    }

    /// What is known of the ledger's commits.
    pub(crate) const fn known(&self) -> &Known {
        match self {
            Self::Sqlite(database) => &database.known,
            Self::Postgres(database) => &database.known,
        }
    }

    /// Opens the database, applies the migrations it lacks, and binds it to the chain: the first
    /// opening writes the root, later ones must bring the same.
    ///
    /// # Errors
    /// [`DatabaseError`], which says whether the configuration or the database is to blame.
    pub async fn open(
        config: &DatabaseConfig,
        genesis_validators_root: Root,
    ) -> Result<Self, DatabaseError> {
        match config {
            DatabaseConfig::Sqlite(config) => SqliteDatabase::open(config, genesis_validators_root)
                .await
                .map(Self::Sqlite),
            DatabaseConfig::Postgres(config) => {
                PostgresDatabase::open(config, genesis_validators_root)
                    .await
                    .map(Self::Postgres)
            }
        }
    }

    /// Every connection that is made from now on is made with this. Those that are open stay: the
    /// ledger is not let go of.
    pub fn replace_access(&self, access: Access) {
        match (self, access.0) {
            (Self::Postgres(database), Some(server)) => database.replace_access(server),
            (Self::Sqlite(_) | Self::Postgres(_), _) => {}
        }
    }

    /// Connects as every connection is made from now on, and lets go of that again.
    ///
    /// # Errors
    /// Why the next connection would not be made either.
    pub async fn try_access(&self) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(database) => database.try_access().await,
        }
    }

    /// Applies the migrations that the database lacks, and nothing else: for a role that may
    /// change the schema when the cosigner's own may not.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn migrate(config: &DatabaseConfig) -> Result<(), DatabaseError> {
        match config {
            DatabaseConfig::Sqlite(config) => SqliteDatabase::migrate(config).await,
            DatabaseConfig::Postgres(config) => PostgresDatabase::migrate(config).await,
        }
    }
}

/// Whether the ledger's chain is the configured one.
fn same_chain(bound: &[u8], configured: Root) -> Result<(), DatabaseError> {
    let bound = Root::try_from(bound)
        .map_err(|error| DatabaseError::Schema(format!("genesis validators root: {error}")))?;
    if bound != configured {
        return Err(DatabaseError::AnotherChain { bound, configured });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
