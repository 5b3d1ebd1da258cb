//! A round: whatever its members and its clock do, it asks only what it may, and ends once.

mod spares;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use duty::SigningRoot;
use threshold::{
    Ballot, PartialSignature, ShareIndex,
    round::{
        Effect, Event, Failure, FailureReason, Invited, Mode, Peer, Refusal, RefusalReason, Round,
        SIGN_WINDOW, Terms, Verdict,
    },
};

use self::spares::Spares;
use super::{Choices, Reached};

/// Events that an input may tell of at most.
const EVENTS_MAX: usize = 400;
const ROOT: SigningRoot = SigningRoot([1; 32]);
const OTHER: SigningRoot = SigningRoot([2; 32]);

/// Holds for `data`, terms and then events, of which most are such as no honest member makes: no
/// panic, and all that `Watch` and `Spares` hold against every effect.
pub fn property(data: &[u8]) -> Reached {
    let mut choices = Choices::new(data);
    let terms = terms(&mut choices);
    let mut watch = Watch::new(&terms);
    let (mut round, effects) = Round::open(terms.clone(), Duration::ZERO);
    watch.effects(&effects);
    for _ in 0..EVENTS_MAX {
        if choices.is_empty() || round.is_done() {
            break;
        }
        if let Some(event) = watch.event(&mut choices) {
            if let Some((peer, until)) = watch.delayed.take() {
                watch.spares.delayed(peer, until);
                round.delayed(peer, until);
            }
            watch.tell(&event);
            let effects = round.handle(watch.now, event);
            watch.effects(&effects);
        }
    }
    // Whatever happened: at the deadline it is over, and nothing follows.
    watch.now = watch.now.max(terms.deadline);
    let effects = round.handle(watch.now, Event::Woken);
    watch.effects(&effects);
    assert!(round.is_done());
    assert_eq!(watch.ends, 1);
    let late = [
        Event::Retry,
        Event::Woken,
        Event::Combined,
        Event::Blamed(terms.members.iter().map(|member| member.index).collect()),
    ];
    for event in late {
        assert_eq!(round.handle(watch.now, event), Vec::new());
    }
    if watch.combinations > 0 || matches!(watch.verdict, Some(Verdict::Refused(_))) {
        Reached::Taken
    } else {
        Reached::Refused
    }
}

/// Up to seven members, of whom some may share an index or be absent.
fn terms(choices: &mut Choices<'_>) -> Terms {
    let size = usize::from(choices.below(7)) + 1;
    let threshold = size / 2 + 1 + usize::from(choices.byte()) % size.div_ceil(2);
    let shape = choices.byte();
    let known = size - usize::from(shape & 3).min(size - 1);
    let indices = (1..=known).map(|number| index(u64::try_from(number).unwrap()));
    let mut indices: Vec<ShareIndex> = indices.collect();
    if shape & 4 != 0 && known > 1 {
        indices.push(indices[0]);
    }
    let (reserve, sounded) = (choices.byte(), choices.byte());
    let members = indices.into_iter().enumerate();
    let members = members.map(|(peer, index)| Invited {
        peer: Peer(peer),
        index,
        promise_within: Duration::from_millis(u64::from(choices.byte())),
        sign_within: Duration::from_millis(u64::from(choices.byte())),
        reserve: reserve >> (peer % 8) & 1 == 1,
        sounded: sounded >> (peer % 8) & 1 == 1,
        spare: shape & 16 != 0 && peer >= threshold,
        led: shape & 32 != 0 && (shape & 64 == 0 || peer != 1),
    });
    let members: Vec<Invited> = members.collect();
    Terms {
        root: ROOT,
        mode: match (shape & 8, shape & 32) {
            (0, 0) => Mode::Promised,
            (0, _) => Mode::Led,
            (_, _) => Mode::Direct,
        },
        threshold: threshold.min(size),
        size,
        members,
        deadline: Duration::from_millis(u64::from(choices.byte()) * 16 + 1),
    }
}

/// Whether the first ballot needs no promises.
fn leads(terms: &Terms) -> bool {
    let led = terms.members.iter().filter(|member| member.led);
    let led: BTreeSet<ShareIndex> = led.map(|member| member.index).collect();
    terms.mode == Mode::Led && led.len() >= terms.threshold
}

fn index(value: u64) -> ShareIndex {
    ShareIndex::new(value).unwrap()
}

/// What is combined.
type Parts = Vec<(ShareIndex, PartialSignature)>;

