//! Every history of up to four attestations and three blocks, put in every order, what was refused
//! on the way included: 2.3 × 10^11 of them.
//!
//! The rule is a function of the ratchet and a message, so over finitely many messages it is an
//! automaton; it is asked once for each pair. Histories that led to the same signed messages go on
//! alike and are counted together, which is exact: the counts add up to all that there are.

use std::collections::HashMap;

use super::{
    super::*,
    specification::{Signed, impossible, refused_by_eip_3076, slashable},
};

const HEIGHTS: std::ops::RangeInclusive<u64> = 0..=4;
const ROOTS: [u8; 2] = [1, 2];
const ATTESTATIONS_MAX: usize = 4;
const BLOCKS_MAX: usize = 3;

/// All attestations, then all blocks.
fn messages() -> Vec<Signed> {
    let mut attestations = Vec::new();
    let mut blocks = Vec::new();
    for root in ROOTS {
        for target in HEIGHTS {
            blocks.push(Signed::Block { slot: target, root });
            attestations.extend(HEIGHTS.map(|source| Signed::Attestation {
                source,
                target,
                root,
            }));
        }
    }
    attestations.extend(blocks);
    attestations
}

fn is_block(message: Signed) -> bool {
    matches!(message, Signed::Block { .. })
}

/// Which messages were signed: bit i is message i.
type Set = u64;

fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..64).filter(move |message| set >> message & 1 == 1)
}

/// A message that may be signed, and the state after it.
#[derive(Clone, Copy)]
struct Move {
    message: usize,
    next: usize,
}

/// The rule, over all messages: ratchets by number, the first being that of a new validator.
struct Automaton {
    messages: Vec<Signed>,
    ratchets: Vec<Ratchet>,
    moves: Vec<Vec<Move>>,
}

impl Automaton {
    fn explored() -> Self {
        let messages = messages();
        let mut numbers = HashMap::from([(Ratchet::default(), 0)]);
        let mut ratchets = vec![Ratchet::default()];
        let mut moves = Vec::new();
        while let Some(ratchet) = ratchets.get(moves.len()).copied() {
            let mut allowed = Vec::new();
            for (message, signed) in messages.iter().enumerate() {
                let after = match decide(&ratchet, &signed.claim(), signed.root()) {
                    Verdict::Advance(after) => after,
                    Verdict::Repeat => ratchet,
                    Verdict::Conflict(_) => continue,
                };
                let next = *numbers.entry(after).or_insert_with(|| {
                    ratchets.push(after);
                    ratchets.len() - 1
                });
                allowed.push(Move { message, next });
            }
            moves.push(allowed);
        }
        Self {
            messages,
            ratchets,
            moves,
        }
    }

    /// The messages that are slashable together with each.
    fn slashable_with(&self) -> Vec<Set> {
        let with = |message: &Signed| {
            let together = |other: &(usize, &Signed)| slashable(*message, *other.1);
            self.messages
                .iter()
                .enumerate()
                .filter(together)
                .map(|(other, _)| 1 << other)
                .sum()
        };
        self.messages.iter().map(with).collect()
    }

    /// What the ratchet should be after these were signed, from the messages alone.
    fn ratchet_of(&self, set: Set) -> Ratchet {
        let mut ratchet = Ratchet::default();
        for message in members(set).map(|message| self.messages[message]) {
            match message {
                Signed::Attestation { source, target, .. } => {
                    let so_far = ratchet
                        .attested
                        .map_or((0, 0), |top| (top.source.0, top.target.0));
                    let is_top = ratchet.attested.is_none() || target > so_far.1;
                    ratchet.attested = Some(Attested {
                        source: Epoch(source.max(so_far.0)),
                        target: Epoch(target.max(so_far.1)),
                        root: if is_top {
                            Some(message.root())
                        } else {
                            ratchet.attested.unwrap().root
                        },
                    });
                }
                Signed::Block { slot, .. } => {
                    if ratchet.proposed.is_none_or(|top| slot > top.slot.0) {
                        ratchet.proposed = Some(Proposed {
                            slot: Slot(slot),
                            root: Some(message.root()),
                        });
                    }
                }
            }
        }
        ratchet
    }
}

