//! Several coordinators, each driving a [`Round`], against cosigners as agreement.md describes them:
//! promise floors in memory, one vote each in a ledger that restarts keep. Messages are delayed,
//! reordered and lost; coordinators stop anywhere and callers ask again; cosigners restart.
//!
//! SAFE: never two roots with a threshold of votes. LIVE: in every state some root can still reach
//! a threshold. Without the fence (a cosigner that signs under any ballot) the check must fail.

use std::{collections::BTreeMap, time::Duration};

use duty::SigningRoot;

use super::*;

/// A cosigner promises nothing this long after its start.
const QUIET: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_millis(1_200);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_micros();
        from + Duration::from_micros(self.below(u64::try_from(span).unwrap() + 1))
    }
}

#[derive(Default)]
struct Cosigner {
    promised: Option<(Ballot, Duration)>,
    /// What is held was not promised: who leads signs it. Any promise is higher.
    held_for_leader: bool,
    signed: Option<SigningRoot>,
    quiet_until: Duration,
    /// The first coordinator leads it, and has since before anything happened.
    led: bool,
}

struct Coordinator {
    root: SigningRoot,
    round: Option<Round>,
    wake: Option<Duration>,
    retry: Option<Duration>,
    epoch: usize,
}

enum Happening {
    Begin,
    Ask {
        ballot: Ballot,
        peer: Peer,
        what: What,
    },
    Tell(Event),
    Wake(Duration),
    Retry(Duration),
    Stop,
    Restart(usize),
}

/// What a cosigner is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Promise,
    Sign,
    SignLed,
}

#[derive(Clone, Copy)]
struct Setting {
    n: usize,
    t: usize,
    fenced: bool,
    faults: bool,
}

struct World {
    setting: Setting,
    chance: Chance,
    now: Duration,
    sequence: u64,
    /// In the order of time; whose, and in which of its lives.
    agenda: BTreeMap<(Duration, u64), (usize, usize, Happening)>,
    cosigners: Vec<Cosigner>,
    /// Whom the first coordinator takes to be led.
    led: Vec<bool>,
    coordinators: Vec<Coordinator>,
    combined: Vec<SigningRoot>,
    verdicts: Vec<Verdict>,
}

impl World {
    fn new(seed: u64, setting: Setting, roots: &[u8]) -> Self {
        let mut world = Self {
            setting,
            chance: Chance(seed),
            now: Duration::ZERO,
            sequence: 0,
            agenda: BTreeMap::new(),
            cosigners: Vec::new(),
            led: Vec::new(),
            coordinators: Vec::new(),
            combined: Vec::new(),
            verdicts: Vec::new(),
        };
        let leads = world.chance.percent(60);
        for _ in 0..setting.n {
            let led = leads && world.chance.percent(90);
            world.led.push(led);
            world.cosigners.push(Cosigner {
                led,
                ..Cosigner::default()
            });
        }
        for (whose, root) in roots.iter().enumerate() {
            world.coordinators.push(Coordinator {
                root: SigningRoot([*root; 32]),
                round: None,
                wake: None,
                retry: None,
                epoch: 0,
            });
            let start = Duration::from_millis(world.chance.below(30));
            world.plan(start, whose, Happening::Begin);
            if setting.faults && world.chance.percent(40) {
                let stop = Duration::from_millis(world.chance.below(400));
                world.plan(stop, whose, Happening::Stop);
            }
        }
        if setting.faults {
            for _ in 0..world.chance.below(3) {
                let at = Duration::from_millis(world.chance.below(3_000));
                let which = usize::try_from(world.chance.below(64)).unwrap() % setting.n;
                world.plan(at, 0, Happening::Restart(which));
            }
        }
        world
    }

    fn plan(&mut self, after: Duration, whose: usize, what: Happening) {
        let epoch = self.coordinators.get(whose).map_or(0, |c| c.epoch);
        self.sequence += 1;
        self.agenda
            .insert((self.now + after, self.sequence), (whose, epoch, what));
    }

