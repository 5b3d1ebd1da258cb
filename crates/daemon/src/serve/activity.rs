//! What a connection is doing, and since when: whether it may stay.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To ask anything again.
    pub(super) keep_alive: Duration,
    /// To ask anything at all.
    pub(super) first: Duration,
    /// From a head's first byte to its last; none where bytes need not be a head's.
    pub(super) head: Option<Duration>,
    /// To read anything of an answer that waits for that.
    pub(super) answer: Duration,
}

/// One connection. Clones are of the same one.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    under_way: usize,
    /// Answers that are not taken yet.
    untaken: usize,
    asked: bool,
    /// When a request last began or ended.
    changed: Instant,
    /// When the first byte after the last request came.
    heard: Option<Instant>,
    /// Since when the other side has taken nothing of what waits for it.
    blocked: Option<Instant>,
    /// When an answer was last taken, or the first of those that wait began to.
    taken: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        let now = Instant::now();
        Activity(Arc::new(Mutex::new(State {
            under_way: 0,
            untaken: 0,
            asked: false,
            changed: now,
            heard: None,
            blocked: None,
            taken: now,
        })))
    }
}

/// A request under way, until it is dropped: answered, or given up.
pub(super) struct UnderWay(Activity);

impl UnderWay {
    /// An answer's body, which counts until it was taken.
    pub(super) fn answer(self, body: axum::body::Body) -> axum::body::Body {
        let activity = self.0.clone();
        drop(self);
        {
            let mut state = activity.0.lock();
            if state.untaken == 0 {
                state.taken = Instant::now();
            }
            state.untaken = state.untaken.saturating_add(1);
        }
        axum::body::Body::new(Answer { body, activity })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.changed = Instant::now();
    }
}

impl Activity {
    pub(super) fn begin(&self) -> UnderWay {
        let mut state = self.0.lock();
        state.under_way = state.under_way.saturating_add(1);
        state.asked = true;
        state.heard = None;
        UnderWay(self.clone())
    }

    /// Bytes came.
    pub(super) fn heard(&self) {
        let mut state = self.0.lock();
        if state.under_way == 0 && state.heard.is_none() {
            state.heard = Some(Instant::now());
        }
    }

    /// Bytes were to be sent; whether any could be.
    pub(super) fn sent(&self, could: bool) {
        let mut state = self.0.lock();
        if could {
            state.blocked = None;
        } else if state.blocked.is_none() {
            state.blocked = Some(Instant::now());
        }
    }

    /// Ends when the connection has taken longer for something than it may.
    pub(super) async fn outstayed(&self, patience: Patience) {
        loop {
            let left = self.left(patience, Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }

    fn left(&self, patience: Patience, now: Instant) -> Duration {
        let state = self.0.lock();
        let left = |limit: Duration, since: Instant| {
            limit.saturating_sub(now.saturating_duration_since(since))
        };
        let mut least = LOOK_EVERY;
        if let Some(blocked) = state.blocked {
            least = least.min(left(patience.answer, blocked));
        }
        if state.untaken > 0 {
            least = least.min(left(patience.answer, state.taken));
        }
        if state.under_way == 0 {
            least = least.min(match (patience.head, state.heard) {
                (Some(head), Some(heard)) => left(head, heard),
                (Some(_) | None, _) if state.asked => left(patience.keep_alive, state.changed),
                (Some(_) | None, _) => left(patience.first, state.changed),
            });
        }
        least
    }
}

/// A body that counts as untaken until it is dropped, which is when it was taken.
struct Answer {
    body: axum::body::Body,
    activity: Activity,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut state = self.activity.0.lock();
        state.untaken = state.untaken.saturating_sub(1);
        state.taken = Instant::now();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
