//! An operator's orders to a running cosigner: a real process, mutual TLS, a real database.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else has failed"
)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use duty::{Duty, PublicKey, Root, SigningOrder, Slot, ValidatorRegistration, VoluntaryExit};
use support::{
    OPERATOR, SIGNER, new_key,
    running::{Running, promise, ready, sign, status_when},
    stage::{
        FREE, Stage, at_once, attestation, block, import, order, partial, promise_reason, randao,
        sign_reason, to_promise, to_sign,
    },
};
use tonic::{Code, Status, transport::Channel};
use wire::proto::{
    FreezeReply, FreezeRequest, LedgerRequest, LedgerState, RaiseReply, RaiseRequest,
    StatusRequest, StopAtRequest, administration_client::AdministrationClient,
    cosigner_client::CosignerClient, refusal::Reason, sign_outcome::Outcome as Sign,
};

type Operator = AdministrationClient<Channel>;

/// A database of each kind for the same check.
async fn postgres() -> Stage {
    let url = format!(
        "[database.postgres]\nurl = \"{}\"\n#",
        throwaway::database().await
    );
    Stage::new(&[("[database.sqlite]\n", url.as_str())])
}

fn named(validators: &[PublicKey]) -> Vec<Vec<u8>> {
    validators.iter().map(|key| key.0.to_vec()).collect()
}

async fn freeze(
    operator: &mut Operator,
    validators: &[PublicKey],
    frozen: bool,
) -> Result<FreezeReply, Status> {
    let request = FreezeRequest {
        validators: named(validators),
        all: validators.is_empty(),
        frozen,
    };
    let reply = operator.freeze(request).await?;
    Ok(reply.into_inner())
}

async fn stop_at(operator: &mut Operator, epoch: Option<u64>, slot: Option<u64>) -> LedgerState {
    let request = StopAtRequest { epoch, slot };
    let reply = operator.stop_at(request).await.unwrap().into_inner();
    reply.state.unwrap()
}

/// One order of every kind that can be slashed in no way, all of them allowed by [`allowing`].
fn harmless(validator: PublicKey) -> Vec<SigningOrder> {
    let root = Root([5; 32]);
    let exit = VoluntaryExit {
        epoch: duty::Epoch(1),
        validator_index: 1,
    };
    let registration = ValidatorRegistration {
        fee_recipient: duty::Address([1; 20]),
        gas_limit: 1,
        timestamp: 1,
        pubkey: validator,
    };
    [
        Duty::AggregationSlot(Slot(1)),
        Duty::AggregateAndProof(root),
        Duty::SyncCommitteeMessage(root),
        Duty::SyncCommitteeContributionAndProof(root),
        Duty::ExecutionPayload(root),
        Duty::VoluntaryExit(exit),
        Duty::ValidatorRegistration(registration),
    ]
    .into_iter()
    .map(|duty| order(validator, duty))
    .chain([randao(validator)])
    .collect()
}

fn allowing() -> [(&'static str, &'static str); 1] {
    [("clock =", "allow_voluntary_exits = true\nclock =")]
}

/// The reason for which every kind of duty is refused, or `None` if every kind is signed.
async fn answer(
    stage: &Stage,
    client: &mut CosignerClient<Channel>,
    vote: &SigningOrder,
) -> Option<Reason> {
    let orders = harmless(stage.validator);
    let outcomes = sign(client, orders.iter().map(at_once).collect()).await;
    let promised = promise(client, vec![to_promise(0, vote)]).await;
    let mut reasons = vec![promise_reason(&promised[0])];
    let signed = sign(client, vec![to_sign(0, vote)]).await;
    reasons.extend(outcomes.iter().chain(&signed).map(sign_reason));
    assert!(
        reasons.iter().all(|reason| *reason == reasons[0]),
        "{promised:?} {outcomes:?} {signed:?}"
    );
    reasons[0]
}

