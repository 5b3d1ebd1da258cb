//! The cosigners: one link each, with a channel, lanes of batches, deadlines, and health.
//!
//! **Invariant:** whatever one cosigner does, or does not do, costs no other one time; kept by
//! `tests::a_hung_cosigner_costs_the_others_nothing`.

mod health;
mod lane;
mod latency;
mod link;
mod replies;
mod standing;
#[cfg(test)]
mod tests;
#[cfg_attr(
    not(feature = "test-seams"),
    expect(unreachable_pub, reason = "public for the simulation")
)]
mod transport;

use std::sync::Arc;

use daemon::{config::ConfigError, tls};
use threshold::{ShareIndex, round::Peer};
use tonic::transport::{Channel, Endpoint};

use crate::{config::Config, metrics::Metrics};

pub(crate) use health::Health;
pub(crate) use lane::Ask;
pub(crate) use link::{Link, Misdeed};
pub(crate) use standing::Standing;
use transport::Grpc;
#[cfg(feature = "test-seams")]
pub use transport::{Call, Transport};

/// All configured cosigners. A [`Peer`] is a position in the configuration.
pub(crate) struct Cosigners {
    links: Vec<Arc<Link>>,
}

impl Cosigners {
    /// Opens links, which connect when they are first used. Must be called within a runtime.
    ///
    /// # Errors
    /// When the TLS files, an address or a name cannot be used.
    pub(crate) fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, ConfigError> {
        let links = config
            .cosigners
            .iter()
            .enumerate()
            .map(|(position, cosigner)| {
                let connector = tls::mutual_client(&config.tls, &cosigner.san)?;
                let channel = channel(&cosigner.address, connector)?;
                Ok(Link::open(
                    Peer(position),
                    &cosigner.san,
                    Arc::new(Grpc(channel)),
                    Arc::clone(metrics),
                ))
            });
        Ok(Self {
            links: links.collect::<Result<_, ConfigError>>()?,
        })
    }

    /// Links over these networks, by name.
    #[cfg(feature = "test-seams")]
    pub(crate) fn over(
        networks: Vec<(String, Arc<dyn Transport>)>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let links = networks.into_iter().enumerate();
        let links = links.map(|(position, (san, transport))| {
            Link::open(Peer(position), &san, transport, Arc::clone(metrics))
        });
        Self {
            links: links.collect(),
        }
    }

    /// Every link, in the order of the configuration.
    pub(crate) fn links(&self) -> &[Arc<Link>] {
        &self.links
    }

    pub(crate) fn link(&self, peer: Peer) -> Option<&Arc<Link>> {
        self.links.get(peer.0)
    }

    /// The members, the fastest first; who does not answer at the moment, last.
    pub(crate) fn fastest_first(&self, members: &[(Peer, ShareIndex)]) -> Vec<(Peer, ShareIndex)> {
        let mut members = members.to_vec();
        members.sort_by_cached_key(|(peer, _)| {
            self.link(*peer).map_or((true, u64::MAX), |link| {
                (!link.answers(), link.latency().micros())
            })
        });
        members
    }
}

fn channel(address: &str, connector: tls::Connector) -> Result<Channel, ConfigError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
        ConfigError::new(format!(
            "correct the cosigner's address \"{address}\": {error}"
        ))
    })?;
    Ok(endpoint
        .connect_timeout(link::CONNECT_TIMEOUT)
        .http2_keep_alive_interval(link::PING_INTERVAL)
        .keep_alive_timeout(link::PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .connect_with_connector_lazy(connector))
}
