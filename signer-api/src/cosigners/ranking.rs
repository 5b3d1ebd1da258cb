//! Who is faster than whom, looked at once in a while.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Cosigners, latency::Work};

/// A burst asks the same members from its beginning to its end: what it measures of itself does not
/// change the order within it. So its batches are few and large, and the next burst takes others, if
/// these have become slow.
const RANKED_EVERY: Duration = Duration::from_secs(1);

/// What half of the calls took at most, by position, as far as it is known.
pub(super) type Medians = Vec<Option<Duration>>;

/// What was seen when it was looked at last.
#[derive(Default)]
struct Ranks {
    medians: Medians,
    at: Option<Instant>,
}

/// The ranks for what asks a ledger, and for what does not.
#[derive(Default)]
pub(super) struct Ranking {
    commit: Mutex<Ranks>,
    sign: Mutex<Ranks>,
}

impl Cosigners {
    /// What it took to get this kind of work done, with the promise that it needs, not long ago.
    pub(super) fn medians(&self, work: Work, now: Instant) -> Medians {
        let ranks = match work {
            Work::Promise | Work::Commit => &self.ranking.commit,
            Work::Sign => &self.ranking.sign,
        };
        let mut ranks = ranks.lock();
        let age = ranks.at.map(|at| now.saturating_duration_since(at));
        if age.is_none_or(|age| age >= RANKED_EVERY) {
            let medians = self.links.iter().map(|link| {
                let median = |work| Some(link.latency().usual(work, now)?.median);
                match work {
                    // It has to promise first.
                    Work::Commit => Some(median(Work::Promise)?.saturating_add(median(work)?)),
                    Work::Promise | Work::Sign => median(work),
                }
            });
            ranks.medians = medians.collect();
            ranks.at = Some(now);
        }
        ranks.medians.clone()
    }
}
