//! The stages, each a function of its own, so that callgrind counts it with all that it calls.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use cosigner::service::Service;
use daemon::network::Network;
use duty::{Permit, SigningOrder, SigningRoot};
use futures_util::future::join_all;
use keyshare::{SigningShare, Tables};
use prost::Message;
use signer_api::{
    seams::Conductor,
    web3signer::{self, RequestKind, SigningRequest},
};
use slashing::{
    Ask, Ledger, Question,
    rules::{self, Ratchet, Verdict},
};
use threshold::{
    Ballot, Combination, Committee, PartialSignature, ShareIndex, Signature, combine_all,
    round::{Effect, Event, Invited, Mode, Peer, Round, Terms},
};
use tokio::runtime::Runtime;
use tonic::Request;
use wire::{
    batches::{Batch, Item},
    proto::{
        SignOutcome, SignReply, SignRequest, SigningOrder as Sent, cosigner_server::Cosigner,
        sign_outcome::Outcome,
    },
};

/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(1);

/// What is counted.
pub struct Stage {
    /// The function's name.
    pub name: &'static str,
    /// Who does it.
    pub side: &'static str,
    /// What it does, for people.
    pub what: &'static str,
    /// How often it is done for one signature of a 3-of-4.
    pub times: usize,
    /// Whether it is done so often here, too; else once.
    pub all: bool,
    /// Whether it is no part of another stage.
    pub whole: bool,
}

const fn part(side: &'static str, times: usize, name: &'static str, what: &'static str) -> Stage {
    Stage {
        name,
        side,
        what,
        times,
        all: false,
        whole: false,
    }
}

const fn whole(side: &'static str, times: usize, name: &'static str, what: &'static str) -> Stage {
    Stage {
        whole: true,
        ..part(side, times, name, what)
    }
}

const fn service(times: usize, name: &'static str, what: &'static str) -> Stage {
    Stage {
        all: true,
        ..whole("cosigner", times, name, what)
    }
}

/// In the order of a request. Three cosigners sign at once: they are led.
pub const STAGES: [Stage; 19] = [
    whole(
        "signer-api",
        1,
        "kind",
        "the body's type, before it is admitted",
    ),
    whole("signer-api", 1, "parse", "JSON body to order and root"),
    whole(
        "signer-api",
        1,
        "conduct",
        "rounds, lanes, batches; no bytes, no curve",
    ),
    part("signer-api", 1, "agree", "of it: the round's state machine"),
    part("signer-api", 1, "items", "of it: orders to items of bytes"),
    whole("signer-api", 3, "encode_orders", "items to a batch's bytes"),
    whole("cosigner", 3, "decode_orders", "bytes to messages"),
    service(3, "sign", "the service, from messages to partials"),
    part(
        "cosigner",
        3,
        "orders_from_proto",
        "of it: messages to orders",
    ),
    part("cosigner", 3, "roots", "of it: orders to roots"),
    part("cosigner", 3, "rule", "of it: the ledger's rule"),
    part(
        "cosigner",
        3,
        "decide",
        "of it: the ledger on a store in memory, to the permit",
    ),
    part("cosigner", 3, "multiply", "of it: hash and multiply"),
    part(
        "cosigner",
        3,
        "partials_to_proto",
        "of it: partials to messages",
    ),
    whole("cosigner", 3, "encode_partials", "messages to bytes"),
    whole("signer-api", 3, "decode_partials", "bytes to messages"),
    part(
        "signer-api",
        3,
        "partials_from_proto",
        "of conduct: messages to partials",
    ),
    whole("signer-api", 1, "combine", "combine and verify"),
    whole("signer-api", 1, "reply", "the signature as JSON"),
];

