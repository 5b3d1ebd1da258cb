//! What the schema refuses by itself: ledgers that decide by rules that are none.

use duty::{Claim, SigningRoot};

use crate::{
    ledger::{
        InitialHistory, Question,
        batch::{Decision, Rule},
        lease,
        session::{Authority, Failure, Session},
    },
    rules::{Attested, Proposed, Ratchet, Verdict},
    testing::{Place, attest, patient, propose, question, register, validator},
};

/// Permits everything, and sets the ratchet to it.
fn follow(ratchet: &Ratchet, claim: &Claim, root: SigningRoot) -> Verdict {
    let root = Some(root);
    Verdict::Advance(match *claim {
        Claim::Attest { source, target } => Ratchet {
            attested: Some(Attested {
                source,
                target,
                root,
            }),
            ..*ratchet
        },
        Claim::Propose { slot } => Ratchet {
            proposed: Some(Proposed { slot, root }),
            ..*ratchet
        },
    })
}

/// Permits everything, and leaves a ratchet that is set as it is.
fn stay(ratchet: &Ratchet, claim: &Claim, root: SigningRoot) -> Verdict {
    let is_set = match claim {
        Claim::Attest { .. } => ratchet.attested.is_some(),
        Claim::Propose { .. } => ratchet.proposed.is_some(),
    };
    match is_set {
        true => Verdict::Advance(*ratchet),
        false => follow(ratchet, claim, root),
    }
}

/// Permits everything, and forgets it.
fn forget(_: &Ratchet, _: &Claim, _: SigningRoot) -> Verdict {
    Verdict::Advance(Ratchet::default())
}

/// Decides the first claims by `before` and then the last one by `rule`. Each is permitted but the
/// last, which the database rejects: with a text on each database.
async fn check(before: &[(Rule, Claim, u8)], last: (Rule, Claim, u8), rejected: [&str; 2]) {
    for (place, rejected) in Place::each().await.into_iter().zip(rejected) {
        let database = place.open().await;
        register(&database, validator(1), InitialHistory::NeverSigned).await;
        let opening = place.opening(patient(), None);
        let (lease, mut session) = lease::take::open(&database, &opening).await.unwrap();
        let mut decide = async |rule, question: Question| {
            let authority = Authority {
                rule,
                ..lease.authority()
            };
            session
                .decide(vec![question], authority, lease.counter())
                .await
        };
        for (rule, claim, root) in before {
            let decided = decide(*rule, question(1, *claim, *root)).await.unwrap();
            let permitted = matches!(decided.decisions.as_slice(), [Decision::Permitted(_)]);
            assert!(permitted, "{claim:?}: {:?}", decided.decisions);
        }
        let (rule, claim, root) = last;
        match decide(rule, question(1, claim, root)).await {
            Err(Failure::Rejected(text)) => assert!(text.contains(rejected), "{claim:?}: {text}"),
            Err(other) => panic!("{claim:?}: {other}"),
            Ok(decided) => panic!("{claim:?}: {:?}", decided.decisions),
        }
        // Nothing of it stayed: the rule permits what was last permitted, and not what was rejected.
        let accept = |_: &_| Ok(());
        let connected = Session::connect(&database, patient().ledger_wait, &accept).await;
        let (mut session, _) = connected.unwrap();
        let (_, latest, latest_root) = *before.last().unwrap();
        for (claim, root, expected) in [(latest, latest_root, true), (claim, root, false)] {
            let asked = vec![question(1, claim, root)];
            let decided = session.decide(asked, lease.authority(), lease.counter());
            let decided = decided.await.unwrap();
            let permitted = matches!(decided.decisions.as_slice(), [Decision::Permitted(_)]);
            assert_eq!(permitted, expected, "{claim:?}: {:?}", decided.decisions);
        }
    }
}

const FALLS: &str = "a ratchet's attestation must not fall";
const SLOT_FALLS: &str = "a ratchet's slot must not fall";

#[tokio::test]
async fn a_ratchet_that_falls_is_rejected_by_the_schema() {
    let votes: [(Rule, Claim, u8); 2] = [(follow, attest(2, 3), 1), (follow, attest(4, 8), 1)];
    // Surrounded by the one before, around it, below in one and in the other.
    check(&votes, (follow, attest(5, 7), 2), [FALLS; 2]).await;
    check(&votes, (follow, attest(3, 9), 2), [FALLS; 2]).await;
    check(&votes, (follow, attest(4, 7), 2), [FALLS; 2]).await;
    check(&votes, (follow, attest(3, 8), 1), [FALLS; 2]).await;
    check(&votes, (forget, attest(4, 8), 2), [FALLS; 2]).await;
    let blocks: [(Rule, Claim, u8); 1] = [(follow, propose(7), 1)];
    check(&blocks, (follow, propose(6), 2), [SLOT_FALLS; 2]).await;
    check(&blocks, (follow, propose(0), 1), [SLOT_FALLS; 2]).await;
    check(&blocks, (forget, propose(7), 2), [SLOT_FALLS; 2]).await;
}

#[tokio::test]
async fn a_second_message_for_one_target_or_slot_is_rejected_by_the_schema() {
    let target = "a ratchet's target must not be signed twice";
    let slot = "a ratchet's slot must not be signed twice";
    let votes: [(Rule, Claim, u8); 2] = [(follow, attest(1, 2), 1), (follow, attest(3, 4), 1)];
    check(&votes, (follow, attest(3, 4), 2), [target; 2]).await;
    check(&votes, (follow, attest(4, 4), 1), [target; 2]).await;
    let blocks: [(Rule, Claim, u8); 2] = [(follow, propose(7), 1), (follow, propose(9), 1)];
    check(&blocks, (follow, propose(9), 2), [slot; 2]).await;

    // The ratchet tells nothing of these: the history's keys do.
    let keys = [
        "UNIQUE constraint failed: attestations.target_epoch, attestations.validator",
        "attestations_pkey",
    ];
    check(&votes, (stay, attest(3, 4), 2), keys).await;
    check(&votes, (stay, attest(0, 4), 1), keys).await;
    check(&votes, (stay, attest(1, 2), 2), keys).await;
    let keys = [
        "UNIQUE constraint failed: blocks.slot, blocks.validator",
        "blocks_pkey",
    ];
    check(&blocks, (stay, propose(9), 2), keys).await;
    check(&blocks, (stay, propose(7), 2), keys).await;
}
