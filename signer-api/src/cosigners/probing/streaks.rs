//! Calls in a row that failed, and what follows of them. Time is an argument.

use std::time::Duration;

use threshold::round::Mode;
use tokio::time::Instant;

use crate::cosigners::latency::Work;

/// So many calls of one kind in a row that fail, and a cosigner is out.
const FAILURES_MAX: u32 = 3;
/// How long after it was put out it is probed first; how long after a probe the next comes at most.
/// Each pause is twice the one before.
const PROBE_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Who is put out again so soon after it came back is left alone for twice as long as the last time.
const RELAPSE: Duration = Duration::from_secs(30);
/// But no longer than this.
const REST_MAX: Duration = Duration::from_secs(4);
/// So long after it failed last, or could have been probed first, what failed says nothing any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);

/// Calls of one kind in a row that had no answer, or none that could be understood.
#[derive(Debug, Default)]
pub(super) struct Streak {
    count: u32,
    last: String,
    /// When it is forgotten, if nothing else fails.
    ends_at: Option<Instant>,
    /// Before its first probe, how long it is left alone; then how long after each the next comes.
    pause: Duration,
    probe_at: Option<Instant>,
    /// How long it was left alone the last time that it was put out.
    rest: Duration,
    /// When it came back, or was asked anew.
    back_at: Option<Instant>,
}

impl Streak {
    pub(super) const fn is_out(&self) -> bool {
        self.count >= FAILURES_MAX
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let Self { count, last, .. } = self;
        format!("{count} calls in a row failed, the last: {last}")
    }

    /// A call failed that began at `began`.
    pub(super) fn fail(&mut self, began: Instant, now: Instant, why: &str) {
        // Of before it came back: that says nothing of how it is since.
        if self.back_at.is_some_and(|back_at| began < back_at) {
            return;
        }
        let was_out = self.is_out();
        self.count = self.count.saturating_add(1);
        why.clone_into(&mut self.last);
        if self.is_out() && !was_out {
            self.put_out(now);
        }
        let from = self.probe_at.map_or(now, |probe_at| probe_at.max(now));
        self.ends_at = Some(from + FORGOTTEN_AFTER);
    }

    fn put_out(&mut self, now: Instant) {
        let is_relapse = self.back_at.is_some_and(|at| now < at + RELAPSE);
        let rest = if is_relapse {
            self.rest.saturating_mul(2)
        } else {
            PROBE_PAUSE.0
        };
        self.rest = rest.clamp(PROBE_PAUSE.0, REST_MAX);
        self.pause = self.rest;
        self.probe_at = Some(now + self.rest);
    }

    /// It answered, or nothing is held against it any more.
    pub(super) fn end(&mut self, now: Instant) {
        if self.is_out() {
            self.back_at = Some(now);
        }
        (self.count, self.ends_at, self.probe_at) = (0, None, None);
    }

    /// It is asked anew: what it was asked before says nothing.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.end(now);
        self.back_at = Some(now);
    }

    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.ends_at.is_some_and(|at| now >= at)
    }

    fn is_to_be_probed(&self, now: Instant) -> bool {
        self.is_out() && self.probe_at.is_some_and(|at| now >= at)
    }

    fn probe(&mut self, now: Instant) -> bool {
        let is_due = self.is_to_be_probed(now);
        if is_due {
            self.pause = self.pause.saturating_mul(2).min(PROBE_PAUSE.1);
            self.probe_at = Some(now + self.pause);
        }
        is_due
    }
}

/// All of one cosigner's. Each kind of work has its own: a good answer to one says nothing of
/// another.
#[derive(Debug, Default)]
pub(super) struct Streaks {
    promise: Streak,
    commit: Streak,
    sign: Streak,
}

impl Streaks {
    pub(super) const fn of(&mut self, work: Work) -> &mut Streak {
        match work {
            Work::Promise => &mut self.promise,
            Work::Commit => &mut self.commit,
            Work::Sign => &mut self.sign,
        }
    }

    pub(super) fn all(&mut self) -> [(Work, &mut Streak); 3] {
        [
            (Work::Promise, &mut self.promise),
            (Work::Commit, &mut self.commit),
            (Work::Sign, &mut self.sign),
        ]
    }

    /// One for which the cosigner is out.
    pub(super) fn out(&self) -> Option<&Streak> {
        let all = [&self.promise, &self.commit, &self.sign];
        all.into_iter().find(|streak| streak.is_out())
    }

