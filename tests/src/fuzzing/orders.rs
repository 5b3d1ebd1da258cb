//! What signer-apis and cosigners say to each other: a message is understood whole or not at all, and
//! what was understood is the message.

use prost::Message;
use threshold::{Commitments, Committee, ShareIndex};
use wire::{
    BATCH_BYTES_MAX, BATCH_MAX, ballot_from_proto, ballot_to_proto,
    batches::{Batch, Item},
    lead_from_proto, order_from_proto, order_to_proto,
    proto::{
        self, HistoryChunk, PromiseItem, PromiseReply, PromiseRequest, SignItem, SignReply,
        SignRequest, StatusReply, ValidatorsPage, promise_outcome, sign_outcome,
    },
    report_from_proto, report_to_proto,
};

use super::{Choices, Reached, framed::decoded, oracle};

/// The messages that the first byte of an input chooses from.
pub(super) const MESSAGES: u8 = 7;

/// Holds for `data`, a byte that chooses a message and where its bytes are cut in two, and then the
/// bytes: no panic; the wire's codec reads what the generic decoder reads, see `framed`; a decoded
/// message survives the way there and back; and so does each order, ballot and report in it that is
/// taken, so that no two messages are taken for one. An order's root is computed a second time by other
/// code. Of orders that are taken a batch is made as signer-apis make it: see `batch_holds`.
pub fn property(data: &[u8]) -> Reached {
    let mut choices = Choices::new(data);
    let first = choices.byte();
    let cut = first / MESSAGES * MESSAGES;
    let bytes = choices.rest();
    match first % MESSAGES {
        0 => decoded::<PromiseRequest>(bytes, cut).map_or(Reached::Refused, |request| {
            let items = request.items.into_iter();
            let lead = 0;
            batch_holds(items.map(|PromiseItem { order, ballot }| SignItem {
                order,
                ballot,
                lead,
            }))
        }),
        1 => decoded::<SignRequest>(bytes, cut).map_or(Reached::Refused, |request| {
            batch_holds(request.items.into_iter())
        }),
        2 => decoded::<PromiseReply>(bytes, cut).map_or(Reached::Refused, |reply| {
            every(
                reply
                    .outcomes
                    .into_iter()
                    .map(|outcome| match outcome.outcome {
                        Some(promise_outcome::Outcome::Outbid(ballot)) => ballot_holds(&ballot),
                        Some(promise_outcome::Outcome::Refused(refusal)) => reason_holds(&refusal),
                        Some(promise_outcome::Outcome::Promised(_)) => Reached::Taken,
                        None => Reached::Refused,
                    }),
            )
        }),
        3 => decoded::<SignReply>(bytes, cut).map_or(Reached::Refused, |reply| {
            every(
                reply
                    .outcomes
                    .into_iter()
                    .map(|outcome| match outcome.outcome {
                        Some(sign_outcome::Outcome::Outbid(ballot)) => ballot_holds(&ballot),
                        Some(sign_outcome::Outcome::Refused(refusal)) => reason_holds(&refusal),
                        Some(sign_outcome::Outcome::Partial(_)) => Reached::Taken,
                        Some(sign_outcome::Outcome::Scaled(scaled)) => {
                            match wire::scaled_partial_from_proto(&scaled) {
                                Ok(partial) => {
                                    let again = wire::partial_to_proto(&partial);
                                    assert_eq!(again, sign_outcome::Outcome::Scaled(scaled));
                                    Reached::Taken
                                }
                                Err(_) => Reached::Refused,
                            }
                        }
                        None => Reached::Refused,
                    }),
            )
        }),
        4 => decoded::<ValidatorsPage>(bytes, cut).map_or(Reached::Refused, |page| {
            every(page.validators.into_iter().map(report_holds))
        }),
        5 => decoded::<StatusReply>(bytes, cut).map_or(Reached::Refused, |_| Reached::Taken),
        _ => decoded::<HistoryChunk>(bytes, cut).map_or(Reached::Refused, |_| Reached::Taken),
    }
}

/// Taken if there is something in it, all of which was taken.
fn every(parts: impl Iterator<Item = Reached>) -> Reached {
    parts.min().unwrap_or(Reached::Refused)
}

