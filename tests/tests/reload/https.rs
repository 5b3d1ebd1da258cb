//! What a signer-api shows to its callers is replaced while they are connected.

use std::{net::SocketAddr, path::Path, sync::Arc};

use countersign::certs::{Authority, CertifiedPem, Usage, Validity};
use daemon::tls::{Role, expiry};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tests::{
    cluster::Cluster,
    process::{Process, eventually, free_port},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    load::{APPLIED, Load, REFUSED, SOON, metric, put, put_pair, says},
    options,
};

/// A signer-api of the cluster that is asked over HTTPS.
struct Https {
    process: Process,
    address: SocketAddr,
    metrics: String,
}

impl Https {
    /// Shows the pair `http` of the directory.
    fn start(cluster: &Cluster, certs: &Path) -> Self {
        let (port, metrics) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let plain = std::fs::read_to_string(cluster.dir().join("signer-api-1.toml")).unwrap();
        let was = cluster.url(0).replace("http://", "");
        let text = plain
            .replace(&was, &format!("127.0.0.1:{port}"))
            .replace(&cluster.metrics_address(0), &metrics);
        let tls = format!(
            "\n[http_tls]\ncertificate = \"{0}/http.crt\"\nkey = \"{0}/http.key\"\n",
            certs.display()
        );
        let file = cluster.dir().join("https.toml");
        std::fs::write(&file, text + &tls).unwrap();
        let arguments = [
            "run",
            "--config",
            file.to_str().unwrap(),
            "--stop-with-stdin",
        ];
        Self {
            process: Process::start("signer-api", &arguments, &file.with_extension("log")),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            metrics,
        }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// A connection of its own, and the certificate that it was shown.
    async fn connect(
        &self,
        roots: &RootCertStore,
    ) -> (TlsStream<TcpStream>, CertificateDer<'static>) {
        let config = ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, tcp).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        (stream, shown.into_owned())
    }

    /// Whether a new connection is shown this certificate.
    async fn shows(&self, roots: &RootCertStore, pem: &CertifiedPem) -> bool {
        self.connect(roots).await.1 == der(&pem.certificate)
    }

    async fn told_end(&self, file: &Path) -> Option<i64> {
        let name = format!(
            "countersign_tls_certificate_not_after_timestamp_seconds{{file=\"{}\",role=\"own\"}}",
            file.display()
        );
        metric(&self.metrics, &name).await
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Asks on a connection that stays.
async fn is_served(stream: &mut TlsStream<TcpStream>) {
    let asked = b"GET /upcheck HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"OK") {
        let mut more = [0; 512];
        let length = stream.read(&mut more).await.unwrap();
        assert_ne!(length, 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&more[..length]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_shown_a_replaced_certificate_and_who_is_connected_goes_on() {
    let cluster = Cluster::start(options()).await;
    let certs = cluster.dir().join("http");
    std::fs::create_dir(&certs).unwrap();
    let authorities = [Authority::new(50).unwrap(), Authority::new(50).unwrap()];
    let issue = |at: usize, days| {
        let valid = Validity::days(days).unwrap();
        authorities[at]
            .issue("localhost", Usage::Server, valid)
            .unwrap()
    };
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(der(&authority.certificate())).unwrap();
    }
    let first = issue(0, 40);
    put_pair(&certs, "http", &first);
    let https = Https::start(&cluster, &certs);
    let trusted = authorities
        .each_ref()
        .map(|authority| reqwest::Certificate::from_pem(authority.certificate().as_bytes()));
    let trusted = trusted.map(Result::unwrap);
    let client = || {
        let builder = reqwest::Client::builder().tls_certs_only(trusted.clone());
        let builder = builder.resolve("localhost", https.address);
        builder.build().unwrap()
    };
    let health = format!("{}/healthcheck", https.url());
    eventually("the committee is up", SOON, || async {
        let answer = client().get(&health).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let load = Load::over(&cluster, &https.url(), client);
    load.goes_on().await;
    let (mut open, shown) = https.connect(&roots).await;
    assert_eq!(shown, der(&first.certificate));
    is_served(&mut open).await;
    let file = certs.join("http.crt");
    let end = || expiry(&file, Role::Own).unwrap().not_after;
    let before = end();
    assert_eq!(https.told_end(&file).await, Some(before));

    // Without its key a certificate is not shown, and its end is not that of what is in use.
    let second = issue(1, 45);
    put(&file, &second.certificate);
    says(&https.process, REFUSED, 1).await;
    assert!(https.shows(&roots, &first).await);
    assert_eq!(https.told_end(&file).await, Some(before));

    put_pair(&certs, "http", &second);
    says(&https.process, APPLIED, 1).await;
    assert!(https.shows(&roots, &second).await);
    assert_ne!(end(), before);
    assert_eq!(https.told_end(&file).await, Some(end()));
    is_served(&mut open).await;
    load.goes_on().await;

    // At a word, and back to the other authority.
    let third = issue(0, 35);
    put_pair(&certs, "http", &third);
    https.process.signal(rustix::process::Signal::HUP);
    says(&https.process, APPLIED, 2).await;
    assert!(https.shows(&roots, &third).await);
    assert_eq!(https.told_end(&file).await, Some(end()));
    is_served(&mut open).await;
    load.goes_on().await;
    load.end().await;
}
