//! The way of requests through signer-api and cosigners in one thread, stage by stage, to be
//! counted: without HTTP, TLS, gRPC's frames and databases. `tests/request-path.sh` runs it under
//! callgrind and prints what each stage takes.
//!
//!     cargo run --release -p tests --example request_path -- attestation 64 2
//!
//! runs two rounds, in each of which 64 validators of a 3-of-4 attest the same at once; or
//! `block 1 2`. It prints how often each stage was done.

mod committee;
mod stages;

use std::{env, hint::black_box, sync::Arc, time::Duration};

use committee::{Answers, Family, MEMBERS, THRESHOLD};
use cosigner::service::Service;
use daemon::network::Network;
use duty::{Epoch, Root, SigningRoot, Slot};
use serde_json::Value;
use signer_api::{
    seams::Conductor,
    web3signer::{self, SigningRequest},
};
use slashing::{
    Ledger, Question,
    rules::{Attested, Proposed, Ratchet},
};
use stages::{Posted, STAGES};
use tests::{requests, vectors::NetworkLabel};
use threshold::{Combination, PartialSignature, ShareIndex, Signature};
use tokio::runtime::Runtime;
use tonic::Request;
use wire::{
    batches::Item,
    proto::{SignRequest, cosigner_server::Cosigner},
};

/// The epoch of the first round.
const EPOCH: u64 = 430_000;

/// What is asked in the round of an epoch.
type Message = fn(u64) -> Value;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, validators, rounds] = arguments.as_slice() else {
        panic!("request_path attestation|block VALIDATORS ROUNDS");
    };
    let message: Message = match kind.as_str() {
        "attestation" => |epoch| requests::attestation(epoch - 1, epoch, epoch),
        "block" => |epoch| requests::block(epoch * 32, epoch),
        other => panic!("neither attestation nor block: {other}"),
    };
    let (validators, rounds): (u8, u64) = (validators.parse().unwrap(), rounds.parse().unwrap());
    let mut path = Path::new(validators, EPOCH + rounds);
    for round in 0..rounds {
        path.go(&message(EPOCH + round));
    }
    let rounds = usize::try_from(rounds).unwrap();
    for stage in STAGES {
        let in_a_round = if stage.all { stage.times } else { 1 };
        let done = in_a_round * rounds * usize::from(validators);
        let whole = if stage.whole { "whole" } else { "part" };
        let (name, side, what, times) = (stage.name, stage.side, stage.what, stage.times);
        println!("{name}\t{side}\t{what}\t{times}\t{done}\t{whole}");
    }
}

/// All that a request passes.
struct Path {
    runtime: Runtime,
    network: Network,
    families: Vec<Family>,
    services: Vec<Arc<Service>>,
    ledger: Ledger,
    conductor: Conductor,
    answers: Arc<Answers>,
    lead: u64,
}

impl Path {
    fn new(validators: u8, until: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let families: Vec<Family> = (1..=validators).map(Family::new).collect();
        let chain = NetworkLabel::Mainnet.genesis_validators_root();
        let chain: Root = chain.parse().unwrap();
        let answers = Arc::new(Answers::default());
        let (services, ledger, conductor, lead) = runtime.block_on(async {
            let mut services = Vec::new();
            for place in 0..MEMBERS {
                services.push(committee::cosigner(&families, place, chain, until).await);
            }
            let ledger = committee::ledger(&families).await;
            let conductor = committee::conductor(&families, &answers);
            // Nobody leads in the first two seconds after a start.
            tokio::time::sleep(Duration::from_secs(3)).await;
            conductor.lead();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let lead = *answers.lead.lock();
            for service in &services {
                committee::begin_to_lead(service, lead).await;
            }
            (services, ledger, conductor, lead)
        });
        Self {
            runtime,
            network: Network::preset("mainnet").unwrap(),
            families,
            services,
            ledger,
            conductor,
            answers,
            lead,
        }
    }

    /// Every validator is asked to sign the message.
    fn go(&mut self, message: &Value) {
        let posted = self.posted(message);
        black_box(stages::kind(&posted));
        let requests = stages::parse(&posted, &self.network);
        let items = stages::items(&requests, self.lead);
        let sent = stages::decode_orders(&stages::encode_orders(&items));
        let mine = self.one_cosigner(sent.clone());
        let partials = self.all_cosigners(&items, &sent);
        assert_eq!(mine, partials.iter().map(|it| it[0].1).collect::<Vec<_>>());

        let signatures = self.combined(&requests, &partials);
        black_box(stages::reply(&signatures));
        let orders = requests.iter().map(|request| request.order.clone());
        let conducted = stages::conduct(&self.runtime, &self.conductor, orders.collect());
        assert_eq!(conducted, signatures);
    }

