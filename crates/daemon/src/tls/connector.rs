//! Connecting to one named server.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The longest wait for a connection and its handshake; whoever is in more of a hurry gives up
/// earlier (tonic's `Endpoint::connect_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens mutual TLS connections to the server that [`super::mutual_client`] was told the name of.
/// Cheap to clone; clones share what [`Connector::replace`] replaces.
///
/// For tonic: `Endpoint::from_shared("http://10.0.0.7:9100")?.connect_with_connector_lazy(it)`. The
/// scheme is `http`, because the connector brings the TLS and tonic's own is not compiled in.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ArcSwap<ClientConfig>>,
    name: ServerName<'static>,
    /// Seconds since 1970; 0 before the first connection.
    server_until: Arc<AtomicI64>,
}

impl Connector {
    pub(super) fn new(config: ClientConfig, name: ServerName<'static>) -> Self {
        Connector {
            config: Arc::new(ArcSwap::from_pointee(config)),
            name,
            server_until: Arc::default(),
        }
    }

    /// The TLS settings; they check the server's name by themselves.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.load_full()
    }

    /// From the next connection on, this and its clones show and demand what `other` does, which is
    /// to have the same server's name. Connections that are open stay.
    pub fn replace(&self, other: &Connector) {
        self.config.store(other.config());
    }

    /// When the certificate ends that the server showed last: seconds since 1970.
    pub fn server_not_after(&self) -> Option<i64> {
        Some(self.server_until.load(Ordering::Relaxed)).filter(|until| *until > 0)
    }

    /// Connects to `address`, `host:port`, and shakes hands.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached within 10 s, is not the named one, or refuses us. A
    /// refusal of our certificate shows with the first read: TLS 1.3 servers judge it last.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let connected = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let tls = TlsConnector::from(self.config());
            let stream = tls.connect(self.name.clone(), tcp).await?;
            let shown = stream.get_ref().1.peer_certificates();
            let until = shown.and_then(<[_]>::first).and_then(super::not_after);
            self.server_until
                .store(until.unwrap_or_default(), Ordering::Relaxed);
            Ok(stream)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connected)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let address = uri
                .authority()
                .map(|authority| authority.as_str())
                .unwrap_or_default();
            connector.connect(address).await.map(TokioIo::new)
        })
    }
}
