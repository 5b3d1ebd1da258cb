//! Interleavings of a few coordinators and cosigners, each with the real machine: `agreement_model.py`
//! with the ledger's queue as a step of its own. Messages are delayed, reordered or lost, coordinators
//! stop anywhere. All interleavings of the small cases; random ones of the large, in finer steps.

use std::collections::{BTreeSet, HashSet, VecDeque};

use threshold::round::Lead;

use rand::{SeedableRng as _, rngs::StdRng, seq::IteratorRandom as _};

use super::*;

type Root = u8;
const FREE: Root = b'-';

/// A shortcut that was found stuck; the search must find it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// A sign request passes while the held promise is for its root under another ballot.
    AnyBallotOfTheRoot,
    /// Promises do not wait for a commit that is queued.
    NoFence,
    /// Who leads signs whatever is held.
    LeadsAnyway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Asked {
    /// The promise request is under way.
    Pending,
    /// Promised; the ledger is being asked.
    Reading,
    /// Answered with what the ledger holds.
    Answered(Root),
    /// Nothing comes any more.
    Over,
}

/// One cosigner, and where each coordinator stands with it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Seat {
    promises: Promises,
    signed: Root,
    /// Sign requests between check and known outcome: root, and whether it was committed.
    queue: Vec<(Root, bool)>,
    asked: Vec<Asked>,
    sign_pending: Vec<bool>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    seats: Vec<Seat>,
    signing: Vec<bool>,
}

/// Whether a promise with its ledger's answer, and a commit with its known outcome, are one step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Steps {
    Coarse,
    Fine,
}

struct Search {
    n: usize,
    t: usize,
    ballots: Vec<Ballot>,
    /// Who leads, and asks for no promise.
    leads: Vec<bool>,
    flaw: Flaw,
    steps: Steps,
    now: Instant,
}

const LEAD: Lead = Lead(std::num::NonZeroU64::MIN);

fn the_duty() -> DutyId {
    attest(VALIDATOR, 1)
}

impl Search {
    fn start(&self) -> State {
        let mut promises = Promises::new(self.now.checked_sub(START_PAUSE).unwrap(), 1);
        let horizon = promises.lead(LEAD, None, Horizon::default(), self.now);
        assert!(horizon.unwrap().is_below(&the_duty().claim()));
        let asked = |leads: &bool| match leads {
            true => Asked::Over,
            false => Asked::Pending,
        };
        let seat = Seat {
            promises,
            signed: FREE,
            queue: vec![],
            asked: self.leads.iter().map(asked).collect(),
            sign_pending: self.leads.clone(),
        };
        State {
            seats: vec![seat; self.n],
            signing: self.leads.clone(),
        }
    }

    /// All states that one event leads to.
    fn next(&self, state: &State) -> Vec<State> {
        let mut next = vec![];
        for (k, ballot) in self.ballots.iter().enumerate() {
            let mut counted = state.seats.iter().filter_map(|seat| match seat.asked[k] {
                Asked::Answered(root) => Some(root),
                Asked::Pending | Asked::Reading | Asked::Over => None,
            });
            let mine = counted
                .by_ref()
                .filter(|&root| root == FREE || root == ballot.root.0[0]);
            if !state.signing[k] && mine.count() >= self.t {
                let mut state = state.clone();
                state.signing[k] = true;
                for seat in &mut state.seats {
                    seat.sign_pending[k] = true;
                    if matches!(seat.asked[k], Asked::Answered(_)) {
                        seat.asked[k] = Asked::Over;
                    }
                }
                next.push(state);
            }
        }
        for (i, seat) in state.seats.iter().enumerate() {
            for changed in self.next_seat(seat, &state.signing) {
                let mut state = state.clone();
                state.seats[i] = changed;
                next.push(state);
            }
        }
        next
    }