/// What a caller knows of a round, and what it holds the round's effects against.
struct Watch {
    terms: Terms,
    spares: Spares,
    now: Duration,
    /// The present ballot's round, and when it began.
    ballot: Option<(u64, Duration)>,
    /// Who was asked to promise, in which round.
    asked_to_promise: BTreeSet<(Peer, u64)>,
    /// Who promised, in which round.
    promised: BTreeSet<(Peer, u64)>,
    /// Who was asked to sign, in which round.
    asked: BTreeSet<(Peer, u64)>,
    /// Who waited for its turn, and until when.
    delayed: Option<(Peer, Duration)>,
    /// Every partial that anyone ever gave.
    given: BTreeMap<Peer, Vec<PartialSignature>>,
    /// Who ever said that it will never sign this.
    against: BTreeSet<Peer>,
    missing: BTreeSet<Peer>,
    /// The combination that is under way.
    combining: Option<Parts>,
    /// Indices that were just said to be bad, and the combination they were in.
    blamed: Option<(Vec<ShareIndex>, Parts)>,
    combined: Option<Parts>,
    combinations: usize,
    /// How often it ended.
    ends: usize,
    verdict: Option<Verdict>,
}

impl Watch {
    fn new(terms: &Terms) -> Self {
        Self {
            terms: terms.clone(),
            spares: Spares::new(terms),
            now: Duration::ZERO,
            ballot: None,
            asked_to_promise: BTreeSet::new(),
            promised: BTreeSet::new(),
            asked: BTreeSet::new(),
            delayed: None,
            given: BTreeMap::new(),
            against: BTreeSet::new(),
            missing: BTreeSet::new(),
            combining: None,
            blamed: None,
            combined: None,
            combinations: 0,
            ends: 0,
            verdict: None,
        }
    }

    /// The next event, after the time that has passed before it. Verdicts on combinations answer one.
    fn event(&mut self, choices: &mut Choices<'_>) -> Option<Event> {
        let kind = choices.byte();
        // The upper bits let time pass: not at all, by milliseconds, or by much.
        let passed = match kind >> 6 {
            0 | 1 => 0,
            2 => u64::from(choices.byte()),
            _ => u64::from(choices.byte()) * 16,
        };
        self.now += Duration::from_millis(passed);
        let who = choices.byte();
        // Sometimes a peer that is none.
        let peer = Peer(usize::from(who & 15) % (self.terms.members.len() + 1));
        let present = self.ballot.map_or(0, |(round, _)| round);
        let round = match who >> 6 {
            0..=2 => present,
            _ => present
                .wrapping_add(u64::from(choices.byte()))
                .wrapping_sub(2),
        };
        Some(match kind & 63 {
            0..20 => Event::Promised {
                peer,
                round,
                signed: [None, None, None, Some(ROOT), Some(OTHER)][usize::from(choices.below(5))],
            },
            20..26 => Event::Outbid {
                peer,
                round,
                held: Ballot {
                    round: u64::from_le_bytes(choices.array()) >> (choices.byte() % 64),
                    root: OTHER,
                },
            },
            26..40 => Event::Signed {
                peer,
                partial: PartialSignature::Plain([choices.below(4); 96]),
            },
            40..44 => Event::Refused {
                peer,
                refusal: refusal(choices),
            },
            44..50 => Event::Failed {
                peer,
                round,
                failure: failure(choices),
            },
            50..54 => {
                self.combining.as_ref()?;
                Event::Combined
            }
            54..58 => {
                self.combining.as_ref()?;
                let count = choices.below(4);
                Event::Blamed(
                    (0..count)
                        .map(|_| index(u64::from(choices.byte()) % 8 + 1))
                        .collect(),
                )
            }
            58..61 => Event::Woken,
            61 => {
                let until = if who & 16 == 0 {
                    self.now
                } else {
                    self.now / 2
                };
                self.delayed = Some((peer, until));
                Event::Woken
            }
            _ => Event::Retry,
        })
    }

