//! Links to real servers over mutual TLS.

mod probing;
mod routing;
mod silence;

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use duty::{BeaconBlockHeader, Duty, Epoch, ForkVersion, Root, SigningOrder, Slot};
use threshold::{
    Ballot,
    round::{Event, FailureReason, Mode},
};
use tokio::time::Instant;
use wire::batches::Item;
use wire::proto::refusal::Reason;

use super::*;
use crate::testing::{Manner, Peers, eventually, metrics, shown};

fn randao(peers: &Peers, epoch: u64) -> Arc<SigningOrder> {
    Arc::new(SigningOrder {
        validator: peers.keys[0],
        fork_version: ForkVersion([6, 0, 0, 0]),
        genesis_validators_root: Root([7; 32]),
        duty: Duty::RandaoReveal(Epoch(epoch)),
    })
}

fn ask(order: &SigningOrder, within: Duration) -> (Ask, Events) {
    let answers = Events::new();
    let until = Instant::now() + within;
    (
        Ask {
            kind: order.duty.kind(),
            item: Item::new(order, None, None),
            ballot: None,
            round: 0,
            send_by: until,
            useful_until: until,
            among: daemon::bulk::Bulk::inline(),
            events: answers.teller(),
        },
        answers,
    )
}

fn reason(event: Event) -> FailureReason {
    let Event::Failed { failure, .. } = &event else {
        panic!("{event:?}");
    };
    failure.reason
}