async fn check_freezing(stage: Stage) {
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let vote = attestation(stage.validator, 1, 2, 0xaa);
    assert_eq!(answer(&stage, &mut client, &vote).await, None);

    // Effective on the next request, for what was signed before as well.
    let whom = [stage.validator];
    for all in [false, true] {
        let whom = if all { &[][..] } else { &whom[..] };
        let reply = freeze(&mut operator, whom, true).await.unwrap();
        let state = reply.state.unwrap();
        assert_eq!(reply.changed, 1);
        assert_eq!((state.all_frozen, state.frozen), (all, u64::from(!all)));
        let frozen = answer(&stage, &mut client, &vote).await;
        assert_eq!(frozen, Some(Reason::Disabled));
        let status = client.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.ledger, Some(state));
        assert_eq!(status.ready, !all, "{status:?}");

        let reply = freeze(&mut operator, whom, false).await.unwrap();
        assert_eq!(reply.changed, 1);
        assert_eq!(reply.state, Some(LedgerState::default()));
        assert_eq!(answer(&stage, &mut client, &vote).await, None);
    }

    // Killed at once, the order is not forgotten.
    freeze(&mut operator, &whom, true).await.unwrap();
    running.kill();
    let running = Running::start(&stage.config);
    let mut client = running.client(&stage.home, SIGNER);
    let outcomes = sign(&mut client, vec![at_once(&randao(stage.validator))]).await;
    assert_eq!(sign_reason(&outcomes[0]), Some(Reason::Disabled));
    ready(&mut client).await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    freeze(&mut operator, &whom, false).await.unwrap();
    assert_eq!(answer(&stage, &mut client, &vote).await, None);
}

#[tokio::test]
async fn a_freeze_holds_for_every_kind_of_duty_at_once_and_over_restarts_on_sqlite() {
    check_freezing(Stage::new(&allowing())).await;
}

#[tokio::test]
async fn a_freeze_holds_for_every_kind_of_duty_at_once_and_over_restarts_on_postgres() {
    let url = format!(
        "[database.postgres]\nurl = \"{}\"\n#",
        throwaway::database().await
    );
    let [allowing] = allowing();
    check_freezing(Stage::new(&[allowing, ("[database.sqlite]\n", &url)])).await;
}

#[tokio::test]
async fn a_freeze_of_all_holds_for_keys_to_come_and_one_of_some_for_no_other() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    freeze(&mut operator, &[], true).await.unwrap();
    let split = new_key();
    let (newcomer, committee) = (split.committee.group_key(), split.committee.clone());
    import(&stage.home, &stage.config, split);
    status_when(&mut client, |status| status.validators == 2).await;
    let item = at_once(&randao(newcomer));
    let outcomes = sign(&mut client, vec![item.clone()]).await;
    assert_eq!(sign_reason(&outcomes[0]), Some(Reason::Disabled));
    freeze(&mut operator, &[], false).await.unwrap();
    freeze(&mut operator, &[stage.validator], true)
        .await
        .unwrap();
    let other = at_once(&randao(stage.validator));
    let outcomes = sign(&mut client, vec![item, other]).await;
    partial(&committee, &randao(newcomer), &outcomes[0]);
    assert_eq!(sign_reason(&outcomes[1]), Some(Reason::Disabled));
}

