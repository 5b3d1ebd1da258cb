//! One accepted connection and who is at its other end.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::debug;

use super::activity::Activity;
use super::listener::Place;
use crate::tls::Admittance;

/// Who is at the other end of a connection.
///
/// Handlers find it in their request's extensions: tonic's as `Peer`
/// (`request.extensions().get::<Peer>()`), axum's as `ConnectInfo<Peer>`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address the connection came from.
    pub address: SocketAddr,
    /// The DNS names in the verified client certificate; empty where none was asked for.
    pub sans: Arc<[String]>,
}

/// A connection after its handshake. Its place among the listener's is freed when it is dropped.
#[derive(Debug)]
pub struct PeerStream {
    stream: Stream,
    peer: Peer,
    /// Of who has shown a certificate, or might have had to.
    admittance: Option<Admittance>,
    activity: Activity,
    _place: Place,
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl PeerStream {
    pub(super) fn new(
        stream: Stream,
        admittance: Option<Admittance>,
        address: SocketAddr,
        place: Place,
    ) -> Self {
        let certificate = match &stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.get_ref().1.peer_certificates().and_then(<[_]>::first),
        };
        let sans = certificate
            .map(crate::tls::dns_names)
            .unwrap_or_default()
            .into();
        PeerStream {
            stream,
            peer: Peer { address, sans },
            admittance,
            activity: Activity::default(),
            _place: place,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the connection is doing.
    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether the peer would still be let in, as far as its listener's TLS was replaced since.
    fn is_welcome(&mut self) -> bool {
        let (Some(admittance), Stream::Tls(tls)) = (&mut self.admittance, &self.stream) else {
            return true;
        };
        let welcome = admittance.holds(tls.get_ref().1.peer_certificates());
        if !welcome {
            debug!(address = %self.peer.address, "a peer that is no longer let in is put out");
        }
        welcome
    }

    /// Whether the handshake agreed on HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // To whoever is out it looks as if both sides had hung up.
        if !self.is_welcome() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            self.activity.heard();
        }
        read
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        };
        self.activity.sent(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
        };
        self.activity.sent(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
