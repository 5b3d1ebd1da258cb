//! Pooled connections: to a vetted server, ended by a warning, as the ledger's own are.

use std::sync::Arc;

use deadpool_postgres::{
    Client, Connect, HookError, Manager, ManagerConfig, PoolError, RecyclingMethod, Runtime,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::{Config, NoTls};

use super::{CONNECT_WAIT, NotOlder, access::Reached, hosts};
use crate::database::{DatabaseError, Known};

/// Connections that are open at most, besides the ledger's own.
const CONNECTIONS_MAX: usize = 4;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    refusal: Arc<Mutex<Option<DatabaseError>>>,
}

impl Pool {
    pub(super) fn new(server: Reached, known: Known) -> Result<Self, DatabaseError> {
        let refusal = Arc::new(Mutex::new(None));
        let connect = Vetted {
            server,
            known,
            refusal: Arc::clone(&refusal),
        };
        // A connection whose server was lost on the way looks open until it is asked something.
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Verified,
        };
        let pool = deadpool_postgres::Pool::builder(Manager::from_connect(
            Config::new(),
            connect,
            recycle,
        ))
        .max_size(CONNECTIONS_MAX)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_WAIT))
        // The hosts have bounds of their own, after which each of them has a reason to tell.
        .create_timeout(Some(CONNECT_WAIT.saturating_mul(2)))
        .recycle_timeout(Some(CONNECT_WAIT))
        .build()
        .map_err(|error| DatabaseError::Config(error.to_string()))?;
        Ok(Self { pool, refusal })
    }

    pub(super) async fn client(&self) -> Result<Client, PoolError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => match self.refusal.lock().take() {
                Some(refusal) => PoolError::PostCreateHook(HookError::message(refusal.to_string())),
                None => PoolError::Backend(error),
            },
            error @ (PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_)) => error,
        })
    }
}

struct Vetted {
    server: Reached,
    known: Known,
    /// Why the last connection was not made, which a pool's error has no room for.
    refusal: Arc<Mutex<Option<DatabaseError>>>,
}

impl Connect for Vetted {
    fn connect(
        &self,
        _: &Config,
    ) -> BoxFuture<'_, Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>>
    {
        let connecting = async {
            let refusal = match hosts::first(&self.server.now(), &NotOlder(&self.known)).await {
                Ok((connection, ())) => return Ok(connection.into_parts()),
                Err(refusal) => refusal,
            };
            *self.refusal.lock() = Some(refusal);
            // Only the library makes its errors, and this is one: there is no host to connect to.
            let (client, connection) = Config::new().connect(NoTls).await?;
            Ok((client, tokio::spawn(async { drop(connection) })))
        };
        connecting.boxed()
    }
}