    fn next_seat(&self, seat: &Seat, signing: &[bool]) -> Vec<Seat> {
        let mut next = vec![];
        for (k, &ballot) in self.ballots.iter().enumerate() {
            let mut changed = seat.clone();
            match seat.asked[k] {
                Asked::Pending => {
                    changed.asked[k] = match changed.promises.promise(the_duty(), ballot, self.now)
                    {
                        PromiseAnswer::Held if self.steps == Steps::Coarse => {
                            Asked::Answered(seat.signed)
                        }
                        PromiseAnswer::Held => Asked::Reading,
                        PromiseAnswer::Fenced => Asked::Pending,
                        PromiseAnswer::Outbid(_)
                        | PromiseAnswer::Full
                        | PromiseAnswer::Starting => Asked::Over,
                    };
                    next.push(changed);
                }
                Asked::Reading if signing[k] => {}
                Asked::Reading => {
                    changed.asked[k] = Asked::Answered(seat.signed);
                    next.push(changed);
                }
                Asked::Answered(_) | Asked::Over => {}
            }
            if seat.sign_pending[k] {
                next.push(self.sign(seat.clone(), k, ballot));
            }
        }
        for at in 0..seat.queue.len() {
            next.push(self.proceed(seat.clone(), at));
        }
        next
    }

    fn sign(&self, mut seat: Seat, k: usize, ballot: Ballot) -> Seat {
        seat.sign_pending[k] = false;
        let mut answer = match self.leads[k] {
            true => seat
                .promises
                .begin_sign_led(the_duty(), ballot, LEAD, self.now),
            false => seat.promises.begin_sign(the_duty(), ballot, self.now),
        };
        if self.flaw == Flaw::LeadsAnyway && self.leads[k] && answer != SignAnswer::Begun {
            seat.promises.retire(the_duty());
            answer = seat
                .promises
                .begin_sign_led(the_duty(), ballot, LEAD, self.now);
        }
        if let (Flaw::AnyBallotOfTheRoot, SignAnswer::Outbid(held)) = (self.flaw, answer)
            && held.root == ballot.root
        {
            answer = seat.promises.begin_sign(the_duty(), held, self.now);
        }
        if answer == SignAnswer::Begun {
            if self.flaw == Flaw::NoFence {
                seat.promises.end_sign(the_duty());
            }
            seat.queue.push((ballot.root.0[0], false));
        }
        seat
    }

    /// The ledger commits, then its outcome becomes known.
    fn proceed(&self, mut seat: Seat, at: usize) -> Seat {
        let (root, committed) = seat.queue[at];
        if seat.signed == FREE {
            seat.signed = root;
            seat.queue[at].1 = true;
            if self.steps == Steps::Fine {
                return seat;
            }
        } else if !committed && seat.signed == root && self.steps == Steps::Fine {
            seat.queue[at].1 = true;
            return seat;
        }
        seat.queue.remove(at);
        if self.flaw != Flaw::NoFence {
            seat.promises.end_sign(the_duty());
        }
        // Also after a refusal: it shows that the ratchet stands at this duty.
        seat.promises.retire(the_duty());
        seat
    }

    /// How many states there are, and the first in which no root can reach t.
    fn explore(&self) -> (usize, Option<String>) {
        let mut seen = HashSet::new();
        let mut queue = VecDeque::from([self.start()]);
        while let Some(state) = queue.pop_front() {
            if !self.is_live(&state) {
                return (seen.len(), Some(pattern(&state)));
            }
            for mut next in self.next(&state) {
                // Cosigners are alike, so their order does not matter.
                next.seats.sort_by_cached_key(fingerprint);
                if seen.insert(fingerprint(&next)) {
                    queue.push_back(next);
                }
            }
        }
        (seen.len(), None)
    }

