//! How many requests may be under way, by what gets done.
//!
//! Little's law: what is under way, divided by what ends in a second, is how long the last one
//! waits. While that is less than the deadline, the limit is left as it is; when it comes
//! near the deadline, the limit becomes what two thirds of a deadline get done (as TCP Westwood sets
//! its window by the measured rate, not by halving), and it grows again with each request that ends
//! in time while the limit is nearly used, the more the sooner it ended. Between two thirds of a
//! deadline and five sixths it rests, so that it swings only with what it measures. A limit that is too
//! low costs duties: it is lowered only when requests that ended took nearly too long themselves.
//!
//! Before anything was measured there is a place for one request of each validator, since that many may
//! well come at once, and what could be signed is not to be refused; but no more, since what overload
//! brings beyond it would be taken on before the first answer shows how slow this machine is.
//!
//! Nothing is learnt from an outage, in which nothing ends: then the limit stays, and more than a few
//! requests are turned away until something ends. Time is an argument; there is no clock here.

use std::time::Duration;

/// So many may be under way whatever was measured: without any, nothing would be.
const LEAST: usize = 16;
/// So many are taken on at first, however few validators there are.
const FIRST: u64 = 256;
/// Ends are counted for one deadline, in so many parts, besides the one that has just begun.
const PARTS: u32 = 8;
const COUNTED: usize = 9;
/// So many parts in which nothing ends are no slowness but a stop.
const STALL: usize = 2;
/// The limit is kept in thousandths of a request.
const WHOLE: u64 = 1_000;
/// How much one request that ended in time can add, in thousandths: then it doubles within the time
/// that one takes.
const GROWTH_MAX: u64 = WHOLE;
/// Without being lowered the limit grows by a fifteenth in this time, so that it doubles within
/// two minutes: the machine that was slow need not be.
const RELAXED_EVERY: Duration = Duration::from_secs(10);
const RELAXED_BY: u64 = 15;

/// The limit, and what it is made from. Times count from any moment, the same for all.
#[derive(Debug)]
pub(super) struct Limit {
    places_max: u64,
    deadline: Duration,
    thousandths: u64,
    /// So many at once are thought usual, one for each validator.
    usual: u64,
    /// Since when there were more than [`LEAST`] under way.
    busy_since: Option<Duration>,
    /// When the first ended since then: what a burst took until that is no rate.
    first_end: Option<Duration>,
    /// The most that were under way at once, since there were next to none.
    peak: u64,
    /// Ends in each part of the last deadline, the present one last.
    ends: [u64; COUNTED],
    /// The longest time that one of them took, in each part.
    slowest: [Duration; COUNTED],
    /// When the present part began.
    part_began: Duration,
    /// The part in which it was last looked whether the limit is too high.
    judged: Duration,
    /// When the last one was taken on.
    admitted: Duration,
    relaxed_at: Duration,
}

impl Limit {
    /// A limit that never exceeds `places_max`, for requests that must be answered within `deadline`.
    pub(super) fn new(places_max: usize, deadline: Duration) -> Self {
        let places_max = u64::try_from(places_max).unwrap_or(u64::MAX / WHOLE);
        Self {
            places_max,
            deadline: deadline.max(Duration::from_millis(10)),
            thousandths: places_max.min(FIRST).saturating_mul(WHOLE),
            usual: FIRST,
            busy_since: None,
            first_end: None,
            peak: 0,
            slowest: [Duration::ZERO; COUNTED],
            ends: [0; COUNTED],
            part_began: Duration::ZERO,
            judged: Duration::ZERO,
            admitted: Duration::ZERO,
            relaxed_at: Duration::ZERO,
        }
    }

    /// From now on requests must be answered within `deadline`; what was measured stays.
    pub(super) fn follow(&mut self, deadline: Duration) {
        self.deadline = deadline.max(Duration::from_millis(10));
    }

    /// There are so many validators: for each that is new, one request more may be under way.
    pub(super) fn expect(&mut self, validators: usize) {
        let validators = u64::try_from(validators).unwrap_or(u64::MAX);
        let new = validators.saturating_sub(self.usual);
        if new > 0 {
            self.usual = validators;
            self.set(self.thousandths.saturating_add(new.saturating_mul(WHOLE)));
        }
    }

    /// Requests at once, at this moment.
    pub(super) const fn places(&self) -> u64 {
        self.thousandths / WHOLE
    }

    /// Whether one more is taken on besides `under_way`.
    pub(super) fn admits(&mut self, now: Duration, under_way: usize) -> bool {
        self.turn_parts(now);
        self.relax(now);
        let places = u64::try_from(under_way).unwrap_or(u64::MAX);
        self.peak = if under_way < LEAST / 2 {
            0
        } else {
            self.peak.max(places + 1)
        };
        if places >= self.places_max {
            return false;
        }
        if under_way < LEAST {
            (self.busy_since, self.first_end) = (None, None);
            self.admitted = now;
            return true;
        }
        let since = *self.busy_since.get_or_insert(now);
        self.judge(now, places);
        let busy = now.saturating_sub(since).min(self.deadline);
        let stalled = busy >= self.late() && self.ends.iter().all(|count| *count == 0);
        let admits = !stalled && places < self.places();
        if admits {
            self.admitted = now;
        }
        admits
    }

