//! What a file means: what rises, what is minified, what is taken for the same.

use duty::{Epoch, PublicKey, SigningRoot, Slot};
use serde_json::{Value, json};

use super::{CHAIN, Imported, file, import_text, ratchets, section};
use crate::{
    ledger::InitialHistory,
    rules::{Attested, Proposed, Ratchet},
    testing::{Place, attest, decide, patient, propose, register, root, validator},
};

const fn ratchet(
    attested: Option<(u64, u64, Option<SigningRoot>)>,
    proposed: Option<(u64, Option<SigningRoot>)>,
) -> Ratchet {
    Ratchet {
        attested: match attested {
            Some((source, target, root)) => Some(Attested {
                source: Epoch(source),
                target: Epoch(target),
                root,
            }),
            None => None,
        },
        proposed: match proposed {
            Some((slot, root)) => Some(Proposed {
                slot: Slot(slot),
                root,
            }),
            None => None,
        },
    }
}

/// What a file does to a ledger that decided an attestation (5, 6) and a block of slot 10, roots 1,
/// for the validator that [`SUBJECT`] stands for.
struct Case {
    data: Vec<Value>,
    raised: u64,
    minified: Vec<PublicKey>,
    /// The validator's ratchet afterwards.
    expected: Ratchet,
}

const SUBJECT: PublicKey = validator(1);
/// The first of the validators that stand in for [`SUBJECT`], one per case.
const FIRST: u8 = 100;

/// Runs each case on one ledger of each kind, each for a validator of its own.
async fn check(cases: Vec<Case>) {
    for place in Place::each().await {
        let database = place.open().await;
        for (_, number) in cases.iter().zip(FIRST..) {
            register(&database, validator(number), InitialHistory::NeverSigned).await;
        }
        let ledger = place.ledger(patient()).await;
        for (case, number) in cases.iter().zip(FIRST..) {
            let subject = validator(number);
            let digits = |key: PublicKey| key.to_string().trim_start_matches("0x").to_owned();
            let text = file(case.data.clone());
            let text = text.replace(&digits(SUBJECT), &digits(subject));
            let lower = digits(subject);
            let text = text.replace(&digits(SUBJECT).to_uppercase(), &lower.to_uppercase());
            assert_eq!(decide(&ledger, number, attest(5, 6), 1).await, Ok(()));
            assert_eq!(decide(&ledger, number, propose(10), 1).await, Ok(()));
            let imported = import_text(&database, CHAIN, text.clone()).await;
            let Imported {
                raised, minified, ..
            } = imported.unwrap();
            let minified: Vec<_> = minified
                .into_iter()
                .map(|validator| {
                    if validator == subject {
                        SUBJECT
                    } else {
                        validator
                    }
                })
                .collect();
            assert_eq!(ratchets(&place).await[&subject], case.expected, "{text}");
            assert_eq!((raised, &minified), (case.raised, &case.minified), "{text}");
            // What was decided here may be repeated, whatever was imported, and nothing else.
            assert_eq!(decide(&ledger, number, attest(5, 6), 1).await, Ok(()));
            assert_eq!(decide(&ledger, number, propose(10), 1).await, Ok(()));
            assert!(decide(&ledger, number, attest(5, 6), 2).await.is_err());
            if let Some(Attested {
                source,
                target,
                root: None,
            }) = case.expected.attested
            {
                let top = attest(source.0, target.0);
                assert!(decide(&ledger, number, top, 2).await.is_err(), "{text}");
            }
        }
    }
}

/// A case whose file is about the subject only.
fn case(
    blocks: &[(u64, u8)],
    votes: &[(u64, u64, u8)],
    (raised, minified): (u64, &[PublicKey]),
    expected: Ratchet,
) -> Case {
    Case {
        data: vec![section(SUBJECT, blocks, votes)],
        raised,
        minified: minified.to_vec(),
        expected,
    }
}

const OWN: Option<SigningRoot> = Some(root(1));

#[tokio::test]
async fn each_side_rises_by_itself_and_none_falls() {
    const SAME: (u64, &[PublicKey]) = (0, &[]);
    const RAISED: (u64, &[PublicKey]) = (1, &[]);
    let own = ratchet(Some((5, 6, OWN)), Some((10, OWN)));
    let attested = |source, target| ratchet(Some((source, target, None)), Some((10, OWN)));
    let proposed = ratchet(Some((5, 6, OWN)), Some((11, None)));
    check(vec![
        case(&[], &[], SAME, own),
        // Older, equal, and equal with another root: nothing rises.
        case(&[(9, 2)], &[(4, 5, 2)], SAME, own),
        case(&[(10, 1)], &[(5, 6, 1)], SAME, own),
        case(&[(10, 2)], &[(5, 6, 2)], SAME, own),
        // Newer attestations and older blocks, and the other way round.
        case(&[(3, 2)], &[(6, 7, 2), (7, 8, 2)], RAISED, attested(7, 8)),
        case(&[(11, 2), (3, 2)], &[(1, 2, 2)], RAISED, proposed),
        case(&[(11, 2)], &[], RAISED, proposed),
        // Only the source, and only the target: the other stays where it is.
        case(&[], &[(6, 6, 2)], RAISED, attested(6, 6)),
        case(&[], &[(0, 9, 2)], RAISED, attested(5, 9)),
    ])
    .await;
}

