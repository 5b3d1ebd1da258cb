//! Who may speak to whom: refused before any handler, on both sides of a signer-api.

use std::{path::Path, sync::Arc};

use daemon::tls::{TlsFiles, mutual_client};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tests::{
    cluster::{Cluster, Options, test_keys},
    http::Answer,
    process::{Process, eventually, free_port},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, transport::Endpoint};
use wire::proto::{
    ReloadRequest, SignRequest, StatusRequest, administration_client::AdministrationClient,
    cosigner_client::CosignerClient,
};

fn files(certs: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        certificate: certs.join(format!("{name}.crt")),
        key: certs.join(format!("{name}.key")),
        ca: certs.join("ca.crt"),
    }
}

fn channel(cluster: &Cluster, name: &str) -> tonic::transport::Channel {
    let connector =
        mutual_client(&files(&cluster.dir().join("certs"), name), "cosigner-1").unwrap();
    Endpoint::from_shared(format!("http://{}", cluster.address(1)))
        .unwrap()
        .connect_with_connector_lazy(connector)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_speaks_only_with_listed_names_and_only_about_their_business() {
    let cluster = Cluster::start(Options::new(test_keys(1))).await;
    for name in ["other-ca", "expired", "stranger"] {
        let status = CosignerClient::new(channel(&cluster, name))
            .status(StatusRequest {})
            .await;
        let error = status.expect_err(name);
        assert_ne!(
            error.code(),
            Code::PermissionDenied,
            "{name} got as far as a call: {error}"
        );
    }
    let mut signer = CosignerClient::new(channel(&cluster, "signer-api-1"));
    assert!(
        signer
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let mut operator = AdministrationClient::new(channel(&cluster, "operator"));
    assert_eq!(
        operator
            .reload(ReloadRequest {})
            .await
            .unwrap()
            .into_inner()
            .validators,
        1
    );

    // Each with the other's methods: an empty batch is refused for the caller, not for its size.
    let sign = SignRequest {
        items: Vec::new(),
        scaled: false,
    };
    let mut as_operator = CosignerClient::new(channel(&cluster, "operator"));
    let denied = as_operator.sign(sign.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(
        signer.sign(sign).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let mut as_signer = AdministrationClient::new(channel(&cluster, "signer-api-1"));
    let denied = as_signer.reload(ReloadRequest {}).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

/// A TLS client of one version, with or without a certificate.
fn client(
    certs: &Path,
    version: &'static rustls::SupportedProtocolVersion,
    name: Option<&str>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certs.join("ca.crt")).unwrap())
        .unwrap();
    let builder =
        ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
    Arc::new(match name {
        None => builder.with_no_client_auth(),
        Some(name) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(certs.join(format!("{name}.crt"))).unwrap()],
                PrivateKeyDer::from_pem_file(certs.join(format!("{name}.key"))).unwrap(),
            )
            .unwrap(),
    })
}

/// Shakes hands, sends `bytes`, and returns what comes back until the end.
async fn exchange(
    config: Arc<ClientConfig>,
    address: std::net::SocketAddr,
    name: &'static str,
    bytes: &[u8],
) -> std::io::Result<Vec<u8>> {
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut tls = connector
        .connect(ServerName::try_from(name).unwrap(), tcp)
        .await?;
    tls.write_all(bytes).await?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_refuses_tls_1_2_and_peers_without_a_certificate() {
    let cluster = Cluster::start(Options::new(test_keys(1))).await;
    let certs = cluster.dir().join("certs");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (version, name) in [
        (&TLS12, Some("signer-api-1")),
        (&TLS12, None),
        (&TLS13, None),
    ] {
        let config = client(&certs, version, name);
        let answer = exchange(config, cluster.address(1), "cosigner-1", preface).await;
        // With TLS 1.3 a client without a certificate learns of its refusal when it reads.
        assert!(answer.is_err(), "{version:?} {name:?} was answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_11_validator_clients_are_served_over_tls_1_2_and_1_3_and_mutual_tls() {
    let cluster = Cluster::start(Options::new(test_keys(1))).await;
    let certs = cluster.dir().join("certs");
    let plain = std::fs::read_to_string(cluster.dir().join("signer-api-1.toml")).unwrap();
    let tables = |client_ca: &str| {
        format!(
            "\n[http_tls]\ncertificate = \"{0}/localhost.crt\"\nkey = \"{0}/localhost.key\"\n{1}",
            certs.display(),
            client_ca
        )
    };
    let mutual = format!("client_ca = \"{}/ca.crt\"\n", certs.display());
    let mut running = Vec::new();
    for (name, tables) in [("tls", tables("")), ("mutual", tables(&mutual))] {
        let (port, metrics) = (free_port(), free_port());
        let text: String = plain
            .lines()
            .map(|line| match line {
                line if line.starts_with("listen = ")
                    && line.contains(&cluster.metrics_address(0)) =>
                {
                    format!("listen = \"127.0.0.1:{metrics}\"\n")
                }
                line if line.starts_with("listen = ") => format!("listen = \"127.0.0.1:{port}\"\n"),
                line => format!("{line}\n"),
            })
            .collect();
        let file = cluster.dir().join(format!("{name}.toml"));
        std::fs::write(&file, text + &tables).unwrap();
        let arguments = [
            "run",
            "--config",
            file.to_str().unwrap(),
            "--stop-with-stdin",
        ];
        let process = Process::start("signer-api", &arguments, &file.with_extension("log"));
        running.push((process, std::net::SocketAddr::from(([127, 0, 0, 1], port))));
    }
    let request = b"GET /upcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let asked = |address, version, name| {
        let config = client(&certs, version, name);
        async move { exchange(config, address, "localhost", request).await }
    };
    for (version, name) in [
        (&TLS12, None),
        (&TLS13, None),
        (&TLS12, Some("client")),
        (&TLS13, Some("client")),
    ] {
        for (mutual, (process, address)) in [false, true].into_iter().zip(&running) {
            if mutual && name.is_none() {
                eventually(
                    "the port is open",
                    std::time::Duration::from_secs(20),
                    || async { tokio::net::TcpStream::connect(address).await.is_ok() },
                )
                .await;
                let refused = asked(*address, version, name).await;
                assert!(
                    refused.is_err(),
                    "{version:?} without a certificate: {refused:?}"
                );
                continue;
            }
            eventually(
                &process.log(),
                std::time::Duration::from_secs(20),
                || async {
                    let answer = asked(*address, version, name).await.unwrap_or_default();
                    answer.starts_with(b"HTTP/1.1 200")
                },
            )
            .await;
        }
    }
    let plain = reqwest::get(format!("{}/upcheck", cluster.url(0)))
        .await
        .unwrap();
    assert_eq!(Answer::of(plain).await.status, 200);
}
