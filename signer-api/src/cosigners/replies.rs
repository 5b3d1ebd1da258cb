//! A cosigner's outcomes as events of a round. What cannot be understood is blamed.

use duty::SigningRoot;
use threshold::{
    PartialSignature,
    round::{Event, Failure, FailureReason, Peer, Refusal, RefusalReason},
};
use wire::{
    Malformed, ballot_from_proto,
    proto::{self, promise_outcome, refusal::Reason, sign_outcome},
};

use super::lane::Ask;

/// Characters of a cosigner's own words that are passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// Something that no honest cosigner says; what it was, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nonsense(pub(super) String);

pub(super) fn promise_event(
    peer: Peer,
    ask: &Ask,
    outcome: proto::PromiseOutcome,
) -> Result<Event, Nonsense> {
    let round = ask.round;
    match outcome.outcome {
        Some(promise_outcome::Outcome::Promised(proto::Promised { signed })) => {
            let signed = match signed.as_slice() {
                [] => None,
                root => Some(
                    SigningRoot::try_from(root)
                        .map_err(|_| Nonsense(format!("a signed root of {} bytes", root.len())))?,
                ),
            };
            Ok(Event::Promised {
                peer,
                round,
                signed,
            })
        }
        Some(promise_outcome::Outcome::Outbid(held)) => outbid(peer, ask, held),
        Some(promise_outcome::Outcome::Refused(refusal)) => refused(peer, round, &refusal),
        None => Err(Nonsense("an empty promise outcome".to_owned())),
    }
}

pub(super) fn sign_event(
    peer: Peer,
    ask: &Ask,
    outcome: proto::SignOutcome,
) -> Result<Event, Nonsense> {
    match outcome.outcome {
        Some(sign_outcome::Outcome::Partial(bytes)) => {
            signed(peer, wire::plain_partial_from_proto(&bytes))
        }
        Some(sign_outcome::Outcome::Scaled(scaled)) => {
            signed(peer, wire::scaled_partial_from_proto(&scaled))
        }
        Some(sign_outcome::Outcome::Outbid(held)) => outbid(peer, ask, held),
        Some(sign_outcome::Outcome::Refused(refusal)) => refused(peer, ask.round, &refusal),
        None => Err(Nonsense("an empty sign outcome".to_owned())),
    }
}

fn signed(peer: Peer, partial: Result<PartialSignature, Malformed>) -> Result<Event, Nonsense> {
    let partial = partial.map_err(|error| Nonsense(format!("a partial signature: {error}")))?;
    Ok(Event::Signed { peer, partial })
}

fn outbid(peer: Peer, ask: &Ask, held: proto::Ballot) -> Result<Event, Nonsense> {
    let held = ballot_from_proto(Some(held)).map_err(|error| Nonsense(error.to_string()))?;
    let mine = ask
        .ballot
        .ok_or_else(|| Nonsense("outbid without a ballot".to_owned()))?;
    // However far ahead: an honest cosigner holds what another signer-api made it promise.
    if held <= mine {
        let (held, mine) = (held.round, mine.round);
        return Err(Nonsense(format!("round {mine} outbid by round {held}")));
    }
    Ok(Event::Outbid {
        peer,
        round: ask.round,
        held,
    })
}

/// The one place where a refusal on the wire becomes final or an abstention.
fn refused(peer: Peer, round: u64, refusal: &proto::Refusal) -> Result<Event, Nonsense> {
    let message = clipped(&refusal.message);
    let is_final = |reason| {
        let refusal = Refusal {
            reason,
            message: message.clone(),
        };
        Ok(Event::Refused { peer, refusal })
    };
    let abstains = |reason| {
        let failure = Failure {
            reason,
            message: message.clone(),
        };
        Ok(Event::Failed {
            peer,
            round,
            failure,
        })
    };
    match refusal.reason() {
        Reason::Invalid => is_final(RefusalReason::Invalid),
        Reason::NotFound => is_final(RefusalReason::NotFound),
        Reason::Slashable => is_final(RefusalReason::Slashable),
        Reason::WrongChain => is_final(RefusalReason::WrongChain),
        Reason::NotAllowed => is_final(RefusalReason::NotAllowed),
        Reason::Disabled => is_final(RefusalReason::Disabled),
        Reason::Stopped => is_final(RefusalReason::Stopped),
        Reason::BeyondClock => abstains(FailureReason::BeyondClock),
        Reason::Ledger => abstains(FailureReason::Ledger),
        Reason::Busy => abstains(FailureReason::Busy),
        Reason::Starting => abstains(FailureReason::Starting),
        Reason::TooLate => abstains(FailureReason::TooLate),
        Reason::NotLed => abstains(FailureReason::NotLed),
        Reason::Quarantined => abstains(FailureReason::Quarantined),
        // Its release may know more reasons than this one.
        Reason::Unspecified if refusal.reason > 0 => abstains(FailureReason::Faulty),
        Reason::Unspecified => Err(Nonsense(format!("the refusal {}", refusal.reason))),
    }
}

/// A peer's words, cut, and without what would confuse a terminal.
pub(super) fn clipped(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_a_later_release_may_know_is_an_abstention_and_none_at_all_is_nonsense() {
        for (number, is_blamed) in [(-1, true), (0, true), (99, false), (i32::MAX, false)] {
            let refusal = proto::Refusal {
                reason: number,
                message: "says no".to_owned(),
            };
            match refused(Peer(1), 7, &refusal) {
                Ok(Event::Failed { failure, .. }) => {
                    assert!(!is_blamed, "{number}");
                    assert_eq!(failure.reason, FailureReason::Faulty);
                }
                Err(Nonsense(_)) => assert!(is_blamed, "{number}"),
                other => panic!("{number}: {other:?}"),
            }
        }
    }
}
