//! The promises of a running cosigner: shared, and waited for.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use threshold::{
    Ballot,
    round::{Horizon, Lead},
};
use tokio::{sync::Notify, time::Instant};

use super::{DutyId, PromiseAnswer, Promises, SignAnswer};

const BELLS: usize = 64;

/// [`Promises`] behind a lock, and bells that ring when an outcome is known.
pub struct PromiseBook {
    promises: Mutex<Promises>,
    // Waiting is rare (a caller races with a commit), so duties share bells.
    bells: [Notify; BELLS],
}

/// Held from the check of a promise until the ledger's outcome is known: promises for the duty
/// wait. Dropping it says that the outcome is known.
pub struct Fence {
    book: Arc<PromiseBook>,
    duty: DutyId,
}

impl PromiseBook {
    /// Shares a table of promises.
    #[must_use]
    pub fn new(promises: Promises) -> Self {
        Self {
            promises: Mutex::new(promises),
            bells: std::array::from_fn(|_| Notify::new()),
        }
    }

    /// Promises, and waits until `deadline` while the duty is being signed. Still
    /// [`PromiseAnswer::Fenced`] after that.
    pub async fn promise(&self, duty: DutyId, ballot: Ballot, deadline: Instant) -> PromiseAnswer {
        loop {
            let Some(bell) = self.bell(&duty) else {
                return PromiseAnswer::Fenced;
            };
            // Listening begins before the check, so no ring between the two is missed.
            let mut ring = std::pin::pin!(bell.notified());
            ring.as_mut().enable();
            let answer = self
                .promises
                .lock()
                .promise(duty, ballot, Instant::now().into_std());
            if answer != PromiseAnswer::Fenced {
                return answer;
            }
            if tokio::time::timeout_at(deadline, ring).await.is_err() {
                return PromiseAnswer::Fenced;
            }
        }
    }

    /// Lets a duty be signed under the ballot that is held, and puts up the fence.
    ///
    /// # Errors
    /// The answer, if it is not [`SignAnswer::Begun`].
    pub fn begin_sign(self: &Arc<Self>, duty: DutyId, ballot: Ballot) -> Result<Fence, SignAnswer> {
        let now = Instant::now().into_std();
        let answer = self.promises.lock().begin_sign(duty, ballot, now);
        self.fence(duty, answer)
    }

    /// Lets a duty be signed without a promise by who leads, and puts up the fence.
    ///
    /// # Errors
    /// The answer, if it is not [`SignAnswer::Begun`].
    pub fn begin_sign_led(
        self: &Arc<Self>,
        duty: DutyId,
        ballot: Ballot,
        lead: Lead,
    ) -> Result<Fence, SignAnswer> {
        let now = Instant::now().into_std();
        let mut promises = self.promises.lock();
        let answer = promises.begin_sign_led(duty, ballot, lead, now);
        drop(promises);
        self.fence(duty, answer)
    }

    fn fence(self: &Arc<Self>, duty: DutyId, answer: SignAnswer) -> Result<Fence, SignAnswer> {
        let begun = answer == SignAnswer::Begun;
        begun
            .then(|| Fence {
                book: Arc::clone(self),
                duty,
            })
            .ok_or(answer)
    }

    /// See [`Promises::go_on`].
    #[must_use]
    pub fn go_on(&self, lead: Lead) -> Option<Horizon> {
        self.promises.lock().go_on(lead, Instant::now().into_std())
    }

    /// See [`Promises::may_lead`].
    #[must_use]
    pub fn may_lead(&self, replaces: Option<Lead>) -> bool {
        let now = Instant::now().into_std();
        self.promises.lock().may_lead(replaces, now)
    }

    /// See [`Promises::lead`].
    #[must_use]
    pub fn lead(&self, lead: Lead, replaces: Option<Lead>, signed: Horizon) -> Option<Horizon> {
        let now = Instant::now().into_std();
        self.promises.lock().lead(lead, replaces, signed, now)
    }

    /// See [`Promises::end_lead`].
    pub fn end_lead(&self, lead: Lead) {
        self.promises.lock().end_lead(lead);
    }

    /// See [`Promises::retire`].
    pub fn retire(&self, duty: DutyId) {
        self.promises.lock().retire(duty);
    }

    /// See [`Promises::forget_past`].
    pub fn forget_past(&self, settled_after: Duration, is_past: impl Fn(&DutyId) -> bool) {
        self.promises
            .lock()
            .forget_past(Instant::now().into_std(), settled_after, is_past);
    }

    /// See [`Promises::is_starting`].
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.promises.lock().is_starting(Instant::now().into_std())
    }

    /// See [`Promises::len`].
    #[must_use]
    pub fn held(&self) -> usize {
        self.promises.lock().len()
    }

    fn bell(&self, duty: &DutyId) -> Option<&Notify> {
        let bells = u64::try_from(BELLS).ok()?;
        let bell = duty.spread() % bells;
        self.bells.get(usize::try_from(bell).ok()?)
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        self.book.promises.lock().end_sign(self.duty);
        if let Some(bell) = self.book.bell(&self.duty) {
            bell.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use duty::{Claim, PublicKey, SigningRoot, Slot};
    use std::time::Instant;
    use tokio::time;

    use super::*;
    use crate::promises::START_PAUSE;

    fn book() -> Arc<PromiseBook> {
        let started = Instant::now().checked_sub(START_PAUSE).unwrap();
        Arc::new(PromiseBook::new(Promises::new(started, 10)))
    }

    fn duty() -> DutyId {
        DutyId::new(PublicKey([1; 48]), &Claim::Propose { slot: Slot(1) })
    }

    fn ballot(round: u64) -> Ballot {
        Ballot {
            round,
            root: SigningRoot([0; 32]),
        }
    }

    #[tokio::test]
    async fn a_promise_waits_for_the_outcome_of_a_sign_request_that_began() {
        let book = book();
        let far = time::Instant::now() + Duration::from_secs(60);
        assert_eq!(
            book.promise(duty(), ballot(0), far).await,
            PromiseAnswer::Held
        );
        let fence = book.begin_sign(duty(), ballot(0)).ok().unwrap();
        let waiting = {
            let book = Arc::clone(&book);
            tokio::spawn(async move { book.promise(duty(), ballot(1), far).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(fence);
        assert_eq!(waiting.await.unwrap(), PromiseAnswer::Held);
    }

    #[tokio::test]
    async fn a_promise_does_not_wait_longer_than_its_deadline() {
        let book = book();
        let soon = time::Instant::now() + Duration::from_millis(20);
        assert_eq!(
            book.promise(duty(), ballot(0), soon).await,
            PromiseAnswer::Held
        );
        let _fence = book.begin_sign(duty(), ballot(0)).ok().unwrap();
        assert_eq!(
            book.promise(duty(), ballot(1), soon).await,
            PromiseAnswer::Fenced
        );
    }
}
