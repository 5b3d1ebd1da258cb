//! The service as signer-apis and operators see it: a real process, mutual TLS, a real database.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else has failed"
)]

mod support;

use std::time::{Duration, Instant};

use duty::{DepositMessage, Duty, Epoch, PublicKey, Root, SigningOrder, Slot, VoluntaryExit};
use support::{
    OPERATOR, SIGNER, index, new_key,
    running::{Running, promise, ready, sign, sign_in_form, status_when},
    stage::{
        FREE, Stage, at_once, attestation, ballot, block, import, order, partial, promise_reason,
        randao, sign_reason, signed, to_promise, to_sign,
    },
};
use tonic::Code;
use wire::proto::{
    PromiseRequest, ReloadRequest, SignItem, SignRequest, StatusRequest, ValidatorsRequest,
    promise_outcome::Outcome as Promise, refusal::Reason, sign_outcome::Outcome as Sign,
};

async fn check_votes(stage: Stage) {
    let (running, mut client) = stage.start().await;
    let one = attestation(stage.validator, 1, 2, 0xaa);
    let other = attestation(stage.validator, 1, 2, 0xbb);

    assert_eq!(
        promise(&mut client, vec![to_promise(0, &one)]).await,
        [FREE]
    );
    let wrong_ballot = sign(&mut client, vec![to_sign(1, &one)]).await;
    assert_eq!(sign_reason(&wrong_ballot[0]), Some(Reason::TooLate));
    let first = sign(&mut client, vec![to_sign(0, &one)]).await;
    let first = partial(&stage.committee, &one, &first[0]);

    assert_eq!(
        promise(&mut client, vec![to_promise(5, &one)]).await,
        [signed(&one)]
    );
    assert_eq!(
        promise(&mut client, vec![to_promise(5, &other)]).await,
        [signed(&one)]
    );
    let refused = sign(&mut client, vec![to_sign(5, &other)]).await;
    assert!(sign_reason(&refused[0]).is_some());
    let repeat = sign(&mut client, vec![to_sign(9, &one)]).await;
    assert_eq!(
        partial(&stage.committee, &one, &repeat[0]),
        first,
        "needs no promise"
    );

    let surrounding = attestation(stage.validator, 0, 3, 0xaa);
    let outcomes = promise(&mut client, vec![to_promise(0, &surrounding)]).await;
    assert_eq!(promise_reason(&outcomes[0]), Some(Reason::Slashable));
    let proposal = block(stage.validator, 64);
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &proposal)]).await,
        [FREE]
    );
    let outcomes = sign(&mut client, vec![to_sign(0, &proposal)]).await;
    partial(&stage.committee, &proposal, &outcomes[0]);

    // Killed at once, nothing is forgotten, and nothing promised before the pause is over.
    running.kill();
    let running = Running::start(&stage.config);
    let mut client = running.client(&stage.home, SIGNER);
    let next = attestation(stage.validator, 2, 3, 0xaa);
    let outcomes = promise(&mut client, vec![to_promise(0, &next)]).await;
    assert_eq!(promise_reason(&outcomes[0]), Some(Reason::Starting));
    let repeat = sign(&mut client, vec![to_sign(0, &one)]).await;
    assert_eq!(partial(&stage.committee, &one, &repeat[0]), first);
    ready(&mut client).await;
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &other)]).await,
        [signed(&one)]
    );
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &next)]).await,
        [FREE]
    );
}

#[tokio::test]
async fn one_vote_per_duty_is_given_and_never_forgotten_on_sqlite() {
    check_votes(Stage::new(&[])).await;
}

#[tokio::test]
async fn one_vote_per_duty_is_given_and_never_forgotten_on_postgres() {
    let url = format!(
        "[database.postgres]\nurl = \"{}\"\n#",
        throwaway::database().await
    );
    let change = [("[database.sqlite]\n", url.as_str())];
    check_votes(Stage::new(&change)).await;
}

