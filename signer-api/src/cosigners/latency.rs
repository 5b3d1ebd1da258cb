//! How long a cosigner takes for each kind of work: a bounded window of what it took lately, and how
//! long it has been silent while it was asked.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a window holds at most; the oldest goes first.
const SAMPLES_MAX: usize = 64;
/// What is older than this counts no more, so that who was slow can win its place back.
const AGE_MAX: Duration = Duration::from_secs(30);
/// With fewer samples than this nothing is said of the slowest.
const SAMPLES_MIN: usize = 8;
/// Who was not asked for so long is asked beyond what is needed, to learn how long it takes now.
const SOUNDED_EVERY: Duration = Duration::from_secs(1);

/// What a cosigner is asked for. Each takes its own time: a ledger reads, writes, or has no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A promise.
    Promise,
    /// A signature that its ledger permits.
    Commit,
    /// A signature that needs no permit.
    Sign,
}

/// How long something takes lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usual {
    /// Half of it takes no longer.
    pub(super) median: Duration,
    /// Of twenty, nineteen take no longer; nothing as long as too few were measured.
    pub(super) p95: Option<Duration>,
}

/// The windows of one cosigner. A lock is held for about a microsecond.
#[derive(Debug, Default)]
pub(super) struct Latency {
    promise: Mutex<Window>,
    commit: Mutex<Window>,
    sign: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    samples: VecDeque<(Instant, Duration)>,
    usual: Option<Usual>,
    sounded_at: Option<Instant>,
    quiet: Quiet,
}

/// How long nothing was answered while something was asked.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Calls that have no answer yet.
    under_way: usize,
    /// When one of them was begun while none was, or another was answered.
    since: Option<Instant>,
}

impl Quiet {
    /// A call begins; [`Self::ended`] must follow.
    pub(super) fn began(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_add(1);
        self.since.get_or_insert(now);
    }

    pub(super) fn ended(&mut self, now: Instant, how: Ended) {
        self.under_way = self.under_way.saturating_sub(1);
        if matches!(how, Ended::Answered(_)) {
            self.since = Some(now);
        }
        if self.under_way == 0 {
            self.since = None;
        }
    }

    pub(super) fn lasts(&self, now: Instant) -> Duration {
        let lasts = |since| now.saturating_duration_since(since);
        self.since.map_or(Duration::ZERO, lasts)
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer, after this.
    Answered(Duration),
    /// Without one, when nobody waited for it any more: it would have taken longer than this.
    TimedOut(Duration),
    /// At once, and for no reason that tells how long the cosigner takes.
    Failed,
}

impl Latency {
    const fn window(&self, work: Work) -> &Mutex<Window> {
        match work {
            Work::Promise => &self.promise,
            Work::Commit => &self.commit,
            Work::Sign => &self.sign,
        }
    }

    /// A call begins; [`Self::ended`] must follow.
    pub(super) fn began(&self, work: Work, now: Instant) {
        self.window(work).lock().quiet.began(now);
    }

    pub(super) fn ended(&self, work: Work, now: Instant, how: Ended) {
        let mut window = self.window(work).lock();
        window.quiet.ended(now, how);
        match how {
            Ended::Answered(took) | Ended::TimedOut(took) => window.add(now, took),
            Ended::Failed => {}
        }
    }

    /// What is usual lately, if anything is known.
    pub(super) fn usual(&self, work: Work, now: Instant) -> Option<Usual> {
        let window = self.window(work).lock();
        let (newest, _) = window.samples.back()?;
        let is_known = now.saturating_duration_since(*newest) < AGE_MAX;
        window.usual.filter(|_| is_known)
    }

    /// For how long nothing of this kind was answered while something was asked.
    pub(super) fn silent_for(&self, work: Work, now: Instant) -> Duration {
        self.window(work).lock().quiet.lasts(now)
    }

    /// Whether the caller shall ask for this to learn how long it takes: one caller in a while.
    pub(super) fn sound(&self, work: Work, now: Instant) -> bool {
        let mut window = self.window(work).lock();
        let newest = window.samples.back().map(|(at, _)| *at);
        let last = newest.max(window.sounded_at);
        let is_due = last.is_none_or(|at| now.saturating_duration_since(at) >= SOUNDED_EVERY);
        if is_due {
            window.sounded_at = Some(now);
        }
        is_due
    }

