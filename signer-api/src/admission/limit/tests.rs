//! The limit against a server that answers so many in a second, one after the other.

use std::collections::VecDeque;

use super::*;

mod slots;

const DEADLINE: Duration = Duration::from_millis(1_200);
const STEP: Duration = Duration::from_millis(1);

/// A server: how many it has answered, refused, and answered too late.
struct Server {
    limit: Limit,
    now: Duration,
    /// When each that is under way was taken on.
    queue: VecDeque<Duration>,
    /// What it has done of the next answer, in millionths.
    work: u64,
    answered: u64,
    late: u64,
    refused: u64,
    waits: Vec<Duration>,
}

impl Server {
    /// With a place for each of so many validators from the start.
    fn new(places_max: usize) -> Self {
        let mut server = Self::with_few_validators(places_max);
        server.limit.expect(places_max);
        server
    }

    fn with_few_validators(places_max: usize) -> Self {
        Self {
            limit: Limit::new(places_max, DEADLINE),
            now: Duration::ZERO,
            queue: VecDeque::new(),
            work: 0,
            answered: 0,
            late: 0,
            refused: 0,
            waits: Vec::new(),
        }
    }

    /// Another count begins.
    fn forget(&mut self) {
        (self.answered, self.late, self.refused) = (0, 0, 0);
        self.waits.clear();
    }

    fn arrive(&mut self, count: u64) {
        for _ in 0..count {
            if self.limit.admits(self.now, self.queue.len()) {
                self.queue.push_back(self.now);
            } else {
                self.refused += 1;
            }
        }
    }

    /// One millisecond at so many answers a second. What is late is dropped, not done.
    fn step(&mut self, rate: u64) {
        self.now += STEP;
        self.work = (self.work + rate * 1_000).min(rate * 1_000 + 1_000_000);
        while let Some(first) = self.queue.front().copied() {
            let took = self.now - first;
            if took >= DEADLINE {
                self.late += 1;
            } else if self.work >= 1_000_000 {
                self.work -= 1_000_000;
                self.answered += 1;
                self.waits.push(took);
                self.limit.ended(self.now, took, self.queue.len());
            } else {
                break;
            }
            self.queue.pop_front();
        }
    }

    /// So long, at `rate` answers and `arrivals` requests a second.
    fn run(&mut self, millis: u64, rate: u64, arrivals: u64) {
        let mut due = 0;
        for _ in 0..millis {
            due += arrivals;
            self.arrive(due / 1_000);
            due %= 1_000;
            self.step(rate);
        }
    }
}

#[test]
fn ten_times_too_much_is_refused_and_what_is_taken_on_is_in_time() {
    for rate in [60, 150, 500, 2_000, 9_000] {
        let mut server = Server::new(8_192);
        server.run(10_000, rate, rate * 10);
        server.forget();
        server.run(60_000, rate, rate * 10);
        let taken = server.answered + server.late;
        assert!(
            server.late * 100 <= taken,
            "{rate}/s: {} late of {taken}",
            server.late
        );
        let (done, could) = (server.answered, rate * 60);
        assert!(
            done * 10 > could * 9,
            "{rate}/s: only {done} of the {could} that it could"
        );
        server.waits.sort_unstable();
        let p99 = server.waits[server.waits.len() * 99 / 100];
        assert!(p99 < DEADLINE * 19 / 20, "{rate}/s: {p99:?}");
    }
}

/// The most that can be late is what came before the first answer showed how long the others would take.
#[test]
fn a_machine_that_has_just_started_takes_on_what_its_validators_may_ask_at_once() {
    for (validators, rate) in [(1, 900), (1_000, 900), (1_000, 1_100), (2_000, 1_800)] {
        let mut server = Server::with_few_validators(7_680);
        server.limit.expect(validators);
        server.run(60_000, rate, rate * 10);
        let taken = server.answered + server.late;
        assert!(
            server.late * 100 <= taken,
            "{validators} validators, {rate}/s: {} late of {taken}",
            server.late
        );
    }
    let mut server = Server::with_few_validators(7_680);
    server.limit.expect(5_000);
    server.arrive(5_000);
    assert_eq!(server.refused, 0, "each asks once");
    server.limit.expect(5_000);
    server.limit.expect(4_000);
    assert_eq!(server.limit.places(), 5_000);
    server.limit.expect(9_000);
    assert_eq!(server.limit.places(), 7_680, "what is configured");
}

#[test]
fn a_slots_burst_is_taken_on_by_a_machine_that_can() {
    let mut server = Server::new(8_192);
    for _slot in 0..10 {
        server.arrive(5_000);
        server.run(12_000, 6_000, 0);
    }
    assert_eq!(
        (server.answered, server.late, server.refused),
        (50_000, 0, 0)
    );
}

#[test]
fn a_machine_that_cannot_learns_it_from_the_first_burst() {
    let mut server = Server::new(8_192);
    server.arrive(8_000);
    server.run(12_000, 1_000, 0);
    assert!(server.late > 6_000, "{}", server.late);
    server.forget();
    for _slot in 0..20 {
        server.run(100, 1_000, 80_000);
        server.run(11_900, 1_000, 0);
    }
    let taken = server.answered + server.late;
    assert!(server.late * 20 <= taken, "{} late of {taken}", server.late);
    assert!(server.answered > 20 * 600, "{}", server.answered);
}

#[test]
fn what_is_below_capacity_is_never_refused() {
    let mut server = Server::new(8_192);
    server.run(60_000, 1_000, 900);
    assert_eq!((server.late, server.refused), (0, 0));
    // Nor after an overload is over, but for the time that it takes to see that.
    server.run(10_000, 1_000, 10_000);
    server.run(2_000, 1_000, 500);
    server.forget();
    server.run(60_000, 1_000, 900);
    assert_eq!((server.late, server.refused), (0, 0));
}

#[test]
fn an_outage_is_answered_at_once_and_teaches_nothing() {
    let mut server = Server::new(8_192);
    server.run(5_000, 3_000, 1_000);
    let before = server.limit.places();
    server.run(10_000, 0, 1_000);
    assert!(server.refused > 4_000, "{}", server.refused);
    server.run(1_500, 3_000, 0);
    server.forget();
    assert_eq!(server.limit.places(), before);
    server.arrive(2_000);
    server.run(2_000, 3_000, 0);
    assert_eq!(
        (server.answered, server.late, server.refused),
        (2_000, 0, 0)
    );
}

#[test]
fn a_machine_that_becomes_fast_again_is_used_again() {
    let mut server = Server::new(8_192);
    server.run(20_000, 200, 4_000);
    assert!(server.limit.places() < 300, "{}", server.limit.places());
    server.run(5_000, 4_000, 6_000);
    server.forget();
    server.run(10_000, 4_000, 6_000);
    assert!(server.answered > 36_000, "{}", server.answered);
    assert!(server.late * 100 < server.answered, "{}", server.late);
    // Untouched, it is as it was configured within minutes.
    server.run(600_000, 4_000, 100);
    assert_eq!(server.limit.places(), 8_192);
}

#[test]
fn few_places_are_all_used() {
    let mut server = Server::new(3);
    server.arrive(5);
    assert_eq!((server.queue.len(), server.refused), (3, 2));
}
