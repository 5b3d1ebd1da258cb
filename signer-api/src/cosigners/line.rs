//! The connection to one cosigner, which can be exchanged while calls are under way on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use daemon::{config::ConfigError, tls::Connector};
use tokio::time::timeout;
use tracing::{info, warn};
use wire::proto::{StatusRequest, cosigner_client::CosignerClient};

use super::transport::{Channel, Guarded, authority, failed_on_its_way};

/// How long a new connection may take to show that it works.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);
/// How long after it did not, it is tried again.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// One cosigner's line. Calls under way stay on the connection that they were made on, whatever is
/// exchanged; a connection ends with its last call.
pub(super) struct Line {
    san: String,
    connector: Connector,
    channel: ArcSwap<Channel>,
    /// Which renewal is the latest: an earlier one that still tries gives up.
    renewals: AtomicU64,
}

impl Line {
    /// A line that connects when it is first used.
    pub(super) fn open(
        san: &str,
        address: &str,
        connector: Connector,
    ) -> Result<Arc<Self>, ConfigError> {
        let opened = Channel::new(authority(address)?, connector.clone());
        Ok(Arc::new(Self {
            san: san.to_owned(),
            connector,
            channel: ArcSwap::from_pointee(opened),
            renewals: AtomicU64::new(0),
        }))
    }

    /// What the next call is made on.
    pub(super) fn channel(&self) -> Channel {
        Channel::clone(&self.channel.load())
    }

    pub(super) fn san(&self) -> &str {
        &self.san
    }

    /// When the certificate ends that the cosigner showed last: seconds since 1970.
    pub(super) fn certificate_not_after(&self) -> Option<i64> {
        self.connector.server_not_after()
    }

    /// Connects anew, with `connector`'s files and to `address`, and goes over to the new connection
    /// once the cosigner answers on it: a mistake in what is new costs no call.
    ///
    /// # Errors
    /// When the address cannot be used; then nothing is changed.
    pub(super) fn renew(
        self: &Arc<Self>,
        address: &str,
        connector: &Connector,
    ) -> Result<(), ConfigError> {
        let renewed = Channel::new(authority(address)?, self.connector.clone());
        self.connector.replace(connector);
        let number = self
            .renewals
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        let line = Arc::clone(self);
        tokio::spawn(async move { line.go_over(renewed, number).await });
        Ok(())
    }

    async fn go_over(&self, renewed: Channel, number: u64) {
        let mut client = CosignerClient::new(Guarded(renewed.clone()));
        let mut told = false;
        while self.renewals.load(Ordering::Relaxed) == number {
            let problem = match timeout(PROOF_TIMEOUT, client.status(StatusRequest {})).await {
                Ok(Ok(_)) => None,
                // Whatever it says, it is the cosigner that says it.
                Ok(Err(status)) => failed_on_its_way(&status).map(ToString::to_string),
                Err(_) => Some("no answer in time".to_owned()),
            };
            let Some(problem) = problem else {
                // A later renewal may have come first.
                if self.renewals.load(Ordering::Relaxed) != number {
                    return;
                }
                self.channel.store(Arc::new(renewed));
                info!(cosigner = self.san, "connected anew");
                return;
            };
            if !told {
                told = true;
                warn!(
                    cosigner = self.san,
                    problem,
                    "no new connection can be made: certificates or address of one side must be \
                     corrected; the old connection is used as long as it lasts"
                );
            }
            tokio::time::sleep(PROOF_INTERVAL).await;
        }
    }
}
