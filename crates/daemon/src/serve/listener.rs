//! The accept loop.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream;
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, error_span, warn};

use super::addresses::{Addresses, Counted, probe};
use super::peer::{PeerStream, Stream as Transport};
use crate::config::ConfigError;
use crate::tls::{Admittance, ServerTls, TlsSlot};

/// Connections that wait for the server to take them, at most.
const WAITING_MAX: usize = 64;

/// The waits between attempts to accept when the system has no room for another connection.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long handshakes that have begun may take once the listener closes.
const LAST_HANDSHAKES: Duration = Duration::from_millis(250);

/// What a listener holds at most.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// Connections at once; one more is closed at once.
    pub connections_max: usize,
    /// Connections of one address at once, of an IPv6 network's; one more is closed at once.
    pub connections_per_address_max: usize,
    /// TLS handshakes at once, a quarter of them of one address; one more waits for its turn.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            connections_max: 4096,
            connections_per_address_max: 3072,
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// What a listener counted. Clones share their numbers.
#[derive(Debug, Clone, Default)]
pub struct ListenerCounters {
    /// Connections at this moment.
    pub open: Gauge,
    /// Connections that were handed to the server since the start.
    pub accepted: Counter,
    /// Handshakes that failed: no or a wrong certificate, a wrong version, too slow.
    pub handshakes_failed: Counter,
    /// Connections that were closed because there were too many.
    pub turned_away: Counter,
}

impl ListenerCounters {
    /// Adds the numbers to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let numbers = registry.sub_registry_with_prefix("connections");
        numbers.register("open", "Connections at this moment", self.open.clone());
        numbers.register(
            "accepted",
            "Connections since the start",
            self.accepted.clone(),
        );
        let failed = self.handshakes_failed.clone();
        numbers.register("handshakes_failed", "TLS handshakes that failed", failed);
        let turned_away = self.turned_away.clone();
        numbers.register(
            "turned_away",
            "Connections closed for being too many",
            turned_away,
        );
    }
}

/// A bound socket that does not accept yet.
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<TlsSlot>,
    limits: ListenerLimits,
    counters: ListenerCounters,
}

impl Listener {
    /// Binds `address`; with `tls`, connections shake hands before they are handed over.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<ServerTls>,
        limits: ListenerLimits,
    ) -> Result<Self, ConfigError> {
        let unbound = |error: io::Error| unbound(address, &error);
        let tcp = TcpListener::bind(address).await.map_err(unbound)?;
        let address = tcp.local_addr().map_err(unbound)?;
        let tls = tls.map(TlsSlot::new);
        Ok(Listener {
            tcp,
            address,
            tls,
            limits,
            counters: ListenerCounters::default(),
        })
    }

    /// The address which is listened on, with the port that the system chose if it was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener's numbers.
    pub fn counters(&self) -> ListenerCounters {
        self.counters.clone()
    }

    /// Where its TLS can be replaced, if it has any.
    pub fn tls(&self) -> Option<TlsSlot> {
        self.tls.clone()
    }

    /// Starts accepting, in a task that ends when the stream is dropped. Must be called within
    /// a tokio runtime.
    pub fn into_stream(self) -> Connections {
        let (ready, connections) = mpsc::channel(WAITING_MAX);
        let (close, closed) = watch::channel(false);
        let accepting = tokio::spawn(accept(self, ready, closed));
        Connections {
            connections,
            closer: Closer(close),
            accepting,
        }
    }
}

/// The connections of a [`Listener`], after their handshakes. Dropping it closes the socket.
pub struct Connections {
    connections: mpsc::Receiver<PeerStream>,
    closer: Closer,
    accepting: tokio::task::JoinHandle<()>,
}

impl Connections {
    /// What closes the socket, for when the stream is somebody else's.
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }
}

/// Closes a listener's socket and loses nobody: whose connection the system has accepted by then is
/// handed over, and then the stream ends. Clones are of the same listener.
#[derive(Clone)]
pub struct Closer(watch::Sender<bool>);

impl Closer {
    /// Closes it now; again is harmless.
    pub fn close(&self) {
        self.0.send_replace(true);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stream for Connections {
    type Item = io::Result<PeerStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections
            .poll_recv(context)
            .map(|connection| connection.map(Ok))
    }
}

/// A connection's place among `connections_max`.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// What every connection that comes in needs.
struct Reception {
    tls: Option<TlsSlot>,
    handshake_timeout: Duration,
    places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    handshakes: Arc<Semaphore>,
    counters: ListenerCounters,
    ready: mpsc::Sender<PeerStream>,
    warnings: Warnings,
}

/// Warnings that strangers can cause: one a second, so that they cannot fill a disk. The counters
/// count them all.
#[derive(Default)]
struct Warnings(Mutex<Option<Instant>>);

impl Warnings {
    fn due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1));
        if due {
            *last = Some(now);
        }
        due
    }
}

