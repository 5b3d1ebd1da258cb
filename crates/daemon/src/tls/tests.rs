use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;
use tonic::transport::{Endpoint, Server};
use tower::{Service, ServiceExt};

use super::*;
use crate::serve::{Listener, ListenerLimits, Peer};
use crate::testing::{Authority, CLIENT, SERVER};

mod replaced;

const DEADLINE: Duration = Duration::from_secs(20);

/// The names in every certificate that a peer of these tests rightly presents.
const SIGNER_API: &str = "signer-api-1";
const COSIGNER: &str = "cosigner-1";

/// A gRPC service that remembers by whom it was called.
#[derive(Clone, Default)]
struct Called(Arc<Mutex<Vec<Peer>>>);

impl Service<::http::Request<Body>> for Called {
    type Response = ::http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ::http::Request<Body>) -> Self::Future {
        self.0
            .lock()
            .push(request.extensions().get::<Peer>().unwrap().clone());
        ready(Ok(::http::Response::builder()
            .header("grpc-status", "0")
            .body(Body::empty())
            .unwrap()))
    }
}

impl Called {
    fn sans(&self) -> Vec<Vec<String>> {
        self.0
            .lock()
            .iter()
            .map(|peer| peer.sans.to_vec())
            .collect()
    }
}

/// A tonic server as a cosigner runs it.
async fn serve(config: ServerTls) -> (SocketAddr, Called) {
    let (address, called, _) = serve_replaceable(config).await;
    (address, called)
}

async fn serve_replaceable(config: ServerTls) -> (SocketAddr, Called, TlsSlot) {
    let local = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(local, Some(config), ListenerLimits::default())
        .await
        .unwrap();
    let (address, called) = (listener.address(), Called::default());
    let slot = listener.tls().unwrap();
    let service = called.clone();
    tokio::spawn(async move {
        Server::builder()
            .serve_with_incoming(service, listener.into_stream())
            .await
            .unwrap();
    });
    (address, called, slot)
}

/// Calls the service; the innermost reason if that fails.
async fn call(address: SocketAddr, connector: Connector) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let called = async {
        let channel = endpoint.connect_with_connector(connector).await?;
        let request = ::http::Request::post("/test.Called/Call")
            .body(Body::empty())
            .unwrap();
        channel.oneshot(request).await.map(drop)
    };
    tokio::time::timeout(DEADLINE, called)
        .await
        .unwrap()
        .map_err(|error| {
            let mut error: &dyn std::error::Error = &error;
            let mut reasons = format!("{error}");
            while let Some(source) = error.source() {
                error = source;
                reasons = format!("{reasons}: {error}");
            }
            reasons
        })
}

fn allowed() -> BTreeSet<String> {
    [SIGNER_API.to_owned(), "operator".to_owned()].into()
}