    /// Forgets what calls took before an absence.
    pub(super) fn forget(&self) {
        for window in [&self.promise, &self.commit, &self.sign] {
            let mut window = window.lock();
            window.samples.clear();
            window.usual = None;
        }
    }
}

impl Window {
    fn add(&mut self, now: Instant, took: Duration) {
        while self.samples.len() >= SAMPLES_MAX
            || self
                .samples
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= AGE_MAX)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, took));
        let mut sorted: Vec<Duration> = self.samples.iter().map(|(_, took)| *took).collect();
        sorted.sort_unstable();
        let at = |twentieths: usize| {
            let rank = sorted.len().saturating_mul(twentieths).div_ceil(20);
            sorted.get(rank.saturating_sub(1)).copied()
        };
        self.usual = at(10).map(|median| Usual {
            median,
            p95: at(19).filter(|_| sorted.len() >= SAMPLES_MIN),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn measured(samples: impl IntoIterator<Item = u64>) -> (Latency, Instant) {
        let (latency, now) = (Latency::default(), Instant::now());
        for took in samples {
            latency.began(Work::Sign, now);
            latency.ended(Work::Sign, now, Ended::Answered(ms(took)));
        }
        (latency, now)
    }

    #[test]
    fn median_and_p95_are_those_of_the_window() {
        let known = |median, p95: Option<u64>| {
            let (median, p95) = (ms(median), p95.map(ms));
            Some(Usual { median, p95 })
        };
        for (samples, expected) in [
            (vec![], None),
            (vec![7], known(7, None)),
            (vec![9, 1, 5], known(5, None)),
            ((1..=8).collect(), known(4, Some(8))),
            ((1..=20).rev().collect(), known(10, Some(19))),
            // Of a hundred the last 64, from 37 on.
            ((1..=100).collect(), known(68, Some(97))),
        ] {
            let (latency, now) = measured(samples.clone());
            assert_eq!(latency.usual(Work::Sign, now), expected, "{samples:?}");
            assert_eq!(latency.usual(Work::Commit, now), None);
        }
    }

    #[test]
    fn who_was_slow_wins_its_place_back() {
        let (latency, start) = measured([500; 64]);
        let later = start + AGE_MAX;
        assert!(latency.usual(Work::Sign, later - ms(1)).is_some());
        assert_eq!(latency.usual(Work::Sign, later), None);
        latency.began(Work::Sign, later);
        latency.ended(Work::Sign, later, Ended::Answered(ms(2)));
        let usual = latency.usual(Work::Sign, later).unwrap();
        assert_eq!((usual.median, usual.p95), (ms(2), None));
        latency.forget();
        assert_eq!(latency.usual(Work::Sign, later), None);
    }

    #[test]
    fn failures_make_nobody_look_fast_and_timeouts_are_slow() {
        let (latency, now) = measured([]);
        for how in [Ended::Failed, Ended::TimedOut(ms(1_200))] {
            latency.began(Work::Commit, now);
            latency.ended(Work::Commit, now, how);
        }
        let usual = latency.usual(Work::Commit, now).unwrap();
        assert_eq!(usual.median, ms(1_200));
    }

    #[test]
    fn who_is_asked_and_says_nothing_is_silent_and_who_is_not_asked_is_not() {
        let (latency, start) = measured([1; 10]);
        let silent = |after| latency.silent_for(Work::Sign, start + ms(after));
        assert_eq!(silent(5_000), Duration::ZERO);
        latency.began(Work::Sign, start + ms(100));
        latency.began(Work::Sign, start + ms(200));
        assert_eq!(silent(300), ms(200));
        latency.ended(Work::Sign, start + ms(300), Ended::Answered(ms(100)));
        assert_eq!(silent(400), ms(100));
        latency.ended(Work::Sign, start + ms(500), Ended::Failed);
        assert_eq!(silent(9_000), Duration::ZERO);
    }

    #[test]
    fn one_of_many_callers_sounds_who_was_not_asked_for_a_while() {
        let (latency, start) = measured([1; 10]);
        let sounds = |after| latency.sound(Work::Sign, start + ms(after));
        assert!(!sounds(999));
        assert!(sounds(1_000));
        assert!(!sounds(1_000));
        assert!(!sounds(1_999));
        assert!(sounds(2_000));
    }
}
