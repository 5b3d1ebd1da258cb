//! TLS: who may connect, decided in the handshake.
//!
//! Between signer-api and cosigners: TLS 1.3, certificates on both sides, each chained to the
//! configured authority *and* naming, letter for letter, a configured DNS name ([`mutual_server`],
//! [`mutual_client`]). Towards validator clients: TLS 1.2 as well, because two of them know no
//! 1.3, and client certificates where the operator wants them ([`http_server`]).
//!
//! **Invariant:** every handshake is a full one: a resumed session would skip the certificate and
//! so the name check. Tickets and session caches are off on both sides
//! (`a_session_is_never_resumed`). So whatever replaces certificates, authorities and names while
//! the process runs ([`TlsSlot`], [`Connector::replace`]) holds from the next handshake on, without
//! exception, and a [`TlsSlot`] also for those who are connected already
//! (`who_would_not_be_let_in_any_more_is_put_out_and_the_others_go_on`).

mod connector;
mod server;

mod names;
mod pem;

mod expiry;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
pub use connector::Connector;
pub use expiry::{Expiry, Role, expiry, not_after};
pub(crate) use server::Admittance;
pub use server::{ServerTls, TlsSlot};

/// The PEM files of one side of a mutual TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// This process' certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// The private key of the certificate (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// The authorities that peers' certificates must chain to.
    pub ca: PathBuf,
}

/// Makes aws-lc-rs the process' cryptography. Call it first in every `main` and test that uses
/// a TLS library by its defaults; again is harmless.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already: there is only this one in the tree.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The server's side between cosigner and signer-api: TLS 1.3 only, HTTP/2, and a client
/// certificate that chains to `files.ca` and has one of `allowed_sans` among its DNS names.
///
/// # Errors
///
/// When a file is missing or wrong, or no name is allowed.
pub fn mutual_server(
    files: &TlsFiles,
    allowed_sans: &BTreeSet<String>,
) -> Result<ServerTls, ConfigError> {
    if allowed_sans.is_empty() {
        return Err(ConfigError::new(
            "list at least one DNS name of a peer that may connect: with none, nobody may",
        ));
    }
    let roots = Arc::new(pem::authorities(&files.ca)?);
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| pem::unusable(&files.ca, &error))?;
    let clients: Arc<dyn ClientCertVerifier> =
        Arc::new(names::ListedPeers::new(chain, allowed_sans.clone()));
    let builder = server_builder(&[&TLS13])?.with_client_cert_verifier(Arc::clone(&clients));
    let (certificates, key) = pem::identity(&files.certificate, &files.key)?;
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| pem::mismatched(&files.certificate, &files.key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    forget_sessions(&mut config);
    Ok(ServerTls::new(config, Some(clients)))
}

/// The client's side between signer-api and cosigner: TLS 1.3 only, HTTP/2, presents its
/// certificate, and takes only a server whose certificate chains to `files.ca` and has
/// `server_san` among its DNS names, whatever address it was reached at.
///
/// # Errors
///
/// When a file is missing or wrong, or `server_san` is no DNS name.
pub fn mutual_client(files: &TlsFiles, server_san: &str) -> Result<Connector, ConfigError> {
    let name = ServerName::try_from(server_san.to_owned()).map_err(|_| {
        ConfigError::new(format!(
            "\"{server_san}\" is no DNS name: write the cosigner's SAN"
        ))
    })?;
    let roots = Arc::new(pem::authorities(&files.ca)?);
    let chain = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| pem::unusable(&files.ca, &error))?;
    let verifier = Arc::new(names::NamedServer::new(chain, name.clone(), server_san));
    let (certificates, key) = pem::identity(&files.certificate, &files.key)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| ConfigError::new(format!("TLS 1.3 cannot be offered: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificates, key)
        .map_err(|error| pem::mismatched(&files.certificate, &files.key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Connector::new(config, name))
}

/// The server's side towards validator clients: TLS 1.2 and 1.3, HTTP/2 and 1.1; with
/// `client_ca`, a client certificate that chains to it is mandatory.
///
/// # Errors
///
/// When a file is missing or wrong.
pub fn http_server(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<ServerTls, ConfigError> {
    let builder = server_builder(&[&TLS13, &TLS12])?;
    let clients: Option<Arc<dyn ClientCertVerifier>> = match client_ca {
        None => None,
        Some(ca) => {
            let roots = Arc::new(pem::authorities(ca)?);
            let chain = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| pem::unusable(ca, &error))?;
            Some(chain)
        }
    };
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
    };
    let (certificates, private) = pem::identity(certificate, key)?;
    let mut config = builder
        .with_single_cert(certificates, private)
        .map_err(|error| pem::mismatched(certificate, key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    forget_sessions(&mut config);
    Ok(ServerTls::new(config, clients))
}

/// The DNS names among a certificate's subject alternative names, as they are written there; a
/// wildcard is a name like any other. Empty for what is not a certificate.
pub fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    webpki::EndEntityCert::try_from(certificate)
        .map(|parsed| parsed.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// No tickets, no session cache: a resumed session is one whose certificate is not looked at.
fn forget_sessions(config: &mut ServerConfig) {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server_builder(
    versions: &[&'static SupportedProtocolVersion],
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, ConfigError> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| ConfigError::new(format!("TLS cannot be offered: {error}")))
}

#[cfg(test)]
mod tests;
