//! The server's side of TLS, as a whole that can be exchanged while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

/// What a server shows and whom it takes: one certificate, one authority, one list of names, which
/// belong together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// `None` where clients need no certificate.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    pub(super) fn new(config: ServerConfig, clients: Option<Arc<dyn ClientCertVerifier>>) -> Self {
        ServerTls {
            config: Arc::new(config),
            clients,
        }
    }

    /// The settings for one handshake.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether a client that was let in at `accepted` would be let in with what it showed then. Only
    /// authorities and names are judged anew: a certificate that has ended since ends no connection.
    fn still_takes(&self, shown: Option<&[CertificateDer<'_>]>, accepted: UnixTime) -> bool {
        let Some(clients) = &self.clients else {
            return true;
        };
        shown
            .and_then(<[_]>::split_first)
            .is_some_and(|(end_entity, intermediates)| {
                let judged = clients.verify_client_cert(end_entity, intermediates, accepted);
                judged.is_ok()
            })
    }
}

/// A listener's TLS, which can be replaced: the next handshake is made with the new, and who is
/// connected is judged again by the new with its next bytes. Clones are of the same listener.
#[derive(Clone, Debug)]
pub struct TlsSlot(Arc<ArcSwap<ServerTls>>);

impl TlsSlot {
    pub(crate) fn new(tls: ServerTls) -> Self {
        TlsSlot(Arc::new(ArcSwap::from_pointee(tls)))
    }

    /// Replaces certificate, authorities and names at once.
    pub fn replace(&self, tls: ServerTls) {
        self.0.store(Arc::new(tls));
    }

    pub(crate) fn current(&self) -> Arc<ServerTls> {
        self.0.load_full()
    }
}

/// Who let a connection in, and so whether that must be asked again.
#[derive(Debug)]
pub(crate) struct Admittance {
    slot: TlsSlot,
    judged_by: Arc<ServerTls>,
    accepted: UnixTime,
    refused: bool,
}

impl Admittance {
    pub(crate) fn new(slot: TlsSlot, judged_by: Arc<ServerTls>) -> Self {
        Admittance {
            slot,
            judged_by,
            accepted: UnixTime::now(),
            refused: false,
        }
    }

    /// Whether the peer that showed these certificates may go on. Costs nothing while the slot is as
    /// it was.
    pub(crate) fn holds(&mut self, shown: Option<&[CertificateDer<'_>]>) -> bool {
        let current = self.slot.0.load();
        if !Arc::ptr_eq(&current, &self.judged_by) {
            self.refused = !current.still_takes(shown, self.accepted);
            self.judged_by = Arc::clone(&current);
        }
        !self.refused
    }
}
