//! The limit over slots: bursts that begin slowly, and duties that hang while others end quickly.

use super::*;

const SLOT_MS: u64 = 12_000;

/// A server that answers so many a second, the first after `latency`; what hangs has no answer.
struct Slots {
    limit: Limit,
    now: Duration,
    queue: VecDeque<Duration>,
    hanging: VecDeque<Duration>,
    rate: u64,
    latency: Duration,
    work: u64,
    late: u64,
    refused: u64,
}

impl Slots {
    fn new(rate: u64, latency: Duration) -> Self {
        let mut limit = Limit::new(3_840, DEADLINE);
        limit.expect(3_840);
        Self {
            limit,
            now: Duration::ZERO,
            queue: VecDeque::new(),
            hanging: VecDeque::new(),
            rate,
            latency,
            work: 0,
            late: 0,
            refused: 0,
        }
    }

    fn under_way(&self) -> usize {
        self.queue.len() + self.hanging.len()
    }

    fn arrive(&mut self, count: u64, hangs: bool) {
        for _ in 0..count {
            if !self.limit.admits(self.now, self.under_way()) {
                self.refused += 1;
            } else if hangs {
                self.hanging.push_back(self.now);
            } else {
                self.queue.push_back(self.now);
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.work = (self.work + self.rate * 1_000).min(self.rate * 1_000 + 1_000_000);
        while let Some(first) = self.hanging.front().copied()
            && self.now - first >= DEADLINE
        {
            self.hanging.pop_front();
            self.late += 1;
        }
        while let Some(first) = self.queue.front().copied() {
            let took = self.now - first;
            if took >= DEADLINE {
                self.late += 1;
            } else if took >= self.latency && self.work >= 1_000_000 {
                self.work -= 1_000_000;
                let under_way = self.under_way();
                self.limit.ended(self.now, took, under_way);
            } else {
                return;
            }
            self.queue.pop_front();
        }
    }

    /// One slot: a burst, and so many more in each second.
    fn slot(&mut self, burst: u64, hangs: bool, others: u64) {
        self.arrive(burst, hangs);
        let mut due = 0;
        for _ in 0..SLOT_MS {
            due += others;
            self.arrive(due / 1_000, false);
            due %= 1_000;
            self.step();
        }
    }
}

#[test]
fn a_burst_that_begins_slowly_and_ends_in_time_is_never_refused() {
    for (burst, rate, latency_ms) in [
        (1_000, 2_500, 100),
        (2_000, 3_000, 50),
        (2_000, 3_000, 200),
        (2_000, 3_000, 350),
        (3_000, 4_500, 300),
        (1_000, 1_500, 300),
        (3_000, 4_000, 150),
    ] {
        let mut slots = Slots::new(rate, Duration::from_millis(latency_ms));
        for slot in 0..10 {
            slots.slot(burst, false, 0);
            let seen = (slots.refused, slots.late);
            let what = format!("{burst} at {rate}/s after {latency_ms} ms, slot {slot}");
            assert_eq!(seen, (0, 0), "{what}: refused and late");
        }
    }
}

#[test]
fn while_some_duties_hang_what_ends_quickly_teaches_nothing() {
    for others in [5, 20, 50, 100] {
        let mut slots = Slots::new(3_000, Duration::from_millis(20));
        for _ in 0..5 {
            slots.slot(500, true, others);
        }
        slots.refused = 0;
        for slot in 0..5 {
            slots.slot(500, false, others);
            assert_eq!(slots.refused, 0, "{others}/s of others, slot {slot} after");
        }
    }
}