    /// Mostly a few milliseconds, sometimes long enough to arrive after everything else.
    fn delay(&mut self) -> Duration {
        let most = match (self.chance.percent(80), self.setting.faults) {
            (true, _) => 8,
            (false, true) => 1_500,
            (false, false) => 60,
        };
        Duration::from_micros(self.chance.below(most * 1_000))
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(((at, _), (whose, epoch, what))) = self.agenda.pop_first() {
            self.now = at;
            if at > Duration::from_secs(20) {
                return Err("does not end".to_owned());
            }
            self.happen(whose, epoch, what);
            self.check()?;
        }
        Ok(())
    }

    fn happen(&mut self, whose: usize, epoch: usize, what: Happening) {
        let current = self.coordinators[whose].epoch == epoch;
        match what {
            Happening::Begin => self.begin(whose),
            Happening::Ask { ballot, peer, what } => self.ask(whose, epoch, ballot, peer, what),
            Happening::Tell(event) if current => self.tell(whose, event),
            Happening::Wake(at) if current && self.coordinators[whose].wake == Some(at) => {
                self.tell(whose, Event::Woken);
            }
            Happening::Retry(at) if current && self.coordinators[whose].retry == Some(at) => {
                self.coordinators[whose].retry = None;
                self.tell(whose, Event::Retry);
            }
            Happening::Tell(_) | Happening::Wake(_) | Happening::Retry(_) => {}
            Happening::Stop => {
                self.coordinators[whose].round = None;
                self.coordinators[whose].epoch += 1;
                if self.chance.percent(50) {
                    let pause = Duration::from_millis(self.chance.below(1_000));
                    self.plan(pause, whose, Happening::Begin);
                }
            }
            Happening::Restart(which) => {
                self.cosigners[which].promised = None;
                self.cosigners[which].led = false;
                self.cosigners[which].quiet_until = self.now + QUIET;
            }
        }
    }

    fn begin(&mut self, whose: usize) {
        let mut members: Vec<Invited> = (0..self.setting.n)
            .map(|peer| Invited {
                peer: Peer(peer),
                index: ShareIndex::new(u64::try_from(peer).unwrap() + 1).unwrap(),
                promise_within: Duration::from_millis(5 + self.chance.below(60)),
                sign_within: Duration::from_millis(5 + self.chance.below(60)),
                reserve: self.chance.percent(10),
                sounded: self.chance.percent(10),
                spare: self.chance.percent(25),
                led: whose == 0 && self.led[peer],
            })
            .collect();
        let turn = usize::try_from(self.chance.below(64)).unwrap() % members.len();
        members.rotate_left(turn);
        let terms = Terms {
            root: self.coordinators[whose].root,
            mode: if whose == 0 {
                Mode::Led
            } else {
                Mode::Promised
            },
            threshold: self.setting.t,
            size: self.setting.n,
            members,
            deadline: self.now + DEADLINE,
        };
        let (round, effects) = Round::open(terms, self.now);
        self.coordinators[whose].epoch += 1;
        self.coordinators[whose].round = Some(round);
        self.obey(whose, effects);
    }

    fn tell(&mut self, whose: usize, event: Event) {
        let now = self.now;
        let Some(round) = &mut self.coordinators[whose].round else {
            return;
        };
        let effects = round.handle(now, event);
        self.obey(whose, effects);
    }

