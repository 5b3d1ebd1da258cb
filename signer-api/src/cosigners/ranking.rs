//! Who is faster than whom, looked at once in a while.

use std::time::Duration;

use parking_lot::Mutex;
use threshold::round::Mode;
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

/// The ranks for what has to be promised, for what only has to be permitted, and for the rest.
#[derive(Default)]
pub(super) struct Ranking {
    promised: Mutex<Ranks>,
    led: Mutex<Ranks>,
    direct: Mutex<Ranks>,
}

impl Cosigners {
    /// What it took to get signatures, with the promises that they need, not long ago.
    pub(super) fn medians(&self, mode: Mode, now: Instant) -> Medians {
        let ranks = match mode {
            Mode::Promised => &self.ranking.promised,
            Mode::Led => &self.ranking.led,
            Mode::Direct => &self.ranking.direct,
        };
        let mut ranks = ranks.lock();
        let age = ranks.at.map(|at| now.saturating_duration_since(at));
        if age.is_none_or(|age| age >= RANKED_EVERY) {
            let medians = self.links.iter().map(|link| {
                let median = |work| Some(link.latency().usual(work, now)?.median);
                match mode {
                    Mode::Promised => {
                        Some(median(Work::Promise)?.saturating_add(median(Work::Commit)?))
                    }
                    Mode::Led => median(Work::Commit),
                    Mode::Direct => median(Work::Sign),
                }
            });
            ranks.medians = medians.collect();
            ranks.at = Some(now);
        }
        ranks.medians.clone()
    }
}