    /// Takes note of what the round is about to be told.
    fn tell(&mut self, event: &Event) {
        self.spares.tell(event);
        self.blamed = None;
        match event {
            Event::Promised {
                peer,
                round,
                signed,
            } => {
                if signed.is_some_and(|signed| signed != ROOT) {
                    self.against.insert(*peer);
                } else {
                    self.promised.insert((*peer, *round));
                }
            }
            Event::Signed { peer, partial } => self.given.entry(*peer).or_default().push(*partial),
            Event::Refused { peer, refusal } => {
                if refusal.reason == RefusalReason::NotFound {
                    self.missing.insert(*peer);
                } else {
                    self.against.insert(*peer);
                }
            }
            Event::Combined => {
                self.combined = self.combining.take();
                self.ends += 1;
            }
            Event::Blamed(indices) => {
                self.blamed = self.combining.take().map(|used| (indices.clone(), used));
            }
            Event::Outbid { .. } | Event::Failed { .. } | Event::Woken | Event::Retry => {}
        }
    }

    fn effects(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.spares.effect(self.now, effect);
            match effect {
                Effect::Promise {
                    ballot,
                    to,
                    not_after,
                } => self.promise(*ballot, to, *not_after),
                Effect::Sign {
                    round,
                    ballot,
                    led: true,
                    to,
                    not_after,
                } => self.sign_led(*round, *ballot, to, *not_after),
                Effect::Sign {
                    round,
                    ballot,
                    led: false,
                    to,
                    not_after,
                } => self.sign(*round, *ballot, to, *not_after),
                Effect::Combine(partials) => self.combine(partials),
                Effect::Blame(peers) => self.blame(peers),
                Effect::Suspect(suspects) => self.suspect(suspects),
                Effect::WakeAt(at) => assert!(*at > self.now && *at <= self.terms.deadline),
                Effect::RetryBetween { earliest, latest } => {
                    assert!(self.now < *earliest && earliest <= latest);
                    assert!(*latest <= self.terms.deadline);
                }
                Effect::Finish(verdict) => self.finish(verdict),
            }
        }
        self.spares.check(self.now);
    }

    fn index_of(&self, peer: Peer) -> ShareIndex {
        let mut members = self.terms.members.iter();
        members.find(|member| member.peer == peer).unwrap().index
    }

    /// Members, each once.
    fn are_members(&self, peers: &[Peer]) {
        assert!(!peers.is_empty());
        let distinct: BTreeSet<Peer> = peers.iter().copied().collect();
        assert_eq!(distinct.len(), peers.len());
        let members: BTreeSet<Peer> = self
            .terms
            .members
            .iter()
            .map(|member| member.peer)
            .collect();
        assert!(distinct.is_subset(&members));
    }

    /// In each ballot everybody is asked once at most, and within the window that the first asking began.
    fn promise(&mut self, ballot: Ballot, to: &[Peer], not_after: Duration) {
        self.are_members(to);
        assert!(self.terms.mode != Mode::Direct && ballot.root == ROOT);
        assert!(ballot.round > 0 || !leads(&self.terms));
        assert!(self.ballot.is_none_or(|(round, _)| round <= ballot.round));
        let present = self.ballot.filter(|(round, _)| *round == ballot.round);
        let (_, began) = present.unwrap_or((ballot.round, self.now));
        self.ballot = Some((ballot.round, began));
        assert!(self.now < not_after && not_after <= began + SIGN_WINDOW);
        assert!(not_after <= self.terms.deadline);
        for peer in to {
            let is_first = self.asked_to_promise.insert((*peer, ballot.round));
            assert!(is_first, "{peer:?} is asked twice");
        }
    }

    /// Only the first ballot, before any promise; only those who are led, of whom there are enough, each
    /// once, within the window that began with the round.
    fn sign_led(&mut self, round: u64, ballot: Option<Ballot>, to: &[Peer], not_after: Duration) {
        self.are_members(to);
        let first = Ballot {
            round: 0,
            root: ROOT,
        };
        assert!(leads(&self.terms) && self.ballot.is_none());
        assert_eq!((round, ballot), (0, Some(first)));
        assert!(self.now < not_after && not_after <= self.terms.deadline.min(SIGN_WINDOW));
        for peer in to {
            let mut members = self.terms.members.iter();
            assert!(members.any(|member| member.peer == *peer && member.led));
            assert!(self.asked.insert((*peer, round)), "{peer:?} is asked twice");
        }
    }

    /// A threshold has promised this very ballot, or given what needs no promise; nobody is asked who
    /// has not promised it, nor twice, nor after the window.
    fn sign(&mut self, round: u64, ballot: Option<Ballot>, to: &[Peer], not_after: Duration) {
        self.are_members(to);
        assert!(self.now < not_after && not_after <= self.terms.deadline);
        for peer in to {
            assert!(self.asked.insert((*peer, round)), "{peer:?} is asked twice");
        }
        let Some(ballot) = ballot else {
            assert_eq!(self.terms.mode, Mode::Direct);
            return;
        };
        let (present, began) = self.ballot.unwrap();
        assert_eq!((round, ballot.round, ballot.root), (present, present, ROOT));
        assert!(not_after <= began + SIGN_WINDOW);
        let promised = |peer: &Peer| self.promised.contains(&(*peer, round));
        assert!(to.iter().all(promised));
        let ready = self
            .terms
            .members
            .iter()
            .filter(|member| promised(&member.peer) || self.given.contains_key(&member.peer));
        let ready: BTreeSet<ShareIndex> = ready.map(|member| member.index).collect();
        assert!(ready.len() >= self.terms.threshold, "too few have promised");
    }

    /// Exactly a threshold of distinct indices, each with what a claimant of it gave.
    fn combine(&mut self, partials: &[(ShareIndex, PartialSignature)]) {
        let distinct: BTreeSet<ShareIndex> = partials.iter().map(|(index, _)| *index).collect();
        assert_eq!(distinct.len(), partials.len());
        assert_eq!(partials.len(), self.terms.threshold);
        for (index, partial) in partials {
            let claimants = self
                .terms
                .members
                .iter()
                .filter(|member| member.index == *index);
            let mut given = claimants.filter_map(|member| self.given.get(&member.peer));
            assert!(given.any(|given| given.contains(partial)));
        }
        assert_eq!(self.combining, None);
        self.combining = Some(partials.to_vec());
        self.combinations += 1;
    }

    /// Only whose partial was in the combination, under an index that was named.
    fn blame(&mut self, peers: &[Peer]) {
        self.are_members(peers);
        let (named, used) = self.blamed.clone().unwrap();
        for peer in peers {
            let index = self.index_of(*peer);
            assert!(named.contains(&index), "{peer:?} was not named");
            let given = self.given.get(peer).unwrap();
            let mut used = used.iter();
            assert!(used.any(|(own, partial)| *own == index && given.contains(partial)));
        }
    }

    /// Only who gave another partial than the one that was combined for its index.
    fn suspect(&mut self, suspects: &[(Peer, ShareIndex, PartialSignature)]) {
        let combined = self.combined.clone().unwrap();
        for (peer, index, partial) in suspects {
            assert_eq!(self.index_of(*peer), *index);
            assert!(self.given[peer].contains(partial));
            let mut used = combined.iter();
            assert!(used.any(|(own, other)| own == index && other != partial));
        }
    }

    /// Final only if so many indices are against it that no threshold is left.
    fn finish(&mut self, verdict: &Verdict) {
        self.ends += 1;
        self.verdict = Some(verdict.clone());
        if let Verdict::Refused(_) = verdict {
            let members = &self.terms.members;
            let open = members
                .iter()
                .filter(|member| !self.against.contains(&member.peer));
            let open: BTreeSet<ShareIndex> = open.map(|member| member.index).collect();
            let all: BTreeSet<ShareIndex> = members.iter().map(|member| member.index).collect();
            let spare = self.terms.size - self.terms.threshold;
            let is_missing = members
                .iter()
                .all(|member| self.missing.contains(&member.peer));
            assert!(
                all.len() - open.len() > spare || is_missing,
                "refused too early"
            );
        }
    }
}

fn refusal(choices: &mut Choices<'_>) -> Refusal {
    const REASONS: [RefusalReason; 7] = [
        RefusalReason::Slashable,
        RefusalReason::Stopped,
        RefusalReason::Disabled,
        RefusalReason::WrongChain,
        RefusalReason::NotAllowed,
        RefusalReason::Invalid,
        RefusalReason::NotFound,
    ];
    Refusal {
        reason: REASONS[usize::from(choices.byte()) % REASONS.len()],
        message: String::new(),
    }
}

fn failure(choices: &mut Choices<'_>) -> Failure {
    const REASONS: [FailureReason; 12] = [
        FailureReason::Contended,
        FailureReason::BeyondClock,
        FailureReason::Quarantined,
        FailureReason::Ledger,
        FailureReason::Busy,
        FailureReason::Starting,
        FailureReason::TooLate,
        FailureReason::Faulty,
        FailureReason::Unreachable,
        FailureReason::TimedOut,
        FailureReason::TooFewShares,
        FailureReason::Deadline,
    ];
    Failure {
        reason: REASONS[usize::from(choices.byte()) % REASONS.len()],
        message: String::new(),
    }
}
