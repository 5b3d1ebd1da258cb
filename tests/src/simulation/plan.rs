//! What a seed means: who takes part, what goes wrong, and what is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use duty::{
    AttestationData, BeaconBlockHeader, Checkpoint, Claim, Duty, Epoch, ForkVersion, PublicKey,
    Root, SigningOrder, SigningRoot, Slot,
};

use super::{
    chance::Chance,
    curve::{Family, family},
};

/// The epoch in which everything happens, by a clock that is right.
pub(super) const EPOCH: u64 = 100;
pub(super) const SLOTS_PER_EPOCH: u64 = 32;
pub(super) const CHAIN: Root = Root([7; 32]);

/// What may go wrong; each is on or off for a whole seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Messages that take long, so that later ones overtake them.
    Delays,
    /// Messages that never arrive.
    Losses,
    /// Messages that arrive twice.
    Duplicates,
    /// Ways that are closed for a while, in one direction.
    Partitions,
    /// Cosigners that end anywhere and start again.
    CosignersCrash,
    /// signer-apis that do.
    ApisCrash,
    /// Processes that stand still for a while.
    Freezes,
    /// Calls that are given up where they are.
    Cancellations,
    /// Clocks that are seconds off.
    Skew,
    /// Clocks that are epochs off for a while.
    Jumps,
    /// Databases that fail.
    LedgersFail,
    /// Commits of which nobody hears whether they happened.
    Ambiguity,
    /// Databases put back, the anchor beside them not.
    Restores,
    /// Databases put back with their anchors: nobody can know.
    Rollbacks,
    /// Rows of other signers, imported.
    Imports,
    /// Room for few promises.
    FewPromises,
    /// Members who lie.
    Liars,
}

impl Fault {
    const ALL: [Self; 17] = [
        Self::Delays,
        Self::Losses,
        Self::Duplicates,
        Self::Partitions,
        Self::CosignersCrash,
        Self::ApisCrash,
        Self::Freezes,
        Self::Cancellations,
        Self::Skew,
        Self::Jumps,
        Self::LedgersFail,
        Self::Ambiguity,
        Self::Restores,
        Self::Rollbacks,
        Self::Imports,
        Self::FewPromises,
        Self::Liars,
    ];
}

impl Fault {
    /// Those after which it can be checked that no duty was spoiled.
    const IN_RACES: [Self; 10] = [
        Self::Delays,
        Self::Losses,
        Self::Duplicates,
        Self::CosignersCrash,
        Self::ApisCrash,
        Self::Freezes,
        Self::Cancellations,
        Self::LedgersFail,
        Self::Ambiguity,
        Self::FewPromises,
    ];
}

impl Fault {
    /// Those by which a signer-api that leads reaches some and not others, or has to begin anew.
    const WHERE_ONE_LEADS: [Self; 7] = [
        Self::Delays,
        Self::Losses,
        Self::Partitions,
        Self::CosignersCrash,
        Self::ApisCrash,
        Self::LedgersFail,
        Self::Freezes,
    ];
}

/// How a liar lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Signs whatever it is asked for, for everybody.
    SignsAll,
    /// Signs another root.
    AnotherRoot,
    /// Gives another member's partial as its own, and says it has that member's index.
    AnotherMember,
    /// Gives another member's partial as its own.
    Stolen,
    /// Bytes that are no point.
    NoPoint,
    /// The point at infinity.
    Infinity,
    /// A partial that is too short.
    Short,
    /// Any other bytes that are no partial: of every length, off the curve, outside the subgroup.
    Malformed,
    /// A partial that it made for something else that was asked for.
    Replayed,
    /// Its partial and a point more; of the next member's, as much less.
    Shifted,
    /// More outcomes than were asked for.
    TwoAnswers,
    /// Never answers.
    Silent,
    /// Promises to everybody, signs for nobody.
    Withholds,
    /// Refuses everything as slashable.
    Refuses,
    /// Says that another root is signed already.
    SignedAnother,
    /// Holds a ballot higher than there can be.
    Overbids,
    /// Answers with errors.
    Errors,
    /// Each time another.
    Any,
}

