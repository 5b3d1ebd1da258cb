//! What is permitted, one claim after the other.

use duty::Claim;

use crate::{
    ledger::{Denial, InitialHistory, Prospect, Refused, RegisterError},
    rules::Conflict,
    testing::{
        Place, attest, decide, patient, propose, question, register, root, try_register, validator,
    },
};
use duty::{Epoch, Slot};

fn is_conflict(outcome: &Result<(), Denial>) -> bool {
    matches!(outcome, Err(Denial::Refused(Refused::Conflict(_))))
}

/// Puts a sequence to a fresh validator of a fresh ledger of each kind.
async fn check(sequence: &[(Claim, u8, bool)]) {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        for (claim, root, permitted) in sequence {
            let outcome = decide(&ledger, 1, *claim, *root).await;
            match permitted {
                true => assert_eq!(outcome, Ok(()), "{sequence:?}: {claim:?} {root}"),
                false => assert!(is_conflict(&outcome), "{sequence:?}: {claim:?} {root}"),
            }
        }
    }
}

#[tokio::test]
async fn the_wire_contracts_cases_hold() {
    check(&[(attest(5, 6), 1, true), (attest(5, 6), 1, true)]).await;
    check(&[(attest(5, 6), 1, true), (attest(5, 6), 2, false)]).await;
    check(&[(attest(3, 6), 1, true), (attest(4, 5), 2, false)]).await;
    check(&[(attest(3, 6), 1, true), (attest(2, 7), 2, false)]).await;
    check(&[(attest(7, 6), 1, false)]).await;
    check(&[
        (propose(3), 1, true),
        (propose(3), 1, true),
        (propose(3), 2, false),
    ])
    .await;
    check(&[(propose(10), 1, true), (propose(9), 2, false)]).await;
    check(&[
        (attest(0, 0), 1, true),
        (attest(0, 0), 2, false),
        (attest(0, 1), 2, true),
    ])
    .await;
    check(&[
        (attest(0, u64::MAX), 1, false),
        (propose(u64::MAX), 1, false),
    ])
    .await;
}

#[tokio::test]
async fn older_exact_repeats_of_own_decisions_are_permitted() {
    check(&[
        (attest(1, 2), 1, true),
        (propose(5), 1, true),
        (attest(3, 4), 2, true),
        (propose(6), 2, true),
        (attest(1, 2), 1, true),
        (propose(5), 1, true),
        (attest(1, 2), 2, false),
        (attest(0, 2), 1, false),
        (attest(1, 3), 1, false),
        (propose(5), 2, false),
        (propose(4), 1, false),
        (attest(3, 4), 2, true),
    ])
    .await;
}

#[tokio::test]
async fn imported_history_refuses_and_never_licenses_a_repeat() {
    for place in Place::each().await {
        let database = place.open().await;
        let history = InitialHistory::Watermark {
            source: Epoch(5),
            target: Epoch(6),
            slot: Slot(10),
        };
        register(&database, validator(1), history).await;
        let ledger = place.ledger(patient()).await;
        for claim in [attest(5, 6), attest(4, 7), propose(10)] {
            assert!(
                is_conflict(&decide(&ledger, 1, claim, 1).await),
                "{claim:?}"
            );
        }
        for claim in [attest(5, 7), propose(11), attest(5, 7), propose(11)] {
            assert_eq!(decide(&ledger, 1, claim, 1).await, Ok(()), "{claim:?}");
        }
        // A later import above own decisions: the top is nobody's, what is below is still ours.
        let history = InitialHistory::Watermark {
            source: Epoch(8),
            target: Epoch(8),
            slot: Slot(11),
        };
        register(&database, validator(1), history).await;
        assert!(is_conflict(&decide(&ledger, 1, attest(8, 8), 1).await));
        for claim in [attest(5, 7), propose(11)] {
            assert_eq!(decide(&ledger, 1, claim, 1).await, Ok(()), "{claim:?}");
        }
        // One that says less lowers nothing.
        register(&database, validator(1), InitialHistory::NeverSigned).await;
        assert!(is_conflict(&decide(&ledger, 1, attest(5, 8), 1).await));
    }
}

#[tokio::test]
async fn an_impossible_watermark_registers_nobody() {
    for place in Place::each().await {
        let ledger = place.ledger(patient()).await;
        let history = InitialHistory::Watermark {
            source: Epoch(7),
            target: Epoch(6),
            slot: Slot(0),
        };
        let registered = try_register(&place.open().await, validator(1), history).await;
        let after = |error: &RegisterError| {
            matches!(
                error,
                RegisterError::Watermark(Conflict::SourceAfterTarget { .. })
            )
        };
        assert!(registered.is_err_and(|error| after(&error)));
        assert_eq!(
            decide(&ledger, 1, attest(7, 8), 1).await,
            Err(Refused::NotRegistered.into())
        );
    }
}

