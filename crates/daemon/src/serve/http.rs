//! An axum router on a listener: HTTP/1.1, and HTTP/2 where TLS agreed on it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures_util::StreamExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service;
use tracing::{debug, warn};

use super::activity::Activity;
use super::body::TimedBody;
use super::{Listener, Peer, PeerStream};

/// How HTTP connections are kept and ended.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// How long a connection without a request stays open, and how long a request's head may take.
    /// Clients keep connections for 90 s and more and do not retry on one that closes under
    /// them: below 120 s duties get lost.
    pub keep_alive: Duration,
    /// How long a request's body may take to arrive.
    pub body: Duration,
    /// How long requests under way may take after shutdown began.
    pub drain: Duration,
    /// HTTP/2: requests of one connection at once.
    pub streams_max: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            keep_alive: Duration::from_secs(3600),
            body: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            streams_max: 256,
        }
    }
}

/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// Serves `router` on `listener` until `shutdown` ends; then stops listening, lets requests
/// under way end, their responses saying `Connection: close`, and returns after `limits.drain`
/// at the latest.
///
/// Handlers find the [`Peer`] as `axum::extract::ConnectInfo<Peer>`.
pub async fn http(
    listener: Listener,
    router: Router,
    limits: HttpLimits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let server = Arc::new(Server::new(router, limits));
    let (draining, _) = watch::channel(false);
    let mut incoming = listener.into_stream();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            next = incoming.next() => match next {
                Some(Ok(stream)) => {
                    let server = Arc::clone(&server);
                    connections.spawn(server.serve(stream, draining.subscribe()));
                }
                Some(Err(_)) => {}
                None => break,
            },
        }
    }
    drop(incoming);
    draining.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        warn!(
            abandoned = connections.len(),
            "requests were still under way at shutdown"
        );
    }
}

struct Server {
    router: Router,
    limits: HttpLimits,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl Server {
    fn new(router: Router, limits: HttpLimits) -> Self {
        let mut http1 = Builder::new(TokioExecutor::new());
        // hyper starts this clock when a connection becomes idle, not with a head's first byte.
        http1
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.keep_alive);
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(limits.streams_max);
        Server {
            router,
            limits,
            http1: http1.http1_only(),
            http2: http2.http2_only(),
        }
    }

    /// Serves one connection to its end: by the peer, by idleness, or by shutdown.
    async fn serve(self: Arc<Self>, stream: PeerStream, mut draining: watch::Receiver<bool>) {
        let peer = stream.peer().clone();
        let activity = Activity::default();
        let service = Requests {
            router: self.router.clone(),
            peer: peer.clone(),
            activity: activity.clone(),
            body: self.limits.body,
        };
        let protocol = if stream.speaks_http2() {
            &self.http2
        } else {
            &self.http1
        };
        let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = activity.idle(self.limits.keep_alive) => {
                connection.as_mut().graceful_shutdown();
                // A peer that does not read what it asked for does not keep its place for it.
                tokio::time::timeout(self.limits.drain, connection).await.unwrap_or(Ok(()))
            }
            // Shutdown bounds the wait by itself.
            () = begun(&mut draining) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(address = %peer.address, error, "an HTTP connection ended early");
        }
    }
}

/// Ends when shutdown has begun.
async fn begun(draining: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which is a shutdown too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// The router as hyper calls it for one connection.
struct Requests {
    router: Router,
    peer: Peer,
    activity: Activity,
    body: Duration,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let under_way = self.activity.begin();
        let limit = self.body;
        let mut request = request.map(|body| Body::new(TimedBody::new(body, limit)));
        request
            .extensions_mut()
            .insert(ConnectInfo(self.peer.clone()));
        let answered = self.router.clone().call(request);
        Box::pin(async move {
            let response = answered.await;
            drop(under_way);
            response
        })
    }
}
