//! One cosigner: its channel and what is known about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use threshold::round::{Event, FailureReason, Peer};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};
use tonic::{Code, Request, Status};
use tracing::debug;
use wire::batches::{Batch, Item};

use super::{
    dissents::Dissents,
    health::{self, Health},
    lane::{self, Ask, Lane, LaneQueue, Ticket},
    latency::{Ended, Latency},
    misdeeds::{Misdeed, Misdeeds},
    probing::{Called, Failures},
    replies::{self, Nonsense},
    transport::{SendBy, Transport, failed_on_its_way, is_late_call, is_too_large},
};
use crate::metrics::Metrics;

/// How long connecting and shaking hands may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a connection is tried, so that a dead one is replaced. That its peer is silent is
/// noticed earlier, by `health`; what it was asked may still be answered until then.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a peer may take to show that it is there.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than its caller a cosigner has, so that the caller sees first that it is over.
const DROP_MARGIN: Duration = Duration::from_millis(20);
/// After a connection failed, nothing is sent for this long; twice as long after each further.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Requests for its standing at once: other requests wait, and leave the cosigner's places to duties.
const STANDINGS_MAX: usize = 32;
const NONSENSE: &str = "answered what cannot be understood";
const TIMED_OUT: &str = "did not answer in time";

/// Whether sending is of use.
#[derive(Default)]
struct BackOff {
    until: Option<Instant>,
    pause: Duration,
}

/// A link to one cosigner.
pub(crate) struct Link {
    peer: Peer,
    san: Arc<str>,
    transport: Arc<dyn Transport>,
    lanes: Vec<(Lane, LaneQueue)>,
    latency: Latency,
    failures: Failures,
    /// How often it was heard of, whatever it said.
    heard: AtomicU64,
    back_off: Mutex<BackOff>,
    health: watch::Sender<Health>,
    metrics: Arc<Metrics>,
    misdeeds: Misdeeds,
    dissents: Dissents,
    standings: Semaphore,
}

impl Link {
    /// A link whose lanes and health are served by tasks that end with it.
    pub(super) fn open(
        peer: Peer,
        san: &str,
        transport: Arc<dyn Transport>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let san: Arc<str> = san.into();
        let queue = |lane: Lane| {
            let (near, far) = lane::lane(metrics.queue_depth(&san, lane.name()));
            ((lane, near), (lane, far))
        };
        let (lanes, ends): (Vec<_>, Vec<_>) = Lane::ALL.into_iter().map(queue).unzip();
        metrics.up(&san, false);
        metrics.asked(&san, true);
        let link = Arc::new(Self {
            peer,
            san,
            transport,
            lanes,
            latency: Latency::default(),
            failures: Failures::default(),
            heard: AtomicU64::new(0),
            back_off: Mutex::default(),
            health: watch::Sender::new(Health::Unknown),
            metrics,
            misdeeds: Misdeeds::default(),
            dissents: Dissents::default(),
            standings: Semaphore::new(STANDINGS_MAX),
        });
        for (lane, tickets) in ends {
            tokio::spawn(lane::serve(Arc::downgrade(&link), lane, tickets));
        }
        tokio::spawn(health::watch(Arc::downgrade(&link)));
        link
    }