/// A client as an outsider writes it, with what it presents if anything.
fn outsider(
    ca: &Authority,
    version: &'static SupportedProtocolVersion,
    own: Option<TlsFiles>,
) -> Connector {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(pem::authorities(&ca.ca()).unwrap());
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (certificates, key) = pem::identity(&files.certificate, &files.key).unwrap();
            builder.with_client_auth_cert(certificates, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Connector::new(config, ServerName::try_from(COSIGNER).unwrap())
}

#[tokio::test]
async fn a_listed_peer_is_served_and_its_names_are_known() {
    let ca = Authority::new();
    let server = mutual_server(&ca.issue(&[COSIGNER], SERVER), &allowed()).unwrap();
    let (address, called) = serve(server).await;

    for names in [&[SIGNER_API][..], &["elsewhere.example", "operator"]] {
        let client = mutual_client(&ca.issue(names, CLIENT), COSIGNER).unwrap();
        call(address, client).await.unwrap();
    }

    assert_eq!(
        called.sans(),
        [vec![SIGNER_API], vec!["elsewhere.example", "operator"]]
    );
}

#[tokio::test]
async fn who_is_not_a_listed_peer_is_refused_before_any_handler() {
    let (ca, other, impostor) = (Authority::new(), Authority::named("b"), Authority::new());
    let server = mutual_server(&ca.issue(&[COSIGNER], SERVER), &allowed()).unwrap();
    let (address, called) = serve(server).await;
    let present = |files| outsider(&ca, &TLS13, Some(files));
    let cases = [
        (
            "no certificate",
            outsider(&ca, &TLS13, None),
            "CertificateRequired",
        ),
        (
            "wrong CA",
            present(other.issue(&[SIGNER_API], CLIENT)),
            "UnknownCA",
        ),
        (
            "a CA of the same name",
            present(impostor.issue(&[SIGNER_API], CLIENT)),
            "DecryptError",
        ),
        (
            "expired",
            present(ca.issue_expired(&[SIGNER_API], CLIENT)),
            "CertificateExpired",
        ),
        (
            "a server's certificate",
            present(ca.issue(&[SIGNER_API], SERVER)),
            "UnsupportedCertificate",
        ),
        (
            "name not listed",
            present(ca.issue(&["signer-api-2"], CLIENT)),
            "AccessDenied",
        ),
        (
            "longer name",
            present(ca.issue(&["signer-api-1.example"], CLIENT)),
            "AccessDenied",
        ),
        (
            "wildcard",
            present(ca.issue(&["*.countersign.example"], CLIENT)),
            "AccessDenied",
        ),
        (
            "an address for a name",
            present(ca.issue(&["127.0.0.1"], CLIENT)),
            "AccessDenied",
        ),
        ("no name", present(ca.issue(&[], CLIENT)), "AccessDenied"),
        (
            "TLS 1.2",
            outsider(&ca, &TLS12, Some(ca.issue(&[SIGNER_API], CLIENT))),
            "ProtocolVersion",
        ),
    ];

    for (case, client, alert) in cases {
        let error = call(address, client).await.unwrap_err();
        assert!(error.contains(alert), "{case}: {error}");
        assert_eq!(called.sans().len(), 0, "{case}");
    }

    // The server was there all the while.
    call(address, present(ca.issue(&[SIGNER_API], CLIENT)))
        .await
        .unwrap();
    assert_eq!(called.sans(), [[SIGNER_API]]);
}

#[tokio::test]
async fn a_wildcard_is_not_a_pattern_on_either_side() {
    let ca = Authority::new();
    let patterns = ["*.countersign.example".to_owned()].into();
    let server = mutual_server(&ca.issue(&["*.countersign.example"], SERVER), &patterns).unwrap();
    let (address, called) = serve(server).await;

    let files = ca.issue(&["a.countersign.example"], CLIENT);
    let error = call(
        address,
        mutual_client(&files, "a.countersign.example").unwrap(),
    )
    .await
    .unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");

    let mut unchecked = outsider(&ca, &TLS13, Some(files));
    unchecked = Connector::new(
        ClientConfig::clone(&unchecked.config()),
        ServerName::try_from("b.countersign.example").unwrap(),
    );
    let error = call(address, unchecked).await.unwrap_err();
    assert!(error.contains("AccessDenied"), "{error}");
    assert!(called.sans().is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_the_configured_one_is_not_spoken_to() {
    let (ca, other) = (Authority::new(), Authority::named("b"));
    let client = || mutual_client(&ca.issue(&[SIGNER_API], CLIENT), COSIGNER).unwrap();
    let cases = [
        (
            "another cosigner",
            ca.issue(&["cosigner-2"], SERVER),
            "not valid for name",
        ),
        (
            "its address",
            ca.issue(&["127.0.0.1"], SERVER),
            "not valid for name",
        ),
        (
            "wrong CA",
            other.issue(&[COSIGNER], SERVER),
            "UnknownIssuer",
        ),
        ("expired", ca.issue_expired(&[COSIGNER], SERVER), "expired"),
        (
            "a client's certificate",
            ca.issue(&[COSIGNER], CLIENT),
            "extended key usage",
        ),
    ];

    for (case, files, reason) in cases {
        let server = TlsFiles {
            ca: ca.ca(),
            ..files
        };
        let (address, called) = serve(mutual_server(&server, &allowed()).unwrap()).await;
        let error = call(address, client()).await.unwrap_err();
        assert!(error.contains(reason), "{case}: {error}");
        assert!(called.sans().is_empty(), "{case}");
    }

    let old = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth();
    let files = ca.issue(&[COSIGNER], SERVER);
    let (certificates, key) = pem::identity(&files.certificate, &files.key).unwrap();
    let mut old = old.with_single_cert(certificates, key).unwrap();
    old.alpn_protocols = vec![b"h2".to_vec()];
    let (address, called) = serve(ServerTls::new(old, None)).await;
    let error = call(address, client()).await.unwrap_err();
    assert!(error.contains("ProtocolVersion"), "TLS 1.2: {error}");
    assert!(called.sans().is_empty());
}

/// Connects twice with a client that would resume, and says how each handshake went.
async fn twice(server: ServerTls, mut client: ClientConfig) -> Vec<Option<HandshakeKind>> {
    client.resumption = Resumption::in_memory_sessions(16);
    client.alpn_protocols = server.config().alpn_protocols.clone();
    let connector = Connector::new(client, ServerName::try_from(COSIGNER).unwrap());
    let local = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(local, Some(server), ListenerLimits::default())
        .await
        .unwrap();
    let address = listener.address().to_string();
    let mut connections = listener.into_stream();
    let mut handshakes = Vec::new();
    for _ in 0..2 {
        let mut connection = connector.connect(&address).await.unwrap();
        let mut accepted = connections.next().await.unwrap().unwrap();
        // Tickets, if there are any, come before the first bytes.
        accepted.write_all(b"hello").await.unwrap();
        accepted.flush().await.unwrap();
        connection.read_exact(&mut [0; 5]).await.unwrap();
        let session = connection.get_ref().1;
        handshakes.push(session.handshake_kind());
        assert_eq!(session.tls13_tickets_received(), 0);
    }
    handshakes
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let ca = Authority::new();
    let files = ca.issue(&[COSIGNER], SERVER);
    let client = |version| {
        let own = Some(ca.issue(&[SIGNER_API], CLIENT));
        ClientConfig::clone(&outsider(&ca, version, own).config())
    };
    let full = [Some(HandshakeKind::Full); 2];

    let mutual = mutual_server(&files, &allowed()).unwrap();
    assert_eq!(twice(mutual, client(&TLS13)).await, full);

    let http = || http_server(&files.certificate, &files.key, Some(&files.ca)).unwrap();
    assert_eq!(twice(http(), client(&TLS13)).await, full);
    assert_eq!(twice(http(), client(&TLS12)).await, full);
}

#[tokio::test]
async fn validator_clients_of_either_version_connect_with_and_without_certificates() {
    let (ca, other) = (Authority::new(), Authority::named("b"));
    let files = ca.issue(&[COSIGNER], SERVER);
    let open = || http_server(&files.certificate, &files.key, None).unwrap();
    let closed = || http_server(&files.certificate, &files.key, Some(&files.ca)).unwrap();
    for version in [&TLS12, &TLS13] {
        let with = |files| outsider(&ca, version, Some(files));

        let (address, called) = serve(open()).await;
        call(address, outsider(&ca, version, None)).await.unwrap();
        assert_eq!(called.sans(), [[""; 0]]);

        let (address, called) = serve(closed()).await;
        for stranger in [
            outsider(&ca, version, None),
            with(other.issue(&["teku"], CLIENT)),
        ] {
            call(address, stranger).await.unwrap_err();
        }
        assert!(called.sans().is_empty());
        call(address, with(ca.issue(&["teku"], CLIENT)))
            .await
            .unwrap();
        assert_eq!(called.sans(), [["teku"]]);
    }
}

#[test]
fn what_is_wrong_with_a_pem_file_is_said_in_a_sentence_that_names_it() {
    let ca = Authority::new();
    let good = ca.issue(&[COSIGNER], SERVER);
    let another = ca.issue(&[COSIGNER], SERVER);
    let at = |name: &str, text: &str| {
        let path = ca.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let missing = ca.path().join("missing.pem");
    let cut = std::fs::read_to_string(&good.key)
        .unwrap()
        .replace("-----END", "");
    let cases = [
        (
            TlsFiles {
                certificate: missing.clone(),
                ..good.clone()
            },
            "missing.pem",
            "there is no file",
        ),
        (
            TlsFiles {
                key: missing.clone(),
                ..good.clone()
            },
            "missing.pem",
            "there is no file",
        ),
        (
            TlsFiles {
                ca: missing,
                ..good.clone()
            },
            "missing.pem",
            "there is no file",
        ),
        (
            TlsFiles {
                certificate: at("empty.pem", ""),
                ..good.clone()
            },
            "empty.pem",
            "no certificate",
        ),
        (
            TlsFiles {
                certificate: good.key.clone(),
                ..good.clone()
            },
            "key.pem",
            "no certificate",
        ),
        (
            TlsFiles {
                key: good.certificate.clone(),
                ..good.clone()
            },
            "certificate.pem",
            "no private key",
        ),
        (
            TlsFiles {
                key: at("cut.pem", &cut),
                ..good.clone()
            },
            "cut.pem",
            "not well-formed",
        ),
        (
            TlsFiles {
                ca: at("void.pem", "hello"),
                ..good.clone()
            },
            "void.pem",
            "no certificate",
        ),
        (
            TlsFiles {
                key: another.key,
                ..good.clone()
            },
            "key.pem",
            "not the key of",
        ),
        (
            TlsFiles {
                key: ca.path().to_owned(),
                ..good.clone()
            },
            "",
            "is a directory",
        ),
    ];

    for (files, file, problem) in cases {
        let errors = [
            mutual_server(&files, &allowed())
                .map(drop)
                .unwrap_err()
                .to_string(),
            mutual_client(&files, COSIGNER)
                .map(drop)
                .unwrap_err()
                .to_string(),
            http_server(&files.certificate, &files.key, Some(&files.ca))
                .unwrap_err()
                .to_string(),
        ];
        for error in errors {
            assert!(error.contains(file) && error.contains(problem), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    assert!(mutual_server(&good, &BTreeSet::new()).is_err());
    let error = mutual_client(&good, "not a name")
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"not a name\""), "{error}");
}

#[test]
fn what_is_no_certificate_has_no_names() {
    assert!(dns_names(&CertificateDer::from(vec![1, 2, 3])).is_empty());
}
