//! One caller, and as many faulty members as can be spared, of every kind: it is signed in time,
//! whoever is asked is asked once, no more are asked than are needed, and only liars are blamed.
//! What is held against a round is itself held against mistakes made on purpose.

use std::collections::{BTreeMap, BTreeSet};

use duty::SigningRoot;

use super::{super::*, bench::ms};

const ROOT: SigningRoot = SigningRoot([1; 32]);
const DEADLINE: u64 = 1_200;
/// An honest member answers within this, in milliseconds.
const PROMPT: u64 = 40;
const SIZES: [(usize, usize); 5] = [(3, 2), (4, 3), (5, 3), (5, 4), (7, 5)];
const SEEDS: u64 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Honest,
    Slow,
    Silent,
    Fails,
    Refuses,
    /// Says that it signed another message.
    Committed,
    /// Gives a partial that does not verify.
    Lies,
    /// Claims the index of the first member, and lies.
    Impersonates,
    /// Promises, and never signs.
    Withholds,
    /// Gives its partial, and then another.
    Twice,
    /// Says once that somebody else was promised.
    Outbids,
}

const FAULTS: [Conduct; 10] = [
    Conduct::Slow,
    Conduct::Silent,
    Conduct::Fails,
    Conduct::Refuses,
    Conduct::Committed,
    Conduct::Lies,
    Conduct::Impersonates,
    Conduct::Withholds,
    Conduct::Twice,
    Conduct::Outbids,
];

/// A mistake, made between the round and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    HedgesToTheSame,
    HedgesToAll,
    NeverHedges,
    FirstRefusalIsFinal,
    CountsAnIndexTwice,
    BlamesTheLastAsked,
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(u64::try_from(of.len()).unwrap())).unwrap()]
    }
}

struct World {
    chance: Chance,
    mistake: Mistake,
    now: Duration,
    terms: Terms,
    conduct: Vec<Conduct>,
    agenda: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    wake: Option<Duration>,
    retry: Option<Duration>,
    /// Who was asked to sign, in which round, and when; whose answers are known.
    asked: BTreeMap<(u64, Peer), Duration>,
    answered: BTreeSet<Peer>,
    given: BTreeMap<Peer, Vec<PartialSignature>>,
    promised: BTreeSet<(u64, Peer)>,
    outbid: BTreeSet<Peer>,
    signed: bool,
}

impl World {
    fn new(seed: u64, mistake: Mistake) -> Self {
        let mut chance = Chance(seed);
        let (n, t) = chance.pick(&SIZES);
        let mut conduct = vec![Conduct::Honest; n];
        for _ in 0..n - t {
            let peer = usize::try_from(chance.below(u64::try_from(n).unwrap())).unwrap();
            conduct[peer] = chance.pick(&FAULTS);
        }
        let members = conduct.iter().enumerate().map(|(peer, conduct)| {
            let claimed = if *conduct == Conduct::Impersonates {
                0
            } else {
                peer
            };
            Invited {
                peer: Peer(peer),
                index: ShareIndex::new(u64::try_from(claimed).unwrap() + 1).unwrap(),
                promise_within: ms(5 + chance.below(90)),
                sign_within: ms(5 + chance.below(90)),
                reserve: chance.below(6) == 0,
                sounded: chance.below(6) == 0,
                spare: chance.below(4) == 0,
                led: chance.below(5) > 0,
            }
        });
        let mut members: Vec<Invited> = members.collect();
        members.rotate_left(usize::try_from(chance.below(64)).unwrap() % n);
        let terms = Terms {
            root: ROOT,
            mode: chance.pick(&[Mode::Promised, Mode::Direct, Mode::Led]),
            threshold: t,
            size: n,
            members,
            deadline: ms(DEADLINE),
        };
        Self {
            chance,
            mistake,
            now: Duration::ZERO,
            terms,
            conduct,
            agenda: BTreeMap::new(),
            sequence: 0,
            wake: None,
            retry: None,
            asked: BTreeMap::new(),
            answered: BTreeSet::new(),
            given: BTreeMap::new(),
            promised: BTreeSet::new(),
            outbid: BTreeSet::new(),
            signed: false,
        }
    }