/// Those of the histories with one number of attestations and one of blocks: by what they signed,
/// the ratchet that they led to, and how many they are.
type Layer = HashMap<Set, (usize, u64)>;

struct Histories<'a> {
    automaton: &'a Automaton,
    slashable_with: Vec<Set>,
}

impl Histories<'_> {
    /// Puts every message of one kind to every history of a layer, each into the layer after it.
    fn extend(&self, layer: &Layer, blocks: bool, into: &mut Layer) {
        let of_kind = |message: &Signed| is_block(*message) == blocks;
        let kind = self
            .automaton
            .messages
            .iter()
            .filter(|message| of_kind(message))
            .count();
        for (set, (ratchet, count)) in layer {
            let mut refused = kind;
            for Move { message, next } in &self.automaton.moves[*ratchet] {
                if !of_kind(&self.automaton.messages[*message]) {
                    continue;
                }
                refused -= 1;
                assert_eq!(
                    set & self.slashable_with[*message],
                    0,
                    "{:?} after {:?}",
                    self.automaton.messages[*message],
                    self.signed(*set),
                );
                Self::add(into, set | 1 << message, *next, *count);
            }
            if refused > 0 {
                Self::add(
                    into,
                    *set,
                    *ratchet,
                    count * u64::try_from(refused).unwrap(),
                );
            }
        }
    }

    fn add(layer: &mut Layer, set: Set, ratchet: usize, count: u64) {
        let state = layer.entry(set).or_insert((ratchet, 0));
        assert_eq!(
            state.0, ratchet,
            "the order in which messages were signed is in the ratchet"
        );
        state.1 += count;
    }

    /// Looks at every state of a layer, and counts its histories.
    fn look(&self, layer: &Layer) -> u64 {
        for (set, (ratchet, _)) in layer {
            let ratchet = self.automaton.ratchets[*ratchet];
            assert_eq!(
                ratchet,
                self.automaton.ratchet_of(*set),
                "{:?}",
                self.signed(*set)
            );
        }
        layer.values().map(|(_, count)| count).sum()
    }

    fn signed(&self, set: Set) -> Vec<Signed> {
        members(set)
            .map(|message| self.automaton.messages[message])
            .collect()
    }
}

/// How many sequences there are of so many attestations and blocks in any order.
fn sequences(attestations: usize, blocks: usize) -> u64 {
    let power = |base: u64, exponent: usize| base.pow(u32::try_from(exponent).unwrap());
    let factorial = |number: usize| (1..=u64::try_from(number).unwrap()).product::<u64>();
    let orders = factorial(attestations + blocks) / factorial(attestations) / factorial(blocks);
    orders * power(50, attestations) * power(10, blocks)
}

#[test]
fn no_history_that_was_allowed_is_slashable() {
    let automaton = Automaton::explored();
    let histories = Histories {
        automaton: &automaton,
        slashable_with: automaton.slashable_with(),
    };
    let mut total = 0;
    let mut states = 0;
    // The layers with one attestation less, by their number of blocks.
    let mut before: Vec<Layer> = Vec::new();
    for attestations in 0..=ATTESTATIONS_MAX {
        let mut row: Vec<Layer> = Vec::new();
        for blocks in 0..=BLOCKS_MAX {
            let mut layer = Layer::new();
            if (attestations, blocks) == (0, 0) {
                layer.insert(0, (0, 1));
            }
            if let Some(shorter) = before.get(blocks) {
                histories.extend(shorter, false, &mut layer);
            }
            if let Some(shorter) = row.last() {
                histories.extend(shorter, true, &mut layer);
            }
            let count = histories.look(&layer);
            assert_eq!(
                count,
                sequences(attestations, blocks),
                "{attestations} {blocks}"
            );
            total += count;
            states += layer.len();
            row.push(layer);
        }
        before = row;
    }
    println!(
        "{total} histories in {states} states, {} ratchets",
        automaton.ratchets.len()
    );
}

