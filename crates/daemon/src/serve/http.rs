//! A router on a listener: HTTP/1.1, and HTTP/2 where TLS agreed on it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode, Version, header};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;
use tracing::{debug, warn};

use super::activity::{Activity, Patience};
use super::body::TimedBody;
use super::{Connections, Listener, Peer, PeerStream};

/// How HTTP connections are kept.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// How long a connection without a request stays open.
    /// Clients keep connections for 90 s and more and do not retry on one that closes under
    /// them: below 120 s duties get lost.
    pub keep_alive: Duration,
    /// How long a request's head may take to arrive, and then its body.
    pub body: Duration,
    /// How long an idle connection that is closed may take to read what it asked for.
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

impl HttpLimits {
    fn patience(&self, is_http2: bool) -> Patience {
        Patience {
            keep_alive: self.keep_alive,
            first: self.keep_alive.min(FIRST_REQUEST),
            // HTTP/2 has bytes of its own, and a ping that cuts through a head ends the connection.
            head: (!is_http2).then_some(self.body),
            answer: ANSWER,
        }
    }
}

/// How long a connection may be open before it asks anything. Clients open more than they need, and
/// use the others later.
const FIRST_REQUEST: Duration = Duration::from_secs(150);
/// How long an answer may wait before any more of it is taken.
const ANSWER: Duration = Duration::from_secs(30);
/// What a connection's bytes may take while they are read or written: a head must fit into it.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// HTTP/2: what a client may send ahead, of one request and of all on a connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// How serving ends.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long requests under way may take, from the moment at which the listener closes.
    pub within: Duration,
    /// What a request is answered with that takes longer.
    pub too_late: fn() -> Response,
}

