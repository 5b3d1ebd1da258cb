//! How much of this cosigner one peer may take.

use std::{collections::BTreeMap, sync::Arc};

use daemon::serve::Peer;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};
use wire::proto::{SigningOrder, signing_order::Duty};

/// Calls of one peer at once, over all its connections, of each kind.
pub(super) const CALLS_MAX: u32 = 64;
/// The kinds of calls.
pub(super) const KINDS: u32 = 3;

/// What a call is about. Each kind has places of its own, so that none waits for, or is refused
/// because of, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Promises and signatures that a proposal waits for.
    Proposals,
    /// All other promises and signatures.
    Duties,
    /// Whatever else is asked or ordered.
    Questions,
}

impl Kind {
    /// The kind of a batch: proposals keep to themselves.
    pub(super) fn of<'a>(mut orders: impl Iterator<Item = Option<&'a SigningOrder>>) -> Self {
        if orders.all(|order| order.is_some_and(is_for_proposal)) {
            Self::Proposals
        } else {
            Self::Duties
        }
    }
}

fn is_for_proposal(order: &SigningOrder) -> bool {
    matches!(
        order.duty,
        Some(Duty::Block(_) | Duty::RandaoRevealEpoch(_) | Duty::ExecutionPayloadRoot(_))
    )
}

/// A peer's names, and the kind of its calls.
type Caller = (Arc<[String]>, Kind);

/// The peers that have called, by the names of their certificates. Only listed names get here, so
/// the map is bounded by the configuration.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<Caller, Arc<Semaphore>>>);

impl Peers {
    /// A place for one question or order, until it is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the peer has too many under way.
    pub(super) fn admit<T>(&self, request: &Request<T>) -> Result<OwnedSemaphorePermit, Status> {
        self.admit_as(Kind::Questions, request)
    }

    /// A place for one call of a kind, until it is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the peer has too many of that kind under way.
    pub(super) fn admit_as<T>(
        &self,
        kind: Kind,
        request: &Request<T>,
    ) -> Result<OwnedSemaphorePermit, Status> {
        let sans = request
            .extensions()
            .get::<Peer>()
            .map_or_else(|| Arc::from([]), |peer| Arc::clone(&peer.sans));
        let places = usize::try_from(CALLS_MAX).unwrap_or(1);
        let places = Arc::clone(
            self.0
                .lock()
                .entry((sans, kind))
                .or_insert_with(|| Arc::new(Semaphore::new(places))),
        );
        places.try_acquire_owned().map_err(|_| {
            courtesy::rush();
            Status::resource_exhausted(format!("{CALLS_MAX} calls of this peer are under way"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(duty: Duty) -> SigningOrder {
        SigningOrder {
            duty: Some(duty),
            ..SigningOrder::default()
        }
    }

    #[test]
    fn a_peers_attestations_leave_its_proposals_and_questions_their_places() {
        let peers = Peers::default();
        let duties: Vec<_> = (0..CALLS_MAX)
            .map(|_| peers.admit_as(Kind::Duties, &Request::new(())).unwrap())
            .collect();
        let refused = peers.admit_as(Kind::Duties, &Request::new(()));
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert!(peers.admit_as(Kind::Proposals, &Request::new(())).is_ok());
        assert!(peers.admit(&Request::new(())).is_ok());
        drop(duties);
        assert!(peers.admit_as(Kind::Duties, &Request::new(())).is_ok());
    }

    #[test]
    fn only_a_batch_of_nothing_else_is_of_proposals() {
        let randao = order(Duty::RandaoRevealEpoch(1));
        let selection = order(Duty::AggregationSlot(1));
        for (orders, kind) in [
            (vec![Some(&randao), Some(&randao)], Kind::Proposals),
            (vec![Some(&randao), Some(&selection)], Kind::Duties),
            (vec![Some(&selection)], Kind::Duties),
            (vec![Some(&randao), None], Kind::Duties),
        ] {
            assert_eq!(Kind::of(orders.into_iter()), kind);
        }
    }
}
