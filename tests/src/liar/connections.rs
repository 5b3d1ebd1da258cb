//! Connections to a liar: TLS, or not; then HTTP/2, or not.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use h2::Reason;
use prost::bytes::Bytes;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Member, frames,
    lies::Breach,
    streams::{self, Call},
};

/// Bytes that may wait between HTTP/2's library and the socket.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Streams at once: as many as anybody asks for.
const STREAMS_MAX: u32 = 10_000;
/// What drips, drips so.
pub(super) const DRIP: Duration = Duration::from_secs(1);
/// HTTP/2's GOAWAY, naming no stream and no error.
const GOAWAY: u8 = 7;

/// What a stream does to its connection.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) frames: frames::Sender,
    pub(super) goodbye: mpsc::UnboundedSender<Reason>,
}

/// Accepts until it is given up.
pub(super) async fn serve(member: Arc<Member>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        while connections.try_join_next().is_some() {}
        let member = Arc::clone(&member);
        member.counts.connections.fetch_add(1, Ordering::Relaxed);
        let mut severed = member.severed.subscribe();
        connections.spawn(async move {
            tokio::select! {
                _ = severed.changed() => {}
                () = connection(&member, socket) => {}
            }
        });
    }
}

async fn connection(member: &Arc<Member>, mut socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let breach = member.lie().breach();
    let own = format!("cosigner-{}", member.number);
    let name = match breach {
        Some(Breach::Closes) => return,
        Some(Breach::Resets) => return socket.set_zero_linger().unwrap(),
        Some(Breach::SaysNothing) => return forever(socket).await,
        Some(Breach::Plaintext) => {
            let _ = socket.write_all(&frames::settings()).await;
            return forever(socket).await;
        }
        Some(Breach::Name(other)) => format!("cosigner-{other}"),
        Some(Breach::Authority) => "other-ca".to_owned(),
        _ => own,
    };
    let acceptor = TlsAcceptor::from(server(member, &name));
    let Ok(mut socket) = acceptor.accept(socket).await else {
        return;
    };
    let first = match breach {
        Some(Breach::NoHttp2) => Vec::new(),
        Some(Breach::Http1) => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
        Some(Breach::Noise) => vec![0xa5; 100_000],
        Some(Breach::GoesAway) => {
            let goaway = frames::frame(GOAWAY, 0, 0, &[0; 8]);
            [frames::settings(), goaway].concat()
        }
        Some(Breach::Drips) => return http2(member, socket, Some(DRIP)).await,
        _ => return http2(member, socket, None).await,
    };
    let _ = socket.write_all(&first).await;
    let _ = socket.flush().await;
    forever(socket).await;
}

/// Reads, and says nothing.
async fn forever(mut socket: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
}

/// TLS as of a cosigner, under a name that may not be its own.
fn server(member: &Member, name: &str) -> Arc<ServerConfig> {
    let file = |name: String| member.certs.join(name);
    let pem = |name: String| CertificateDer::from_pem_file(file(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pem("ca.crt".to_owned())).unwrap();
    let peers = WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(file(format!("{name}.key"))).unwrap();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(peers)
        .with_single_cert(vec![pem(format!("{name}.crt"))], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn http2(
    member: &Arc<Member>,
    socket: impl AsyncRead + AsyncWrite,
    byte_pause: Option<Duration>,
) {
    let id = member.connections.fetch_add(1, Ordering::Relaxed);
    let (near, far) = duplex(WAITING_BYTES_MAX);
    let outgoing = frames::queue();
    let frames = outgoing.0.clone();
    tokio::select! {
        () = frames::carry(socket, far, outgoing, byte_pause) => {}
        () = answer(member, id, near, frames) => {}
    }
}

/// Answers the calls of one connection.
async fn answer(
    member: &Arc<Member>,
    id: u64,
    io: impl AsyncRead + AsyncWrite + Unpin,
    frames: frames::Sender,
) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS_MAX);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else {
        return std::future::pending().await;
    };
    let (goodbye, mut goodbyes) = mpsc::unbounded_channel();
    let wire = Wire { frames, goodbye };
    let mut calls = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(reason) = goodbyes.recv() => {
                connection.abrupt_shutdown(reason);
                continue;
            }
        };
        while calls.try_join_next().is_some() {}
        let Some(Ok((request, respond))) = accepted else {
            // What floods, goes on when the library has ended.
            if !calls.is_empty() && member.lie().severs() {
                return std::future::pending().await;
            }
            return;
        };
        let call = Call {
            member: Arc::clone(member),
            connection: id,
            request,
            respond,
            wire: wire.clone(),
        };
        calls.spawn(streams::answer(call));
    }
}