    /// Notes that a request which was under way has an answer, `took` after it was taken on.
    /// `under_way` counts it still. What has no answer by its deadline never ends, for this.
    pub(super) fn ended(&mut self, now: Duration, took: Duration, under_way: usize) {
        self.turn_parts(now);
        if let Some(present) = self.ends.last_mut() {
            *present = present.saturating_add(1);
        }
        if let Some(slowest) = self.slowest.last_mut() {
            *slowest = took.max(*slowest);
        }
        if self.busy_since.is_some() {
            self.first_end.get_or_insert(now);
        }
        let used = u64::try_from(under_way).unwrap_or(u64::MAX);
        self.judge(now, used);
        if self.peak.saturating_mul(2) < self.places() {
            return;
        }
        // 1 % of a request for each time that `took` fits into what is left of the target.
        let (took, target) = (micros(took).max(1), micros(self.target()));
        let growth = if took.saturating_mul(4) < target {
            GROWTH_MAX
        } else {
            target.saturating_sub(took).saturating_mul(WHOLE / 100) / took
        };
        self.set(self.thousandths.saturating_add(growth.min(GROWTH_MAX)));
    }

    /// How long a request may wait when more are there than can be answered.
    fn target(&self) -> Duration {
        self.deadline.saturating_mul(2) / 3
    }

    /// When the last one under way is thought to come too late.
    fn late(&self) -> Duration {
        self.deadline.saturating_mul(17) / 20
    }

    /// Lowers the limit, if the last one under way would come too late; once in each part.
    fn judge(&mut self, now: Duration, under_way: u64) {
        let Some(since) = self.first_end else { return };
        let busy = now.saturating_sub(since).min(self.deadline);
        // Any earlier, and what a burst has just begun counts as what is not getting done.
        if self.judged == self.part_began || busy < self.deadline / 4 {
            return;
        }
        self.judged = self.part_began;
        let whole = self.part_began.saturating_sub(since).min(self.deadline);
        let Some((ends, within)) = self.rate(whole) else {
            return;
        };
        // Where what ends was quick, those that do not end wait for something else; what ends at its
        // deadline had no answer.
        let slowest = self.slowest.iter().max().copied().unwrap_or_default();
        if slowest < self.target() * 3 / 4 || slowest >= self.deadline {
            return;
        }
        let waits = micros(within).saturating_mul(under_way) / ends;
        // The last one has waited already, but what it waited while nothing ended teaches nothing.
        let waited = micros(now.saturating_sub(self.admitted).min(within));
        if waits.saturating_add(waited) > micros(self.late()) {
            let done = ends
                .saturating_mul(WHOLE)
                .saturating_mul(micros(self.target()));
            self.set((done / micros(within).max(1)).min(self.thousandths));
            self.relaxed_at = now;
        }
    }

    fn relax(&mut self, now: Duration) {
        let times = now.saturating_sub(self.relaxed_at).as_millis() / RELAXED_EVERY.as_millis();
        // After so many it is where it was configured to be.
        for _ in 0..times.min(1_000) {
            self.set(self.thousandths + self.thousandths / RELAXED_BY);
            self.relaxed_at = now;
        }
    }

    fn set(&mut self, thousandths: u64) {
        let least = u64::try_from(LEAST)
            .unwrap_or_default()
            .min(self.places_max);
        let (least, most) = (
            least.saturating_mul(WHOLE),
            self.places_max.saturating_mul(WHOLE),
        );
        self.thousandths = thousandths.clamp(least, most);
    }

    /// Ends and the time that they took: in whole parts, at least two, of the last `busy`. If nothing
    /// ended for a while, then since: but for the part in which that was over. While nothing ends, there
    /// is no rate.
    fn rate(&self, busy: Duration) -> Option<(u64, Duration)> {
        let parts = micros(busy) / micros(self.part()).max(1);
        let parts = usize::try_from(parts).unwrap_or(COUNTED);
        // The present part has just begun.
        let whole = self.ends.iter().rev().skip(1).take(parts);
        let whole: Vec<u64> = whole.copied().collect();
        let stop = whole
            .windows(STALL)
            .position(|part| part.iter().all(|count| *count == 0));
        let counted = stop.map_or(whole.len(), |stop| stop.saturating_sub(1));
        let ends: u64 = whole.iter().take(counted).sum();
        let within = self.part() * u32::try_from(counted).unwrap_or(0);
        let goes_on = whole.first().is_some_and(|count| *count > 0);
        (counted >= 2 && goes_on).then_some((ends, within))
    }

    fn part(&self) -> Duration {
        self.deadline / PARTS
    }

    /// Moves to the part that `now` lies in.
    fn turn_parts(&mut self, now: Duration) {
        let part = micros(self.part()).max(1);
        let passed = micros(now.saturating_sub(self.part_began)) / part;
        for _ in 0..passed.min(u64::from(PARTS) + 1) {
            self.ends.rotate_left(1);
            self.slowest.rotate_left(1);
            if let Some(present) = self.slowest.last_mut() {
                *present = Duration::ZERO;
            }
            if let Some(present) = self.ends.last_mut() {
                *present = 0;
            }
        }
        self.part_began += Duration::from_micros(passed.saturating_mul(part));
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
