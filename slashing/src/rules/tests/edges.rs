//! Numbers about the edges of what 64 bits hold, signed and unsigned.

use proptest::prelude::*;

use super::{
    super::*,
    attest, propose,
    specification::{Signed, slashable},
};

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        (HEIGHT_MAX - 3)..=HEIGHT_MAX + 3,
        (u64::MAX - 3)..=u64::MAX,
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        (edge(), edge()).prop_map(|(source, target)| attest(source, target)),
        edge().prop_map(propose),
    ]
}

fn watermark() -> impl Strategy<Value = Watermark> {
    (edge(), edge(), edge()).prop_filter_map("no watermark", |(source, target, slot)| {
        Watermark::new(Epoch(source), Epoch(target), Slot(slot)).ok()
    })
}

/// A ratchet that claims, imports or neither led to.
fn ratchet() -> impl Strategy<Value = Ratchet> {
    let steps = prop::collection::vec(
        (claim(), 0..3_u8, prop::option::weighted(0.2, watermark())),
        0..6,
    );
    steps.prop_map(|steps| {
        let mut ratchet = Ratchet::default();
        for (claim, root, watermark) in steps {
            if let Verdict::Advance(next) = decide(&ratchet, &claim, SigningRoot([root; 32])) {
                ratchet = next;
            }
            ratchet = watermark.map_or(ratchet, |watermark| ratchet.raised_to(&watermark));
        }
        ratchet
    })
}

/// Source, target and slot; what is absent is below everything.
fn heights(ratchet: &Ratchet) -> [Option<u64>; 3] {
    [
        ratchet.attested.map(|attested| attested.source.0),
        ratchet.attested.map(|attested| attested.target.0),
        ratchet.proposed.map(|proposed| proposed.slot.0),
    ]
}

fn rose(before: &Ratchet, after: &Ratchet) -> bool {
    heights(before)
        .iter()
        .zip(heights(after))
        .all(|(before, after)| *before <= after)
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
            match decide(&ratchet, &message.claim(), message.root()) {
                Verdict::Advance(next) => {
                    prop_assert!(rose(&ratchet, &next), "{ratchet:?} {next:?}");
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

    #[test]
    fn a_number_above_what_a_database_holds_is_refused_whatever_was_signed_and_no_other_is(
        ratchet in ratchet(), claim in claim(), root in 0..3_u8,
    ) {
        let numbers = match claim {
            Claim::Attest { source, target } => vec![source.0, target.0],
            Claim::Propose { slot } => vec![slot.0],
        };
        let too_much = numbers.iter().find(|number| i64::try_from(**number).is_err());
        match decide(&ratchet, &claim, SigningRoot([root; 32])) {
            Verdict::Conflict(Conflict::OutOfRange(_, named)) => {
                prop_assert_eq!(Some(&named), too_much);
            }
            verdict @ (Verdict::Advance(_) | Verdict::Repeat | Verdict::Conflict(_)) => {
                prop_assert!(too_much.is_none(), "{verdict:?}");
            }
        }
    }

    #[test]
    fn a_watermark_is_one_whose_numbers_a_database_holds_and_whose_source_is_not_after_its_target(
        source in edge(), target in edge(), slot in edge(),
    ) {
        let held = [source, target, slot].iter().all(|number| i64::try_from(*number).is_ok());
        let made = Watermark::new(Epoch(source), Epoch(target), Slot(slot));
        prop_assert_eq!(made.is_ok(), held && source <= target, "{:?}", made);
    }

    #[test]
    fn raising_lowers_nothing_is_done_once_and_leaves_nothing_at_or_below_to_be_signed(
        ratchet in ratchet(), watermark in watermark(), claim in claim(), root in 0..3_u8,
    ) {
        let raised = ratchet.raised_to(&watermark);
        prop_assert!(rose(&ratchet, &raised));
        prop_assert!(rose(&Ratchet::default().raised_to(&watermark), &raised));
        prop_assert_eq!(raised.raised_to(&watermark), raised);
        let root = SigningRoot([root; 32]);
        match decide(&raised, &claim, root) {
            Verdict::Advance(_) => match claim {
                Claim::Attest { source, target } => {
                    prop_assert!(source >= watermark.source && target > watermark.target);
                }
                Claim::Propose { slot } => prop_assert!(slot > watermark.slot),
            },
            // The top of a side that the watermark did not raise: the ledger's own message.
            Verdict::Repeat => prop_assert_eq!(decide(&ratchet, &claim, root), Verdict::Repeat),
            Verdict::Conflict(_) => {}
        }
    }
}
