//! PostgreSQL: connections that are driven here, to servers that keep what they commit; migrations;
//! and a pool for the vault.

use std::{error::Error as _, fmt::Write as _, future::poll_fn, sync::Arc, time::Duration};

use duty::Root;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Socket,
    error::Severity,
    tls::MakeTlsConnect,
    types::{ToSql, Type},
};

use super::{DatabaseError, Known, PostgresConfig, same_chain};
use access::Reached;
use hosts::Any;
use pool::Pool;
use schema::{READ_CHAIN, bind, migrate};
use warnings::Warnings;

pub(crate) use hosts::Check;
pub(super) use server::{Server, parse};

mod server;

mod access;

mod former;

mod hosts;

mod vetting;

mod standbys;

mod warnings;

mod pool;

mod schema;

/// How long connecting to one host may take: its greeting, what it is asked, and a commit.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long it may take to say what its settings are, for which it waits for nothing: a server that
/// takes longer is away, and decisions wait no longer for it.
const RECHECK_WAIT: Duration = Duration::from_secs(1);
/// How long migrations may take.
const MIGRATE_WAIT: Duration = Duration::from_secs(600);

/// A PostgreSQL server with the current schema. Cheap to clone.
#[derive(Clone)]
pub struct PostgresDatabase {
    server: Reached,
    pool: Pool,
    genesis_validators_root: Root,
    pub(super) known: Known,
}

impl PostgresDatabase {
    /// A pooled connection, for whoever keeps other tables in this database. The ledger itself
    /// uses connections of its own, so that it waits for nobody here. Its server was vetted as
    /// the ledger's is, and a warning of the server's ends it.
    ///
    /// # Errors
    /// If none is free or can be made within two seconds.
    pub async fn client(&self) -> Result<deadpool_postgres::Client, deadpool_postgres::PoolError> {
        self.pool.client().await
    }

    pub(super) async fn open(
        config: &PostgresConfig,
        genesis_validators_root: Root,
    ) -> Result<Self, DatabaseError> {
        let server = Reached::by(Server::configured(config)?);
        let (mut connection, ()) = hosts::first(&server.now(), &Any).await?;
        timeout(MIGRATE_WAIT, async {
            migrate(&mut connection.client).await?;
            bind(&mut connection.client, genesis_validators_root).await
        })
        .await
        .map_err(|_| DatabaseError::Unavailable("migrations took too long".to_owned()))??;
        let known = Known::default();
        Ok(Self {
            pool: Pool::new(server.clone(), known.clone())?,
            server,
            genesis_validators_root,
            known,
        })
    }

    pub(super) async fn migrate(config: &PostgresConfig) -> Result<(), DatabaseError> {
        let server = Server::configured(config)?;
        let (mut connection, ()) = hosts::first(&server, &Any).await?;
        migrate(&mut connection.client).await
    }

    /// A connection of the ledger's own, to a server that still holds this chain's ledger, with every
    /// commit that is known of.
    pub(crate) async fn connect(&self) -> Result<Connection, DatabaseError> {
        let (connection, ()) = self.connect_where(&NotOlder(&self.known)).await?;
        Ok(connection)
    }

    /// As [`Self::connect`], to the first host that also passes `check`. All hosts of the URL are
    /// tried at once, each within bounds of its own, so that one that hangs or is refused costs
    /// nothing; `check` runs for each that takes commits, for two seconds at most, and possibly
    /// for several at once. The error has every host's reason.
    pub(crate) async fn connect_where<C: Check>(
        &self,
        check: &C,
    ) -> Result<(Connection, C::Passed), DatabaseError> {
        let checked = OfThisChain {
            database: self,
            check,
        };
        hosts::first(&self.server.now(), &checked).await
    }

    /// From the next connection on. Those that are open, the ledger's own among them, stay.
    pub(super) fn replace_access(&self, server: Server) {
        self.server.replace(server);
    }

    /// Connects as every connection is made from now on.
    pub(super) async fn try_access(&self) -> Result<(), DatabaseError> {
        hosts::first(&self.server.now(), &Any).await.map(drop)
    }