const LONG: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_in_one_batch() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    let mut answers = Vec::new();
    for epoch in 0..1_000 {
        let (ask, answer) = ask(&randao(&peers, epoch), LONG);
        link.sign(Arc::new(ask));
        answers.push(answer);
    }
    for mut answer in answers {
        assert!(matches!(answer.next().await, Event::Signed { .. }));
    }
    let calls = peers.peers[0].calls.load(Ordering::Relaxed);
    assert!(calls < 40, "1,000 items took {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_cosigner_costs_the_others_nothing() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    peers.behave(0, Manner::Hung);
    let began = Instant::now();
    let (first, mut hung) = ask(&randao(&peers, 1), Duration::from_millis(300));
    cosigners.links()[0].sign(Arc::new(first));
    let (second, mut prompt) = ask(&randao(&peers, 1), LONG);
    cosigners.links()[1].sign(Arc::new(second));
    assert!(matches!(prompt.next().await, Event::Signed { .. }));
    assert!(began.elapsed() < Duration::from_millis(300));
    assert_eq!(reason(hung.next().await), FailureReason::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_lane_does_not_stop_another() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    peers.behave(0, Manner::Hung);
    let mut stalled = Vec::new();
    for epoch in 0..8 {
        let (ask, answer) = ask(&randao(&peers, epoch), LONG);
        link.sign(Arc::new(ask));
        stalled.push(answer);
        tokio::task::yield_now().await;
    }
    let calls = || peers.peers[0].calls.load(Ordering::Relaxed);
    eventually("all turns of the lane are taken", || calls() >= 2).await;
    peers.behave(0, Manner::Honest);
    let order = SigningOrder {
        duty: Duty::AggregateAndProof(Root([1; 32])),
        ..(*randao(&peers, 0)).clone()
    };
    let (ask, mut answer) = ask(&order, LONG);
    link.sign(Arc::new(ask));
    assert!(matches!(answer.next().await, Event::Signed { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_not_sent() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let (mut late, mut answer) = ask(&randao(&peers, 1), LONG);
    late.send_by = Instant::now();
    cosigners.links()[0].sign(Arc::new(late));
    assert_eq!(reason(answer.next().await), FailureReason::TimedOut);
    assert_eq!(peers.peers[0].signatures.load(Ordering::Relaxed), 0);
}

/// An ask for a promise of a block at `slot`.
fn block(peers: &Peers, slot: u64) -> (Ask, Events) {
    let root = Root([4; 32]);
    let duty = Duty::Block(BeaconBlockHeader {
        slot: Slot(slot),
        proposer_index: 1,
        parent_root: root,
        state_root: root,
        body_root: root,
    });
    let order = SigningOrder {
        duty,
        ..(*randao(peers, 0)).clone()
    };
    let ballot = Ballot {
        round: 0,
        root: order.signing_root(),
    };
    let (ask, answer) = ask(&order, LONG);
    (
        Ask {
            item: Item::new(&order, Some(&ballot), None),
            ballot: Some(ballot),
            ..ask
        },
        answer,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_be_understood_are_blamed() {
    let peers = Peers::start(2, 2, 1).await;
    for (manner, promise) in [
        (Manner::Short, false),
        (Manner::Miscounting, false),
        (Manner::Miscounting, true),
        (Manner::Overlong, false),
        (Manner::Overlong, true),
        (Manner::Refusing(Reason::Unspecified), true),
    ] {
        let (metrics, registry) = metrics();
        let cosigners = Cosigners::open(&peers.config, &metrics).unwrap();
        let link = &cosigners.links()[1];
        peers.behave(1, manner);
        let mut answer = if promise {
            let (ask, answer) = block(&peers, 7);
            link.promise(Arc::new(ask));
            answer
        } else {
            let (ask, answer) = ask(&randao(&peers, 1), LONG);
            link.sign(Arc::new(ask));
            answer
        };
        assert_eq!(
            reason(answer.next().await),
            FailureReason::Faulty,
            "{manner:?}"
        );
        let blamed = "cosigner_blamed_total{cosigner=\"cosigner-2\",reason=\"reply\"} 1";
        assert!(
            shown(&registry).contains(blamed),
            "{manner:?}: {}",
            shown(&registry)
        );
        assert!(link.is_doubted() && !cosigners.links()[0].is_doubted());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_puts_out_whoever_sends_or_finds_it_and_blames_only_who_sends_it() {
    for (manner, is_blamed) in [(Manner::Overlong, true), (Manner::Overwhelmed, false)] {
        let peers = Peers::start(2, 2, 1).await;
        let (metrics, registry) = metrics();
        let cosigners = Cosigners::open(&peers.config, &metrics).unwrap();
        let link = &cosigners.links()[1];
        eventually("the cosigner answers", || link.health().is_ready()).await;
        peers.behave(1, manner);
        for epoch in 0..3 {
            assert!(link.is_asked(), "{manner:?}");
            let (ask, mut answer) = ask(&randao(&peers, epoch), LONG);
            link.sign(Arc::new(ask));
            assert_eq!(reason(answer.next().await), FailureReason::Faulty);
        }
        assert!(!link.is_asked(), "{manner:?}");
        assert!(link.answers(), "its connection stands");
        assert_eq!(link.is_doubted(), is_blamed);
        let blamed = shown(&registry).contains("cosigner_blamed_total{");
        assert_eq!(blamed, is_blamed, "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_is_not_blamed_for_a_ballot_that_another_caller_made_it_hold() {
    let peers = Peers::start(2, 2, 1).await;
    let (metrics, registry) = metrics();
    let cosigners = Cosigners::open(&peers.config, &metrics).unwrap();
    let link = &cosigners.links()[1];
    peers.behave(1, Manner::Overbidding);
    let (ask, mut answer) = block(&peers, 7);
    link.promise(Arc::new(ask));
    let Event::Outbid { held, .. } = answer.next().await else {
        panic!("not outbid")
    };
    assert_eq!(held.round, u64::MAX);
    assert!(!link.is_doubted());
    assert!(!shown(&registry).contains("cosigner_blamed_total{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_cosigner_fails_at_once_and_is_found_absent() {
    let mut peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    eventually("the cosigner answers", || link.health().is_ready()).await;
    peers.kill(0);
    let began = Instant::now();
    let (ask, mut answer) = ask(&randao(&peers, 1), LONG);
    link.sign(Arc::new(ask));
    assert_eq!(reason(answer.next().await), FailureReason::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(1));
    eventually("the cosigner is absent", || !link.answers()).await;
    let members = [1, 2].map(|index| threshold::ShareIndex::new(index).unwrap());
    let members = [(Peer(0), members[0]), (Peer(1), members[1])];
    let invited = cosigners.invite(&members, 2, Mode::Direct, &[]).1;
    assert_eq!((invited[0].peer, invited[1].reserve), (Peer(1), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_with_another_name_is_not_talked_to() {
    let mut peers = Peers::start(2, 2, 1).await;
    peers.config.cosigners[0].san = "cosigner-9".to_owned();
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let (ask, mut answer) = ask(&randao(&peers, 1), LONG);
    cosigners.links()[0].sign(Arc::new(ask));
    assert_eq!(reason(answer.next().await), FailureReason::Unreachable);
    assert_eq!(peers.peers[0].calls.load(Ordering::Relaxed), 0);
}