    fn run(mut self) -> Result<(), String> {
        let (mut round, effects) = Round::open(self.terms.clone(), self.now);
        self.obey(effects)?;
        loop {
            if self.signed || round.is_done() {
                break;
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let soonest = [next, self.wake, self.retry].into_iter().flatten().min();
            self.now = soonest.ok_or("nothing happens any more")?;
            let event = if self.wake == Some(self.now) {
                self.wake = None;
                Event::Woken
            } else if self.retry == Some(self.now) {
                self.retry = None;
                Event::Retry
            } else {
                self.agenda.pop_first().unwrap().1
            };
            self.note(&event)?;
            let effects = round.handle(self.now, event);
            let combines = effects.iter().any(|e| matches!(e, Effect::Combine(_)));
            self.obey(effects)?;
            if !self.signed && !combines {
                self.enough_are_asked(&round)?;
            }
        }
        if self.signed {
            Ok(())
        } else {
            Err("not signed".to_owned())
        }
    }

    fn index_of(&self, peer: Peer) -> ShareIndex {
        self.member(peer).index
    }

    fn member(&self, peer: Peer) -> &Invited {
        let mut members = self.terms.members.iter();
        members.find(|member| member.peer == peer).unwrap()
    }

    fn note(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Promised {
                peer,
                round,
                signed: None,
            } => {
                self.promised.insert((*round, *peer));
            }
            Event::Signed { peer, partial } => {
                self.answered.insert(*peer);
                self.given.entry(*peer).or_default().push(*partial);
            }
            Event::Refused { peer, .. } => {
                self.answered.insert(*peer);
                if self.mistake == Mistake::FirstRefusalIsFinal {
                    return Err("refused, but signable".to_owned());
                }
            }
            Event::Failed { peer, .. }
            | Event::Outbid { peer, .. }
            | Event::Promised { peer, .. } => {
                self.answered.insert(*peer);
            }
            Event::Combined | Event::Blamed(_) | Event::Woken | Event::Retry => {}
        }
        Ok(())
    }