    pub(crate) const fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) const fn san(&self) -> &Arc<str> {
        &self.san
    }

    pub(super) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) const fn misdeeds(&self) -> &Misdeeds {
        &self.misdeeds
    }

    pub(super) const fn dissents(&self) -> &Dissents {
        &self.dissents
    }

    /// Places of those who ask for its standing.
    pub(super) const fn standings(&self) -> &Semaphore {
        &self.standings
    }

    pub(super) const fn failures(&self) -> &Failures {
        &self.failures
    }

    pub(super) const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Grows with whatever is heard of it.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn note_heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// The way to the cosigner, past the lanes.
    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// Asks for a promise; the answer is an event.
    pub(crate) fn promise(&self, ask: Arc<Ask>) {
        self.put(Lane::to_promise(ask.kind), ask);
    }

    /// Asks for a partial signature; the answer is an event.
    pub(crate) fn sign(&self, ask: Arc<Ask>) {
        self.put(Lane::to_sign(ask.kind), ask);
    }

    fn put(&self, wanted: Lane, ask: Arc<Ask>) {
        let ticket = Ticket::new(self.peer, ask);
        // There is a queue for each lane; without one, the ticket would answer by itself.
        if let Some(queue) = self.queue(wanted) {
            queue.put(ticket);
        }
    }

    pub(super) fn queue(&self, wanted: Lane) -> Option<&LaneQueue> {
        let mut lanes = self.lanes.iter();
        let (_, queue) = lanes.find(|(lane, _)| *lane == wanted)?;
        Some(queue)
    }

    // Health.

    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Health as it changes.
    pub(crate) fn health_changes(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn set_health(&self, heard: Health) {
        self.metrics.up(&self.san, heard.is_ready());
        self.health.send_if_modified(|health| {
            let changed = *health != heard;
            *health = heard;
            changed
        });
    }

    /// Whether its status is heard, and its connection stands.
    pub(super) fn answers(&self) -> bool {
        !matches!(*self.health.borrow(), Health::Absent(_)) && !self.backs_off()
    }

    /// Whether it says that it can promise and sign nothing that can be slashed.
    pub(super) fn is_unready(&self) -> bool {
        matches!(
            *self.health.borrow(),
            Health::Answering { ready: false, .. }
        )
    }

    pub(super) fn answered_again(&self) {
        self.latency.forget();
        *self.back_off.lock() = BackOff::default();
        self.forgive();
    }

    fn backs_off(&self) -> bool {
        self.back_off
            .lock()
            .until
            .is_some_and(|until| Instant::now() < until)
    }

    fn back_off(&self) {
        let mut back_off = self.back_off.lock();
        back_off.pause = back_off
            .pause
            .saturating_mul(2)
            .clamp(BACK_OFF.0, BACK_OFF.1);
        back_off.until = Some(Instant::now() + back_off.pause);
    }

    /// Counts one question outside the lanes, under the name of its own.
    pub(super) fn asked(&self, lane: &'static str, took: Duration) {
        self.metrics.called(&self.san, lane, 1, took);
    }

    /// Counts that it had no answer.
    pub(super) fn failed(&self, reason: FailureReason) {
        self.metrics.failed(&self.san, reason.name());
    }

    // Batches.

    /// Sends one batch and answers its tickets.
    pub(super) async fn send(&self, lane: Lane, batch: Vec<Ticket>) {
        let asks: Vec<&Ask> = batch.iter().filter_map(Ticket::ask).collect();
        let Some(until) = asks.iter().map(|ask| ask.useful_until).max() else {
            return;
        };
        if self.backs_off() {
            return self.fail(batch, FailureReason::Unreachable, "has no connection");
        }
        let began = Instant::now();
        for ask in &asks {
            ask.events.sends(self.peer, began);
        }
        let waited = batch
            .iter()
            .map(|ticket| began - ticket.put_at())
            .max()
            .unwrap_or_default();
        let work = lane.work();
        let call = Called { work, began };
        self.began(lane, began);
        let events = if lane.promises() {
            timeout_at(until, self.ask_promises(&asks)).await
        } else {
            timeout_at(until, self.ask_signatures(&asks)).await
        };
        let took = began.elapsed();
        self.metrics
            .called(&self.san, lane.name(), batch.len(), took);
        // Waiting counts: a hedge that fires because everything is slow makes everything slower.
        let took = took.saturating_add(waited);
        let ended = match &events {
            Ok(Ok(_) | Err(Unanswered::Nonsense(_))) => Ended::Answered(took),
            Ok(Err(Unanswered::Status(_))) => Ended::Failed,
            Err(_) => Ended::TimedOut(took),
        };
        self.ended(lane, Instant::now(), ended);
        match events {
            Ok(Ok(events)) => {
                *self.back_off.lock() = BackOff::default();
                self.note_heard();
                self.deliver(call, batch, events);
            }
            Ok(Err(Unanswered::Status(status))) => {
                let reason = self.failed_call(call, &status);
                let message = self.describe(&status);
                debug!(cosigner = %self.san, lane = lane.name(), %status, "a call failed");
                self.fail(batch, reason, &message);
            }
            Ok(Err(Unanswered::Nonsense(Nonsense(what)))) => {
                self.note_heard();
                self.blame(Misdeed::Reply, &what);
                self.call_failed(call, NONSENSE);
                self.fail(batch, FailureReason::Faulty, NONSENSE);
            }
            Err(_) => {
                self.call_failed(call, TIMED_OUT);
                self.fail(batch, FailureReason::TimedOut, TIMED_OUT);
            }
        }
    }

    async fn ask_promises(&self, asks: &[&Ask]) -> Result<Vec<Understood>, Unanswered> {
        let batch = timed(asks, Batch::promises(items(asks)));
        let outcomes = self.transport.promise(batch).await?.outcomes;
        same_number(asks, outcomes.len())?;
        let pairs = asks.iter().zip(outcomes);
        Ok(pairs
            .map(|(ask, outcome)| replies::promise_event(self.peer, ask, outcome))
            .collect())
    }

    async fn ask_signatures(&self, asks: &[&Ask]) -> Result<Vec<Understood>, Unanswered> {
        let batch = timed(asks, Batch::signatures(items(asks)));
        let outcomes = self.transport.sign(batch).await?.outcomes;
        same_number(asks, outcomes.len())?;
        let pairs = asks.iter().zip(outcomes);
        Ok(pairs
            .map(|(ask, outcome)| replies::sign_event(self.peer, ask, outcome))
            .collect())
    }

    fn deliver(&self, call: Called, batch: Vec<Ticket>, events: Vec<Understood>) {
        if events.iter().all(Result::is_err) {
            self.call_failed(call, NONSENSE);
        } else {
            self.call_answered(call.work);
        }
        for (ticket, event) in batch.into_iter().zip(events) {
            match event {
                Ok(event) => {
                    if let Event::Failed { failure, .. } = &event {
                        self.metrics.failed(&self.san, failure.reason.name());
                    }
                    ticket.answer(event);
                }
                Err(Nonsense(what)) => {
                    self.blame(Misdeed::Reply, &what);
                    self.metrics.failed(&self.san, FailureReason::Faulty.name());
                    ticket.fail(FailureReason::Faulty, NONSENSE.to_owned());
                }
            }
        }
    }

    fn fail(&self, batch: Vec<Ticket>, reason: FailureReason, message: &str) {
        for ticket in batch {
            self.metrics.failed(&self.san, reason.name());
            ticket.fail(reason, message.to_owned());
        }
    }

    /// Notes a broken connection, and says what kind of failure a status is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is gRPC's")]
    fn failed_call(&self, call: Called, status: &Status) -> FailureReason {
        // It was not asked: that says nothing of it.
        if is_late_call(status) {
            return FailureReason::TimedOut;
        }
        if failed_on_its_way(status).is_some() {
            self.back_off();
            self.call_failed(call, &self.describe(status));
            return FailureReason::Unreachable;
        }
        self.note_heard();
        // Who is asked too much at a time has not failed.
        if status.code() != Code::ResourceExhausted {
            self.call_failed(call, &self.describe(status));
        }
        match status.code() {
            Code::ResourceExhausted => FailureReason::Busy,
            Code::DeadlineExceeded => FailureReason::TimedOut,
            Code::Unavailable | Code::Cancelled => FailureReason::Unreachable,
            Code::PermissionDenied | Code::Unauthenticated => FailureReason::Unreachable,
            _ => FailureReason::Faulty,
        }
    }

    /// A failed call outside the lanes, for people. What is too large to be read is blamed.
    pub(crate) fn judge(&self, status: &Status) -> String {
        if is_too_large(status) {
            self.blame(Misdeed::Reply, status.message());
        }
        self.describe(status)
    }

    /// A failed call, for people.
    fn describe(&self, status: &Status) -> String {
        if failed_on_its_way(status).is_some() {
            return "has no connection".to_owned();
        }
        let said = replies::clipped(status.message());
        if is_too_large(status) {
            return format!("answered with {said}");
        }
        format!("answered {:?}: {said}", status.code())
    }
}

