use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::routing::{get, post};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::testing::{Authority, CLIENT, SERVER};
use crate::tls::{mutual_client, mutual_server};

/// Far beyond what anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An HTTP server whose `/wait` answers when `gate` gets a permit.
struct Running {
    address: SocketAddr,
    gate: Arc<Semaphore>,
    counters: ListenerCounters,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

async fn start(limits: HttpLimits, listener_limits: ListenerLimits) -> Running {
    start_draining(limits, listener_limits, Duration::from_secs(10)).await
}

async fn start_draining(
    limits: HttpLimits,
    listener_limits: ListenerLimits,
    drain: Duration,
) -> Running {
    let listener = Listener::bind(local(), None, listener_limits)
        .await
        .unwrap();
    let (address, counters) = (listener.address(), listener.counters());
    let gate = Arc::new(Semaphore::new(0));
    let waited = Arc::clone(&gate);
    let wait = move || async move {
        waited.acquire().await.unwrap().forget();
        "done"
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/wait", get(wait))
        .route(
            "/peer",
            get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.address.to_string() }),
        )
        .route("/echo", post(|body: Bytes| async move { body }))
        .layer(DefaultBodyLimit::disable());
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        drop(stopped.await);
        Drain::within(drain)
    };
    let ended = tokio::spawn(http(listener, router, limits, shutdown));
    Running {
        address,
        gate,
        counters,
        stop: Some(stop),
        ended,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Sends a request and reads its response, head and body.
async fn get_path(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    send(stream, path).await;
    response(stream).await
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

async fn response(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let read = async {
        loop {
            let head = text.find("\r\n\r\n");
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split('\r').next());
            if let (Some(head), Some(length)) = (head, length)
                && text.len() >= head + 4 + length.parse::<usize>().unwrap()
            {
                break;
            }
            let mut byte = [0; 1];
            assert_ne!(
                stream.read(&mut byte).await.unwrap(),
                0,
                "closed after {text:?}"
            );
            text.push(char::from(byte[0]));
        }
    };
    timeout(DEADLINE, read).await.unwrap();
    text
}

/// Waits until the server closes; how long that took.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let since = Instant::now();
    let mut rest = Vec::new();
    // A connection that is reset is closed as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    since.elapsed()
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let limits = HttpLimits {
        body: Duration::from_millis(200),
        drain: Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let server = start(limits, ListenerLimits::default()).await;
    let mut slow = server.connect().await;
    let mut honest = server.connect().await;
    get_path(&mut honest, "/").await;
    let drip = async {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, drip).await.unwrap();
    // Whoever is silent between two requests may be so for long.
    get_path(&mut honest, "/").await;
}

/// Waits for a condition of the server's numbers.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap();
}

fn keep_alive(limit: Duration) -> HttpLimits {
    HttpLimits {
        keep_alive: limit,
        ..HttpLimits::default()
    }
}

#[tokio::test]
async fn an_idle_connection_stays_open_below_the_limit_and_is_closed_above_it() {
    let limit = Duration::from_secs(2);
    let server = start(keep_alive(limit), ListenerLimits::default()).await;
    let mut connection = server.connect().await;
    get_path(&mut connection, "/").await;

    let quiet = timeout(limit / 4, connection.read(&mut [0; 1])).await;
    assert!(quiet.is_err(), "closed below the limit: {quiet:?}");
    assert!(get_path(&mut connection, "/").await.ends_with("hello"));

    let took = closed(&mut connection).await;
    assert!(took > limit / 2, "closed after {took:?}");
}

#[tokio::test]
async fn what_never_becomes_a_request_is_closed_at_the_limit() {
    let server = start(
        keep_alive(Duration::from_millis(300)),
        ListenerLimits::default(),
    )
    .await;
    for bytes in ["", "G", "PRI * HTTP/2", "GET / HTTP/1.1\r\nhost: "] {
        let mut connection = server.connect().await;
        connection.write_all(bytes.as_bytes()).await.unwrap();
        closed(&mut connection).await;
    }
}

