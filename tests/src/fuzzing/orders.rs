//! What signer-apis and cosigners say to each other: a message is understood whole or not at all, and
//! what was understood is the message.

use prost::Message;
use threshold::{Commitments, Committee, ShareIndex};
use wire::{
    ballot_from_proto, ballot_to_proto, order_from_proto, order_to_proto,
    proto::{
        self, PromiseReply, PromiseRequest, SignReply, SignRequest, ValidatorsPage,
        promise_outcome, sign_outcome,
    },
    report_from_proto, report_to_proto,
};

use super::{Choices, Reached, oracle};

/// The messages that the first byte of an input chooses from.
const MESSAGES: u8 = 5;

/// Holds for `data`, a byte that chooses a message and then its bytes: no panic; a decoded message
/// survives the way there and back; and so does each order, ballot and report in it that is taken, so
/// that no two messages are taken for one. An order's root is computed a second time by other code.
pub fn property(data: &[u8]) -> Reached {
    let mut choices = Choices::new(data);
    let message = choices.below(MESSAGES);
    let bytes = choices.rest();
    match message {
        0 => decoded::<PromiseRequest>(bytes).map_or(Reached::Refused, |request| {
            let items = request.items.into_iter();
            every(items.map(|item| holds_for(item.order, item.ballot)))
        }),
        1 => decoded::<SignRequest>(bytes).map_or(Reached::Refused, |request| {
            let items = request.items.into_iter();
            every(items.map(|item| holds_for(item.order, item.ballot)))
        }),
        2 => decoded::<PromiseReply>(bytes).map_or(Reached::Refused, |reply| {
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
        3 => decoded::<SignReply>(bytes).map_or(Reached::Refused, |reply| {
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
        _ => decoded::<ValidatorsPage>(bytes).map_or(Reached::Refused, |page| {
            every(page.validators.into_iter().map(report_holds))
        }),
    }
}

/// Taken if there is something in it, all of which was taken.
fn every(parts: impl Iterator<Item = Reached>) -> Reached {
    parts.min().unwrap_or(Reached::Refused)
}

fn decoded<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    assert!(M::decode(written.as_slice()).as_ref() == Ok(&message));
    Some(message)
}

fn holds_for(order: Option<proto::SigningOrder>, ballot: Option<proto::Ballot>) -> Reached {
    let ballot = ballot.as_ref().map_or(Reached::Taken, ballot_holds);
    let order = order.map_or(Reached::Refused, |order| order_holds(&order));
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
