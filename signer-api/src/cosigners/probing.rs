//! Who fails repeatedly is probed, not asked.
//!
//! A cosigner is out while its status is not heard, or when so many calls in a row failed. The status
//! poll probes the former, one call in a while the latter, which nobody waits for; the first good
//! answer brings it back. While nobody asks anything, nothing can fail either: then it is back when it
//! has said for a while that it is there. Where the others are too few it is asked all the same.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use threshold::{ShareIndex, round::FailureReason, round::Peer};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Cosigners, Health,
    lane::{Ask, Ticket},
    latency::Work,
    link::Link,
};

/// So many calls in a row that fail, and a cosigner is out.
const FAILURES_MAX: u32 = 3;

/// So long after the last of them, they say nothing any more of one that answers its status: calls of
/// a time when it stood still may fail after it has come back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);

/// Calls in a row that had no answer, or none that could be understood.
#[derive(Default)]
pub(super) struct Failures(Mutex<Streak>);

#[derive(Default)]
struct Streak {
    count: u32,
    last: String,
    last_at: Option<Instant>,
}

impl Streak {
    const fn is_out(&self) -> bool {
        self.count >= FAILURES_MAX
    }
}

impl Link {
    pub(super) fn call_failed(&self, why: &str) {
        let mut streak = self.failures().0.lock();
        let was_out = streak.is_out();
        streak.count = streak.count.saturating_add(1);
        why.clone_into(&mut streak.last);
        streak.last_at = Some(Instant::now());
        if streak.is_out() && !was_out {
            warn!(cosigner = %self.san(), why, "a cosigner fails repeatedly: it is probed, not asked");
        }
        drop(streak);
        self.show_whether_asked();
    }

    pub(super) fn call_answered(&self) {
        let streak = std::mem::take(&mut *self.failures().0.lock());
        if streak.is_out() {
            info!(cosigner = %self.san(), "a cosigner is asked again");
        }
        self.show_whether_asked();
    }

    /// It has said that it is there: what failed long ago is forgotten.
    pub(super) fn forget_failures(&self) {
        let last_at = self.failures().0.lock().last_at;
        if last_at.is_some_and(|at| at.elapsed() >= FORGOTTEN_AFTER) {
            self.call_answered();
        }
    }

    /// Whether it is asked before it is the last resort.
    pub(crate) fn is_asked(&self) -> bool {
        self.answers() && !self.failures().0.lock().is_out()
    }

    /// What calls to it fail of, if so many did that it is probed, not asked.
    pub(crate) fn failing(&self) -> Option<String> {
        let streak = self.failures().0.lock();
        let (count, last) = (streak.count, &streak.last);
        let why =
            || format!("is probed, not asked: {count} calls in a row failed, the last: {last}");
        streak.is_out().then(why)
    }

    pub(super) fn show_whether_asked(&self) {
        let is_absent = matches!(self.health(), Health::Absent(_));
        let is_out = is_absent || self.failures().0.lock().is_out();
        self.metrics().asked(self.san(), !is_out);
    }

    /// Whether one call that nobody waits for shall tell now how it does.
    pub(super) fn is_to_be_sounded(&self, work: Work, now: Instant) -> bool {
        // A connection that may be dead is the status poll's matter.
        self.answers() && self.latency().sound(work, now)
    }

    /// Answers for it that it is not asked.
    pub(crate) fn pass_over(&self, ask: Arc<Ask>) {
        let why = "is probed, not asked: it failed repeatedly".to_owned();
        Ticket::new(self.peer(), ask).fail(FailureReason::Unreachable, why);
    }
}

impl Cosigners {
    /// Of `peers`, those that are passed over: they fail repeatedly, and the others are enough.
    pub(crate) fn passed_over(
        &self,
        peers: &[Peer],
        members: &[(Peer, ShareIndex)],
        threshold: usize,
    ) -> BTreeSet<Peer> {
        let is_out = |peer: &&Peer| self.link(**peer).is_none_or(|link| !link.is_asked());
        let out: BTreeSet<Peer> = peers.iter().filter(is_out).copied().collect();
        if out.is_empty() {
            return out;
        }
        let asked = |peer: &Peer| peers.contains(peer) && !out.contains(peer);
        let others = members.iter().filter(|(peer, _)| asked(peer));
        let others: BTreeSet<ShareIndex> = others.map(|(_, index)| *index).collect();
        if others.len() < threshold {
            return BTreeSet::new();
        }
        let now = Instant::now();
        let is_probed = |peer: &Peer| {
            self.link(*peer)
                .is_some_and(|link| link.is_to_be_sounded(Work::Promise, now))
        };
        out.into_iter().filter(|peer| !is_probed(peer)).collect()
    }
}