#[test]
fn what_is_refused_is_what_eip_3076_refuses_but_for_the_message_at_the_top() {
    let automaton = Automaton::explored();
    // A set of signed messages for each ratchet: one that leads there.
    let mut led: HashMap<usize, Vec<Signed>> = HashMap::from([(0, Vec::new())]);
    let mut reached = vec![0];
    let mut looked_at = 0;
    while let Some(ratchet) = reached.get(looked_at).copied() {
        looked_at += 1;
        let signed = led[&ratchet].clone();
        let mut allowed = vec![None; automaton.messages.len()];
        for Move { message, next } in &automaton.moves[ratchet] {
            allowed[*message] = Some(*next);
            if !led.contains_key(next) {
                let mut longer = signed.clone();
                longer.push(automaton.messages[*message]);
                led.insert(*next, longer);
                reached.push(*next);
            }
        }
        for (message, allowed) in automaton.messages.iter().zip(allowed) {
            let refused = impossible(*message) || refused_by_eip_3076(&signed, *message);
            let same_kind = |earlier: &&Signed| is_block(**earlier) == is_block(*message);
            let is_top = signed.iter().rfind(same_kind) == Some(message);
            let expected = match (is_top, refused) {
                (true, _) => Some(ratchet),
                (false, true) => None,
                (false, false) => Some(allowed.expect("EIP-3076 allows it")),
            };
            assert_eq!(allowed, expected, "{message:?} after {signed:?}");
            assert_eq!(
                allowed == Some(ratchet),
                is_top,
                "{message:?} after {signed:?}"
            );
        }
    }
    assert_eq!(looked_at, automaton.ratchets.len());
}

#[test]
fn nothing_is_allowed_that_is_slashable_with_what_a_watermark_may_stand_for() {
    let automaton = Automaton::explored();
    for (source, target, slot) in watermarks() {
        let mark = Watermark::new(Epoch(source), Epoch(target), Slot(slot)).unwrap();
        // Whatever somebody else may have signed at or below it.
        let elsewhere = |message: &&Signed| match **message {
            Signed::Attestation {
                source: s,
                target: t,
                ..
            } => s <= source && t <= target,
            Signed::Block { slot: s, .. } => s <= slot,
        };
        let elsewhere: Vec<_> = automaton.messages.iter().filter(elsewhere).collect();
        // Slashable with any of them: once per watermark, not once per ratchet.
        let spoiled = |message: &Signed| elsewhere.iter().any(|other| slashable(**other, *message));
        let spoiled: Vec<bool> = automaton.messages.iter().map(spoiled).collect();
        for ratchet in &automaton.ratchets {
            let raised = ratchet.raised_to(&mark);
            for (message, spoiled) in automaton.messages.iter().zip(&spoiled) {
                let named = || format!("{message:?} after {ratchet:?} and {mark:?}");
                match decide(&raised, &message.claim(), message.root()) {
                    Verdict::Advance(_) => assert!(!spoiled, "{}", named()),
                    // Signed before the import: a repeat adds no message.
                    Verdict::Repeat => {
                        let before = decide(ratchet, &message.claim(), message.root());
                        assert_eq!(before, Verdict::Repeat, "{}", named());
                    }
                    Verdict::Conflict(_) => {}
                }
            }
        }
    }
}

fn watermarks() -> impl Iterator<Item = (u64, u64, u64)> {
    let sources = |target| (0..=target).map(move |source| (source, target));
    let epochs = HEIGHTS.flat_map(sources);
    epochs.flat_map(|(source, target)| HEIGHTS.map(move |slot| (source, target, slot)))
}