async fn accept(
    listener: Listener,
    ready: mpsc::Sender<PeerStream>,
    mut closed: watch::Receiver<bool>,
) {
    let Listener {
        tcp,
        tls,
        limits,
        counters,
        ..
    } = listener;
    let bounded = |max: usize| Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
    // Those whose handshakes hang must not keep the others in the kernel's queue.
    let arrivals = bounded(limits.connections_max.saturating_add(limits.handshakes_max));
    let reception = Arc::new(Reception {
        tls,
        handshake_timeout: limits.handshake_timeout,
        places: bounded(limits.connections_max),
        addresses: Addresses::new(limits.connections_per_address_max, limits.handshakes_max),
        handshakes: bounded(limits.handshakes_max),
        counters,
        ready,
        warnings: Warnings::default(),
    });
    let mut arriving = JoinSet::new();
    let mut pause = BACK_OFF.0;
    let accepting = async {
        // Whoever stops listening closes the semaphore's task, never the semaphore.
        while let Ok(turn) = Arc::clone(&arrivals).acquire_owned().await {
            while arriving.try_join_next().is_some() {}
            match tcp.accept().await {
                Ok((connection, address)) => {
                    pause = BACK_OFF.0;
                    reception.spawn(&mut arriving, connection, address, turn);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    warn!(%error, "no connection can be accepted: raise the limit of open files");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(BACK_OFF.1);
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        // An error says that the stream is gone, and this task with it.
        _ = closed.wait_for(|closed| *closed) => {}
    }
    reception.take_the_rest(tcp, &arrivals, &mut arriving);
    let arrived = async { while arriving.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_HANDSHAKES, arrived)
        .await
        .is_err()
    {
        debug!("handshakes were still under way when the listener closed");
    }
}

impl Reception {
    /// To their clients, those in the kernel's queue are connected: closing would reset them. It is
    /// asked directly, since the runtime may not have heard of them yet.
    fn take_the_rest(
        self: &Arc<Self>,
        tcp: TcpListener,
        arrivals: &Arc<Semaphore>,
        arriving: &mut JoinSet<()>,
    ) {
        let Ok(tcp) = tcp.into_std() else { return };
        while let Ok(turn) = Arc::clone(arrivals).try_acquire_owned() {
            let Ok((connection, address)) = tcp.accept() else {
                return;
            };
            let connection = connection
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(connection));
            if let Ok(connection) = connection {
                self.spawn(arriving, connection, address, turn);
            }
        }
    }

    fn spawn(
        self: &Arc<Self>,
        arriving: &mut JoinSet<()>,
        connection: TcpStream,
        address: SocketAddr,
        turn: OwnedSemaphorePermit,
    ) {
        let span = error_span!("connection", %address);
        let reception = Arc::clone(self);
        let received = async move {
            reception.receive(connection, address).await;
            drop(turn);
        };
        arriving.spawn(received.instrument(span));
    }

    /// Shakes hands, finds a place, hands over.
    async fn receive(&self, connection: TcpStream, address: SocketAddr) {
        let watched = connection
            .set_nodelay(true)
            .and_then(|()| probe(&connection));
        if let Err(error) = watched {
            debug!(%error, "the connection is gone");
            return;
        }
        let Some(counted) = self.addresses.count(address.ip()) else {
            return self.turn_away("connections_per_address_max");
        };
        let (transport, admittance) = match &self.tls {
            None => (Transport::Plain(connection), None),
            Some(slot) => match self.shake_hands(slot, connection, &counted).await {
                Some((transport, admittance)) => (transport, Some(admittance)),
                None => {
                    self.counters.handshakes_failed.inc();
                    return;
                }
            },
        };
        // After the handshake: strangers cannot take the places of those who can prove a name.
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.turn_away("connections_max");
        };
        self.counters.open.inc();
        self.counters.accepted.inc();
        let place = Place {
            _permit: permit,
            open: self.counters.open.clone(),
            _counted: counted,
        };
        // An error says that the server has stopped taking connections.
        let _ = self
            .ready
            .send(PeerStream::new(transport, admittance, address, place))
            .await;
    }

    fn turn_away(&self, limit: &'static str) {
        self.counters.turned_away.inc();
        if self.warnings.due() {
            warn!(limit, "closed a connection: there are as many as may be");
        }
    }

    async fn shake_hands(
        &self,
        slot: &TlsSlot,
        connection: TcpStream,
        counted: &Counted,
    ) -> Option<(Transport, Admittance)> {
        let tls = slot.current();
        let acceptor = TlsAcceptor::from(Arc::clone(tls.config()));
        let limit = self.handshake_timeout;
        let Ok(_turn) = tokio::time::timeout(limit, counted.turn(&self.handshakes)).await else {
            debug!("other handshakes took too long for a TLS handshake to begin");
            return None;
        };
        match tokio::time::timeout(limit, acceptor.accept(connection)).await {
            Ok(Ok(stream)) => {
                let admittance = Admittance::new(slot.clone(), tls);
                return Some((Transport::Tls(Box::new(stream)), admittance));
            }
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidData && self.warnings.due() => {
                warn!(%error, "refused a TLS handshake");
            }
            // Health checks and port scans come and go.
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake took too long"),
        }
        None
    }
}

/// Whether an error of `accept` is about the connection that was to be accepted, not about us.
fn concerns_one_connection(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and grows"
)]
fn unbound(address: SocketAddr, error: &io::Error) -> ConfigError {
    ConfigError::new(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "cannot listen on {address}, which is in use: stop the other process or configure \
             another address"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {address}, which is no address of this machine: configure another"
        ),
        ErrorKind::PermissionDenied => {
            format!("cannot listen on {address}, which this user may not: configure another port")
        }
        _ => format!("cannot listen on {address} ({error}): configure another address"),
    })
}