/// Items that are taken, put together to batches, are the bytes of the messages that they stand for,
/// as their receivers read them; and as many of the first as a batch may hold fit into one.
fn batch_holds(items: impl Iterator<Item = SignItem>) -> Reached {
    let items: Vec<SignItem> = items.collect();
    let reached = every(items.iter().map(item_holds));
    if reached == Reached::Refused {
        return reached;
    }
    let encode = |item: &SignItem, lead| {
        let order = order_from_proto(item.order.clone().unwrap()).unwrap();
        let ballot = item.ballot.clone();
        let ballot = ballot.map(|ballot| ballot_from_proto(Some(ballot)).unwrap());
        Item::new(&order, ballot.as_ref(), lead)
    };
    let to_promise = items.iter().map(|item| encode(item, None)).collect();
    let encoded = items
        .iter()
        .map(|item| encode(item, lead_from_proto(item.lead)));
    let encoded: Vec<Item> = encoded.collect();
    let length = Batch::signatures(encoded[..1].to_vec()).to_bytes().len();
    assert!(length * BATCH_MAX <= BATCH_BYTES_MAX, "{length} bytes");

    let promises = Batch::promises(to_promise);
    let signatures = Batch::signatures(encoded.clone());
    assert_eq!(signatures.items(), encoded);
    let asked = PromiseRequest {
        items: items
            .iter()
            .cloned()
            .map(|SignItem { order, ballot, .. }| PromiseItem { order, ballot })
            .collect(),
    };
    assert_eq!(promises.to_bytes(), asked.encode_to_vec());
    assert_eq!(promises.read(), Ok(asked));
    let scaled = true;
    let asked = SignRequest { items, scaled };
    assert_eq!(signatures.to_bytes(), asked.encode_to_vec());
    assert_eq!(signatures.read(), Ok(asked));
    reached
}

fn item_holds(item: &SignItem) -> Reached {
    let ballot = item.ballot.as_ref().map_or(Reached::Taken, ballot_holds);
    let order = item.order.as_ref().map_or(Reached::Refused, order_holds);
    ballot.min(order)
}

fn order_holds(sent: &proto::SigningOrder) -> Reached {
    let Ok(order) = order_from_proto(sent.clone()) else {
        return Reached::Refused;
    };
    assert_eq!(order_to_proto(&order), *sent);
    let root = order.signing_root();
    assert_eq!(root.0, oracle::signing_root(&order));
    // A permit without a ledger exists exactly where nothing can be slashed.
    match order.permit_without_claim() {
        Ok(permit) => {
            assert_eq!(order.claim(), None);
            assert_eq!((permit.validator(), permit.root()), (order.validator, root));
        }
        Err(claim) => assert_eq!(order.claim(), Some(claim)),
    }
    Reached::Taken
}

fn ballot_holds(sent: &proto::Ballot) -> Reached {
    let Ok(ballot) = ballot_from_proto(Some(sent.clone())) else {
        return Reached::Refused;
    };
    assert_eq!(ballot_to_proto(&ballot), *sent);
    Reached::Taken
}

/// A number that this version does not know is no reason, and never another one.
fn reason_holds(sent: &proto::Refusal) -> Reached {
    let known = proto::refusal::Reason::try_from(sent.reason);
    assert_eq!(sent.reason(), known.unwrap_or_default());
    known.map_or(Reached::Refused, |_| Reached::Taken)
}

fn report_holds(sent: proto::Validator) -> Reached {
    let Ok(report) = report_from_proto(sent.clone()) else {
        return Reached::Refused;
    };
    assert_eq!(report_to_proto(&report), sent);
    let members = report.members.iter().map(|&index| ShareIndex::new(index));
    let Ok(members) = members.collect::<Result<_, _>>() else {
        return Reached::Taken;
    };
    if let Ok(commitments) = Commitments::new(report.commitments.clone())
        && let Ok(committee) = Committee::new(commitments, members)
    {
        assert_eq!(committee.group_key().0, report.commitments[0]);
        assert!(committee.threshold() * 2 > committee.size());
    }
    Reached::Taken
}
