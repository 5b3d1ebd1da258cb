//! The name checks that follow the chain checks, within the handshake.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tracing::warn;

use super::dns_names;

/// What neither of the two decides for itself: rustls' own checks of signatures.
macro_rules! signatures_as_the_chain_has_them {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain
                .verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain
                .verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.chain.supported_verify_schemes()
        }
    };
}

/// Takes a client whose chain is valid and one of whose DNS names is listed, letter for letter.
#[derive(Debug)]
pub(super) struct ListedPeers {
    chain: Arc<dyn ClientCertVerifier>,
    allowed: BTreeSet<String>,
}

impl ListedPeers {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, allowed: BTreeSet<String>) -> Self {
        ListedPeers { chain, allowed }
    }
}

impl ClientCertVerifier for ListedPeers {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let names = dns_names(end_entity);
        if names.iter().any(|name| self.allowed.contains(name)) {
            return Ok(verified);
        }
        // Logged here, where the names are known; the listener's span adds the address.
        warn!(
            ?names,
            "refused a peer with a valid certificate, none of whose names is allowed"
        );
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    signatures_as_the_chain_has_them!();
}

/// Takes the one server that configuration names, whatever name or address it was dialled by. A
/// wildcard certificate is not taken for it: it would let one cosigner answer for another.
#[derive(Debug)]
pub(super) struct NamedServer {
    chain: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
    listed: String,
}

impl NamedServer {
    pub(super) fn new(
        chain: Arc<dyn ServerCertVerifier>,
        name: ServerName<'static>,
        listed: &str,
    ) -> Self {
        NamedServer {
            chain,
            name,
            listed: listed.to_owned(),
        }
    }
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.chain
                .verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)?;
        let presented = dns_names(end_entity);
        if presented.contains(&self.listed) {
            return Ok(verified);
        }
        let expected = self.name.clone();
        Err(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }
        .into())
    }

    signatures_as_the_chain_has_them!();
}
