//! The one task that decides: it keeps a connection, takes batches, and settles what is in doubt.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{
    LedgerLimits, Question, Unavailable,
    batch::Decision,
    lease::{Lease, RENEW_EVERY, Rejection},
    queue::{Entry, Queue},
    session::{Commit, Decided, Failure, NOT_HELD, Reader, Session, reach},
    standing::{Doubt, Orders, Standing},
};
use crate::{anchor::Highest, database::Database};

/// The first pause before connecting again, doubled with each failure in a row.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause before connecting again.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often rows in doubt are tried again while another transaction holds them.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// How long whom new orders freeze may take to be loaded.
const ORDERS_WAIT: Duration = Duration::from_secs(5);
/// The pause after the database said that another process writes.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Waits before connecting again, not at all after the first failure in a row.
async fn pause(failures: u32) {
    if let Some(doublings) = failures.checked_sub(2) {
        let factor = 2_u32.saturating_pow(doublings);
        sleep(
            RECONNECT_PAUSE_MIN
                .saturating_mul(factor)
                .min(RECONNECT_PAUSE_MAX),
        )
        .await;
    }
}

pub(super) struct Worker {
    database: Database,
    queue: Arc<Queue>,
    lease: Arc<Lease>,
    limits: LedgerLimits,
    /// Since when databases with an older state of the ledger are all that answers, and its doubt.
    stale: Option<(Instant, Doubt)>,
    /// Asks whose COMMIT was sent and never answered. Their fences stay until the rows can be
    /// locked again.
    doubtful: Vec<Entry>,
    /// Sessions that failed since one last decided something.
    failures: u32,
    /// Whether an outage was told of that has not ended.
    away: bool,
    /// Whether it was told of a jump of the clock by which nothing may be raised.
    is_barred: bool,
}

impl Worker {
    pub(super) fn new(
        database: Database,
        queue: Arc<Queue>,
        lease: Arc<Lease>,
        limits: LedgerLimits,
    ) -> Self {
        Self {
            database,
            queue,
            lease,
            limits,
            stale: None,
            doubtful: Vec::new(),
            failures: 0,
            away: false,
            is_barred: false,
        }
    }

    /// Decides until nobody is left to ask, beginning with a session that was made before.
    pub(super) async fn run(mut self, mut session: Option<Session>) {
        while !self.queue.is_closed() {
            let connected = match session.take() {
                Some(session) => Ok(session),
                None => self.connect().await,
            };
            let failure = match connected {
                Ok(session) => self.serve(session).await,
                Err(reason) => Some(reason),
            };
            if let Some(reason) = failure {
                self.failures = self.failures.saturating_add(1);
                // Once an outage, not with every attempt to end it.
                if !self.away {
                    self.away = true;
                    tracing::warn!(%reason, "the ledger lost its database, and connects again");
                }
                self.queue.begin_outage(reason);
            }
        }
    }

    /// Connects to a database that holds all that was decided here. If for a while there is none
    /// but older ones, the ledger was put back: it is taken again, as far as it goes.
    async fn connect(&mut self) -> Result<Session, String> {
        pause(self.failures).await;
        self.retake().await?;
        let rejection = Mutex::new(None);
        let accept = |standing: &Standing| {
            self.lease.accept(standing).map_err(|why| {
                let text = why.to_string();
                *rejection.lock() = Some(why);
                text
            })
        };
        let connected = Session::connect(&self.database, self.limits.ledger_wait, &accept).await;
        match connected {
            Ok((session, standing)) => {
                self.stale = None;
                let noted = self.lease.connected(standing.server).await;
                noted.map(|()| session).map_err(|error| error.to_string())
            }
            Err(error) => {
                match rejection.into_inner() {
                    Some(Rejection::Stale(doubt)) => {
                        let since = self
                            .stale
                            .take()
                            .map_or_else(Instant::now, |(since, _)| since);
                        self.stale = Some((since, doubt));
                    }
                    Some(Rejection::Taken(name)) => self.lease.lose(name),
                    None => {}
                }
                Err(error.to_string())
            }
        }
    }