    fn obey(&mut self, whose: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Promise {
                    ballot,
                    to,
                    not_after,
                } => {
                    assert!(self.now < not_after);
                    self.send(whose, ballot, to, What::Promise);
                }
                Effect::Sign {
                    ballot,
                    led,
                    to,
                    not_after,
                    ..
                } => {
                    assert!(self.now < not_after, "signing is asked for too late");
                    let what = if led { What::SignLed } else { What::Sign };
                    self.send(whose, ballot.expect("slashable"), to, what);
                }
                Effect::Combine(partials) => self.combine(whose, &partials),
                Effect::Blame(peers) => panic!("blames {peers:?}"),
                Effect::Suspect(partials) => panic!("suspects {partials:?}"),
                Effect::WakeAt(at) => {
                    self.coordinators[whose].wake = Some(at);
                    let after = at - self.now;
                    self.plan(after, whose, Happening::Wake(at));
                }
                Effect::RetryBetween { earliest, latest } => {
                    let at = self.chance.between(earliest, latest);
                    self.coordinators[whose].retry = Some(at);
                    self.plan(at - self.now, whose, Happening::Retry(at));
                }
                Effect::Finish(verdict) => self.finished(whose, verdict),
            }
        }
    }

    fn send(&mut self, whose: usize, ballot: Ballot, to: Vec<Peer>, what: What) {
        for peer in to {
            let delay = self.delay();
            if self.setting.faults && self.chance.percent(5) {
                self.lose(whose, peer, ballot.round);
            } else {
                self.plan(delay, whose, Happening::Ask { ballot, peer, what });
            }
        }
    }

    fn lose(&mut self, whose: usize, peer: Peer, round: u64) {
        let failure = Failure {
            reason: FailureReason::TimedOut,
            message: "lost".to_owned(),
        };
        let event = Event::Failed {
            peer,
            round,
            failure,
        };
        self.plan(Duration::from_millis(300), whose, Happening::Tell(event));
    }

    /// What a cosigner does; its coordinator may be another one by the time of the reply.
    fn ask(&mut self, whose: usize, epoch: usize, ballot: Ballot, peer: Peer, what: What) {
        let event = self.answer(ballot, peer, what);
        if self.coordinators[whose].epoch != epoch {
            return;
        }
        if self.setting.faults && self.chance.percent(5) {
            self.lose(whose, peer, ballot.round);
        } else {
            let delay = self.delay();
            self.plan(delay, whose, Happening::Tell(event));
        }
    }

    fn answer(&mut self, ballot: Ballot, peer: Peer, what: What) -> Event {
        let now = self.now;
        let cosigner = &mut self.cosigners[peer.0];
        let round = ballot.round;
        let failed = |reason| {
            let failure = Failure {
                reason,
                message: "abstains".to_owned(),
            };
            Event::Failed {
                peer,
                round,
                failure,
            }
        };
        if what == What::Promise {
            if now < cosigner.quiet_until {
                return failed(FailureReason::Starting);
            }
            return match cosigner.promised {
                Some((held, _)) if held > ballot && !cosigner.held_for_leader => {
                    Event::Outbid { peer, round, held }
                }
                Some(_) | None => {
                    cosigner.promised = Some((ballot, now));
                    cosigner.held_for_leader = false;
                    Event::Promised {
                        peer,
                        round,
                        signed: cosigner.signed,
                    }
                }
            };
        }
        if self.setting.fenced && what == What::SignLed {
            match cosigner.promised {
                Some(_) | None if !cosigner.led => return failed(FailureReason::NotLed),
                None => {
                    cosigner.promised = Some((ballot, now));
                    cosigner.held_for_leader = true;
                }
                Some((held, _)) if cosigner.held_for_leader && held == ballot => {}
                Some((held, _)) if held > ballot => return Event::Outbid { peer, round, held },
                Some(_) => return failed(FailureReason::TooLate),
            }
        } else if self.setting.fenced {
            match cosigner.promised {
                Some(_) if cosigner.held_for_leader => return failed(FailureReason::TooLate),
                Some((held, _)) if held > ballot => return Event::Outbid { peer, round, held },
                Some((held, at)) if held == ballot && now <= at + SIGN_WINDOW => {}
                Some(_) | None => return failed(FailureReason::TooLate),
            }
        }
        if cosigner.signed.is_some_and(|signed| signed != ballot.root) {
            let message = "signed another".to_owned();
            let refusal = Refusal {
                reason: RefusalReason::Slashable,
                message,
            };
            return Event::Refused { peer, refusal };
        }
        cosigner.signed = Some(ballot.root);
        Event::Signed {
            peer,
            partial: PartialSignature::Plain([ballot.root.0[0]; 96]),
        }
    }

    fn combine(&mut self, whose: usize, partials: &[(ShareIndex, PartialSignature)]) {
        let root = self.coordinators[whose].root;
        assert_eq!(
            partials.len(),
            self.setting.t,
            "exactly a threshold is combined"
        );
        let mut indices: Vec<u64> = partials.iter().map(|(index, _)| index.value()).collect();
        indices.dedup();
        assert_eq!(indices.len(), self.setting.t, "each member once");
        assert!(
            partials
                .iter()
                .all(|(_, partial)| *partial == PartialSignature::Plain([root.0[0]; 96]))
        );
        self.combined.push(root);
        self.tell(whose, Event::Combined);
    }

    fn finished(&mut self, whose: usize, verdict: Verdict) {
        let root = self.coordinators[whose].root;
        match &verdict {
            Verdict::Refused(_) => {
                let against = self.cosigners.iter().filter_map(|c| c.signed);
                let against = against.filter(|signed| *signed != root).count();
                assert!(
                    against > self.setting.n - self.setting.t,
                    "refused, but signable"
                );
            }
            Verdict::Unavailable(_) => {
                if self.setting.faults && self.now < Duration::from_secs(6) {
                    self.plan(Duration::from_millis(20), whose, Happening::Begin);
                }
            }
        }
        self.verdicts.push(verdict);
    }

    fn check(&self) -> Result<(), String> {
        let mut votes: BTreeMap<SigningRoot, usize> = BTreeMap::new();
        for root in self.cosigners.iter().filter_map(|cosigner| cosigner.signed) {
            *votes.entry(root).or_default() += 1;
        }
        let t = self.setting.t;
        let free = self.setting.n - votes.values().sum::<usize>();
        if votes.values().filter(|count| **count >= t).count() > 1 {
            return Err(format!("unsafe: {votes:?}"));
        }
        if free < t && votes.values().all(|count| count + free < t) {
            return Err(format!("stuck: {votes:?}"));
        }
        Ok(())
    }
}