/// A request as it comes.
pub struct Posted {
    /// The validator, as in the path.
    pub identifier: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// What the types of the bodies are.
#[inline(never)]
pub fn kind(posted: &[Posted]) -> Vec<RequestKind> {
    let kinds = posted.iter().map(|it| web3signer::likely_kind(&it.body));
    kinds.collect::<Option<_>>().unwrap()
}

/// From JSON to orders and roots.
#[inline(never)]
pub fn parse(posted: &[Posted], network: &Network) -> Vec<SigningRequest> {
    let parsed = posted.iter().map(|it| {
        let validator = web3signer::parse_identifier(&it.identifier).unwrap();
        web3signer::parse(&it.body, validator, network).unwrap()
    });
    parsed.collect()
}

/// All of signer-api between a parsed order and its signature, with answers that are there already.
#[inline(never)]
pub fn conduct(
    runtime: &Runtime,
    conductor: &Conductor,
    orders: Vec<SigningOrder>,
) -> Vec<Signature> {
    let signed = orders
        .into_iter()
        .map(|order| async { conductor.sign(order, WITHIN).await.unwrap().unwrap() });
    runtime.block_on(join_all(signed))
}

/// One request's round: t sign at once.
#[inline(never)]
pub fn agree(
    committee: &Committee,
    root: SigningRoot,
    partials: &[(ShareIndex, PartialSignature)],
) {
    let invited = committee.members().iter().enumerate();
    let invited = invited.map(|(place, index)| Invited {
        peer: Peer(place),
        index: *index,
        promise_within: WITHIN,
        sign_within: WITHIN,
        reserve: false,
        sounded: false,
        spare: place >= committee.threshold(),
        led: true,
    });
    let terms = Terms {
        root,
        mode: Mode::Led,
        threshold: committee.threshold(),
        size: committee.size(),
        members: invited.collect(),
        deadline: WITHIN,
    };
    let (mut round, _) = Round::open(terms, Duration::ZERO);
    let mut effects = Vec::new();
    for (place, (_, partial)) in partials.iter().enumerate() {
        let signed = Event::Signed {
            peer: Peer(place),
            partial: *partial,
        };
        effects.extend(round.handle(Duration::ZERO, signed));
    }
    assert!(matches!(effects.last(), Some(Effect::Combine(_))));
    round.handle(Duration::ZERO, Event::Combined);
    assert!(round.is_done());
}

/// Orders as the items that batches are made of.
#[inline(never)]
pub fn items(requests: &[SigningRequest], lead: u64) -> Vec<Item> {
    let lead = wire::lead_from_proto(lead);
    let items = requests
        .iter()
        .map(|request| Item::new(&request.order, Some(&ballot(request.root)), lead));
    items.collect()
}

/// The first that is tried.
pub const fn ballot(root: SigningRoot) -> Ballot {
    Ballot { round: 0, root }
}

/// The bytes of a batch.
#[inline(never)]
pub fn encode_orders(items: &[Item]) -> Vec<u8> {
    Batch::signatures(items.to_vec()).to_bytes()
}

/// A batch of bytes.
#[inline(never)]
pub fn decode_orders(bytes: &[u8]) -> SignRequest {
    SignRequest::decode(bytes).unwrap()
}

/// All of a cosigner from messages to partials.
#[inline(never)]
pub fn sign(runtime: &Runtime, service: &Arc<Service>, request: SignRequest) -> SignReply {
    let signed = Cosigner::sign(&**service, Request::new(request));
    runtime.block_on(signed).unwrap().into_inner()
}

/// What a batch's messages say.
#[inline(never)]
pub fn orders_from_proto(orders: Vec<Sent>) -> Vec<SigningOrder> {
    let orders = orders.into_iter().map(wire::order_from_proto);
    orders.collect::<Result<_, _>>().unwrap()
}

/// The roots of orders.
#[inline(never)]
pub fn roots(orders: &[SigningOrder]) -> Vec<SigningRoot> {
    orders.iter().map(SigningOrder::signing_root).collect()
}

/// Whether each advances a ratchet.
#[inline(never)]
pub fn rule(ratchets: &[Ratchet], questions: &[Question]) -> NonZeroUsize {
    let decided = ratchets.iter().zip(questions);
    let advanced = decided.filter(|(ratchet, question)| {
        let verdict = rules::decide(ratchet, &question.claim, question.root);
        matches!(verdict, Verdict::Advance(_))
    });
    NonZeroUsize::new(advanced.count()).unwrap()
}

/// All of a ledger but its database.
#[inline(never)]
pub fn decide(runtime: &Runtime, ledger: &Ledger, questions: &[Question]) -> Vec<Permit> {
    let decided = questions.iter().map(|question| async {
        let ask = Ask {
            validator: question.validator,
            claim: question.claim,
            root: question.root,
            fence: Box::new(()),
        };
        ledger.decide(ask).await.unwrap()
    });
    runtime.block_on(join_all(decided))
}

/// A cosigner's partials.
#[inline(never)]
pub fn multiply(items: Vec<(&SigningShare, Permit)>) -> Vec<PartialSignature> {
    Tables::default().sign_all(items)
}

/// Partials as the messages that a reply is made of.
#[inline(never)]
pub fn partials_to_proto(partials: &[PartialSignature]) -> SignReply {
    let outcomes = partials.iter().map(|partial| SignOutcome {
        outcome: Some(wire::partial_to_proto(partial)),
    });
    SignReply {
        outcomes: outcomes.collect(),
    }
}

/// The bytes of a reply.
#[inline(never)]
pub fn encode_partials(reply: &SignReply) -> Vec<u8> {
    reply.encode_to_vec()
}

/// A reply of bytes.
#[inline(never)]
pub fn decode_partials(bytes: &[u8]) -> SignReply {
    SignReply::decode(bytes).unwrap()
}

/// What a reply says.
#[inline(never)]
pub fn partials_from_proto(reply: SignReply) -> Vec<PartialSignature> {
    reply.outcomes.iter().map(partial).collect()
}

/// The partial that an outcome has.
pub fn partial(outcome: &SignOutcome) -> PartialSignature {
    match &outcome.outcome {
        Some(Outcome::Scaled(partial)) => wire::scaled_partial_from_proto(partial).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Valid signatures.
#[inline(never)]
pub fn combine(jobs: &[Combination<'_>], seed: &[u8; 32]) -> Vec<Signature> {
    let combined = combine_all(jobs, seed).into_iter();
    combined.collect::<Result<_, _>>().unwrap()
}

/// The bodies of replies.
#[inline(never)]
pub fn reply(signatures: &[Signature]) -> Vec<String> {
    let replies = signatures.iter();
    let replies = replies.map(|signature| format!("{{\"signature\":\"{signature}\"}}"));
    replies.collect()
}
