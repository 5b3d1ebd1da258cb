//! One HTTP/2 connection to one cosigner: made when it is first needed, and anew after it broke.
//!
//! **Invariant:** what must not be sent after a moment is handed to no connection after it; kept by
//! `tests::silence::nothing_is_sent_late_on_a_connection_that_comes_late` and `…_that_stands`. What a
//! connection has taken ends with it: it reaches no cosigner that has restarted since.

use std::{
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use daemon::{config::ConfigError, tls::Connector};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, poll_fn},
};
use http::uri::{Authority, Scheme};
use parking_lot::Mutex;
use tokio::time::{timeout, timeout_at};
use tonic::{Status, body::Body, codegen::Service};

use super::{
    SendBy,
    connection::{self, CallError, Calls},
};
use crate::cosigners::link::CONNECT_TIMEOUT;

/// Why a call has no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::cosigners) enum Broken {
    #[error("connecting: {0}")]
    Connecting(#[source] Arc<io::Error>),
    #[error("the call: {0}")]
    Call(#[source] Arc<CallError>),
    #[error("the request: {0}")]
    Request(#[source] Arc<Status>),
    #[error("the process is stopping")]
    Stopping,
    /// Nothing was sent: no answer, and no failure of the connection's.
    #[error("was not sent in time")]
    Late,
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Self::Call(Arc::new(error))
    }
}

/// Whether a call failed because its message was kept back.
pub(in crate::cosigners) fn is_late_call(status: &Status) -> bool {
    let source = std::error::Error::source(status).and_then(|source| source.downcast_ref());
    matches!(source, Some(Broken::Late))
}

/// A connection that stands, or is being made.
type Connected = Shared<BoxFuture<'static, Result<Calls, Broken>>>;

struct Trunk {
    authority: Authority,
    connector: Connector,
    connected: Mutex<Option<Connected>>,
}

/// Calls to one cosigner. Clones share the connection, which ends with the last of them and its
/// last call.
#[derive(Clone)]
pub(in crate::cosigners) struct Channel(Arc<Trunk>);

/// `host:port`, checked.
///
/// # Errors
/// When it is none.
pub(in crate::cosigners) fn authority(address: &str) -> Result<Authority, ConfigError> {
    address.trim_end_matches('/').parse().map_err(|error| {
        ConfigError::new(format!(
            "correct the cosigner's address \"{address}\": {error}"
        ))
    })
}

impl Channel {
    /// A channel that connects when it is first used.
    pub(in crate::cosigners) fn new(authority: Authority, connector: Connector) -> Self {
        Self(Arc::new(Trunk {
            authority,
            connector,
            connected: Mutex::default(),
        }))
    }

    /// The connection, made if there is none; and one made anew if it has ended meanwhile.
    async fn ready(&self) -> Result<Calls, Broken> {
        let connected = self.connected();
        if let Ok(ready) = self.made(&connected).await?.ready().await {
            return Ok(ready);
        }
        self.forget(&connected);
        self.made(&self.connected()).await
    }

    /// Waits until it is made; one that could not be is forgotten.
    async fn made(&self, connected: &Connected) -> Result<Calls, Broken> {
        let calls = connected.clone().await;
        calls.inspect_err(|_| self.forget(connected))
    }

    fn connected(&self) -> Connected {
        let mut connected = self.0.connected.lock();
        let standing = connected.get_or_insert_with(|| {
            let connecting = tokio::spawn(connect(
                self.0.connector.clone(),
                self.0.authority.to_string(),
            ));
            // On a task of its own: whoever waits for it may give up.
            let connected = connecting.map(|ended| ended.unwrap_or(Err(Broken::Stopping)));
            connected.boxed().shared()
        });
        Connected::clone(standing)
    }

    /// Forgets a connection, unless there is another one already.
    fn forget(&self, ended: &Connected) {
        let mut connected = self.0.connected.lock();
        if connected
            .as_ref()
            .is_some_and(|standing| standing.ptr_eq(ended))
        {
            *connected = None;
        }
    }

    async fn send(self, request: http::Request<Body>) -> Result<http::Response<Body>, Broken> {
        let (mut head, body) = request.into_parts();
        let by = head.extensions.remove::<SendBy>();
        let message = message(body).await?;
        let calls = match by {
            Some(SendBy(by)) => timeout_at(by, self.ready())
                .await
                .unwrap_or(Err(Broken::Late))?,
            None => self.ready().await?,
        };
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.0.authority.clone());
        head.uri = uri.try_into().unwrap_or_default();
        let head = http::Request::from_parts(head, ());
        if by.is_some_and(SendBy::is_over) {
            return Err(Broken::Late);
        }
        Ok(calls.call(head, message).await?.map(Body::new))
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.clone().send(request).boxed()
    }
}

async fn connect(connector: Connector, address: String) -> Result<Calls, Broken> {
    let connected = async {
        let stream = connector.connect(&address).await;
        let stream = stream.map_err(|error| Broken::Connecting(Arc::new(error)))?;
        let opened = connection::open(stream).await;
        opened.map_err(|error| CallError::from(error).into())
    };
    let late = |_| Broken::Connecting(Arc::new(io::ErrorKind::TimedOut.into()));
    timeout(CONNECT_TIMEOUT, connected).await.map_err(late)?
}

/// All of a request's body: one message, which is there.
async fn message(body: Body) -> Result<Bytes, Broken> {
    let mut body = pin!(body);
    let mut message = Bytes::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|status| Broken::Request(Arc::new(status)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        message = if message.is_empty() {
            data
        } else {
            [message, data].concat().into()
        };
    }
    Ok(message)
}
