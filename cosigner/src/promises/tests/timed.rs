//! Restarts and forgotten duties, in time: what the time rules are for. Coordinators outbid each
//! other in rounds, messages take up to [`TRAVEL_MS`] or are lost, cosigners restart at any time.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// Less than half of what [`START_PAUSE`] leaves for messages on their way.
const TRAVEL_MS: u64 = 400;
const N: usize = 4;
const T: usize = 3;
const RUNS: u64 = 3_000;

#[derive(Clone, Copy)]
enum Event {
    Promise {
        from: usize,
        to: usize,
        ballot: Ballot,
    },
    Promised {
        from: usize,
        ballot: Ballot,
        signed: Option<u8>,
    },
    Sign {
        to: usize,
        ballot: Ballot,
    },
    Known {
        at: usize,
        life: u32,
    },
    Restart {
        at: usize,
    },
    Forget {
        at: usize,
    },
    NextRound {
        of: usize,
    },
}

struct Node {
    promises: Promises,
    signed: Option<u8>,
    life: u32,
}

struct Coordinator {
    ballot: Ballot,
    began: Instant,
    counted: usize,
    signing: bool,
}

/// How a cosigner comes back.
#[derive(Clone, Copy, PartialEq)]
enum Restart {
    AfterThePause,
    AtOnce,
}

struct World {
    rng: StdRng,
    start: Instant,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    nodes: Vec<Node>,
    coordinators: Vec<Coordinator>,
    restart: Restart,
}

fn duty() -> DutyId {
    attest(VALIDATOR, 1)
}

impl World {
    fn new(seed: u64, restart: Restart) -> Self {
        let start = Instant::now();
        let now = start + START_PAUSE;
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            start,
            now,
            events: BTreeMap::new(),
            count: 0,
            nodes: vec![],
            coordinators: vec![],
            restart,
        };
        for at in 0..N {
            let promises = Promises::new(start, 10);
            world.nodes.push(Node {
                promises,
                signed: None,
                life: 0,
            });
            for _ in 0..3 {
                world.within(8_000, Event::Restart { at });
                world.within(8_000, Event::Forget { at });
            }
        }
        for of in 0..2 {
            let root = b'a' + u8::try_from(of).unwrap();
            let ballot = ballot(0, root);
            world.coordinators.push(Coordinator {
                ballot,
                began: now,
                counted: 0,
                signing: false,
            });
            world.within(1_000, Event::NextRound { of });
        }
        world
    }

    fn within(&mut self, ms: u64, event: Event) {
        let at = self.now + Duration::from_millis(self.rng.random_range(0..=ms));
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// A message: one in five is lost.
    fn send(&mut self, event: Event) {
        if self.rng.random_range(0..5) > 0 {
            self.within(TRAVEL_MS, event);
        }
    }

    /// Runs until nothing happens any more; whether some root can still reach t.
    fn stays_live(mut self) -> bool {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.apply(event);
        }
        let count = |root| self.nodes.iter().filter(|node| node.signed == root).count();
        let free = count(None);
        count(Some(b'a')) + free >= T || count(Some(b'b')) + free >= T
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Promise { from, to, ballot } => self.promise(from, to, ballot),
            Event::Promised {
                from,
                ballot,
                signed,
            } => self.promised(from, ballot, signed),
            Event::Sign { to, ballot } => {
                let answer = self.nodes[to].promises.begin_sign(duty(), ballot, self.now);
                let free = self.nodes[to]
                    .signed
                    .is_none_or(|signed| signed == ballot.root.0[0]);
                if answer == SignAnswer::Begun && free {
                    // Committed; that it is, is known a little later.
                    self.nodes[to].signed = Some(ballot.root.0[0]);
                    let life = self.nodes[to].life;
                    self.within(50, Event::Known { at: to, life });
                } else if answer == SignAnswer::Begun {
                    self.nodes[to].promises.end_sign(duty());
                }
            }
            Event::Known { at, life } if self.nodes[at].life == life => {
                self.nodes[at].promises.end_sign(duty());
                self.nodes[at].promises.retire(duty());
            }
            Event::Known { .. } => {}
            Event::Restart { at } => {
                let started = match self.restart {
                    Restart::AfterThePause => self.now,
                    Restart::AtOnce => self.start,
                };
                self.nodes[at].promises = Promises::new(started, 10);
                self.nodes[at].life += 1;
            }
            Event::Forget { at } => {
                self.nodes[at]
                    .promises
                    .forget_past(self.now, Duration::ZERO, |_| true);
            }
            Event::NextRound { of } => self.next_round(of),
        }
    }

    fn promise(&mut self, from: usize, to: usize, ballot: Ballot) {
        let node = &mut self.nodes[to];
        match node.promises.promise(duty(), ballot, self.now) {
            PromiseAnswer::Held => {
                let signed = node.signed;
                self.send(Event::Promised {
                    from,
                    ballot,
                    signed,
                });
            }
            PromiseAnswer::Fenced => self.within(20, Event::Promise { from, to, ballot }),
            PromiseAnswer::Outbid(_) | PromiseAnswer::Full | PromiseAnswer::Starting => {}
        }
    }

    fn promised(&mut self, from: usize, ballot: Ballot, signed: Option<u8>) {
        let coordinator = &mut self.coordinators[from];
        if coordinator.ballot != ballot || coordinator.signing {
            return;
        }
        if signed.is_none_or(|signed| signed == ballot.root.0[0]) {
            coordinator.counted += 1;
        }
        if coordinator.counted == T && self.now - coordinator.began <= SIGN_WITHIN {
            coordinator.signing = true;
            for to in 0..N {
                self.send(Event::Sign { to, ballot });
            }
        }
    }

    fn next_round(&mut self, of: usize) {
        if self.now > self.start + Duration::from_secs(12) {
            return;
        }
        let coordinator = &mut self.coordinators[of];
        coordinator.ballot.round += 1;
        coordinator.began = self.now;
        coordinator.counted = 0;
        coordinator.signing = false;
        let ballot = coordinator.ballot;
        for to in 0..N {
            self.send(Event::Promise {
                from: of,
                to,
                ballot,
            });
        }
        self.within(2_000, Event::NextRound { of });
    }
}

#[test]
fn restarts_and_forgotten_duties_leave_nothing_stuck() {
    for seed in 0..RUNS {
        assert!(
            World::new(seed, Restart::AfterThePause).stays_live(),
            "seed {seed}"
        );
    }
}

#[test]
fn without_the_start_pause_some_restart_leaves_a_duty_stuck() {
    let stuck = (0..RUNS).find(|&seed| !World::new(seed, Restart::AtOnce).stays_live());
    println!("stuck at seed {stuck:?}");
    assert!(stuck.is_some());
}
