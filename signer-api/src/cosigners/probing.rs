//! Who fails repeatedly is probed, not asked.
//!
//! A cosigner is out while its status is not heard, or when so many calls of one kind in a row failed. The
//! status poll probes the former, one request in a while the latter, which nobody waits for; the first
//! good answer of that kind brings it back. If it fails again soon, it is left alone for longer. While
//! nobody asks anything, nothing can fail either: then it is back when it has said for a while that
//! it is there. Where the others are too few it is asked all the same.

mod streaks;

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use threshold::{
    ShareIndex,
    round::{FailureReason, Mode, Peer},
};
use tokio::time::Instant;
use tracing::{info, warn};

use self::streaks::{Streak, Streaks};
use super::{
    Cosigners, Health,
    lane::{Ask, Ticket},
    latency::Work,
    link::Link,
};

/// One call: what for, and since when.
#[derive(Clone, Copy)]
pub(super) struct Called {
    pub(super) work: Work,
    pub(super) began: Instant,
}

/// What failed of one cosigner lately.
#[derive(Default)]
pub(super) struct Failures(Mutex<Streaks>);

impl Link {
    pub(super) fn call_failed(&self, call: Called, why: &str) {
        self.note(|streaks, now| streaks.of(call.work).fail(call.began, now, why));
    }

    pub(super) fn call_answered(&self, work: Work) {
        self.note(|streaks, now| streaks.of(work).end(now));
    }

    /// It answers again: it is asked anew.
    pub(super) fn forgive(&self) {
        self.note(|streaks, now| {
            let all = streaks.all().into_iter();
            all.for_each(|(_, streak)| streak.begin_anew(now));
        });
    }

    /// It has said that it is there: what failed long ago is forgotten, unless it is being tried.
    pub(super) fn forget_failures(&self) {
        self.note(|streaks, now| {
            for (work, streak) in streaks.all() {
                if streak.is_forgotten(now) && self.latency().silent_for(work, now).is_zero() {
                    streak.end(now);
                }
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut Streaks, Instant)) {
        let mut streaks = self.failures().0.lock();
        let was_out = streaks.out().is_some();
        change(&mut streaks, Instant::now());
        let why = streaks.out().map(Streak::describe);
        drop(streaks);
        let cosigner = self.san();
        match why {
            Some(why) if !was_out => {
                warn!(%cosigner, why, "a cosigner fails repeatedly: it is probed, not asked");
            }
            None if was_out => info!(%cosigner, "a cosigner is asked again"),
            Some(_) | None => {}
        }
        self.show_whether_asked();
    }

    fn is_out(&self) -> bool {
        self.failures().0.lock().out().is_some()
    }

    /// Whether it is asked before it is the last resort.
    pub(crate) fn is_asked(&self) -> bool {
        self.answers() && !self.is_out()
    }

    /// What calls to it fail of, if so many did that it is probed, not asked.
    pub(crate) fn failing(&self) -> Option<String> {
        let streaks = self.failures().0.lock();
        let why = streaks.out()?.describe();
        Some(format!("is probed, not asked: {why}"))
    }

    pub(super) fn show_whether_asked(&self) {
        let is_absent = matches!(self.health(), Health::Absent(_));
        self.metrics()
            .asked(self.san(), !is_absent && !self.is_out());
    }

    /// Whether it is out, and a request may tell now whether it still fails.
    pub(super) fn is_to_be_probed(&self, mode: Mode, now: Instant) -> bool {
        // A connection that may be dead is the status poll's matter.
        self.answers() && self.failures().0.lock().is_to_be_probed(mode, now)
    }

    /// The same, and it is this request that tells.
    pub(super) fn probe(&self, mode: Mode, now: Instant) -> bool {
        self.answers() && self.failures().0.lock().probe(mode, now)
    }

    /// Whether one call that nobody waits for shall tell now how long it takes.
    pub(super) fn is_to_be_sounded(&self, work: Work, now: Instant) -> bool {
        self.is_asked() && self.latency().sound(work, now)
    }

    /// Answers for it that it is not asked.
    pub(crate) fn pass_over(&self, ask: Arc<Ask>) {
        let why = "is probed, not asked: it failed repeatedly".to_owned();
        Ticket::new(self.peer(), ask).fail(FailureReason::Unreachable, why);
    }
}

impl Cosigners {
    /// Of `peers`, whose promises are asked for, those that are passed over: they fail repeatedly, and
    /// the others are enough.
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
                .is_some_and(|link| link.probe(Mode::Promised, now))
        };
        out.into_iter().filter(|peer| !is_probed(peer)).collect()
    }
}