    /// Takes the ledger again if it, or the machine, was put back.
    async fn retake(&mut self) -> Result<(), String> {
        // Seen before anything is raised: a clock that jumps on meanwhile is one more jump.
        let jump = self.lease.jump();
        if jump.is_some_and(|jump| !jump.is_plausible()) {
            // For as long as this process lives, nothing is decided, and nothing raised.
            return Ok(());
        }
        let waited = |(since, _): &&(Instant, Doubt)| since.elapsed() >= self.limits.stale_wait;
        let stale = self.stale.as_ref().filter(waited);
        let doubt = match (jump, stale) {
            (Some(jump), _) => Doubt::ClockJumped(jump.by),
            (None, Some((_, doubt))) => doubt.clone(),
            (None, None) => return Ok(()),
        };
        let wait = self.limits.ledger_wait;
        self.lease.retake(&self.database, wait, doubt).await?;
        self.stale = None;
        if let Some(jump) = jump {
            self.lease.settle(jump);
        }
        Ok(())
    }

    /// Serves until the session fails, and returns why; `None` when nobody is left to ask.
    async fn serve(&mut self, mut session: Session) -> Option<String> {
        self.queue.end_outage();
        if std::mem::take(&mut self.away) {
            tracing::info!("the ledger has its database again");
        }
        let mut beat = interval(RENEW_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.queue.is_closed() {
            if let Err(reason) = self.settle(&mut session).await {
                return Some(reason);
            }
            let again = (!self.doubtful.is_empty()).then(|| Instant::now() + SETTLE_PAUSE);
            let beat_is_due = tokio::select! {
                biased;
                () = session.closed() => return Some("the connection was closed".to_owned()),
                _ = beat.tick() => true,
                () = self.queue.work(again) => false,
            };
            if let Some(doubt) = self.jumped() {
                // Before anything is decided with this session, the ledger is taken again.
                return Some(doubt);
            }
            if beat_is_due && let Err(reason) = self.beat(&mut session).await {
                return Some(reason);
            }
            let mut batch = self.queue.take();
            if batch.is_empty() {
                continue;
            }
            batch.sort_by_key(|entry| entry.ask.validator);
            if let Err(reason) = self.decide(&mut session, batch).await {
                return Some(reason);
            }
        }
        None
    }

    /// Why the ledger must be taken again before anything is decided. After a jump by which nothing
    /// may be raised it stays as it is: whoever asks meets the lease's barrier.
    fn jumped(&mut self) -> Option<String> {
        let jump = self.lease.jump()?;
        if jump.is_plausible() {
            return Some(Doubt::ClockJumped(jump.by).to_string());
        }
        if !std::mem::replace(&mut self.is_barred, true) {
            let reason = Unavailable::ClockJumped(jump.by);
            tracing::error!(%reason, "NOTHING IS SIGNED that could be slashed, until a new start");
        }
        None
    }

    /// Says in ledger and anchor that this process lives, and learns of orders.
    async fn beat(&mut self, session: &mut Session) -> Result<(), String> {
        let over = self.lease.end_quarantine();
        if over {
            tracing::warn!("the quarantine is over: slashable duties are signed again");
        }
        let renewed = match session.renew(self.lease.renewal(over)).await {
            Ok(Some(renewed)) => renewed,
            Ok(None) => return Err(NOT_HELD.to_owned()),
            // It lives as long as others write: the next beat says so.
            Err(Failure::Busy) => return Ok(()),
            Err(failure) => return Err(failure.to_string()),
        };
        self.take_up(&renewed.orders).await?;
        // Orders and imports, of whomever, are commits as well.
        let reach = Highest::default();
        let counted = self.lease.count(renewed.commits, None, reach).await;
        counted.map_err(|error| error.to_string())
    }

    /// Loads whom new orders freeze, and how high imports have come: before the anchor counts them.
    async fn take_up(&mut self, orders: &Orders) -> Result<(), String> {
        if !self.lease.is_outdated(orders) {
            return Ok(());
        }
        let reader = Reader::new(self.database.clone(), Arc::clone(&self.lease));
        let ordered = reader
            .orders(ORDERS_WAIT)
            .await
            .map_err(|error| error.to_string())?;
        let taken_up = self.lease.take_up(ordered).await;
        taken_up.map_err(|error| error.to_string())
    }

    /// Decides a batch and ends or puts back each of its asks.
    async fn decide(&mut self, session: &mut Session, batch: Vec<Entry>) -> Result<(), String> {
        if let Some(barrier) = self.lease.barrier() {
            for entry in batch {
                entry.end(Err(barrier.clone().into()));
            }
            return Ok(());
        }
        let questions: Vec<_> = batch.iter().map(question).collect();
        let (authority, counter) = (self.lease.authority(), self.lease.counter());
        match session.decide(questions, authority, counter).await {
            Ok(decided) => self.conclude(batch, decided).await,
            Err(Failure::Busy) => {
                batch
                    .into_iter()
                    .for_each(|entry| self.queue.put_back(entry));
                sleep(BUSY_PAUSE).await;
                Ok(())
            }
            Err(Failure::Lost(reason)) => {
                batch
                    .into_iter()
                    .for_each(|entry| self.queue.put_back(entry));
                Err(reason)
            }
            Err(Failure::Rejected(reason)) => {
                self.isolate(batch, &reason);
                Err(reason)
            }
            Err(Failure::InDoubt(reason)) => {
                self.doubt(batch);
                Err(reason)
            }
        }
    }

    /// Counts the commit in the anchor, and only then gives its permits away.
    async fn conclude(&mut self, batch: Vec<Entry>, decided: Decided) -> Result<(), String> {
        if let Some(Commit {
            count,
            lsn,
            counted,
        }) = decided.commit
        {
            let counted = match counted {
                Some(counted) => counted.map(|()| self.lease.counted(count)),
                None => {
                    let claims = batch.iter().map(|entry| entry.ask.claim);
                    let reach = reach(claims, &decided.decisions);
                    self.lease.count(count, lsn, reach).await
                }
            };
            if let Err(error) = counted {
                // Committed, but not counted: nobody may have it yet. Decided anew, it is a repeat.
                self.doubt(batch);
                return Err(error.to_string());
            }
        }
        if let Some(jump) = self.lease.jump() {
            // A snapshot that was resumed in the middle of it: these are claims of then.
            self.doubt(batch);
            return Err(Doubt::ClockJumped(jump.by).to_string());
        }
        self.failures = 0;
        for (entry, decision) in batch.into_iter().zip(decided.decisions) {
            match decision {
                Decision::Permitted(permit) => entry.end(Ok(permit)),
                Decision::Refused(refused) => entry.end(Err(refused.into())),
                Decision::Locked => self.queue.put_back_locked(entry),
            }
        }
        self.take_up(&decided.orders).await
    }

    fn doubt(&mut self, batch: Vec<Entry>) {
        self.doubtful.extend(batch);
        self.queue.set_doubtful(self.doubtful.len());
    }

    /// One ask must not spoil the others' batch for ever: each gets a batch of its own, and the
    /// one that is rejected even there is told so.
    fn isolate(&self, mut batch: Vec<Entry>, reason: &str) {
        if batch.len() == 1
            && let Some(entry) = batch.pop()
        {
            return entry.end(Err(Unavailable::Failed(reason.to_owned()).into()));
        }
        for mut entry in batch {
            entry.alone = true;
            self.queue.put_back(entry);
        }
    }

    /// Lets go of what is in doubt no more. Whoever still waits is decided anew: if the lost
    /// commit happened, that is a repeat, written and committed like any other.
    async fn settle(&mut self, session: &mut Session) -> Result<(), String> {
        if self.doubtful.is_empty() {
            return Ok(());
        }
        let validators: BTreeSet<_> = self
            .doubtful
            .iter()
            .map(|entry| entry.ask.validator)
            .collect();
        let settled = match session.settled(&validators).await {
            Ok(settled) => settled,
            Err(Failure::Busy) => BTreeSet::new(),
            Err(Failure::Lost(reason) | Failure::Rejected(reason) | Failure::InDoubt(reason)) => {
                return Err(reason);
            }
        };
        let known = |entry: &mut Entry| settled.contains(&entry.ask.validator);
        let known: Vec<Entry> = self.doubtful.extract_if(.., known).collect();
        self.queue.set_doubtful(self.doubtful.len());
        known
            .into_iter()
            .for_each(|entry| self.queue.put_back(entry));
        Ok(())
    }
}

fn question(entry: &Entry) -> Question {
    Question {
        validator: entry.ask.validator,
        claim: entry.ask.claim,
        root: entry.ask.root,
    }
}
