//! PostgreSQL: connections that are driven here, TLS, migrations, and a pool for the vault.

use std::{
    error::Error as _, fmt::Write as _, fs, future::poll_fn, path::Path, sync::Arc, time::Duration,
};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use duty::Root;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage, Client, Config, NoTls, Socket, config::SslMode, error::Severity,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{DatabaseError, PostgresConfig, same_chain};
use schema::{READ_CHAIN, bind, migrate};

mod schema;

/// How long an attempt to connect may take per host, the server's greeting included.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long the server may leave sent bytes unacknowledged before the connection counts as lost.
const UNACKNOWLEDGED_WAIT: Duration = Duration::from_secs(5);
/// Connections that the pool opens at most, besides the ledger's own two.
const POOL_CONNECTIONS_MAX: usize = 4;
/// How long migrations may take.
const MIGRATE_WAIT: Duration = Duration::from_secs(600);

/// A PostgreSQL server with the current schema. Cheap to clone.
#[derive(Clone)]
pub struct PostgresDatabase {
    server: Arc<Server>,
    pool: Pool,
    genesis_validators_root: Root,
}

impl PostgresDatabase {
    /// A pooled connection, for whoever keeps other tables in this database. The ledger itself
    /// uses connections of its own, so that it waits for nobody here.
    ///
    /// # Errors
    /// If none is free or can be made within two seconds.
    pub async fn client(&self) -> Result<deadpool_postgres::Client, deadpool_postgres::PoolError> {
        self.pool.get().await
    }

    pub(super) async fn open(
        config: &PostgresConfig,
        genesis_validators_root: Root,
    ) -> Result<Self, DatabaseError> {
        let server = Server::configured(config)?;
        let mut connection = server.connect().await?;
        timeout(MIGRATE_WAIT, async {
            migrate(&mut connection.client).await?;
            bind(&mut connection.client, genesis_validators_root).await
        })
        .await
        .map_err(|_| DatabaseError::Unavailable("migrations took too long".to_owned()))??;
        Ok(Self {
            pool: server.pool()?,
            server: Arc::new(server),
            genesis_validators_root,
        })
    }

    pub(super) async fn migrate(config: &PostgresConfig) -> Result<(), DatabaseError> {
        let mut connection = Server::configured(config)?.connect().await?;
        migrate(&mut connection.client).await
    }

    /// A connection of the ledger's own, to a server that still holds this chain's ledger.
    pub(crate) async fn connect(&self) -> Result<Connection, DatabaseError> {
        let connection = self.server.connect().await?;
        timeout(CONNECT_WAIT, async {
            connection.client.batch_execute(SET_SESSION).await?;
            connection.client.query_opt(READ_CHAIN, &[]).await
        })
        .await
        .map_err(|_| DatabaseError::Unavailable("the server does not answer".to_owned()))?
        .map_err(unavailable)
        .and_then(|row| match row {
            Some(row) => same_chain(
                row.try_get(0).map_err(unavailable)?,
                self.genesis_validators_root,
            ),
            None => Err(DatabaseError::Schema(
                "its ledger is bound to no chain".to_owned(),
            )),
        })?;
        Ok(connection)
    }
}

/// A session of the ledger: look rows up by their keys whatever the statistics say, and compile
/// nothing for that; wait for a commit to be on disk even where the server's default is not to;
/// and let the server end a transaction whose client is gone, so that it does not hold rows for
/// hours.
const SET_SESSION: &str = "/* set_session */
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
SET idle_in_transaction_session_timeout = '10s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local');";

/// One connection, with the task that drives it. Dropped, the socket closes at once: what the
/// server has not been told by then, it is never told.
pub(crate) struct Connection {
    pub(crate) client: Client,
    warning: Arc<Mutex<Option<String>>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// The last warning that the server sent since this was last asked. A commit that came with
    /// one (a wait for replication that was cancelled) must not be believed.
    pub(crate) fn take_warning(&self) -> Option<String> {
        self.warning.lock().take()
    }

    /// Returns when the connection has ended.
    pub(crate) async fn closed(&mut self) {
        // A driver that panicked has ended, too.
        let _ended = (&mut self.driver).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where the server is and how it is spoken to.
struct Server {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

/// Parses a URL that must not hold a password.
pub(super) fn parse(url: &str) -> Result<Config, String> {
    let config: Config = url
        .parse()
        .map_err(|error: tokio_postgres::Error| format!("url: {}", clause(&error)))?;
    if config.get_password().is_some() {
        return Err(
            "url holds a password: put it into a file and name that in password_file".into(),
        );
    }
    Ok(config)
}

impl Server {
    fn configured(from: &PostgresConfig) -> Result<Self, DatabaseError> {
        let mut config = parse(&from.url).map_err(DatabaseError::Config)?;
        if let Some(path) = &from.password_file {
            let password = fs::read(path)
                .map_err(|error| unreadable("password_file", path, &error.to_string()))?;
            let end = password.iter().rposition(|byte| !b"\r\n".contains(byte));
            config.password(
                password
                    .get(..end.map_or(0, |end| end + 1))
                    .unwrap_or_default(),
            );
        }
        if from.ca.is_some() && config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Require);
        }
        let tls = match (config.get_ssl_mode(), &from.ca) {
            (SslMode::Require, Some(ca)) => Some(trusting(ca)?),
            (SslMode::Require, None) => {
                return Err(DatabaseError::Config(
                    "sslmode=require needs `ca`, the certificates to trust".to_owned(),
                ));
            }
            _ => None,
        };
        if config.get_application_name().is_none() {
            config.application_name("countersign");
        }
        config.connect_timeout(CONNECT_WAIT);
        config.tcp_user_timeout(UNACKNOWLEDGED_WAIT);
        Ok(Self { config, tls })
    }

    async fn connect(&self) -> Result<Connection, DatabaseError> {
        let connecting = async {
            match &self.tls {
                Some(tls) => connect(&self.config, tls.clone()).await,
                None => connect(&self.config, NoTls).await,
            }
        };
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        timeout(CONNECT_WAIT.saturating_mul(hosts.max(1)), connecting)
            .await
            .map_err(|_| DatabaseError::Unavailable("the server does not answer".to_owned()))?
            .map_err(unavailable)
    }

    fn pool(&self) -> Result<Pool, DatabaseError> {
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &self.tls {
            Some(tls) => Manager::from_config(self.config.clone(), tls.clone(), recycle),
            None => Manager::from_config(self.config.clone(), NoTls, recycle),
        };
        Pool::builder(manager)
            .max_size(POOL_CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_WAIT))
            .create_timeout(Some(CONNECT_WAIT))
            .recycle_timeout(Some(CONNECT_WAIT))
            .build()
            .map_err(|error| DatabaseError::Config(error.to_string()))
    }
}

async fn connect<T>(config: &Config, tls: T) -> Result<Connection, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    let warning = Arc::new(Mutex::new(None));
    let warned = Arc::clone(&warning);
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.parsed_severity() == Some(Severity::Warning)
            {
                // Told before the reply that follows it, so whoever reads the reply sees it.
                *warned.lock() = Some(notice.message().to_owned());
            }
        }
    });
    Ok(Connection {
        client,
        warning,
        driver,
    })
}

fn trusting(ca: &Path) -> Result<MakeRustlsConnect, DatabaseError> {
    let refused = |error: String| unreadable("ca", ca, &error);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(ca).map_err(|error| refused(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn unreadable(what: &str, path: &Path, error: &str) -> DatabaseError {
    DatabaseError::Config(format!("{what} {}: {error}", path.display()))
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
