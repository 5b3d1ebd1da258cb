//! The gRPC service: an order goes from authority to promise, to ledger, to share.
//!
//! A duty that can be slashed is signed only with a permit of the ledger; one that cannot be
//! slashed never touches the ledger, so a stalled database stops only the former.

mod administration;
mod calls;
mod history;
mod leading;
mod orders;
mod peers;
mod promising;
mod signers;
mod signing;
mod timed;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use daemon::bulk::Bulk;
use duty::Root;
use slashing::Ledger;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, server::Router},
};
use wire::proto::{administration_server::AdministrationServer, cosigner_server::CosignerServer};

use crate::{
    authority::{self, AuthoritySlot, Group},
    clock::Clock,
    metrics::Metrics,
    promises::{PromiseBook, Promises},
    vault::Shares,
};
use peers::Peers;
pub use signers::Signers;
use timed::Timed;

/// Calls at once on one connection; one more is not made by the client, or waits there. As many as a
/// peer may have of all kinds: none waits there behind another kind.
const STREAMS_MAX: u32 = peers::CALLS_MAX * peers::KINDS;
/// Bytes of one request of an operator at most: 100,000 keys, with room to spare.
const ADMINISTRATION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long one call may take, its message's arrival included, besides what it waits for the ledger;
/// a listing, until it begins.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an operator's call may take: an import of a long history. Whatever waits for a peer or
/// for a database within it has a shorter bound of its own.
const ADMINISTRATION_TIMEOUT: Duration = Duration::from_secs(3600);
/// A sign request waits for the ledger twice at most: for what is signed, and for a decision.
const LEDGER_WAITS: u32 = 2;
/// How often duties that the clock has retired are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(6);
/// How long after the last promise such a duty may be forgotten.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What is said by a service whose process ends.
const STOPPING: &str = "this cosigner is stopping";

/// What a service works with.
pub struct Parts {
    /// The shares.
    pub vault: Arc<dyn Shares>,
    /// Where they are signed with.
    pub signers: Signers,
    /// Where the large batches of a burst are worked on.
    pub bulk: Bulk,
    /// The time since 1970.
    pub time: Box<dyn Fn() -> Duration + Send + Sync>,
    /// The ledger.
    pub ledger: Ledger,
    /// What claims are held against.
    pub clock: Clock,
    /// Promises at most.
    pub promises_max: usize,
    /// The one chain that is signed for.
    pub genesis_validators_root: Root,
    /// Slots of an epoch.
    pub slots_per_epoch: u64,
    /// Whether exits are signed, at the start.
    pub allow_voluntary_exits: bool,
    /// Whether deposits are signed, at the start.
    pub allow_deposits: bool,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// How long a promise waits for a decision on its duty.
    pub ledger_wait: Duration,
}

/// The service's state.
pub struct Service {
    /// For work that is done elsewhere.
    itself: Weak<Self>,
    parts: Parts,
    allow_voluntary_exits: AtomicBool,
    allow_deposits: AtomicBool,
    /// The process will end: nothing new is begun.
    stopping: AtomicBool,
    promises: Arc<PromiseBook>,
    /// When this process started: no other one did at that nanosecond.
    process: u64,
    peers: Peers,
    /// Room for one history on its way in or out.
    histories: Arc<Semaphore>,
}

impl Service {
    /// A service whose start pause begins now. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let promises = Promises::new(Instant::now().into_std(), parts.promises_max);
        let service = Arc::new_cyclic(|itself| Self {
            itself: Weak::clone(itself),
            allow_voluntary_exits: parts.allow_voluntary_exits.into(),
            allow_deposits: parts.allow_deposits.into(),
            stopping: false.into(),
            promises: Arc::new(PromiseBook::new(promises)),
            process: u64::try_from((parts.time)().as_nanos().max(1)).unwrap_or(u64::MAX),
            peers: Peers::default(),
            histories: Arc::new(Semaphore::new(1)),
            parts,
        });
        let weak = Arc::downgrade(&service);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(FORGET_EVERY);
            loop {
                ticks.tick().await;
                let Some(service) = weak.upgrade() else {
                    return;
                };
                service.forget_past();
            }
        });
        service
    }

    /// Signs exits and deposits from now on, or does not.
    pub(crate) fn allow(&self, voluntary_exits: bool, deposits: bool) {
        self.allow_voluntary_exits
            .store(voluntary_exits, Ordering::Relaxed);
        self.allow_deposits.store(deposits, Ordering::Relaxed);
    }

    /// From now on it promises nothing and says that it is not ready; what it has promised, it signs.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Forgets promises for duties that the chain takes no more.
    fn forget_past(&self) {
        let now = self.parts.clock.now((self.parts.time)());
        let slots_per_epoch = self.parts.slots_per_epoch;
        // Without a clock, all that nobody can act on: what was promised and never signed would
        // fill the table.
        self.promises.forget_past(SETTLED_AFTER, |duty| {
            now.is_none_or(|now| now.is_past(&duty.claim(), slots_per_epoch))
        });
        self.parts.metrics.promises_held(self.promises.held());
        self.ledger_state();
    }
}

/// The routes of `service`, each group of methods behind its names.
pub fn router(service: Arc<Service>, authority: impl Into<AuthoritySlot>) -> Router {
    let authority = authority.into();
    let metrics = Arc::clone(&service.parts.metrics);
    let ledger_waits = service.parts.ledger_wait.saturating_mul(LEDGER_WAITS);
    let cosigner = CosignerServer::from_arc(Arc::clone(&service))
        .max_decoding_message_size(wire::BATCH_BYTES_MAX);
    let administration =
        AdministrationServer::from_arc(service).max_decoding_message_size(ADMINISTRATION_BYTES_MAX);
    let cosigner = Timed::new(cosigner, CALL_TIMEOUT.saturating_add(ledger_waits));
    let administration = Timed::new(administration, ADMINISTRATION_TIMEOUT);
    let sign = authority::only(authority.clone(), Group::Sign, Arc::clone(&metrics));
    let administer = authority::only(authority, Group::Administer, metrics);
    Server::builder()
        .max_concurrent_streams(Some(STREAMS_MAX))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(InterceptedService::new(cosigner, sign))
        .add_service(InterceptedService::new(administration, administer))
}

/// The time since 1970; zero for a clock before that, which then abstains from nearly everything.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
