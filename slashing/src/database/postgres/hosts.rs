//! The first of a URL's hosts that will do, all tried at once.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
};
use tokio::time::{sleep, timeout};

use super::{
    CONNECT_WAIT, Connection, NO_ANSWER,
    server::{Host, Server},
};
use crate::database::DatabaseError;

/// How long the caller's own check of a host may take.
const CHECK_WAIT: Duration = Duration::from_secs(2);
/// The pause before a host that failed is tried again, while others are yet to answer.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// What a connection must pass besides what its server is vetted for. A trait and no closure, for
/// tasks that are sent between threads.
pub(crate) trait Check: Sync {
    /// What passing it brings.
    type Passed: Send;

    /// Looks at a connection.
    fn check<'a>(
        &'a self,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Result<Self::Passed, DatabaseError>>;
}

/// Every connection passes.
pub(crate) struct Any;

impl Check for Any {
    type Passed = ();

    fn check<'a>(&'a self, _: &'a Connection) -> BoxFuture<'a, Result<(), DatabaseError>> {
        ready(Ok(())).boxed()
    }
}

/// Connects to every host, and returns the first connection that was vetted and passed `check`. A
/// host that fails is tried again while another has not answered: it may be about to be promoted,
/// and the other about to time out.
pub(super) async fn first<C: Check>(
    server: &Server,
    check: &C,
) -> Result<(Connection, C::Passed), DatabaseError> {
    let mut failures = BTreeMap::new();
    let mut attempts: FuturesUnordered<_> = server
        .hosts
        .iter()
        .map(|host| attempt(server, host, Duration::ZERO, check))
        .collect();
    while let Some((host, outcome)) = attempts.next().await {
        match outcome {
            Ok(passed) => return Ok(passed),
            Err(error) => failures.insert(&host.name, error),
        };
        if failures.len() == server.hosts.len() {
            break;
        }
        attempts.push(attempt(server, host, AGAIN_PAUSE, check));
    }
    Err(summary(failures))
}

async fn attempt<'a, C: Check>(
    server: &Server,
    host: &'a Host,
    pause: Duration,
    check: &C,
) -> (&'a Host, Result<(Connection, C::Passed), DatabaseError>) {
    sleep(pause).await;
    let no_answer = |_| DatabaseError::Unavailable(NO_ANSWER.to_owned());
    let outcome = async {
        let connection = timeout(CONNECT_WAIT, connect(server, host))
            .await
            .map_err(no_answer)??;
        let passed = timeout(CHECK_WAIT, check.check(&connection))
            .await
            .map_err(no_answer)??;
        Ok((connection, passed))
    };
    (host, outcome.await)
}

async fn connect(server: &Server, host: &Host) -> Result<Connection, DatabaseError> {
    let connection = server.connect(host).await?;
    server.vet(&connection).await?;
    Ok(connection)
}

/// One error for all: each host's reason, unless none of them can change by itself.
fn summary(mut failures: BTreeMap<&String, DatabaseError>) -> DatabaseError {
    let may_pass = |error: &DatabaseError| matches!(error, DatabaseError::Unavailable(_));
    if !failures.values().any(may_pass)
        && let Some((_, error)) = failures.pop_first()
    {
        return error;
    }
    let reason = |(host, error): (&String, DatabaseError)| match error {
        DatabaseError::Unavailable(reason) => format!("{host}: {reason}"),
        error @ (DatabaseError::Config(_)
        | DatabaseError::Schema(_)
        | DatabaseError::AnotherChain { .. }) => format!("{host}: {error}"),
    };
    let reasons: Vec<_> = failures.into_iter().map(reason).collect();
    DatabaseError::Unavailable(reasons.join(" | "))
}
