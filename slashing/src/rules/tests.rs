use proptest::prelude::*;

use super::*;

/// A signed message, for the specification's definition.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Signed {
    Attestation { source: u64, target: u64, root: u8 },
    Block { slot: u64, root: u8 },
}

/// `is_slashable_attestation_data` and the rule for proposers of the consensus specification,
/// phase0; written from there, not from the rule under test.
fn slashable(first: Signed, second: Signed) -> bool {
    match (first, second) {
        (
            Signed::Attestation {
                source: s1,
                target: t1,
                root: r1,
            },
            Signed::Attestation {
                source: s2,
                target: t2,
                root: r2,
            },
        ) => {
            let differ = (s1, t1, r1) != (s2, t2, r2);
            let double = differ && t1 == t2;
            let surround = (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2);
            double || surround
        }
        (Signed::Block { slot: s1, root: r1 }, Signed::Block { slot: s2, root: r2 }) => {
            s1 == s2 && r1 != r2
        }
        (Signed::Attestation { .. }, Signed::Block { .. })
        | (Signed::Block { .. }, Signed::Attestation { .. }) => false,
    }
}

fn put(ratchet: &Ratchet, message: Signed) -> Verdict {
    let (claim, root) = match message {
        Signed::Attestation {
            source,
            target,
            root,
        } => (attest(source, target), root),
        Signed::Block { slot, root } => (propose(slot), root),
    };
    decide(ratchet, &claim, SigningRoot([root; 32]))
}

fn attest(source: u64, target: u64) -> Claim {
    Claim::Attest {
        source: Epoch(source),
        target: Epoch(target),
    }
}

const fn propose(slot: u64) -> Claim {
    Claim::Propose { slot: Slot(slot) }
}

/// Puts every sequence of up to `depth` of the messages, whatever was refused on the way.
fn explore(messages: &[Signed], depth: usize, ratchet: Ratchet, allowed: &mut Vec<Signed>) -> u64 {
    let mut count = 1;
    if depth == 0 {
        return count;
    }
    for message in messages {
        let next = match put(&ratchet, *message) {
            Verdict::Advance(next) => next,
            Verdict::Repeat => ratchet,
            Verdict::Conflict(_) => {
                count += explore(messages, depth - 1, ratchet, allowed);
                continue;
            }
        };
        for earlier in allowed.iter() {
            assert!(
                !slashable(*earlier, *message),
                "{allowed:?}, then {message:?}"
            );
        }
        if let Signed::Attestation { source, target, .. } = *message {
            assert!(source <= target, "{message:?} is no valid attestation");
        }
        allowed.push(*message);
        count += explore(messages, depth - 1, next, allowed);
        allowed.pop();
    }
    count
}

#[test]
fn no_history_that_was_allowed_is_slashable() {
    let mut attestations = Vec::new();
    let mut blocks = Vec::new();
    for root in [1, 2] {
        for target in 0..=3 {
            blocks.push(Signed::Block { slot: target, root });
            attestations.extend((0..=3).map(|source| Signed::Attestation {
                source,
                target,
                root,
            }));
        }
    }
    assert!(explore(&attestations, 3, Ratchet::default(), &mut Vec::new()) > 30_000);
    assert!(explore(&blocks, 3, Ratchet::default(), &mut Vec::new()) > 500);
    // Both kinds together: neither side disturbs the other's.
    let both: Vec<_> = attestations.into_iter().step_by(3).chain(blocks).collect();
    explore(&both, 3, Ratchet::default(), &mut Vec::new());
}

fn check(before: &[(Claim, u8)], claim: Claim, root: u8, expected: Result<&str, Conflict>) {
    let mut ratchet = Ratchet::default();
    for (claim, root) in before {
        match decide(&ratchet, claim, SigningRoot([*root; 32])) {
            Verdict::Advance(next) => ratchet = next,
            other @ (Verdict::Repeat | Verdict::Conflict(_)) => panic!("{claim:?}: {other:?}"),
        }
    }
    let got = match decide(&ratchet, &claim, SigningRoot([root; 32])) {
        Verdict::Advance(_) => Ok("advance"),
        Verdict::Repeat => Ok("repeat"),
        Verdict::Conflict(conflict) => Err(conflict),
    };
    assert_eq!(got, expected, "{before:?}, then {claim:?}");
}