    fn obey(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::Promise { ballot, to, .. } => {
                    self.answered.retain(|peer| !to.contains(peer));
                    for peer in to {
                        self.promise(peer, ballot.round);
                    }
                }
                Effect::Sign {
                    round,
                    ballot,
                    led,
                    to,
                    ..
                } => {
                    assert_eq!(ballot.is_some(), self.terms.mode != Mode::Direct);
                    assert_eq!(led, self.leads() && round == 0);
                    let to = self.mistaken(round, to);
                    self.sign(round, &to)?;
                }
                Effect::Combine(partials) => self.combine(partials)?,
                Effect::Blame(mut peers) => {
                    if self.mistake == Mistake::BlamesTheLastAsked {
                        peers = self.asked.keys().map(|(_, peer)| *peer).collect();
                    }
                    for peer in peers {
                        let conduct = self.conduct[peer.0];
                        let lies = [Conduct::Lies, Conduct::Impersonates];
                        if !lies.contains(&conduct) {
                            return Err(format!("blames {peer:?}, which is {conduct:?}"));
                        }
                    }
                }
                Effect::Suspect(_) => {}
                Effect::WakeAt(_) if self.mistake == Mistake::NeverHedges => {
                    self.wake = Some(self.terms.deadline);
                }
                Effect::WakeAt(at) => self.wake = Some(at),
                Effect::RetryBetween { earliest, latest } => {
                    let spread = u64::try_from((latest - earliest).as_millis()).unwrap();
                    self.retry = Some(earliest + ms(self.chance.below(spread + 1)));
                }
                Effect::Finish(verdict) => return Err(format!("{verdict:?}")),
            }
        }
        Ok(())
    }

    fn mistaken(&mut self, round: u64, to: Vec<Peer>) -> Vec<Peer> {
        let before = |(asked, _): &&(u64, Peer)| *asked == round;
        let before: Vec<Peer> = self.asked.keys().filter(before).map(|key| key.1).collect();
        let others = self.terms.members.iter().map(|member| member.peer);
        let others = others.filter(|peer| {
            let is_direct = self.terms.mode == Mode::Direct;
            (is_direct || self.has_promised(round, *peer)) && !before.contains(peer)
        });
        match self.mistake {
            Mistake::HedgesToTheSame if !before.is_empty() => before,
            Mistake::HedgesToAll if !before.is_empty() => others.collect(),
            Mistake::None
            | Mistake::HedgesToTheSame
            | Mistake::HedgesToAll
            | Mistake::NeverHedges
            | Mistake::FirstRefusalIsFinal
            | Mistake::CountsAnIndexTwice
            | Mistake::BlamesTheLastAsked => to,
        }
    }

    fn later(&mut self, within: u64, event: Event) {
        let at = self.now + ms(1 + self.chance.below(within));
        self.sequence += 1;
        self.agenda.insert((at, self.sequence), event);
    }

    fn promise(&mut self, peer: Peer, round: u64) {
        let signed = (self.conduct[peer.0] == Conduct::Committed).then_some(SigningRoot([9; 32]));
        let promised = Event::Promised {
            peer,
            round,
            signed,
        };
        match self.conduct[peer.0] {
            Conduct::Silent => {}
            Conduct::Slow => self.later(20 * PROMPT, promised),
            Conduct::Outbids if self.outbid.insert(peer) => {
                let held = Ballot {
                    round: round + 1,
                    root: SigningRoot([9; 32]),
                };
                self.later(PROMPT, Event::Outbid { peer, round, held });
            }
            Conduct::Fails => self.fail(peer, round),
            Conduct::Refuses => self.refuse(peer),
            Conduct::Honest
            | Conduct::Committed
            | Conduct::Lies
            | Conduct::Impersonates
            | Conduct::Withholds
            | Conduct::Twice
            | Conduct::Outbids => self.later(PROMPT, promised),
        }
    }

    fn fail(&mut self, peer: Peer, round: u64) {
        let failure = Failure {
            reason: FailureReason::Unreachable,
            message: String::new(),
        };
        self.later(
            PROMPT,
            Event::Failed {
                peer,
                round,
                failure,
            },
        );
    }

    fn refuse(&mut self, peer: Peer) {
        let refusal = Refusal {
            reason: RefusalReason::Slashable,
            message: String::new(),
        };
        self.later(PROMPT, Event::Refused { peer, refusal });
    }

    /// Nobody twice in one ballot, nobody without a promise, no more than are needed.
    fn sign(&mut self, round: u64, to: &[Peer]) -> Result<(), String> {
        for peer in to {
            let is_promised = self.has_promised(round, *peer);
            if self.terms.mode != Mode::Direct && !is_promised {
                return Err(format!("{peer:?} is asked without a promise"));
            }
            if self.asked.insert((round, *peer), self.now).is_some() {
                return Err(format!("{peer:?} is asked twice"));
            }
            self.answered.remove(peer);
        }
        let on_its_way = self.on_its_way(round).len();
        if on_its_way > self.terms.threshold {
            return Err(format!("{on_its_way} answers are on their way"));
        }
        for peer in to {
            self.answer(*peer, round);
        }
        Ok(())
    }

    /// Whether the first ballot needs no promises.
    fn leads(&self) -> bool {
        let led = self.terms.members.iter().filter(|member| member.led);
        let led: BTreeSet<ShareIndex> = led.map(|member| member.index).collect();
        self.terms.mode == Mode::Led && led.len() >= self.terms.threshold
    }

    fn has_promised(&self, round: u64, peer: Peer) -> bool {
        let is_led = round == 0 && self.leads() && self.member(peer).led;
        is_led || self.promised.contains(&(round, peer))
    }

    fn answer(&mut self, peer: Peer, round: u64) {
        if round == 0 && self.leads() && self.chance.below(10) == 0 {
            let failure = Failure {
                reason: FailureReason::NotLed,
                message: String::new(),
            };
            let event = Event::Failed {
                peer,
                round,
                failure,
            };
            return self.later(PROMPT, event);
        }
        let good = PartialSignature::Plain([u8::try_from(peer.0).unwrap(); 96]);
        let bad = PartialSignature::Plain([0xff; 96]);
        let given = |partial| Event::Signed { peer, partial };
        match self.conduct[peer.0] {
            Conduct::Outbids if self.leads() && round == 0 && self.outbid.insert(peer) => {
                let held = Ballot {
                    round: 1,
                    root: SigningRoot([9; 32]),
                };
                self.later(PROMPT, Event::Outbid { peer, round, held });
            }
            Conduct::Honest | Conduct::Outbids => self.later(PROMPT, given(good)),
            Conduct::Slow => self.later(20 * PROMPT, given(good)),
            Conduct::Silent | Conduct::Withholds => {}
            Conduct::Fails => self.fail(peer, round),
            Conduct::Refuses | Conduct::Committed => self.refuse(peer),
            Conduct::Lies | Conduct::Impersonates => self.later(PROMPT, given(bad)),
            Conduct::Twice => {
                let at = self.now + ms(1 + self.chance.below(PROMPT));
                for partial in [good, bad] {
                    self.sequence += 1;
                    self.agenda.insert((at, self.sequence), given(partial));
                }
            }
        }
    }

    /// Indices that were signed, or are counted on: asked, not yet late, and not sounded.
    fn on_its_way(&self, round: u64) -> BTreeSet<ShareIndex> {
        let direct = self.terms.mode == Mode::Direct;
        let coming = self.asked.iter().filter(|((asked, peer), at)| {
            let member = self.member(*peer);
            (direct || *asked == round)
                && !self.answered.contains(peer)
                && !member.sounded
                && self.now < **at + member.sign_within
        });
        coming.map(|((_, peer), _)| self.index_of(*peer)).collect()
    }

    /// Whoever is late is replaced, as long as there is somebody to replace it.
    fn enough_are_asked(&self, round: &Round) -> Result<(), String> {
        if self.terms.mode != Mode::Direct || self.retry.is_some() || round.is_done() {
            return Ok(());
        }
        let mut counted = self.on_its_way(0);
        counted.extend(self.given.keys().map(|peer| self.index_of(*peer)));
        let is_idle = |member: &&Invited| {
            !self.asked.keys().any(|(_, peer)| *peer == member.peer)
                && !counted.contains(&member.index)
        };
        let idle = self.terms.members.iter().filter(is_idle).count();
        if counted.len() < self.terms.threshold && idle > 0 {
            return Err(format!("{idle} could be asked and are not"));
        }
        Ok(())
    }

    /// What is combined is told in a moment; more may come until then.
    fn combine(&mut self, partials: Vec<(ShareIndex, PartialSignature)>) -> Result<(), String> {
        let mut partials = partials;
        if self.mistake == Mistake::CountsAnIndexTwice {
            partials[1] = partials[0];
        }
        let distinct: BTreeSet<ShareIndex> = partials.iter().map(|(index, _)| *index).collect();
        if distinct.len() != self.terms.threshold || partials.len() != distinct.len() {
            return Err(format!("{partials:?} are combined"));
        }
        let is_bad = |(index, partial): &&(ShareIndex, PartialSignature)| {
            *partial != PartialSignature::Plain([u8::try_from(index.value() - 1).unwrap(); 96])
        };
        let bad: Vec<ShareIndex> = partials.iter().filter(is_bad).map(|(i, _)| *i).collect();
        if bad.is_empty() {
            self.signed = true;
        } else {
            self.later(3, Event::Blamed(bad));
        }
        Ok(())
    }
}

fn explore(mistake: Mistake) -> Result<(), String> {
    for seed in 0..SEEDS {
        let world = World::new(seed, mistake);
        let what = format!(
            "seed {seed}: {:?}, {}-of-{}, {:?}",
            world.terms.mode, world.terms.threshold, world.terms.size, world.conduct
        );
        world
            .run()
            .map_err(|problem| format!("{what}: {problem}"))?;
    }
    Ok(())
}

#[test]
fn as_many_faulty_members_as_can_be_spared_cost_nothing_but_time() {
    explore(Mistake::None).unwrap();
}

#[test]
fn every_mistake_is_found() {
    for (mistake, sign) in [
        (Mistake::HedgesToTheSame, "is asked twice"),
        (Mistake::HedgesToAll, "on their way"),
        (Mistake::NeverHedges, ""),
        (Mistake::FirstRefusalIsFinal, "but signable"),
        (Mistake::CountsAnIndexTwice, "are combined"),
        (Mistake::BlamesTheLastAsked, "blames"),
    ] {
        let found = explore(mistake).expect_err("a mistake that is not found");
        assert!(found.contains(sign), "{mistake:?}: {found}");
    }
}
