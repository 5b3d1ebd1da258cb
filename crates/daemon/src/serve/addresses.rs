//! How many connections one address may have, so that one client leaves room for the others; and
//! whether a connection's other end is there.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

/// One part of so many of all handshakes at once is for one address.
const HANDSHAKES_PART: usize = 4;

/// A peer that has said nothing for so long is asked whether it is there, so often, so many times.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// The addresses that have connections. There are never more of them than connections.
pub(super) struct Addresses {
    connections_max: usize,
    handshakes_max: usize,
    present: Mutex<HashMap<IpAddr, Present>>,
}

struct Present {
    connections: usize,
    handshakes: Arc<Semaphore>,
}

/// A connection's place among those of its address.
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
    handshakes: Arc<Semaphore>,
}

impl Counted {
    /// A turn to shake hands. Its address's comes first: waiting for that takes nobody else's.
    pub(super) async fn turn<'a>(
        &'a self,
        all: &'a Semaphore,
    ) -> (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>) {
        // Neither is ever closed.
        let own = self.handshakes.acquire().await.ok();
        (own, all.acquire().await.ok())
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counted").field(&self.address).finish()
    }
}

impl Addresses {
    /// At most so many connections of one address; of all addresses' handshakes at once, a part.
    pub(super) fn new(connections_max: usize, handshakes_max: usize) -> Arc<Self> {
        Arc::new(Addresses {
            connections_max: connections_max.max(1),
            handshakes_max: (handshakes_max / HANDSHAKES_PART).max(1),
            present: Mutex::default(),
        })
    }

    /// One more connection from `address`; `None` if it has as many as it may.
    pub(super) fn count(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let address = origin(address);
        let mut present = self.present.lock();
        let entry = present.entry(address).or_insert_with(|| Present {
            connections: 0,
            handshakes: Arc::new(Semaphore::new(self.handshakes_max)),
        });
        if entry.connections >= self.connections_max {
            return None;
        }
        entry.connections = entry.connections.saturating_add(1);
        Some(Counted {
            addresses: Arc::clone(self),
            address,
            handshakes: Arc::clone(&entry.handshakes),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut present = self.addresses.present.lock();
        if let Some(entry) = present.get_mut(&self.address) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 {
                present.remove(&self.address);
            }
        }
    }
}

/// Has the system ask a quiet peer whether it is still there, so that one that went without a word
/// does not keep its place.
pub(super) fn probe(connection: &TcpStream) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    SockRef::from(connection).set_tcp_keepalive(&probes)
}

/// What counts as one address: of IPv6 the network, whose 2^64 addresses one client may have.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            Ipv6Addr::from_bits(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_and_others_have_theirs() {
        let addresses = Addresses::new(2, 8);
        let first = addresses.count(ip("10.0.0.1"));
        let _second = addresses.count(ip("::ffff:10.0.0.1")).unwrap();
        assert!(addresses.count(ip("10.0.0.1")).is_none());
        assert!(addresses.count(ip("10.0.0.2")).is_some());
        drop(first);
        assert!(addresses.count(ip("10.0.0.1")).is_some());
        drop(_second);
        assert!(addresses.present.lock().is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let addresses = Addresses::new(1, 8);
        let _first = addresses.count(ip("2001:db8:0:1::1")).unwrap();
        assert!(addresses.count(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.count(ip("2001:db8:0:2::1")).is_some());
    }
}
