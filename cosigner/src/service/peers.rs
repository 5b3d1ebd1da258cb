//! How much of this cosigner one peer may take.

use std::{collections::BTreeMap, sync::Arc};

use daemon::serve::Peer;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};

/// Calls of one peer at once, over all its connections.
const CALLS_MAX: usize = 64;

/// The peers that have called, by the names of their certificates. Only listed names get here, so
/// the map is bounded by the configuration.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<Arc<[String]>, Arc<Semaphore>>>);

impl Peers {
    /// A place for one call, until it is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the peer has too many calls under way.
    pub(super) fn admit<T>(&self, request: &Request<T>) -> Result<OwnedSemaphorePermit, Status> {
        let sans = request
            .extensions()
            .get::<Peer>()
            .map_or_else(|| Arc::from([]), |peer| Arc::clone(&peer.sans));
        let places = Arc::clone(
            self.0
                .lock()
                .entry(sans)
                .or_insert_with(|| Arc::new(Semaphore::new(CALLS_MAX))),
        );
        places.try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{CALLS_MAX} calls of this peer are under way"))
        })
    }
}