#[tokio::test]
async fn no_call_that_begins_after_a_freeze_is_confirmed_gets_a_signature() {
    let stage = Stage::new(&[]);
    let (running, _client) = stage.start().await;
    let confirmed = Arc::new(AtomicBool::new(false));
    let signed = Arc::new(AtomicU64::new(0));
    let callers = (0..4).map(|caller| {
        let mut client = running.client(&stage.home, SIGNER);
        let (confirmed, signed) = (Arc::clone(&confirmed), Arc::clone(&signed));
        let validator = stage.validator;
        tokio::spawn(async move {
            let mut refused = 0;
            for target in 2.. {
                let vote = attestation(validator, 1, target, 1);
                let began_after = confirmed.load(Ordering::SeqCst);
                let outcomes = match caller {
                    0 => {
                        promise(&mut client, vec![to_promise(0, &vote)]).await;
                        sign(&mut client, vec![to_sign(0, &vote)]).await
                    }
                    _ => sign(&mut client, vec![at_once(&randao(validator)); 8]).await,
                };
                let partials = outcomes.iter().any(|one| matches!(one, Sign::Scaled(_)));
                assert!(!(began_after && partials), "{outcomes:?}");
                signed.fetch_add(u64::from(partials), Ordering::SeqCst);
                refused += u32::from(began_after);
                if refused == 20 {
                    break;
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while signed.load(Ordering::SeqCst) < 40 {
        assert!(Instant::now() < deadline, "nothing is signed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut operator = running.administration(&stage.home, OPERATOR);
    freeze(&mut operator, &[stage.validator], true)
        .await
        .unwrap();
    confirmed.store(true, Ordering::SeqCst);
    for caller in callers {
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, caller)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn an_order_that_names_nobody_or_somebody_unknown_changes_nothing() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let stranger = PublicKey([7; 48]);
    let refused = freeze(&mut operator, &[stage.validator, stranger], true).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert!(refused.message().contains(&stranger.to_string()));
    let names = named(&[stage.validator]);
    for (validators, all) in [
        (vec![], false),
        (names.clone(), true),
        (vec![vec![7; 47]], false),
        (vec![vec![7; 48]; 100_001], false),
    ] {
        let request = FreezeRequest {
            validators,
            all,
            frozen: true,
        };
        let status = operator.freeze(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let refused = operator
        .raise(RaiseRequest {
            validators: named(&[stranger]),
            ..RaiseRequest::default()
        })
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    for (source_epoch, target_epoch, slot) in [(3, 2, 0), (0, 0, u64::MAX)] {
        let request = RaiseRequest {
            validators: names.clone(),
            source_epoch,
            target_epoch,
            slot,
        };
        let status = operator.raise(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let request = StopAtRequest {
        epoch: Some(u64::MAX),
        slot: None,
    };
    let status = operator.stop_at(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let vote = attestation(stage.validator, 0, 1, 0xaa);
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &vote)]).await,
        [FREE]
    );
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.ledger, Some(LedgerState::default()));
}

async fn check_stop(stage: Stage) {
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let state = stop_at(&mut operator, Some(5), Some(90)).await;
    assert_eq!((state.stop_epoch, state.stop_slot), (Some(5), Some(90)));
    for (order, signed) in [
        (attestation(stage.validator, 1, 4, 1), true),
        (attestation(stage.validator, 4, 5, 1), false),
        (attestation(stage.validator, 5, 6, 1), false),
        (block(stage.validator, 89), true),
        (block(stage.validator, 90), false),
        (block(stage.validator, 91), false),
    ] {
        let promised = promise(&mut client, vec![to_promise(0, &order)]).await;
        let outcomes = sign(&mut client, vec![to_sign(0, &order)]).await;
        if signed {
            assert_eq!(promised, [FREE]);
            partial(&stage.committee, &order, &outcomes[0]);
        } else {
            let stopped = Some(Reason::Stopped);
            assert_eq!(promise_reason(&promised[0]), stopped, "{order:?}");
            assert!(sign_reason(&outcomes[0]).is_some(), "{order:?}");
        }
    }
    // What cannot be slashed goes on.
    let outcomes = sign(&mut client, vec![at_once(&randao(stage.validator))]).await;
    partial(&stage.committee, &randao(stage.validator), &outcomes[0]);
    running.kill();

    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.ledger, Some(state));
    let state = stop_at(&mut operator, None, Some(90)).await;
    assert_eq!((state.stop_epoch, state.stop_slot), (None, Some(90)));
    let later = attestation(stage.validator, 4, 5, 1);
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &later)]).await,
        [FREE]
    );
    let outcomes = sign(&mut client, vec![to_sign(0, &later)]).await;
    partial(&stage.committee, &later, &outcomes[0]);
    let promised = promise(
        &mut client,
        vec![to_promise(0, &block(stage.validator, 90))],
    )
    .await;
    assert_eq!(promise_reason(&promised[0]), Some(Reason::Stopped));
    assert_eq!(
        stop_at(&mut operator, None, None).await,
        LedgerState::default()
    );
}

#[tokio::test]
async fn signing_stops_where_an_operator_says_on_sqlite() {
    check_stop(Stage::new(&[])).await;
}

#[tokio::test]
async fn signing_stops_where_an_operator_says_on_postgres() {
    check_stop(postgres().await).await;
}

#[tokio::test]
async fn ratchets_are_raised_and_never_lowered() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let raise = |validators: Vec<Vec<u8>>, heights: (u64, u64, u64)| RaiseRequest {
        validators,
        source_epoch: heights.0,
        target_epoch: heights.1,
        slot: heights.2,
    };
    for (whom, heights, raised) in [
        (vec![], (3, 5, 100), 1),
        (named(&[stage.validator]), (2, 4, 90), 0),
        (named(&[stage.validator]), (3, 6, 90), 1),
    ] {
        let reply = operator.raise(raise(whom, heights)).await.unwrap();
        let unchanged = 1 - raised;
        assert_eq!(reply.into_inner(), RaiseReply { raised, unchanged });
    }
    for (order, free) in [
        (attestation(stage.validator, 2, 8, 1), false),
        (attestation(stage.validator, 3, 6, 1), false),
        (attestation(stage.validator, 3, 7, 1), true),
        (block(stage.validator, 100), false),
        (block(stage.validator, 101), true),
    ] {
        let promised = promise(&mut client, vec![to_promise(0, &order)]).await;
        match free {
            true => assert_eq!(promised, [FREE], "{order:?}"),
            false => assert_eq!(promise_reason(&promised[0]), Some(Reason::Slashable)),
        }
    }
}

#[tokio::test]
async fn an_operator_learns_what_is_true_of_the_ledger() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let before = operator.ledger(LedgerRequest {}).await.unwrap();
    let before = before.into_inner();
    assert_eq!((before.ledger_id.len(), before.validators), (16, 1));
    assert_eq!(before.state, Some(LedgerState::default()));
    assert_eq!(before.quarantine, "");
    for target in 2..5 {
        let vote = attestation(stage.validator, 1, target, 1);
        promise(&mut client, vec![to_promise(0, &vote)]).await;
        let outcomes = sign(&mut client, vec![to_sign(0, &vote)]).await;
        assert!(matches!(outcomes[0], Sign::Scaled(_)));
    }
    stop_at(&mut operator, Some(9), None).await;
    let after = operator.ledger(LedgerRequest {}).await.unwrap();
    let after = after.into_inner();
    assert_eq!(after.ledger_id, before.ledger_id);
    assert!(after.commits >= before.commits + 3, "{after:?}");
    assert_eq!(after.state.unwrap().stop_epoch, Some(9));
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.ledger, after.state);
}

