//! The cosigners: one link each, with a channel, lanes of batches, deadlines, and health.
//!
//! **Invariant:** whatever one cosigner does, or does not do, costs no other one time; kept by
//! `tests::a_hung_cosigner_costs_the_others_nothing`.

mod dissents;
mod events;
mod health;
mod lane;
mod latency;
mod line;
mod link;
mod misdeeds;
mod probing;
mod ranking;
mod replies;
mod routing;
mod standing;
mod tally;
#[cfg(test)]
mod tests;
#[cfg_attr(
    not(feature = "test-seams"),
    expect(unreachable_pub, reason = "public for the simulation")
)]
mod transport;
mod turns;

use std::{collections::BTreeMap, sync::Arc};

use daemon::{config::ConfigError, tls};
use threshold::round::Peer;
use tracing::error;

use crate::{config::Config, metrics::Metrics};

pub(crate) use events::{Events, Teller};
pub(crate) use health::Health;
pub(crate) use lane::{Ask, Lane};
use line::Line;
pub(crate) use link::Link;
pub(crate) use misdeeds::Misdeed;
use ranking::Ranking;
pub(crate) use standing::Standing;
use transport::Grpc;
#[cfg(feature = "test-seams")]
pub use transport::{Call, SendBy, Transport};
#[cfg(all(test, not(feature = "test-seams")))]
pub(crate) use transport::{Call, Transport};

/// New connectors and addresses, by the cosigner's name.
pub(crate) struct Renewal(BTreeMap<String, (String, tls::Connector)>);

/// All configured cosigners. A [`Peer`] is a position in the configuration.
pub(crate) struct Cosigners {
    links: Vec<Arc<Link>>,
    /// What the links are made of, where that is a network.
    lines: Vec<Arc<Line>>,
    ranking: Ranking,
}

impl Cosigners {
    /// Opens links, which connect when they are first used. Must be called within a runtime.
    ///
    /// # Errors
    /// When the TLS files, an address or a name cannot be used.
    pub(crate) fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, ConfigError> {
        let mut cosigners = Self {
            links: Vec::new(),
            lines: Vec::new(),
            ranking: Ranking::default(),
        };
        for (position, cosigner) in config.cosigners.iter().enumerate() {
            let connector = tls::mutual_client(&config.tls, &cosigner.san)?;
            let line = Line::open(&cosigner.san, &cosigner.address, connector)?;
            let transport = Arc::new(Grpc(Arc::clone(&line)));
            let (peer, metrics) = (Peer(position), Arc::clone(metrics));
            let link = Link::open(peer, &cosigner.san, transport, metrics);
            cosigners.links.push(link);
            cosigners.lines.push(line);
        }
        Ok(cosigners)
    }

    /// What [`Cosigners::renew`] needs, read and checked.
    ///
    /// # Errors
    /// When the TLS files, an address or a name cannot be used.
    pub(crate) fn prepare(config: &Config) -> Result<Renewal, ConfigError> {
        let connector = |cosigner: &crate::config::Cosigner| {
            transport::authority(&cosigner.address)?;
            let connector = tls::mutual_client(&config.tls, &cosigner.san)?;
            Ok((cosigner.san.clone(), (cosigner.address.clone(), connector)))
        };
        let connectors = config.cosigners.iter().map(connector);
        connectors.collect::<Result<_, _>>().map(Renewal)
    }

    /// Connects to every cosigner anew, with new files and to new addresses; who is asked does not
    /// change. Calls under way are not touched.
    pub(crate) fn renew(&self, renewal: &Renewal) {
        for line in &self.lines {
            let Some((address, connector)) = renewal.0.get(line.san()) else {
                continue;
            };
            if let Err(error) = line.renew(address, connector) {
                error!(%error, "a cosigner's address was checked and cannot be used");
            }
        }
    }

    /// When the certificates end that cosigners showed last, by name: seconds since 1970.
    pub(crate) fn certificates_not_after(&self) -> Vec<(String, i64)> {
        let ends = self.lines.iter().filter_map(|line| {
            let end = line.certificate_not_after()?;
            Some((line.san().to_owned(), end))
        });
        ends.collect()
    }

    /// Links over these networks, by name.
    #[cfg(any(test, feature = "test-seams"))]
    pub(crate) fn over(
        networks: Vec<(String, Arc<dyn transport::Transport>)>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let links = networks.into_iter().enumerate();
        let links = links.map(|(position, (san, transport))| {
            Link::open(Peer(position), &san, transport, Arc::clone(metrics))
        });
        Self {
            links: links.collect(),
            lines: Vec::new(),
            ranking: Ranking::default(),
        }
    }

    /// Every link, in the order of the configuration.
    pub(crate) fn links(&self) -> &[Arc<Link>] {
        &self.links
    }

    pub(crate) fn link(&self, peer: Peer) -> Option<&Arc<Link>> {
        self.links.get(peer.0)
    }
}