#[tokio::test]
async fn a_request_under_way_is_not_idle() {
    let limit = Duration::from_millis(300);
    let limits = HttpLimits {
        drain: Duration::ZERO,
        ..keep_alive(limit)
    };
    let server = start(limits, ListenerLimits::default()).await;
    let mut connection = server.connect().await;
    send(&mut connection, "/wait").await;

    assert!(
        timeout(limit * 4, connection.read(&mut [0; 1]))
            .await
            .is_err()
    );
    server.gate.add_permits(1);
    assert!(response(&mut connection).await.ends_with("done"));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused() {
    let limits = HttpLimits {
        body: Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let server = start(limits, ListenerLimits::default()).await;
    let mut connection = server.connect().await;
    let request = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhell";
    connection.write_all(request.as_bytes()).await.unwrap();
    let answer = response(&mut connection).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");

    let mut connection = server.connect().await;
    connection
        .write_all(format!("{request}o").as_bytes())
        .await
        .unwrap();
    assert!(response(&mut connection).await.ends_with("hello"));
}

#[tokio::test]
async fn shutdown_lets_requests_end_and_says_so() {
    let mut server = start(HttpLimits::default(), ListenerLimits::default()).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    get_path(&mut idle, "/").await;
    send(&mut busy, "/wait").await;
    // The handler's wait shows that the request has arrived before the end is announced.
    server.gate.add_permits(1);
    assert!(!response(&mut busy).await.contains("connection: close"));
    send(&mut busy, "/wait").await;
    assert!(
        timeout(Duration::from_millis(200), busy.read(&mut [0; 1]))
            .await
            .is_err()
    );

    drop(server.stop.take());
    closed(&mut idle).await;
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!server.ended.is_finished());

    server.gate.add_permits(1);
    let answer = response(&mut busy).await;
    assert!(
        answer.ends_with("done") && answer.contains("connection: close"),
        "{answer}"
    );
    timeout(DEADLINE, server.ended).await.unwrap().unwrap();
    closed(&mut busy).await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let (limits, drain) = (HttpLimits::default(), Duration::from_millis(200));
    let mut server = start_draining(limits, ListenerLimits::default(), drain).await;
    let mut busy = server.connect().await;
    // Half a request keeps nobody waiting either.
    let mut half = server.connect().await;
    half.write_all(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nh")
        .await
        .unwrap();
    send(&mut busy, "/wait").await;
    until(|| server.counters.open.get() == 2).await;

    drop(server.stop.take());
    // What takes too long is refused in words before it is cut off.
    let answer = response(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    timeout(DEADLINE, server.ended).await.unwrap().unwrap();
    closed(&mut busy).await;
    closed(&mut half).await;
    assert_eq!(server.counters.open.get(), 0);
}

#[tokio::test]
async fn who_has_connected_is_served_and_what_an_idle_connection_asks_last_is_answered() {
    let mut server = start(HttpLimits::default(), ListenerLimits::default()).await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    get_path(&mut idle, "/").await;
    send(&mut busy, "/wait").await;
    until(|| server.counters.open.get() == 2).await;
    // This thread runs the server: it cannot have accepted what connects before the next wait.
    let late = std::net::TcpStream::connect(server.address).unwrap();
    late.set_nonblocking(true).unwrap();
    let mut late = TcpStream::from_std(late).unwrap();
    drop(server.stop.take());

    for connection in [&mut idle, &mut late] {
        let answer = get_path(connection, "/").await;
        assert!(
            answer.ends_with("hello") && answer.contains("connection: close"),
            "{answer}"
        );
        closed(connection).await;
    }
    assert!(TcpStream::connect(server.address).await.is_err());
    server.gate.add_permits(1);
    assert!(response(&mut busy).await.ends_with("done"));
    timeout(DEADLINE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handler_knows_its_peer() {
    let server = start(HttpLimits::default(), ListenerLimits::default()).await;
    let mut connection = server.connect().await;
    let own = connection.local_addr().unwrap().to_string();
    assert!(get_path(&mut connection, "/peer").await.ends_with(&own));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let limits = ListenerLimits {
        connections_max: 2,
        ..ListenerLimits::default()
    };
    let server = start(HttpLimits::default(), limits).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    get_path(&mut first, "/").await;
    get_path(&mut second, "/").await;

    closed(&mut server.connect().await).await;
    assert_eq!(server.counters.turned_away.get(), 1);
    get_path(&mut first, "/").await;

    drop(second);
    until(|| server.counters.open.get() == 1).await;
    get_path(&mut server.connect().await, "/").await;
    assert_eq!(server.counters.accepted.get(), 3);
}

#[tokio::test]
async fn an_address_in_use_is_said_in_a_sentence() {
    let first = Listener::bind(local(), None, ListenerLimits::default())
        .await
        .unwrap();
    let second = Listener::bind(first.address(), None, ListenerLimits::default()).await;
    let error = second.map(drop).unwrap_err().to_string();
    let expected = format!("cannot listen on {}, which is in use", first.address());
    assert!(error.starts_with(&expected), "{error}");
}

/// A TLS listener, and a client that it takes.
async fn tls(ca: &Authority, limits: ListenerLimits) -> (Listener, crate::tls::Connector) {
    let allowed: BTreeSet<String> = ["client".to_owned()].into();
    let config = mutual_server(&ca.issue(&["server"], SERVER), &allowed).unwrap();
    let listener = Listener::bind(local(), Some(config), limits).await.unwrap();
    (
        listener,
        mutual_client(&ca.issue(&["client"], CLIENT), "server").unwrap(),
    )
}

#[tokio::test]
async fn slow_handshakes_hold_up_nobody_else_and_end_in_time() {
    let ca = Authority::new();
    let limits = ListenerLimits {
        handshake_timeout: Duration::from_millis(700),
        // A quarter of them is for one address.
        handshakes_max: 32,
        ..ListenerLimits::default()
    };
    let (listener, client) = tls(&ca, limits).await;
    let (address, counters) = (listener.address(), listener.counters());
    let mut connections = listener.into_stream();
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }

    let _client = client.connect(&address.to_string()).await.unwrap();
    let accepted = connections.next().await.unwrap().unwrap();
    assert_eq!(*accepted.peer().sans, ["client"]);
    assert_eq!(counters.handshakes_failed.get(), 0);

    for connection in &mut silent {
        closed(connection).await;
    }
    assert_eq!(counters.handshakes_failed.get(), 7);
}

#[tokio::test]
async fn handshakes_beyond_the_bound_wait_their_turn() {
    let ca = Authority::new();
    let limits = ListenerLimits {
        handshake_timeout: Duration::from_millis(300),
        handshakes_max: 1,
        ..ListenerLimits::default()
    };
    let (listener, client) = tls(&ca, limits).await;
    let address = listener.address();
    let mut connections = listener.into_stream();
    let _silent = TcpStream::connect(address).await.unwrap();
    let since = Instant::now();
    let _client = client.connect(&address.to_string()).await.unwrap();
    connections.next().await.unwrap().unwrap();
    assert!(
        since.elapsed() > Duration::from_millis(150),
        "the bound did not hold"
    );
}

#[tokio::test]
async fn strangers_do_not_take_the_places_of_peers() {
    let ca = Authority::new();
    let limits = ListenerLimits {
        connections_max: 1,
        ..ListenerLimits::default()
    };
    let (listener, client) = tls(&ca, limits).await;
    let address = listener.address();
    let mut connections = listener.into_stream();
    let _strangers = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    let _client = client.connect(&address.to_string()).await.unwrap();
    connections.next().await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_can_connect_once_the_stream_is_dropped() {
    let listener = Listener::bind(local(), None, ListenerLimits::default())
        .await
        .unwrap();
    let address = listener.address();
    drop(listener.into_stream());
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(DEADLINE, refused).await.unwrap();
}

/// The opening of an HTTP/2 connection: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn http2_is_spoken_where_tls_agreed_on_it_and_ends_when_idle() {
    let ca = Authority::new();
    let limits = HttpLimits {
        keep_alive: Duration::from_millis(300),
        drain: Duration::from_millis(300),
        ..HttpLimits::default()
    };
    let (listener, client) = tls(&ca, ListenerLimits::default()).await;
    let address = listener.address().to_string();
    tokio::spawn(http(
        listener,
        Router::new(),
        limits,
        std::future::pending(),
    ));

    let mut connection = client.connect(&address).await.unwrap();
    connection.write_all(PREFACE).await.unwrap();
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the server's settings come first");
    closed(&mut connection).await;
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics_text() {
    let mut registry = crate::metrics::Registry::default();
    let counters = ListenerCounters::default();
    counters.register(&mut registry);
    counters.accepted.inc_by(3);
    let address = crate::metrics::serve(local(), registry, std::future::pending())
        .await
        .unwrap();

    let mut connection = TcpStream::connect(address).await.unwrap();
    let answer = get_path(&mut connection, "/metrics").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text"),
        "{answer}"
    );
    assert!(
        answer.contains("\nconnections_accepted_total 3\n"),
        "{answer}"
    );
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    assert!(
        get_path(&mut connection, "/")
            .await
            .starts_with("HTTP/1.1 404")
    );
}