#[test]
fn each_rule_is_named_with_its_numbers() {
    let below = |source, highest| Conflict::SourceBelow {
        source_epoch: Epoch(source),
        highest: Epoch(highest),
    };
    let not_above = |target, highest| Conflict::TargetNotAbove {
        target: Epoch(target),
        highest: Epoch(highest),
    };
    let slot = |slot, highest| Conflict::SlotNotAbove {
        slot: Slot(slot),
        highest: Slot(highest),
    };
    let after = Conflict::SourceAfterTarget {
        source_epoch: Epoch(7),
        target: Epoch(6),
    };
    let signed = [(attest(5, 6), 1), (propose(10), 1)];

    check(&[], attest(0, 0), 1, Ok("advance"));
    check(&[], propose(0), 1, Ok("advance"));
    check(&[], attest(6, 6), 1, Ok("advance"));
    check(&[], attest(7, 6), 1, Err(after));
    check(&[(attest(0, 0), 1)], attest(0, 0), 1, Ok("repeat"));
    check(&[(attest(0, 0), 1)], attest(0, 0), 2, Err(not_above(0, 0)));
    check(&signed, attest(5, 6), 1, Ok("repeat"));
    check(&signed, attest(5, 6), 2, Err(not_above(6, 6)));
    check(&signed, attest(6, 6), 1, Err(not_above(6, 6)));
    check(&signed, attest(5, 5), 1, Err(not_above(5, 6)));
    check(&signed, attest(4, 7), 1, Err(below(4, 5)));
    check(&signed, attest(5, 7), 1, Ok("advance"));
    check(&signed, propose(10), 1, Ok("repeat"));
    check(&signed, propose(10), 2, Err(slot(10, 10)));
    check(&signed, propose(9), 1, Err(slot(9, 10)));
    check(&signed, propose(11), 2, Ok("advance"));

    assert_eq!(
        not_above(6, 7).to_string(),
        "target epoch 6 is not above the highest target epoch 7"
    );
}

#[test]
fn numbers_that_no_database_holds_are_refused() {
    let too_much = HEIGHT_MAX + 1;
    let out = |height, value| Err(Conflict::OutOfRange(height, value));
    check(&[], attest(0, too_much), 1, out(Height::Target, too_much));
    check(
        &[],
        attest(too_much, too_much),
        1,
        out(Height::Source, too_much),
    );
    check(&[], attest(u64::MAX, 0), 1, out(Height::Source, u64::MAX));
    check(&[], propose(u64::MAX), 1, out(Height::Slot, u64::MAX));
    check(&[], attest(HEIGHT_MAX, HEIGHT_MAX), 1, Ok("advance"));
    check(&[], propose(HEIGHT_MAX), 1, Ok("advance"));
}

#[test]
fn a_watermark_raises_and_makes_tops_unrepeatable_but_keeps_what_is_above_it() {
    let root = SigningRoot([1; 32]);
    let own = Ratchet {
        attested: Some(Attested {
            source: Epoch(5),
            target: Epoch(8),
            root: Some(root),
        }),
        proposed: Some(Proposed {
            slot: Slot(10),
            root: Some(root),
        }),
    };
    let raised = |source, target, slot| {
        own.raised_to(&Watermark::new(Epoch(source), Epoch(target), Slot(slot)).unwrap())
    };
    assert_eq!(raised(5, 8, 10), own);
    assert_eq!(raised(0, 0, 0), own);
    let attested = |source, target| {
        Some(Attested {
            source: Epoch(source),
            target: Epoch(target),
            root: None,
        })
    };
    assert_eq!(raised(6, 7, 10).attested, attested(6, 8));
    assert_eq!(raised(4, 9, 10).attested, attested(5, 9));
    assert_eq!(raised(4, 9, 10).proposed, own.proposed);
    assert_eq!(
        raised(0, 0, 11).proposed,
        Some(Proposed {
            slot: Slot(11),
            root: None
        })
    );

    let imported = raised(6, 8, 11);
    for claim in [attest(6, 8), propose(11)] {
        assert!(
            matches!(decide(&imported, &claim, root), Verdict::Conflict(_)),
            "{claim:?}"
        );
    }
    assert!(Watermark::new(Epoch(2), Epoch(1), Slot(0)).is_err());
    assert!(Watermark::new(Epoch(0), Epoch(0), Slot(u64::MAX)).is_err());
}

/// Numbers about the edges of what 64 bits hold, signed and unsigned.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        (HEIGHT_MAX - 3)..=HEIGHT_MAX + 3,
        (u64::MAX - 3)..=u64::MAX,
    ]
}

proptest! {
    #[test]
    fn nothing_slashable_is_allowed_at_the_edges_of_64_bits(
        messages in prop::collection::vec((edge(), edge(), 0..3_u8, any::<bool>()), 1..12),
        watermark in (edge(), edge(), edge()),
    ) {
        let (source, target, slot) = watermark;
        let mut ratchet = Watermark::new(Epoch(source), Epoch(target), Slot(slot))
            .map_or_else(|_| Ratchet::default(), |mark| Ratchet::default().raised_to(&mark));
        let mut allowed: Vec<Signed> = Vec::new();
        for (first, second, root, is_block) in messages {
            let message = match is_block {
                true => Signed::Block { slot: first, root },
                false => Signed::Attestation { source: first, target: second, root },
            };
            match put(&ratchet, message) {
                Verdict::Advance(next) => {
                    let (old, new) = (ratchet.attested, next.attested);
                    prop_assert!(old.is_none_or(|old| new.is_some_and(
                        |new| new.source >= old.source && new.target >= old.target)));
                    ratchet = next;
                }
                Verdict::Repeat => prop_assert!(allowed.contains(&message)),
                Verdict::Conflict(_) => continue,
            }
            for earlier in &allowed {
                prop_assert!(!slashable(*earlier, message), "{allowed:?} {message:?}");
            }
            allowed.push(message);
        }
    }
}