#[tokio::test]
async fn a_higher_ballot_outbids_and_is_told() {
    let stage = Stage::new(&[]);
    let (_running, mut client) = stage.start().await;
    let one = attestation(stage.validator, 1, 2, 0xaa);
    let other = attestation(stage.validator, 1, 2, 0xbb);
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &one)]).await,
        [FREE]
    );
    assert_eq!(
        promise(&mut client, vec![to_promise(1, &other)]).await,
        [FREE]
    );
    let held = ballot(1, &other).unwrap();
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &one)]).await,
        [Promise::Outbid(held.clone())]
    );
    assert_eq!(
        sign(&mut client, vec![to_sign(0, &one)]).await,
        [Sign::Outbid(held)]
    );
    let outcomes = sign(&mut client, vec![to_sign(1, &other)]).await;
    partial(&stage.committee, &other, &outcomes[0]);
}

#[tokio::test]
async fn the_last_ballot_there_is_makes_a_duty_wait_and_no_more() {
    let stage = Stage::new(&[]);
    let (_running, mut client) = stage.start().await;
    let one = attestation(stage.validator, 1, 2, 0xaa);
    let other = attestation(stage.validator, 1, 2, 0xbb);
    let last = vec![to_promise(u64::MAX, &other)];
    assert_eq!(promise(&mut client, last).await, [FREE]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut outbid = 0;
    while promise(&mut client, vec![to_promise(0, &one)]).await != [FREE] {
        outbid += 1;
        assert!(Instant::now() < deadline, "it waits for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(outbid > 0);
    let outcomes = sign(&mut client, vec![to_sign(0, &one)]).await;
    partial(&stage.committee, &one, &outcomes[0]);
}

#[tokio::test]
async fn racing_callers_get_partials_for_at_most_one_message_of_a_duty() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    ready(&mut client).await;
    let clients: Vec<_> = (0..4)
        .map(|_| running.client(&stage.home, SIGNER))
        .collect();
    for target in 2..12 {
        let callers = clients.iter().zip(0_u8..).map(|(client, root)| {
            let (mut client, order) = (
                client.clone(),
                attestation(stage.validator, 1, target, root),
            );
            tokio::spawn(async move {
                for round in 0..20 {
                    promise(&mut client, vec![to_promise(round, &order)]).await;
                    let outcomes = sign(&mut client, vec![to_sign(round, &order)]).await;
                    if matches!(outcomes[0], Sign::Scaled(_)) {
                        return true;
                    }
                }
                false
            })
        });
        let mut winners = 0;
        for caller in callers.collect::<Vec<_>>() {
            winners += usize::from(caller.await.unwrap());
        }
        assert_eq!(winners, 1, "target {target}");
    }
}

#[tokio::test]
async fn of_a_batch_only_what_the_ledger_permits_is_given_out() {
    let stage = Stage::new(&[]);
    let (_running, mut client) = stage.start().await;
    let mut target = 2;
    // Small ones are computed while the ledger decides, long ones when it has decided.
    for (length, scaled) in [(1, true), (8, true), (9, true), (8, false)] {
        let votes: Vec<_> = (target..).take(length).collect();
        target += u64::try_from(length).unwrap();
        let votes: Vec<_> = votes
            .into_iter()
            .map(|target| attestation(stage.validator, 1, target, 0xaa))
            .collect();
        let promised = votes.iter().step_by(3).map(|vote| to_promise(0, vote));
        promise(&mut client, promised.collect()).await;
        let items = votes.iter().map(|vote| to_sign(0, vote)).collect();
        let outcomes = sign_in_form(&mut client, items, scaled).await;
        assert_eq!(outcomes.len(), length);
        for (position, (vote, outcome)) in votes.iter().zip(&outcomes).enumerate() {
            if position % 3 == 0 {
                partial(&stage.committee, vote, outcome);
            } else {
                assert_eq!(sign_reason(outcome), Some(Reason::TooLate), "{outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_slashed_needs_no_promise() {
    let stage = Stage::new(&[]);
    let running = Running::start(&stage.config);
    let mut client = running.client(&stage.home, SIGNER);
    let orders = [
        randao(stage.validator),
        order(stage.validator, Duty::AggregationSlot(Slot(u64::MAX))),
        order(stage.validator, Duty::SyncCommitteeMessage(Root([1; 32]))),
        order(stage.validator, Duty::ExecutionPayload(Root([1; 32]))),
    ];
    let outcomes = sign(&mut client, orders.iter().map(at_once).collect()).await;
    for (order, outcome) in orders.iter().zip(&outcomes) {
        partial(&stage.committee, order, outcome);
    }
}

#[tokio::test]
async fn orders_that_are_not_understood_or_not_allowed_are_refused_with_a_clause() {
    let stage = Stage::new(&[("\"unchecked\"", "\"checked\"")]);
    let (_running, mut client) = stage.start().await;
    let validator = stage.validator;
    let exit = Duty::VoluntaryExit(VoluntaryExit {
        epoch: Epoch(1),
        validator_index: 1,
    });
    let deposit = Duty::Deposit(DepositMessage {
        pubkey: validator,
        withdrawal_credentials: Root::ZERO,
        amount: 1,
    });
    let chain = SigningOrder {
        genesis_validators_root: Root([1; 32]),
        ..randao(validator)
    };
    let mut short = at_once(&randao(validator));
    short.order.as_mut().unwrap().fork_version.pop();
    let mut unknown_kind = at_once(&randao(validator));
    unknown_kind.order.as_mut().unwrap().duty = None;
    for (item, reason) in [
        (SignItem::default(), Reason::Invalid),
        (short, Reason::Invalid),
        (unknown_kind, Reason::Invalid),
        (to_sign(0, &randao(validator)), Reason::Invalid),
        (at_once(&randao(PublicKey([1; 48]))), Reason::NotFound),
        (at_once(&chain), Reason::WrongChain),
        (at_once(&order(validator, exit)), Reason::NotAllowed),
        (at_once(&order(validator, deposit)), Reason::NotAllowed),
        (at_once(&attestation(validator, 1, 2, 0)), Reason::Invalid),
        (
            to_sign(0, &attestation(validator, 1, 2, 0)),
            Reason::TooLate,
        ),
        (
            to_sign(0, &attestation(validator, 1, u64::MAX, 0)),
            Reason::BeyondClock,
        ),
        (
            to_sign(0, &attestation(validator, u64::MAX, 2, 0)),
            Reason::BeyondClock,
        ),
        (to_sign(0, &block(validator, u64::MAX)), Reason::BeyondClock),
    ] {
        let shown = format!("{item:?}");
        let outcomes = sign(&mut client, vec![item]).await;
        assert_eq!(
            sign_reason(&outcomes[0]),
            Some(reason),
            "{shown}: {outcomes:?}"
        );
        let Sign::Refused(refusal) = &outcomes[0] else {
            panic!("{outcomes:?}")
        };
        assert!(!refusal.message.is_empty() && refusal.message.len() <= 300);
    }
    let mut other_ballot = to_promise(0, &attestation(validator, 1, 2, 0));
    other_ballot.ballot = ballot(0, &randao(validator));
    let outcomes = promise(
        &mut client,
        vec![other_ballot, to_promise(0, &randao(validator))],
    )
    .await;
    for outcome in &outcomes {
        assert_eq!(
            promise_reason(outcome),
            Some(Reason::Invalid),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn exits_and_deposits_are_signed_where_the_configuration_allows_them() {
    let allowed = "allow_voluntary_exits = true\nallow_deposits = true\nclock =";
    let stage = Stage::new(&[("clock =", allowed)]);
    let (running, mut client) = stage.start().await;
    let exit = Duty::VoluntaryExit(VoluntaryExit {
        epoch: Epoch(1),
        validator_index: 1,
    });
    let exit = order(stage.validator, exit);
    let outcomes = sign(&mut client, vec![at_once(&exit)]).await;
    partial(&stage.committee, &exit, &outcomes[0]);
    let (_, log) = running.stop();
    for warning in [
        "voluntary exits are signed",
        "deposits are signed",
        "THE CLOCK IS UNCHECKED",
    ] {
        assert!(log.contains(warning), "{warning} is not in\n{log}");
    }
}

#[tokio::test]
async fn batches_out_of_bounds_and_mixed_ones_are_refused_whole() {
    let stage = Stage::new(&[]);
    let (_running, mut client) = stage.start().await;
    let randao = at_once(&randao(stage.validator));
    let vote = attestation(stage.validator, 1, 2, 0);
    for items in [
        vec![],
        vec![randao.clone(); 129],
        vec![randao.clone(), to_sign(0, &vote)],
    ] {
        let length = items.len();
        let status = client
            .sign(SignRequest {
                items,
                scaled: false,
            })
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{length}: {status}");
    }
    for items in [vec![], vec![to_promise(0, &vote); 129]] {
        let status = client.promise(PromiseRequest { items }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let outcomes = sign(&mut client, vec![randao; 128]).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Sign::Scaled(_)))
    );
    let mut huge = to_promise(0, &vote);
    huge.order.as_mut().unwrap().fork_version = vec![0; 5 * 1024 * 1024];
    let status = client
        .promise(PromiseRequest { items: vec![huge] })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

#[tokio::test]
async fn a_peer_calls_only_the_methods_that_its_names_allow() {
    let stage = Stage::new(&[]);
    let (running, mut signer) = stage.start().await;
    let mut operator = running.client(&stage.home, OPERATOR);
    let items = vec![at_once(&randao(stage.validator))];
    let status = operator
        .sign(SignRequest {
            items,
            scaled: false,
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = operator.validators(ValidatorsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);

    let mut administration = running.administration(&stage.home, SIGNER);
    let status = administration.reload(ReloadRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut administration = running.administration(&stage.home, OPERATOR);
    let reply = administration
        .reload(ReloadRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((reply.validators, reply.added), (1, 0));

    for name in ["stranger", "signer-api.evil", "Signer-api"] {
        let mut stranger = running.client(&stage.home, name);
        let status = stranger.status(StatusRequest {}).await.unwrap_err();
        // The connection ended: a status that a handler sent has no source.
        let source = std::error::Error::source(&status);
        assert!(
            source.is_some_and(|source| source.is::<tonic::transport::Error>()),
            "{status:?}"
        );
    }
    signer.status(StatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn shares_that_are_imported_while_it_runs_are_served_without_a_restart() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let before = ready(&mut client).await;
    assert_eq!(before.validators, 1);
    import(&stage.home, &stage.config, new_key());
    let after = status_when(&mut client, |status| status.validators == 2).await;
    assert_ne!(after.generation, before.generation);
    running.kill();

    let (_running, mut client) = stage.start().await;
    assert_eq!(ready(&mut client).await.generation, after.generation);
    let mut pages = client
        .validators(ValidatorsRequest {})
        .await
        .unwrap()
        .into_inner();
    let page = pages.message().await.unwrap().unwrap();
    assert_eq!(page.generation, after.generation);
    assert_eq!(page.validators.len(), 2);
    let report = wire::report_from_proto(page.validators[0].clone()).unwrap();
    assert_eq!(report.validator, stage.validator);
    assert_eq!(report.commitments, stage.committee.commitments().as_slice());
    assert_eq!((report.index, report.members), (index(1), vec![1, 2, 3]));
    assert!(pages.message().await.unwrap().is_none());
}

// Of several threads: a client that is not driven would hold the drain up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_with_its_parent_and_with_sigterm_and_logs_no_secret() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let vote = attestation(stage.validator, 1, 2, 0);
    promise(&mut client, vec![to_promise(0, &vote)]).await;
    sign(&mut client, vec![to_sign(0, &vote)]).await;
    let (status, log) = running.stop();
    assert!(status.success(), "{log}");
    assert!(
        log.contains("tolerated_faults=0") && log.contains("tolerated_absences=1"),
        "{log}"
    );
    let share: String = stage
        .share
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for secret in [
        share.as_str(),
        "a vault's passphrase",
        "a package's passphrase",
    ] {
        assert!(!log.to_lowercase().contains(secret));
    }
    let running = Running::start(&stage.config);
    assert!(running.terminate().success());
}