type Understood = Result<Event, Nonsense>;

/// Why a whole batch has no answer.
enum Unanswered {
    Status(Status),
    Nonsense(Nonsense),
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        if wire::codec::is_several(&status) || is_too_large(&status) {
            return Self::Nonsense(Nonsense(status.message().to_owned()));
        }
        Self::Status(status)
    }
}

fn items(asks: &[&Ask]) -> Vec<Item> {
    asks.iter().map(|ask| ask.item.clone()).collect()
}

/// A request that is not sent when one of its items must not be any more, and that the cosigner
/// drops, wherever it then is, when nobody waits for it.
fn timed(asks: &[&Ask], batch: Batch) -> Request<Batch> {
    let mut request = Request::new(batch);
    if let Some(by) = asks.iter().map(|ask| ask.send_by).min() {
        request.extensions_mut().insert(SendBy(by));
    }
    if let Some(until) = asks.iter().map(|ask| ask.useful_until).max() {
        let left = until.saturating_duration_since(Instant::now());
        request.set_timeout(left.saturating_add(DROP_MARGIN));
    }
    request
}

fn same_number(asks: &[&Ask], outcomes: usize) -> Result<(), Unanswered> {
    if asks.len() == outcomes {
        return Ok(());
    }
    let what = format!("{outcomes} outcomes for {} items", asks.len());
    Err(Unanswered::Nonsense(Nonsense(what)))
}