    /// One random interleaving until nothing happens any more; the end if it is stuck there. What
    /// is stuck stays stuck, so the end is enough.
    fn walk(&self, seed: u64) -> Option<String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut state = self.start();
        // A fenced promise that is asked again changes nothing: bounded, not endless.
        for _ in 0..200 {
            match self.next(&state).into_iter().choose(&mut rng) {
                Some(next) => state = next,
                None => break,
            }
        }
        (!self.is_live(&state)).then(|| pattern(&state))
    }

    fn is_live(&self, state: &State) -> bool {
        let count = |root| {
            state
                .seats
                .iter()
                .filter(|seat| seat.signed == root)
                .count()
        };
        let roots: BTreeSet<Root> = state.seats.iter().map(|seat| seat.signed).collect();
        let free = count(FREE);
        free >= self.t
            || roots
                .into_iter()
                .any(|root| root != FREE && count(root) + free >= self.t)
    }
}

/// Who has signed what, as in `aabb`.
fn pattern(state: &State) -> String {
    let mut signed: Vec<char> = state
        .seats
        .iter()
        .map(|seat| char::from(seat.signed))
        .collect();
    signed.sort_unstable();
    signed.into_iter().collect()
}

fn fingerprint<T: std::hash::Hash>(value: &T) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// `"a0 b0 a1"`: coordinators by root and round; `a*` leads.
fn search((n, t, coordinators): (usize, usize, &str), flaw: Flaw, steps: Steps) -> Search {
    let ballots = coordinators.split(' ').map(|coordinator| {
        let (root, round) = coordinator.split_at(1);
        let round = round.replace('*', "0");
        ballot(round.parse().unwrap(), root.as_bytes()[0])
    });
    let leads = coordinators.split(' ').map(|it| it.ends_with('*'));
    Search {
        n,
        t,
        ballots: ballots.collect(),
        leads: leads.collect(),
        flaw,
        steps,
        now: Instant::now(),
    }
}

#[test]
fn no_interleaving_leaves_a_duty_stuck() {
    for case in [
        (3, 2, "a0 b0"),
        (3, 2, "a0 a0"),
        (3, 3, "a0 b0"),
        (4, 3, "a0 b0"),
        (3, 2, "a* b0"),
        (3, 2, "b* a0"),
        (4, 3, "a* b0"),
        (4, 3, "b* a0"),
        (3, 2, "b* b0 a0"),
    ] {
        let (states, stuck) = search(case, Flaw::None, Steps::Coarse).explore();
        println!("{case:?}: {states} states");
        assert_eq!(stuck, None, "{case:?}");
    }
}

const WALKS: u64 = 100;

#[test]
fn no_random_interleaving_of_many_callers_leaves_a_duty_stuck() {
    for case in [
        (3, 2, "a0 b0 c0 a1 b1"),
        (4, 3, "a0 b0 a1"),
        (4, 3, "b0 a0 b1"),
        (4, 3, "a0 a0 b0"),
        (4, 3, "a0 b1 a2 b3"),
        (5, 3, "a0 b0 c1"),
        (7, 5, "a0 b0 a1 b1"),
        (3, 2, "b* a0 b1 a1"),
        (4, 3, "a* b0 a1"),
        (4, 3, "b* a0 b1 a1"),
        (4, 3, "b* b0 a0"),
        (7, 5, "a* b0 a1 b1"),
    ] {
        for seed in 0..WALKS {
            let stuck = search(case, Flaw::None, Steps::Fine).walk(seed);
            assert_eq!(stuck, None, "{case:?} seed {seed}");
        }
    }
}

#[test]
fn the_shortcuts_that_were_found_stuck_are_found_stuck_again() {
    for (flaw, coordinators) in [
        (Flaw::AnyBallotOfTheRoot, "a0 b0 a1"),
        (Flaw::NoFence, "a0 b0"),
        (Flaw::LeadsAnyway, "a* b0"),
        // Who leads asks for one message.
        (Flaw::None, "a* b*"),
    ] {
        let search = search((4, 3, coordinators), flaw, Steps::Fine);
        let stuck = (0..200 * WALKS).find_map(|seed| Some((seed, search.walk(seed)?)));
        println!("{flaw:?}: {stuck:?}");
        assert!(
            stuck.is_some_and(|(_, signed)| signed == "aabb"),
            "{flaw:?}"
        );
    }
}
