//! Who leads needs no promise: a real process, mutual TLS, a real database.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else has failed"
)]

mod support;

use duty::SigningOrder;
use support::{
    SIGNER,
    running::{Running, promise, ready, sign},
    stage::{
        FREE, Stage, at_once, attestation, ballot, block, partial, randao, sign_reason, signed,
        to_promise, to_sign,
    },
};
use tonic::{Code, transport::Channel};
use wire::proto::{
    LeadReply, LeadRequest, SignItem, StatusRequest, cosigner_client::CosignerClient,
    refusal::Reason, sign_outcome::Outcome as Sign,
};

type Client = CosignerClient<Channel>;

/// Some caller, and another.
const MINE: u64 = 7;
const OTHERS: u64 = u64::MAX;

fn to_sign_led(lead: u64, order: &SigningOrder) -> SignItem {
    SignItem {
        lead,
        ..to_sign(0, order)
    }
}

async fn process(client: &mut Client) -> u64 {
    let status = client.status(StatusRequest {}).await.unwrap();
    status.into_inner().process
}

async fn lead(client: &mut Client, lead: u64, process: u64) -> LeadReply {
    let request = LeadRequest {
        lead,
        replaces: 0,
        process,
    };
    client.lead(request).await.unwrap().into_inner()
}

fn led(epoch: u64, slot: u64) -> LeadReply {
    LeadReply {
        led: true,
        epoch,
        slot,
    }
}

async fn check_leading(stage: Stage) {
    let (running, mut client) = stage.start().await;
    let key = stage.validator;
    let one = attestation(key, 1, 2, 0xaa);
    let outcomes = sign(&mut client, vec![to_sign_led(MINE, &one)]).await;
    assert_eq!(sign_reason(&outcomes[0]), Some(Reason::NotLed));

    // It begins with the process that was meant, goes on, and is nobody else's.
    let first = process(&mut client).await;
    let nobody = LeadReply::default();
    assert_eq!(lead(&mut client, MINE, 0).await, nobody, "it has not begun");
    assert_eq!(lead(&mut client, MINE, first + 1).await, nobody);
    assert_eq!(lead(&mut client, MINE, first).await, led(0, 0));
    assert_eq!(lead(&mut client, MINE, 0).await, led(0, 0));
    assert_eq!(lead(&mut client, OTHERS, first).await, nobody);

    let outcomes = sign(&mut client, vec![to_sign_led(MINE, &one)]).await;
    let given = partial(&stage.committee, &one, &outcomes[0]);
    let other = attestation(key, 1, 2, 0xbb);
    assert_eq!(
        promise(&mut client, vec![to_promise(5, &other)]).await,
        [signed(&one)]
    );
    for (lead, order, reason) in [
        (MINE, &other, Reason::Slashable),
        (OTHERS, &other, Reason::NotLed),
        (OTHERS, &attestation(key, 2, 3, 0xaa), Reason::NotLed),
    ] {
        let outcomes = sign(&mut client, vec![to_sign_led(lead, order)]).await;
        assert_eq!(sign_reason(&outcomes[0]), Some(reason));
    }
    // What is signed may be asked for again by anybody, in whichever way.
    let again = sign(&mut client, vec![to_sign_led(OTHERS, &one)]).await;
    assert_eq!(partial(&stage.committee, &one, &again[0]), given);

    // What another was promised stands against it.
    let next = attestation(key, 2, 3, 0xaa);
    let others = attestation(key, 2, 3, 0xbb);
    assert_eq!(
        promise(&mut client, vec![to_promise(1, &others)]).await,
        [FREE]
    );
    let outcomes = sign(&mut client, vec![to_sign_led(MINE, &next)]).await;
    assert_eq!(outcomes, [Sign::Outbid(ballot(1, &others).unwrap())]);
    let outcomes = sign(&mut client, vec![to_sign(1, &others)]).await;
    partial(&stage.committee, &others, &outcomes[0]);
    let proposal = block(key, 64);
    let outcomes = sign(&mut client, vec![to_sign_led(MINE, &proposal)]).await;
    partial(&stage.committee, &proposal, &outcomes[0]);

    // After a restart nobody leads, whatever was on its way; and what was signed is below the horizon.
    running.kill();
    let running = Running::start(&stage.config);
    let mut client = running.client(&stage.home, SIGNER);
    let second = process(&mut client).await;
    assert_ne!(first, second);
    assert_eq!(lead(&mut client, MINE, second).await, nobody, "too soon");
    ready(&mut client).await;
    assert_eq!(lead(&mut client, MINE, 0).await, nobody);
    assert_eq!(lead(&mut client, MINE, first).await, nobody);
    let later = attestation(key, 3, 4, 0xaa);
    let outcomes = sign(&mut client, vec![to_sign_led(MINE, &later)]).await;
    assert_eq!(sign_reason(&outcomes[0]), Some(Reason::NotLed));
    assert_eq!(lead(&mut client, OTHERS, second).await, led(3, 64));
    let outcomes = sign(&mut client, vec![to_sign_led(OTHERS, &later)]).await;
    partial(&stage.committee, &later, &outcomes[0]);
}

#[tokio::test]
async fn who_leads_needs_no_promise_until_a_restart_on_sqlite() {
    check_leading(Stage::new(&[])).await;
}

#[tokio::test]
async fn who_leads_needs_no_promise_until_a_restart_on_postgres() {
    let url = format!(
        "[database.postgres]\nurl = \"{}\"\n#",
        throwaway::database().await
    );
    let change = [("[database.sqlite]\n", url.as_str())];
    check_leading(Stage::new(&change)).await;
}

#[tokio::test]
async fn a_lead_is_a_number_and_for_what_can_be_slashed() {
    let stage = Stage::new(&[]);
    let (_running, mut client) = stage.start().await;
    let request = LeadRequest::default();
    let refused = client.lead(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let item = SignItem {
        lead: MINE,
        ..at_once(&randao(stage.validator))
    };
    let outcomes = sign(&mut client, vec![item]).await;
    assert_eq!(sign_reason(&outcomes[0]), Some(Reason::Invalid));
}