impl Lie {
    pub(super) const ALL: [Self; 18] = [
        Self::SignsAll,
        Self::AnotherRoot,
        Self::AnotherMember,
        Self::Stolen,
        Self::NoPoint,
        Self::Infinity,
        Self::Short,
        Self::Malformed,
        Self::Replayed,
        Self::Shifted,
        Self::TwoAnswers,
        Self::Silent,
        Self::Withholds,
        Self::Refuses,
        Self::SignedAnother,
        Self::Overbids,
        Self::Errors,
        Self::Any,
    ];
}

/// How much happens how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tempo {
    /// Everything, over some seconds.
    Mixed,
    /// Callers with different messages for one duty at the same moment, and ends within it.
    Race,
    /// A race among members that end and start again all the time, over ways of all lengths.
    Restarts,
    /// A race for the duties of two validators, among members with room for one promise.
    Crowd,
    /// One message after another for one duty, and disks that are put back in between.
    PutBack,
    /// Different messages for one duty over some seconds, most through the one signer-api that leads.
    Led,
}

impl Tempo {
    pub(super) const fn is_race(self) -> bool {
        match self {
            Self::Mixed => false,
            Self::Race | Self::Restarts | Self::Crowd | Self::PutBack | Self::Led => true,
        }
    }
}

/// A message that somebody may want signed.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) order: SigningOrder,
    pub(super) root: SigningRoot,
    pub(super) claim: Option<Claim>,
}

/// One caller's way: which wish, after which pause, through which signer-api.
pub(super) type Script = Vec<(Duration, usize, usize)>;

/// Everything that a seed decides beforehand.
pub(super) struct Plan {
    pub(super) t: usize,
    pub(super) n: usize,
    pub(super) families: Vec<Arc<Family>>,
    pub(super) apis: usize,
    pub(super) tempo: Tempo,
    pub(super) faults: Vec<Fault>,
    /// By place.
    pub(super) liars: BTreeMap<usize, Lie>,
    pub(super) wishes: Vec<Wish>,
    pub(super) scripts: Vec<Script>,
    /// How long things go wrong.
    pub(super) chaos: Duration,
    /// What a commit takes at most, in milliseconds.
    pub(super) commit_ms: u64,
    /// From which signer-api to which member every message takes long, of those that ask for a
    /// signature, or of the others.
    pub(super) long_ways: BTreeSet<(usize, usize, bool)>,
}

/// What is asked with a majority, and, seldom, what must not exist.
const SIZES: [(usize, usize); 13] = [
    (2, 3),
    (2, 3),
    (2, 3),
    (3, 4),
    (3, 4),
    (3, 4),
    (3, 4),
    (3, 5),
    (4, 5),
    (4, 6),
    (5, 7),
    (2, 4),
    (3, 6),
];

