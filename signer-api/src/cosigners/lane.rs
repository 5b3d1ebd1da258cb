//! Lanes: what waits for one cosigner, and in which company.
//!
//! A batch is what waits while earlier batches are under way: no timer, no added latency. What has
//! expired is dropped, not sent. A lane of its own keeps a burst from delaying what is urgent.

use std::{sync::Arc, time::Duration};

use daemon::bulk::Bulk;
use duty::DutyKind;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use threshold::{
    Ballot,
    round::{Event, Failure, FailureReason, Peer},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::yield_now,
    time::{Instant, timeout},
};
use wire::{BATCH_MAX, batches::Item};

use super::{
    events::Teller,
    latency::{Quiet, Work},
    link::Link,
};

/// Items that wait in one lane at most.
const QUEUE_MAX: usize = 8_192;
/// Batches of one lane under way at most: one is worked on while the next is on its way. With more,
/// batches get smaller, and each signature dearer.
const BATCHES_UNDER_WAY_MAX: usize = 2;

/// What sending a batch takes at most, on a connection that stands and a machine that is busy.
const SENDING: Duration = Duration::from_millis(10);

/// What to ask cosigners.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Ask {
    /// What kind of duty shall be promised or signed.
    pub(crate) kind: DutyKind,
    /// What shall be promised or signed, and under which ballot.
    pub(crate) item: Item,
    /// The ballot in it.
    pub(crate) ballot: Option<Ballot>,
    /// The round to name in the answer.
    pub(crate) round: u64,
    /// When it must not be sent any more.
    pub(crate) send_by: Instant,
    /// When nobody waits for the answer any more.
    pub(crate) useful_until: Instant,
    /// Where the requests are that are put together with this one.
    pub(crate) among: Bulk,
    /// Where the answer goes: exactly one event for each ask.
    pub(crate) events: Teller,
}

impl Ask {
    /// Whether it is not too late, and somebody still waits for the answer.
    fn is_of_use(&self, now: Instant) -> bool {
        now < self.send_by && self.events.is_heard()
    }
}

/// Which lane. The names are labels of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    PromiseBlock,
    PromiseAttestation,
    SignBlock,
    SignAttestation,
    Proposal,
    Prompt,
    Selection,
    Bulk,
}

impl Lane {
    pub(super) const ALL: [Self; 8] = [
        Self::PromiseBlock,
        Self::PromiseAttestation,
        Self::SignBlock,
        Self::SignAttestation,
        Self::Proposal,
        Self::Prompt,
        Self::Selection,
        Self::Bulk,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PromiseBlock => "promise_block",
            Self::PromiseAttestation => "promise_attestation",
            Self::SignBlock => "sign_block",
            Self::SignAttestation => "sign_attestation",
            Self::Proposal => "sign_proposal",
            Self::Prompt => "sign_prompt",
            Self::Selection => "sign_selection",
            Self::Bulk => "sign_bulk",
        }
    }

    pub(super) const fn promises(self) -> bool {
        matches!(self, Self::PromiseBlock | Self::PromiseAttestation)
    }

    pub(super) const fn work(self) -> Work {
        match self {
            Self::PromiseBlock | Self::PromiseAttestation => Work::Promise,
            Self::SignBlock | Self::SignAttestation => Work::Commit,
            Self::Proposal | Self::Prompt | Self::Selection | Self::Bulk => Work::Sign,
        }
    }

    pub(crate) const fn to_promise(kind: DutyKind) -> Self {
        if matches!(kind, DutyKind::Block) {
            Self::PromiseBlock
        } else {
            Self::PromiseAttestation
        }
    }

    /// What a proposal or a slot's deadline waits for goes apart from what comes in bursts.
    pub(crate) const fn to_sign(kind: DutyKind) -> Self {
        match kind {
            DutyKind::Block => Self::SignBlock,
            DutyKind::Attestation => Self::SignAttestation,
            DutyKind::RandaoReveal | DutyKind::ExecutionPayload => Self::Proposal,
            DutyKind::SyncCommitteeMessage | DutyKind::PayloadAttestation => Self::Prompt,
            DutyKind::AggregationSlot | DutyKind::SyncCommitteeSelectionProof => Self::Selection,
            DutyKind::AggregateAndProof
            | DutyKind::SyncCommitteeContributionAndProof
            | DutyKind::ProposerPreferences
            | DutyKind::BuilderRequestAuth
            | DutyKind::ValidatorRegistration
            | DutyKind::VoluntaryExit
            | DutyKind::Deposit => Self::Bulk,
        }
    }
}