    /// Whether a signature of this mode would probe it.
    pub(super) fn is_to_be_probed(&self, mode: Mode, now: Instant) -> bool {
        match mode {
            Mode::Promised | Mode::Led => {
                self.promise.is_to_be_probed(now) || self.commit.is_to_be_probed(now)
            }
            Mode::Direct => self.sign.is_to_be_probed(now),
        }
    }

    /// Whether the caller probes it now: one in a while.
    pub(super) fn probe(&mut self, mode: Mode, now: Instant) -> bool {
        match mode {
            Mode::Promised | Mode::Led => {
                let (promise, commit) = (self.promise.probe(now), self.commit.probe(now));
                promise || commit
            }
            Mode::Direct => self.sign.probe(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn put_out(streak: &mut Streak, now: Instant) {
        (0..FAILURES_MAX).for_each(|_| streak.fail(now, now, "the test says so"));
        assert!(streak.is_out());
    }

    /// When it is probed, in milliseconds after `from`.
    fn probes(streak: &mut Streak, from: Instant, until: u64) -> Vec<u64> {
        let all = 0..until;
        all.filter(|at| streak.probe(from + ms(*at))).collect()
    }

    #[test]
    fn who_is_out_is_probed_soon_and_then_once_a_second() {
        let (mut streak, start) = (Streak::default(), Instant::now());
        put_out(&mut streak, start);
        assert_eq!(
            probes(&mut streak, start, 4_000),
            [250, 750, 1_750, 2_750, 3_750]
        );
        // A probe that fails changes nothing of it, nor does what was under way.
        streak.fail(start, start + ms(4_000), "the test says so");
        assert_eq!(probes(&mut streak, start, 5_000), [4_750]);
        streak.end(start + ms(5_000));
        assert!(!streak.is_out());
        assert!(probes(&mut streak, start, 9_000).is_empty());
    }

    #[test]
    fn who_fails_again_is_left_alone_for_longer_and_longer_and_who_does_not_is_forgiven() {
        let (mut streak, mut now) = (Streak::default(), Instant::now());
        let mut rests = Vec::new();
        for _ in 0..7 {
            put_out(&mut streak, now);
            let first = probes(&mut streak, now, 5_000)[0];
            rests.push(first);
            now += ms(first + 10);
            streak.end(now);
        }
        assert_eq!(rests, [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000]);
        now += RELAPSE;
        put_out(&mut streak, now);
        assert_eq!(probes(&mut streak, now, 251), [250]);
    }

    #[test]
    fn what_was_asked_before_it_came_back_puts_nobody_out() {
        let start = Instant::now();
        for comes_back in [Streak::end, Streak::begin_anew] {
            let mut streak = Streak::default();
            put_out(&mut streak, start);
            comes_back(&mut streak, start + ms(500));
            for _ in 0..10 {
                streak.fail(start + ms(499), start + ms(900), "the test says so");
            }
            assert!(!streak.is_out());
            put_out(&mut streak, start + ms(500));
        }
    }

    #[test]
    fn what_failed_is_forgotten_some_time_after_it_failed_last_and_not_while_it_rests() {
        let (mut streak, start) = (Streak::default(), Instant::now());
        streak.fail(start, start, "the test says so");
        assert!(!streak.is_forgotten(start + ms(2_999)));
        assert!(streak.is_forgotten(start + ms(3_000)));
        put_out(&mut streak, start);
        assert!(!streak.is_forgotten(start + ms(3_249)));
        assert!(streak.is_forgotten(start + ms(3_250)));
        streak.end(start + ms(3_250));
        assert!(!streak.is_forgotten(start + ms(60_000)), "there is nothing");
    }

    #[test]
    fn a_good_answer_to_one_kind_says_nothing_of_another() {
        let (mut streaks, start) = (Streaks::default(), Instant::now());
        put_out(streaks.of(Work::Commit), start);
        streaks.of(Work::Promise).end(start);
        assert!(streaks.out().is_some());
        let later = start + ms(250);
        assert!(!streaks.is_to_be_probed(Mode::Direct, later));
        assert!(streaks.is_to_be_probed(Mode::Promised, later));
        assert!(streaks.probe(Mode::Promised, later));
        assert!(!streaks.probe(Mode::Promised, later));
        streaks.of(Work::Commit).end(later);
        assert!(streaks.out().is_none());
    }
}