impl Drain {
    /// A drain that takes `within` at most, and answers 503 to what takes longer.
    pub fn within(within: Duration) -> Self {
        Drain {
            within,
            too_late: || StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }

    /// So much of the drain is left for writing the answers of those who were too late.
    fn last_words(self) -> Duration {
        (self.within / 10).clamp(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// How long an idle HTTP/1 connection may say one thing more, for which it is told that it was
    /// the last: what is on its way when it is closed would be lost.
    fn last_requests(self) -> Duration {
        (self.within / 4).min(Duration::from_millis(500))
    }
}

/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// A router: axum's, or what stands before one.
pub trait Routes:
    Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Routes for S where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves `router` on `listener` until `shutdown` ends, which says how to end: it stops listening,
/// takes over those who had connected by then, answers what is under way and what idle connections
/// ask in their last moments, responses saying `Connection: close`, refuses what takes too long, and
/// returns in time.
///
/// Handlers find the [`Peer`] as `axum::extract::ConnectInfo<Peer>`.
pub async fn http(
    listener: Listener,
    router: impl Routes,
    limits: HttpLimits,
    shutdown: impl Future<Output = Drain> + Send,
) {
    let (phase, serving) = watch::channel(Phase::Serving);
    let server = Arc::new(Server::new(router, limits, serving));
    let mut incoming = listener.into_stream();
    let closer = incoming.closer();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let drain = loop {
        tokio::select! {
            drain = &mut shutdown => break drain,
            Some(_) = connections.join_next() => {}
            next = incoming.next() => match next {
                Some(Ok(stream)) => {
                    connections.spawn(Arc::clone(&server).serve(stream));
                }
                Some(Err(_)) => {}
                None => return,
            },
        }
    };
    let began = Instant::now();
    closer.close();
    phase.send_replace(Phase::Draining(drain));
    let mut end = End {
        server,
        incoming,
        connections,
    };
    let refusing = began + drain.within.saturating_sub(drain.last_words());
    if timeout_at(refusing, end.reached()).await.is_ok() {
        return;
    }
    phase.send_replace(Phase::Refusing(drain));
    if timeout_at(began + drain.within, end.reached())
        .await
        .is_err()
    {
        warn!(
            abandoned = end.connections.len(),
            "connections were still open at shutdown"
        );
    }
}

/// What is left when the listener has closed.
struct End<S> {
    server: Arc<Server<S>>,
    incoming: Connections,
    connections: JoinSet<()>,
}

impl<S: Routes> End<S> {
    /// Takes over those who had connected, and waits for all to be done.
    async fn reached(&mut self) {
        while let Some(next) = self.incoming.next().await {
            if let Ok(stream) = next {
                self.connections
                    .spawn(Arc::clone(&self.server).serve(stream));
            }
        }
        while self.connections.join_next().await.is_some() {}
    }
}

/// How far the end has come.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Serving,
    /// Nobody new is let in.
    Draining(Drain),
    /// What has no answer yet gets none but this.
    Refusing(Drain),
}

impl Phase {
    const fn drain(self) -> Option<Drain> {
        match self {
            Phase::Serving => None,
            Phase::Draining(drain) | Phase::Refusing(drain) => Some(drain),
        }
    }
}

struct Server<S> {
    router: S,
    limits: HttpLimits,
    phase: watch::Receiver<Phase>,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl<S: Routes> Server<S> {
    fn new(router: S, limits: HttpLimits, phase: watch::Receiver<Phase>) -> Self {
        let mut http1 = Builder::new(TokioExecutor::new());
        // hyper starts this clock when a connection becomes idle, not with a head's first byte.
        http1
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.keep_alive)
            .max_buf_size(BUFFER_BYTES_MAX);
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(limits.streams_max)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(BUFFER_BYTES_MAX);
        Server {
            router,
            limits,
            phase,
            http1: http1.http1_only(),
            http2: http2.http2_only(),
        }
    }

    /// Serves one connection to its end: by the peer, by idleness, or by shutdown.
    async fn serve(self: Arc<Self>, stream: PeerStream) {
        let peer = stream.peer().clone();
        let activity = stream.activity().clone();
        let service = Requests {
            router: self.router.clone(),
            peer: peer.clone(),
            activity: activity.clone(),
            body: self.limits.body,
            phase: self.phase.clone(),
        };
        let is_http2 = stream.speaks_http2();
        let protocol = if is_http2 { &self.http2 } else { &self.http1 };
        let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = activity.outstayed(self.limits.patience(is_http2)) => {
                connection.as_mut().graceful_shutdown();
                // A peer that does not read what it asked for does not keep its place for it.
                timeout(self.limits.drain, connection).await.unwrap_or(Ok(()))
            }
            // Shutdown bounds the wait by itself.
            drain = begun(self.phase.clone()) => {
                // HTTP/2 has GOAWAY, which loses nothing that is on its way.
                let pause = if is_http2 { Duration::ZERO } else { drain.last_requests() };
                match timeout(pause, connection.as_mut()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            debug!(address = %peer.address, error, "an HTTP connection ended early");
        }
    }
}

/// Ends when shutdown has begun.
async fn begun(mut phase: watch::Receiver<Phase>) -> Drain {
    let drain = phase
        .wait_for(|phase| phase.drain().is_some())
        .await
        .ok()
        .and_then(|phase| phase.drain());
    // An error says that the sender is gone, which is a shutdown too.
    drain.unwrap_or(Drain::within(Duration::ZERO))
}

/// Ends when nothing is answered any more, but for this.
async fn too_late(mut phase: watch::Receiver<Phase>) -> Response {
    let refusing = phase
        .wait_for(|phase| matches!(phase, Phase::Refusing(_)))
        .await
        .ok()
        .and_then(|phase| phase.drain());
    match refusing {
        Some(drain) => (drain.too_late)(),
        None => std::future::pending().await,
    }
}

/// The router as hyper calls it for one connection.
struct Requests<S> {
    router: S,
    peer: Peer,
    activity: Activity,
    body: Duration,
    phase: watch::Receiver<Phase>,
}

impl<S: Routes> hyper::service::Service<Request<Incoming>> for Requests<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let under_way = self.activity.begin();
        let limit = self.body;
        let version = request.version();
        let mut request = request.map(|body| Body::new(TimedBody::new(body, limit)));
        request
            .extensions_mut()
            .insert(ConnectInfo(self.peer.clone()));
        let answered = self.router.clone().call(request);
        let phase = self.phase.clone();
        Box::pin(async move {
            let mut response = tokio::select! {
                biased;
                response = answered => response?,
                response = too_late(phase.clone()) => response,
            };
            response = response.map(|body| under_way.answer(body));
            let is_last = phase.borrow().drain().is_some();
            // HTTP/2 knows no such header.
            if is_last && version <= Version::HTTP_11 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response)
        })
    }
}