impl Plan {
    pub(super) fn new(chance: &Chance) -> Self {
        let tempo = match chance.below(20) {
            0..7 => Tempo::Mixed,
            7..11 => Tempo::Race,
            11..14 => Tempo::Restarts,
            14..17 => Tempo::Crowd,
            17..19 => Tempo::Led,
            _ => Tempo::PutBack,
        };
        let (mut t, mut n) = match tempo {
            Tempo::Mixed | Tempo::Race => chance.pick(&SIZES),
            Tempo::PutBack => chance.pick(&UNDONE_BY_ONE),
            Tempo::Restarts | Tempo::Crowd | Tempo::Led => chance.pick(&SPOILED_BY_TWO),
        };
        if family(t, n, 0).is_none() {
            (t, n) = (3, 4);
        }
        let most = chance.pick(&[0, 20, 40, 60]);
        let some = |among: &[Fault]| {
            let faults = among.iter().copied();
            faults.filter(|_| chance.percent(most)).collect()
        };
        let faults: Vec<Fault> = match tempo {
            Tempo::Mixed => some(&Fault::ALL),
            Tempo::Race => some(&Fault::IN_RACES),
            Tempo::Restarts => vec![Fault::Delays, Fault::CosignersCrash],
            Tempo::Crowd => vec![Fault::Delays, Fault::FewPromises],
            Tempo::PutBack => vec![Fault::Restores],
            Tempo::Led => some(&Fault::WHERE_ONE_LEADS),
        };
        let validators = 1 + u8::from(tempo == Tempo::Crowd || chance.percent(25));
        let families: Vec<_> = (0..validators).filter_map(|v| family(t, n, v)).collect();
        let apis = match tempo.is_race() {
            false => 1 + chance.index(3),
            true if tempo == Tempo::Led => 2,
            true => 2 + chance.index(2),
        };
        let mut liars = BTreeMap::new();
        if faults.contains(&Fault::Liars) {
            // As many as requests are signed without, or as promises are safe with.
            let most = (n - t).max(tolerated(t, n));
            for _ in 0..chance.below(u64::try_from(most).unwrap()) + 1 {
                liars.insert(chance.index(n), chance.pick(&Lie::ALL));
            }
        }
        let mut wishes = match tempo {
            Tempo::Mixed => wishes(chance, &families),
            Tempo::Race if chance.percent(25) => surrounding(&families),
            Tempo::Race | Tempo::Restarts | Tempo::PutBack | Tempo::Led => raced(chance, &families),
            // Of the second one duty, whose promises need room.
            Tempo::Crowd => {
                let mut wishes = raced(chance, &families[..1]);
                wishes.extend(raced(chance, &families[1..]).into_iter().take(1));
                wishes
            }
        };
        let scripts = match tempo.is_race() {
            false => (0..1 + chance.index(3))
                .map(|_| script(chance, wishes.len(), apis))
                .collect(),
            true => (0..wishes.len())
                .map(|wish| racers_script(chance, tempo, wish, apis))
                .collect(),
        };
        let chaos = match tempo {
            Tempo::Mixed => chance.ms(500, 3_000),
            Tempo::Race => chance.ms(50, 700),
            Tempo::Crowd | Tempo::PutBack => chance.ms(300, 1_500),
            Tempo::Restarts => chance.ms(600, 1_500),
            Tempo::Led => chance.ms(500, 8_000),
        };
        // One that can not be slashed, for everybody.
        let randao = Duty::RandaoReveal(Epoch(EPOCH));
        wishes.push(wish(families[0].key(), randao));
        Self {
            t,
            n,
            families,
            apis,
            tempo,
            faults,
            liars,
            wishes,
            scripts,
            chaos,
            commit_ms: match tempo.is_race() {
                true => chance.pick(&[3, 8, 150]),
                false => 2,
            },
            long_ways: match tempo {
                Tempo::Crowd if chance.percent(50) => BTreeSet::new(),
                Tempo::Mixed | Tempo::Race | Tempo::PutBack | Tempo::Led => BTreeSet::new(),
                Tempo::Restarts | Tempo::Crowd => (0..apis)
                    .flat_map(|api| (0..n).map(move |member| (api, member)))
                    .flat_map(|(api, member)| [false, true].map(|signs| (api, member, signs)))
                    .filter(|_| chance.percent(50))
                    .collect(),
            },
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// So many faulty members change nothing about safety.
    pub(super) const fn tolerated(&self) -> usize {
        tolerated(self.t, self.n)
    }

    /// The claim of a root that somebody may ask for.
    pub(super) fn claim(&self, validator: &PublicKey, root: SigningRoot) -> Option<Claim> {
        let wish = |wish: &&Wish| wish.order.validator == *validator && wish.root == root;
        self.wishes.iter().find(wish)?.claim
    }
}

/// So many faulty members change nothing about safety; a committee without a majority tolerates none.
const fn tolerated(t: usize, n: usize) -> usize {
    (2 * t).saturating_sub(n + 1)
}

/// What callers aim at.
fn wishes(chance: &Chance, families: &[Arc<Family>]) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for family in families {
        let key = family.key();
        let attest = |source, target, letter| wish(key, attestation(source, target, letter));
        match chance.below(6) {
            // One duty, two or three messages.
            0 | 1 => (0..2 + u8::from(chance.percent(40)))
                .for_each(|letter| wishes.push(attest(98, 100, letter))),
            // One slot, two or three blocks.
            2 => (0..2 + u8::from(chance.percent(40)))
                .for_each(|letter| wishes.push(wish(key, block(3_201, letter)))),
            // Around and within, and a later duty.
            3 => wishes.extend([
                attest(97, 100, 0),
                attest(98, 99, 0),
                attest(98, 99, 1),
                attest(99, 101, 0),
            ]),
            // Stale, now, next, and far in the future.
            4 => wishes.extend([
                attest(97, 98, 0),
                attest(98, 100, 0),
                attest(98, 100, 1),
                attest(99, 103, 0),
            ]),
            // A bit of everything.
            _ => wishes.extend([
                attest(98, 100, 0),
                attest(98, 100, 1),
                attest(97, 101, 0),
                wish(key, block(3_201, 0)),
                wish(key, block(3_201, 1)),
            ]),
        }
    }
    wishes
}

/// Committees in which one member that signs two messages for one duty can make two signatures.
const UNDONE_BY_ONE: [(usize, usize); 4] = [(2, 3), (2, 3), (3, 5), (4, 7)];

/// Committees in which two messages with two votes each spoil a duty.
const SPOILED_BY_TWO: [(usize, usize); 3] = [(3, 4), (3, 4), (4, 5)];

/// Two duties of each validator, around and within.
fn surrounding(families: &[Arc<Family>]) -> Vec<Wish> {
    let of = |family: &Arc<Family>| {
        let key = family.key();
        [(97, 101), (98, 100)].map(|(source, target)| wish(key, attestation(source, target, 0)))
    };
    families.iter().flat_map(of).collect()
}

/// Different messages for one duty of each validator.
fn raced(chance: &Chance, families: &[Arc<Family>]) -> Vec<Wish> {
    let messages = 2 + u8::from(chance.percent(40));
    let proposals = chance.percent(30);
    let of = |family: &Arc<Family>| {
        let key = family.key();
        let message = move |letter| match proposals {
            true => wish(key, block(3_201, letter)),
            false => wish(key, attestation(98, 100, letter)),
        };
        (0..messages).map(message).collect::<Vec<_>>()
    };
    families.iter().flat_map(of).collect()
}

/// One message, again and again, through one signer-api or another.
fn racers_script(chance: &Chance, tempo: Tempo, wish: usize, apis: usize) -> Script {
    let first = chance.index(apis);
    let times = match tempo {
        Tempo::Restarts | Tempo::Led => 3 + chance.index(2),
        Tempo::Mixed | Tempo::Race | Tempo::Crowd | Tempo::PutBack => 1 + chance.index(3),
    };
    (0..times)
        .map(|again| {
            let pause = match again {
                0 if tempo == Tempo::PutBack && wish > 0 => chance.ms(200, 800),
                _ if tempo == Tempo::Led => chance.ms(0, 2_500),
                0 => chance.ms(0, 20),
                _ => chance.ms(0, 200),
            };
            // Each keeps its ways.
            let api = match tempo {
                Tempo::Restarts => first,
                Tempo::Led => usize::from(chance.percent(25)),
                Tempo::Mixed | Tempo::Race | Tempo::Crowd | Tempo::PutBack => {
                    (first + again) % apis
                }
            };
            (pause, wish, api)
        })
        .collect()
}

fn script(chance: &Chance, wishes: usize, apis: usize) -> Script {
    let favourite = chance.index(apis);
    (0..1 + chance.below(4))
        .map(|_| {
            let pause = match chance.below(3) {
                0 => chance.ms(0, 3),
                1 => chance.ms(0, 60),
                _ => chance.ms(0, 900),
            };
            let api = match chance.percent(70) {
                true => favourite,
                false => chance.index(apis),
            };
            (pause, chance.index(wishes), api)
        })
        .collect()
}

fn wish(validator: PublicKey, duty: Duty) -> Wish {
    let order = SigningOrder {
        validator,
        fork_version: ForkVersion([6, 0, 0, 0]),
        genesis_validators_root: CHAIN,
        duty,
    };
    Wish {
        root: order.signing_root(),
        claim: order.claim(),
        order,
    }
}

fn attestation(source: u64, target: u64, letter: u8) -> Duty {
    let checkpoint = |epoch| Checkpoint {
        epoch: Epoch(epoch),
        root: Root([1; 32]),
    };
    Duty::Attestation(AttestationData {
        slot: Slot(target * SLOTS_PER_EPOCH),
        index: 0,
        beacon_block_root: Root([letter; 32]),
        source: checkpoint(source),
        target: checkpoint(target),
    })
}

fn block(slot: u64, letter: u8) -> Duty {
    Duty::Block(BeaconBlockHeader {
        slot: Slot(slot),
        proposer_index: 1,
        parent_root: Root([1; 32]),
        state_root: Root([2; 32]),
        body_root: Root([letter; 32]),
    })
}