    /// As clients send it: with the root that they computed.
    fn posted(&self, message: &Value) -> Vec<Posted> {
        let posted = self.families.iter().map(|family| {
            let mut message = message.clone();
            let bare = message.to_string();
            let parsed = web3signer::parse(bare.as_bytes(), family.key(), &self.network).unwrap();
            message["signingRoot"] = Value::String(parsed.root.to_string());
            Posted {
                identifier: family.key().to_string(),
                body: message.to_string().into_bytes(),
            }
        });
        posted.collect()
    }

    /// What one cosigner does, in its parts.
    fn one_cosigner(&self, sent: SignRequest) -> Vec<PartialSignature> {
        let orders = sent.items.into_iter().map(|item| item.order.unwrap());
        let orders = stages::orders_from_proto(orders.collect());
        let roots = stages::roots(&orders);
        let questions = orders.iter().zip(&roots).map(|(order, root)| Question {
            validator: order.validator,
            claim: order.claim().unwrap(),
            root: *root,
        });
        let questions: Vec<Question> = questions.collect();
        let ratchets = vec![ratchet(); questions.len()];
        let advanced = stages::rule(&ratchets, &questions);
        assert_eq!(advanced.get(), questions.len());

        let permits = stages::decide(&self.runtime, &self.ledger, &questions);
        let items = self.families.iter().zip(permits);
        let items = items.map(|(family, permit)| (&*family.shares[0], permit));
        let partials = stages::multiply(items.collect());
        let reply = stages::partials_to_proto(&partials);
        let reply = stages::decode_partials(&stages::encode_partials(&reply));
        stages::partials_from_proto(reply)
    }

    /// What t cosigners sign, by request. What all of them answer is kept for the
    /// conductor, which may choose others.
    fn all_cosigners(
        &self,
        items: &[Item],
        sent: &SignRequest,
    ) -> Vec<Vec<(ShareIndex, PartialSignature)>> {
        let mut partials = vec![Vec::new(); self.families.len()];
        for (place, service) in self.services.iter().enumerate() {
            let reply = if place < THRESHOLD {
                stages::sign(&self.runtime, service, sent.clone())
            } else {
                let signed = Cosigner::sign(&**service, Request::new(sent.clone()));
                self.runtime.block_on(signed).unwrap().into_inner()
            };
            let mut answers = self.answers.signed.lock();
            let all = self.families.iter().zip(items).zip(&mut partials);
            for (((family, item), partials), outcome) in all.zip(reply.outcomes) {
                let index = family.committee.members().iter().nth(place).unwrap();
                if place < THRESHOLD {
                    partials.push((*index, stages::partial(&outcome)));
                }
                answers.insert((item.clone(), place), outcome);
            }
        }
        partials
    }

    fn combined(
        &self,
        requests: &[SigningRequest],
        partials: &[Vec<(ShareIndex, PartialSignature)>],
    ) -> Vec<Signature> {
        let all = || self.families.iter().zip(requests).zip(partials);
        for ((family, request), partials) in all() {
            stages::agree(&family.committee, request.root, partials);
        }
        let jobs = all().map(|((family, request), partials)| Combination {
            committee: &family.committee,
            root: request.root,
            partials,
            anticipated: None,
        });
        // Always the same, so that the counts are.
        let signatures = stages::combine(&jobs.collect::<Vec<_>>(), &[7; 32]);
        let keys = requests.iter().map(|it| (it.order.validator, it.root));
        let mut combined = self.answers.combined.lock();
        combined.extend(keys.zip(signatures.iter().copied()));
        drop(combined);
        signatures
    }
}

/// One that has signed both before.
fn ratchet() -> Ratchet {
    let root = Some(SigningRoot([1; 32]));
    Ratchet {
        attested: Some(Attested {
            source: Epoch(1),
            target: Epoch(2),
            root,
        }),
        proposed: Some(Proposed {
            slot: Slot(3),
            root,
        }),
    }
}
