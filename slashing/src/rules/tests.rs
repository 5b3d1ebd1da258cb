use super::*;

mod specification;

mod exhaustive;

mod edges;

fn attest(source: u64, target: u64) -> Claim {
    Claim::Attest {
        source: Epoch(source),
        target: Epoch(target),
    }
}

const fn propose(slot: u64) -> Claim {
    Claim::Propose { slot: Slot(slot) }
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