#[tokio::test]
async fn strangers_and_disabled_validators_are_refused() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        assert_eq!(
            decide(&ledger, 99, attest(0, 1), 1).await,
            Err(Refused::NotRegistered.into())
        );
        let disable = "UPDATE ratchets SET disabled = NOT disabled";
        place.execute(disable).await.unwrap();
        assert_eq!(
            decide(&ledger, 1, attest(0, 1), 1).await,
            Err(Refused::Disabled.into())
        );
        let foreseen = ledger
            .foresee(vec![question(1, attest(0, 1), 1)])
            .await
            .unwrap();
        assert_eq!(foreseen, [Err(Refused::Disabled)]);
        place.execute(disable).await.unwrap();
        assert_eq!(decide(&ledger, 1, attest(0, 1), 1).await, Ok(()));
    }
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        assert_eq!(decide(&ledger, 1, attest(3, 6), 1).await, Ok(()));
        assert_eq!(decide(&ledger, 1, propose(9), 1).await, Ok(()));
        drop(ledger);
        let ledger = place.ledger(patient()).await;
        for (claim, root) in [(attest(3, 6), 2), (attest(2, 7), 2), (propose(9), 2)] {
            assert!(
                is_conflict(&decide(&ledger, 1, claim, root).await),
                "{claim:?}"
            );
        }
        for claim in [attest(3, 6), propose(9)] {
            assert_eq!(decide(&ledger, 1, claim, 1).await, Ok(()), "{claim:?}");
        }
    }
}

#[tokio::test]
async fn every_permit_is_written_repeats_included() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        for (claim, root) in [(attest(1, 2), 1), (attest(1, 2), 1), (attest(2, 3), 1)] {
            assert_eq!(decide(&ledger, 1, claim, root).await, Ok(()));
        }
        // An old repeat counts, a refusal does not.
        assert_eq!(decide(&ledger, 1, attest(1, 2), 1).await, Ok(()));
        assert!(is_conflict(&decide(&ledger, 1, attest(1, 2), 2).await));
        // The schema refuses to let the count fall, so it can be asked from outside.
        let set = |count| format!("UPDATE ratchets SET decisions = {count} WHERE decisions > 0");
        place.execute(&set(3)).await.unwrap_err();
        place.execute(&set(4)).await.unwrap();
    }
}

#[tokio::test]
async fn a_duty_is_free_signed_or_refused_before_it_is_decided() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        for claim in [attest(3, 6), attest(4, 8), propose(9), propose(12)] {
            decide(&ledger, 1, claim, 1).await.unwrap();
        }
        let history = InitialHistory::Watermark {
            source: Epoch(5),
            target: Epoch(6),
            slot: Slot(10),
        };
        register(&place.open().await, validator(10), history).await;
        let cases = [
            (question(1, attest(4, 9), 2), Some(Prospect::Free)),
            (
                question(1, attest(4, 8), 1),
                Some(Prospect::Signed(root(1))),
            ),
            (
                question(1, attest(4, 8), 2),
                Some(Prospect::Signed(root(1))),
            ),
            (
                question(1, attest(3, 6), 2),
                Some(Prospect::Signed(root(1))),
            ),
            (
                question(1, attest(3, 6), 1),
                Some(Prospect::Signed(root(1))),
            ),
            (question(1, attest(3, 7), 1), None),
            (question(1, attest(3, 9), 1), None),
            (question(1, attest(9, 8), 1), None),
            (question(1, attest(0, u64::MAX), 1), None),
            (question(1, propose(13), 2), Some(Prospect::Free)),
            (question(1, propose(12), 2), Some(Prospect::Signed(root(1)))),
            (question(1, propose(9), 2), Some(Prospect::Signed(root(1)))),
            (question(1, propose(10), 2), None),
            (question(10, attest(5, 6), 1), None),
            (question(10, attest(5, 7), 1), Some(Prospect::Free)),
            (question(10, propose(10), 1), None),
        ];
        let foreseen = ledger
            .foresee(cases.iter().map(|case| case.0).collect())
            .await
            .unwrap();
        for ((question, expected), got) in cases.iter().zip(foreseen) {
            match expected {
                Some(prospect) => assert_eq!(got, Ok(*prospect), "{question:?}"),
                None => assert!(
                    matches!(got, Err(Refused::Conflict(_))),
                    "{question:?}: {got:?}"
                ),
            }
        }
        let stranger = ledger
            .foresee(vec![question(99, attest(0, 1), 1)])
            .await
            .unwrap();
        assert_eq!(stranger, [Err(Refused::NotRegistered)]);
        assert_eq!(ledger.ping().await, Ok(()));
    }
}
