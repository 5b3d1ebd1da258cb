//! Which peer may call what: SANs of client certificates, per method group.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use daemon::serve::Peer;
use tonic::{Request, Status};

use crate::metrics::Metrics;

/// The SANs that may call each group of methods. A peer with none of them is refused in the TLS
/// handshake already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// May ask for promises and signatures: signer-apis.
    pub sign: BTreeSet<String>,
    /// May call the administrative methods: operators.
    pub administer: BTreeSet<String>,
}

impl Authority {
    /// Every SAN that may connect at all.
    #[must_use]
    pub fn everyone(&self) -> BTreeSet<String> {
        self.sign.union(&self.administer).cloned().collect()
    }
}

/// The authority that holds now: looked at for every call, so that who is taken out of it has made
/// its last one. Clones are of the same.
#[derive(Debug, Clone)]
pub struct AuthoritySlot(Arc<ArcSwap<Authority>>);

impl AuthoritySlot {
    /// Holds from the next call on.
    pub fn replace(&self, authority: Authority) {
        self.0.store(Arc::new(authority));
    }
}

impl From<Authority> for AuthoritySlot {
    fn from(authority: Authority) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(authority)))
    }
}

/// A group of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Promises and signatures.
    Sign,
    /// What operators order.
    Administer,
}

/// Refuses a call before its handler runs, and before its message is decoded, unless one of the
/// caller's SANs is allowed.
pub(crate) fn only(
    slot: AuthoritySlot,
    group: Group,
    metrics: Arc<Metrics>,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| {
        let authority = slot.0.load();
        let allowed = match group {
            Group::Sign => &authority.sign,
            Group::Administer => &authority.administer,
        };
        let peer = request.extensions().get::<Peer>();
        if peer.is_some_and(|peer| peer.sans.iter().any(|san| allowed.contains(san))) {
            return Ok(request);
        }
        metrics.refused_peer();
        let who = peer.map_or_else(|| "an unknown peer".to_owned(), |p| p.sans.join(", "));
        tracing::warn!(
            peer = who,
            "a peer called methods that its certificate does not allow"
        );
        Err(Status::permission_denied(
            "this certificate's names are not listed for this group of methods",
        ))
    }
}