/// An ask in a lane. Whoever takes it answers it; dropped, it answers by itself.
pub(super) struct Ticket {
    peer: Peer,
    ask: Option<Arc<Ask>>,
    put_at: Instant,
}

impl Ticket {
    pub(super) fn new(peer: Peer, ask: Arc<Ask>) -> Self {
        Self {
            peer,
            ask: Some(ask),
            put_at: Instant::now(),
        }
    }

    pub(super) fn ask(&self) -> Option<&Ask> {
        self.ask.as_deref()
    }

    pub(super) const fn put_at(&self) -> Instant {
        self.put_at
    }

    pub(super) fn answer(mut self, event: Event) {
        if let Some(ask) = self.ask.take() {
            ask.events.tell(event);
        }
    }

    pub(super) fn fail(mut self, reason: FailureReason, message: String) {
        self.fail_now(reason, message);
    }

    fn fail_now(&mut self, reason: FailureReason, message: String) {
        if let Some(ask) = self.ask.take() {
            let failure = Failure { reason, message };
            ask.events.tell(Event::Failed {
                peer: self.peer,
                round: ask.round,
                failure,
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.fail_now(FailureReason::Unreachable, "was given up".to_owned());
    }
}

/// The near end of a lane.
pub(super) struct LaneQueue {
    tickets: mpsc::Sender<Ticket>,
    depth: Gauge,
    quiet: Mutex<Quiet>,
}

/// The far end of a lane.
pub(super) struct LaneTickets {
    tickets: mpsc::Receiver<Ticket>,
    depth: Gauge,
}

pub(super) fn lane(depth: Gauge) -> (LaneQueue, LaneTickets) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let near = LaneQueue {
        tickets: sender,
        depth: depth.clone(),
        quiet: Mutex::default(),
    };
    (
        near,
        LaneTickets {
            tickets: receiver,
            depth,
        },
    )
}

impl LaneQueue {
    /// How long none of its batches was answered while one was under way.
    pub(super) const fn quiet(&self) -> &Mutex<Quiet> {
        &self.quiet
    }

    /// Queues a ticket, or answers it with why not.
    pub(super) fn put(&self, ticket: Ticket) {
        self.depth.inc();
        if let Err(refused) = self.tickets.try_send(ticket) {
            self.depth.dec();
            let (reason, message) = match &refused {
                mpsc::error::TrySendError::Full(_) => (FailureReason::Busy, "its queue is full"),
                mpsc::error::TrySendError::Closed(_) => (FailureReason::Unreachable, "is closed"),
            };
            refused.into_inner().fail(reason, message.to_owned());
        }
    }
}

/// Sends what a lane holds, until the link is dropped.
pub(super) async fn serve(link: std::sync::Weak<Link>, lane: Lane, mut queue: LaneTickets) {
    let under_way = Arc::new(Semaphore::new(BATCHES_UNDER_WAY_MAX));
    // The semaphore is never closed.
    while let Ok(turn) = Arc::clone(&under_way).acquire_owned().await {
        let Some(first) = queue.tickets.recv().await else {
            return;
        };
        // Requests that are being put at this moment come along.
        match first.ask().map(|ask| ask.among.clone()) {
            // What is there by then goes, come along or not.
            Some(among) => {
                let _ = timeout(SENDING, among.run(yield_now())).await;
            }
            None => yield_now().await,
        }
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = queue.tickets.try_recv()
        {
            batch.push(next);
        }
        queue.depth.dec_by(i64::try_from(batch.len()).unwrap_or(0));
        let Some(link) = link.upgrade() else { return };
        tokio::spawn(async move {
            link.send(lane, unexpired(batch)).await;
            drop(turn);
        });
    }
}

/// Those that may be sent, and are not so late that they would keep the others from being sent.
fn unexpired(batch: Vec<Ticket>) -> Vec<Ticket> {
    let now = Instant::now() + SENDING;
    let (in_time, expired): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|ticket| ticket.ask().is_some_and(|ask| ask.is_of_use(now)));
    for ticket in expired {
        ticket.fail(FailureReason::TimedOut, "was not asked in time".to_owned());
    }
    in_time
}