    /// Whether the server is still set up to keep what it commits: its settings can be changed
    /// while it runs.
    pub(crate) async fn recheck(&self, connection: &Connection) -> Result<(), DatabaseError> {
        timeout(RECHECK_WAIT, self.server.now().check_settings(connection))
            .await
            .map_err(|_| DatabaseError::Unavailable(NO_ANSWER.to_owned()))?
    }

    async fn same_chain(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let row = connection.client.query_opt(READ_CHAIN, &[]).await;
        match row.map_err(unavailable)? {
            Some(row) => same_chain(
                row.try_get(0).map_err(unavailable)?,
                self.genesis_validators_root,
            ),
            None => Err(DatabaseError::Schema(
                "its ledger is bound to no chain".to_owned(),
            )),
        }
    }
}

const NO_ANSWER: &str = "the server does not answer";

/// $1 commits known of
const READ_COMMITS: &str = "/* read_commits */ SELECT commits, commits >= $1 FROM standing";

/// A server whose ledger holds every commit that this process knows of.
struct NotOlder<'k>(&'k Known);

impl Check for NotOlder<'_> {
    type Passed = ();

    fn check<'a>(&'a self, connection: &'a Connection) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async {
            // A column's bound: what is known came from a column.
            let known = i64::try_from(self.0.commits()).unwrap_or(i64::MAX);
            let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&known, Type::INT8)];
            let rows = connection
                .client
                .query_typed(READ_COMMITS, &parameters)
                .await;
            let row = rows.map_err(unavailable)?;
            let row = row
                .first()
                .ok_or_else(|| DatabaseError::Schema("its ledger has no standing".to_owned()))?;
            let commits: i64 = row.try_get(0).map_err(unavailable)?;
            match row.try_get(1).map_err(unavailable)? {
                true => Ok(()),
                false => Err(DatabaseError::Unavailable(format!(
                    "its ledger stands at commit {commits}, commit {known} is known of: it is an \
                     older state"
                ))),
            }
        }
        .boxed()
    }
}

/// A ledger's own connection: its chain, then the caller's check.
struct OfThisChain<'c, C> {
    database: &'c PostgresDatabase,
    check: &'c C,
}

impl<C: Check> Check for OfThisChain<'_, C> {
    type Passed = C::Passed;

    fn check<'a>(
        &'a self,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Result<C::Passed, DatabaseError>> {
        async {
            vetting::set_planner(connection).await?;
            self.database.same_chain(connection).await?;
            self.check.check(connection).await
        }
        .boxed()
    }
}

/// One connection, with the task that drives it. Dropped, the socket closes at once: what the
/// server has not been told by then, it is never told.
pub(crate) struct Connection {
    pub(crate) client: Client,
    warnings: Arc<Warnings>,
    // Dropped, it aborts its one task.
    driver: JoinSet<()>,
}

impl Connection {
    async fn to<T>(config: &Config, tls: T) -> Result<Self, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, mut connection) = config.connect(tls).await?;
        let warnings = Arc::new(Warnings::default());
        let heard = Arc::clone(&warnings);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                // Told before the reply that follows it: who is not to believe that reply never
                // reads it, for this connection ends here.
                if let AsyncMessage::Notice(notice) = message
                    && notice.parsed_severity() == Some(Severity::Warning)
                    && heard.poisoned_by(notice.message())
                {
                    return;
                }
            }
        });
        Ok(Self {
            client,
            warnings,
            driver,
        })
    }

    /// The last warning that the server sent since this was last asked. A commit that came with
    /// one (a wait for replication that was cancelled) must not be believed.
    pub(crate) fn take_warning(&self) -> Option<String> {
        self.warnings.take()
    }

    /// The client, and a task that drives the connection until it is aborted.
    fn into_parts(self) -> (Client, JoinHandle<()>) {
        let mut driver = self.driver;
        let driven = tokio::spawn(async move {
            // A driver that panicked has ended, too.
            let _ended = driver.join_next().await;
        });
        (self.client, driven)
    }

    /// Returns when the connection has ended.
    pub(crate) async fn closed(&mut self) {
        // A driver that panicked has ended, too.
        let _ended = self.driver.join_next().await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn unavailable(error: tokio_postgres::Error) -> DatabaseError {
    DatabaseError::Unavailable(clause(&error))
}

/// An error with its causes, as one clause.
pub(crate) fn clause(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string can not fail.
        let _written = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