#[tokio::test]
async fn what_a_tool_orders_in_the_database_beside_it_comes_into_force() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let url = slashing::DatabaseConfig::Sqlite(slashing::SqliteConfig {
        path: stage.home.path("cosigner.sqlite"),
    });
    let chain = randao(stage.validator).genesis_validators_root;
    let database = slashing::Database::open(&url, chain).await.unwrap();
    let freezing = slashing::administration::Freezing::Freeze;
    let whom = slashing::administration::Whom::Everyone;
    slashing::administration::freeze(&database, whom, freezing)
        .await
        .unwrap();
    let all_frozen = |status: &wire::proto::StatusReply| status.ledger.unwrap().all_frozen;
    tokio::time::timeout(
        Duration::from_secs(20),
        status_when(&mut client, all_frozen),
    )
    .await
    .unwrap();
    let outcomes = sign(&mut client, vec![at_once(&randao(stage.validator))]).await;
    assert_eq!(sign_reason(&outcomes[0]), Some(Reason::Disabled));
    drop(running);
}

#[tokio::test]
async fn only_an_operator_gives_orders() {
    let stage = Stage::new(&[]);
    let (running, _client) = stage.start().await;
    let mut signer = running.administration(&stage.home, SIGNER);
    let denied = Code::PermissionDenied;
    let refused = freeze(&mut signer, &[], true).await.unwrap_err();
    assert_eq!(refused.code(), denied);
    let refused = signer.stop_at(StopAtRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), denied);
    let refused = signer.raise(RaiseRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), denied);
    let refused = signer.ledger(LedgerRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), denied);
    let (_, log) = running.stop();
    assert!(!log.contains("an operator's order"), "{log}");
}
