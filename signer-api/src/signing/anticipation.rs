//! What is computed of a verification while the cosigners still promise and sign.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use threshold::Anticipated;

/// How long a combination waits at most for what was begun: about what it takes to compute.
pub(super) const ANTICIPATION_WAIT_MAX: Duration = Duration::from_micros(500);

enum State {
    Wanted,
    Done(Arc<Anticipated>),
    Over,
}

/// One request's. Its lock is held while it is computed, so that a combination that is there before
/// it is done can wait for it: that is sooner than to begin anew.
pub(super) struct Anticipation(Mutex<State>);

impl Anticipation {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State::Wanted))
    }

    /// Computes it, unless it was done or is not wanted any more.
    pub(super) fn compute(&self, anticipate: impl FnOnce() -> Option<Anticipated>) {
        let mut state = self.0.lock();
        if matches!(*state, State::Wanted)
            && let Some(anticipated) = anticipate()
        {
            *state = State::Done(Arc::new(anticipated));
        }
    }

    /// What was computed. What was not begun by now will not be; for what was begun and is not done,
    /// `patience` is waited.
    pub(super) fn outcome(&self, patience: Duration) -> Option<Arc<Anticipated>> {
        let mut state = self.0.try_lock_for(patience)?;
        match &*state {
            State::Done(anticipated) => Some(Arc::clone(anticipated)),
            State::Wanted | State::Over => {
                *state = State::Over;
                None
            }
        }
    }

    /// Not wanted any more.
    pub(super) fn cancel(&self) {
        if let Some(mut state) = self.0.try_lock() {
            *state = State::Over;
        }
    }
}