#[tokio::test]
async fn entries_that_are_slashable_together_are_minified_and_reported() {
    const MINIFIED: (u64, &[PublicKey]) = (1, &[SUBJECT]);
    const WHOLE: (u64, &[PublicKey]) = (1, &[]);
    let own = |source, target| ratchet(Some((source, target, None)), Some((10, OWN)));
    let blocks = ratchet(Some((5, 6, OWN)), Some((12, None)));
    let two = vec![
        section(validator(2), &[(3, 1), (3, 2)], &[(1, 2, 1)]),
        section(SUBJECT, &[(12, 1)], &[]),
    ];
    let split = vec![
        section(SUBJECT, &[], &[(6, 9, 1)]),
        section(validator(3), &[], &[(7, 8, 1)]),
        section(SUBJECT, &[], &[(7, 8, 1)]),
    ];
    check(vec![
        // Double votes: other sources, other roots.
        case(&[], &[(6, 9, 1), (7, 9, 1)], MINIFIED, own(7, 9)),
        case(&[], &[(7, 9, 1), (7, 9, 2)], MINIFIED, own(7, 9)),
        // The same message, its root known or not; equal heights without roots.
        case(&[], &[(7, 9, 1), (7, 9, 1)], WHOLE, own(7, 9)),
        case(&[], &[(7, 9, 1), (7, 9, 0)], WHOLE, own(7, 9)),
        case(&[], &[(7, 9, 0), (7, 9, 0)], WHOLE, own(7, 9)),
        // Surrounding, in either order, and not quite surrounding.
        case(&[], &[(6, 9, 1), (7, 8, 1)], MINIFIED, own(7, 9)),
        case(&[], &[(7, 8, 1), (6, 9, 1)], MINIFIED, own(7, 9)),
        case(&[], &[(7, 8, 1), (7, 9, 1)], WHOLE, own(7, 9)),
        // A source after its target.
        case(&[], &[(8, 7, 1)], MINIFIED, own(8, 8)),
        case(&[], &[(8, 7, 1), (8, 11, 1)], MINIFIED, own(8, 11)),
        // Two blocks of one slot; another validator's do not matter to this one.
        case(&[(11, 1), (11, 2), (12, 1)], &[], MINIFIED, blocks),
        case(&[(12, 1), (12, 0)], &[], WHOLE, blocks),
        Case {
            data: two,
            raised: 2,
            minified: vec![validator(2)],
            expected: blocks,
        },
        // Across two sections of one validator.
        Case {
            data: split,
            raised: 2,
            minified: vec![SUBJECT],
            expected: own(7, 9),
        },
    ])
    .await;
}

#[tokio::test]
async fn a_file_is_read_however_it_is_written() {
    let expected = ratchet(Some((7, 8, None)), Some((12, None)));
    let key = SUBJECT.to_string();
    let bare = key.trim_start_matches("0x").to_owned();
    let cases = [key.to_uppercase(), bare.to_uppercase(), bare.clone(), key].map(|name| {
        let mut case = case(&[(12, 1)], &[(7, 8, 1)], (1, &[]), expected);
        case.data[0]["pubkey"] = json!(name);
        case
    });
    check(cases.into()).await;
    let text = format!(
        "{{\"about\": {{\"a\": [1, {{}}, \"\\\"]\"]}},
           \"data\": [{{\"signed_attestations\": [{{\"target_epoch\": 8, \"signing_root\": null,
               \"source_epoch\": \"007\", \"index\": -1.5e3}}], \"client\": null,
               \"signed_blocks\": [{{\"slot\": 12}}], \"pubkey\": \"{bare}\"}}],
           \"metadata\": {{\"genesis_validators_root\": \"{}\",
               \"interchange_format_version\": 5, \"from\": \"nowhere\"}} }}  \n",
        CHAIN.to_string().trim_start_matches("0x")
    );
    for place in Place::each().await {
        let imported = import_text(&place.open().await, CHAIN, text.clone()).await;
        let imported = imported.unwrap();
        let counts = (imported.validators, imported.entries, imported.raised);
        assert_eq!(counts, (1, 2, 1));
        assert_eq!(ratchets(&place).await[&SUBJECT], expected);
    }
}

#[tokio::test]
async fn the_greatest_heights_are_taken_and_leave_nothing_to_sign() {
    let max = crate::rules::HEIGHT_MAX;
    let text = file(vec![section(validator(1), &[(max, 1)], &[(max, max, 1)])]);
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        let database = place.open().await;
        import_text(&database, CHAIN, text.clone()).await.unwrap();
        for claim in [attest(max, max), propose(max), propose(0)] {
            assert!(decide(&ledger, 1, claim, 1).await.is_err(), "{claim:?}");
        }
        assert_eq!(decide(&ledger, 2, propose(max), 1).await, Ok(()));
    }
}