const SIZES: [(usize, usize); 5] = [(3, 2), (4, 3), (5, 3), (5, 4), (7, 5)];
const CALLERS: [&[u8]; 6] = [b"ab", b"aa", b"aab", b"abc", b"abab", b"abcd"];

fn explore(seeds: std::ops::Range<u64>, fenced: bool, faults: bool) -> Result<usize, String> {
    let mut signed = 0;
    for seed in seeds {
        let mut chance = Chance(seed ^ 0x5eed);
        let (n, t) = SIZES[usize::try_from(chance.below(5)).unwrap()];
        let roots = CALLERS[usize::try_from(chance.below(6)).unwrap()];
        let setting = Setting {
            n,
            t,
            fenced,
            faults,
        };
        let mut world = World::new(seed, setting, roots);
        let what = format!("seed {seed}, {t}-of-{n}, callers {}", roots.escape_ascii());
        world
            .run()
            .map_err(|problem| format!("{what}: {problem}"))?;
        signed += usize::from(!world.combined.is_empty());
        if !faults && world.combined.is_empty() {
            return Err(format!("{what}: nothing was signed: {:?}", world.verdicts));
        }
    }
    Ok(signed)
}

#[test]
fn racing_coordinators_are_never_unsafe_and_never_stuck() {
    let signed = explore(0..4_000, true, true).unwrap();
    assert!(signed > 3_000, "only {signed} of 4,000 duties were signed");
}

#[test]
fn without_faults_every_raced_duty_is_signed() {
    explore(0..2_000, true, false).unwrap();
}

#[test]
fn without_the_fence_the_check_finds_a_stuck_split() {
    let found = explore(0..4_000, false, true).unwrap_err();
    assert!(found.contains("stuck"), "{found}");
}
