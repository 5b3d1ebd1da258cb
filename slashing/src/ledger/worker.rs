//! The one task that decides: it keeps a connection, takes batches, and settles what is in doubt.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    LedgerLimits, Question, Unavailable,
    batch::Decision,
    queue::{Entry, Queue},
    session::{Failure, Session},
};
use crate::database::Database;

/// The first pause before connecting again, doubled with each failure in a row.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause before connecting again.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often rows in doubt are tried again while another transaction holds them.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// The pause after the database said that another process writes.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

pub(super) async fn run(database: Database, queue: Arc<Queue>, limits: LedgerLimits) {
    let mut worker = Worker {
        queue,
        doubtful: Vec::new(),
        failures: 0,
    };
    while !worker.queue.is_closed() {
        pause(worker.failures).await;
        let failure = match Session::connect(&database, limits.ledger_wait).await {
            Ok(session) => worker.serve(session).await,
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = failure {
            worker.failures = worker.failures.saturating_add(1);
            tracing::warn!(%reason, "the ledger lost its database, and connects again");
            worker.queue.begin_outage(reason);
        }
    }
}

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

struct Worker {
    queue: Arc<Queue>,
    /// Asks whose COMMIT was sent and never answered. Their fences stay until the rows can be
    /// locked again.
    doubtful: Vec<Entry>,
    /// Sessions that failed since one last decided something.
    failures: u32,
}

impl Worker {
    /// Serves until the session fails, and returns why; `None` when nobody is left to ask.
    async fn serve(&mut self, mut session: Session) -> Option<String> {
        self.queue.end_outage();
        while !self.queue.is_closed() {
            if let Err(reason) = self.settle(&mut session).await {
                return Some(reason);
            }
            let again = (!self.doubtful.is_empty()).then(|| Instant::now() + SETTLE_PAUSE);
            tokio::select! {
                biased;
                () = session.closed() => return Some("the connection was closed".to_owned()),
                () = self.queue.work(again) => {}
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

    /// Decides a batch and ends or puts back each of its asks.
    async fn decide(&mut self, session: &mut Session, batch: Vec<Entry>) -> Result<(), String> {
        let question = |entry: &Entry| Question {
            validator: entry.ask.validator,
            claim: entry.ask.claim,
            root: entry.ask.root,
        };
        match session.decide(batch.iter().map(question).collect()).await {
            Ok(decisions) => {
                self.failures = 0;
                for (entry, decision) in batch.into_iter().zip(decisions) {
                    match decision {
                        Decision::Permitted(permit) => entry.end(Ok(permit)),
                        Decision::Refused(refused) => entry.end(Err(refused.into())),
                        Decision::Locked => self.queue.put_back_locked(entry),
                    }
                }
                Ok(())
            }
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
                self.doubtful.extend(batch);
                self.queue.set_doubtful(self.doubtful.len());
                Err(reason)
            }
        }
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
