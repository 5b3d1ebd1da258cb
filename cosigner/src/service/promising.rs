//! The first round: promise a duty to a ballot, and say what is signed for it.

use std::time::Duration;

use duty::{Claim, SigningRoots};
use futures_util::future::join_all;
use slashing::{Prospect, Question, Refused, rules::Conflict};
use threshold::Ballot;
use tokio::time::Instant;
use wire::proto::{
    self, PromiseItem, PromiseOutcome, Promised, promise_outcome::Outcome, refusal::Reason,
};

use super::{
    STOPPING, Service,
    orders::{Accepted, Refusal, reason_label},
};
use crate::promises::{DutyId, PromiseAnswer};

/// How long a batch waits at most for a duty that is being signed. Mostly that is one commit; while
/// a lost commit is in doubt it is long, and the batch's other duties have one second to be signed.
const FENCED_WAIT: Duration = Duration::from_millis(200);

/// A duty that is held by the asked ballot: its row in the ledger says the rest.
struct Held {
    duty: DutyId,
    question: Question,
}

/// What came of the first step.
enum Step {
    Held(Held),
    Done(Outcome),
}

impl Service {
    /// One outcome per item, in their order.
    pub(super) async fn promise_all(&self, items: Vec<PromiseItem>) -> Vec<PromiseOutcome> {
        let deadline = Instant::now() + self.parts.ledger_wait.min(FENCED_WAIT);
        // The ballot is held before the ledger is read: from then on nothing new is signed for the
        // duty under a lower one, so what is read stays true.
        let mut roots = SigningRoots::default();
        let accepted: Vec<_> = items
            .into_iter()
            .map(|item| {
                courtesy::offer();
                (self.accept(item.order, &mut roots), item.ballot)
            })
            .collect();
        let held = accepted
            .into_iter()
            .map(|(accepted, ballot)| self.hold(accepted, ballot, deadline));
        let steps = join_all(held).await;
        let questions: Vec<Question> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Held(held) => Some(held.question),
                Step::Done(_) => None,
            })
            .collect();
        let foreseen = match questions.is_empty() {
            true => Ok(Vec::new()),
            false => self.parts.ledger.foresee(questions).await,
        };
        let mut prospects = foreseen.as_ref().map(|prospects| prospects.iter());
        let outcome = |step| match (step, &mut prospects) {
            (Step::Done(outcome), _) => outcome,
            (Step::Held(held), Ok(prospects)) => match prospects.next() {
                Some(prospect) => self.promised(&held, prospect),
                None => refused(Refusal::new(Reason::Ledger, "the ledger gave no answer")),
            },
            (Step::Held(_), Err(unavailable)) => refused((*unavailable).clone().into()),
        };
        let answer = |outcome: Outcome| {
            self.parts.metrics.promise(label(&outcome));
            PromiseOutcome {
                outcome: Some(outcome),
            }
        };
        steps.into_iter().map(outcome).map(answer).collect()
    }

    async fn hold(
        &self,
        accepted: Result<Accepted, Refusal>,
        ballot: Option<proto::Ballot>,
        deadline: Instant,
    ) -> Step {
        match self.try_hold(accepted, ballot, deadline).await {
            Ok(step) => step,
            Err(refusal) => Step::Done(refused(refusal)),
        }
    }

    async fn try_hold(
        &self,
        accepted: Result<Accepted, Refusal>,
        ballot: Option<proto::Ballot>,
        deadline: Instant,
    ) -> Result<Step, Refusal> {
        if self.is_stopping() {
            // Another can promise it at once; this one could not keep the promise for long.
            return Err(Refusal::new(Reason::Busy, STOPPING));
        }
        let accepted = accepted?;
        let (claim, ballot) = claim_and_ballot(&accepted, ballot)?;
        let duty = DutyId::new(accepted.order.validator, &claim);
        let question = Question {
            validator: accepted.order.validator,
            claim,
            root: accepted.root,
        };
        Ok(match self.promises.promise(duty, ballot, deadline).await {
            PromiseAnswer::Held => Step::Held(Held { duty, question }),
            PromiseAnswer::Outbid(higher) => {
                Step::Done(Outcome::Outbid(wire::ballot_to_proto(&higher)))
            }
            PromiseAnswer::Fenced => {
                return Err(Refusal::new(
                    Reason::Busy,
                    "the duty is being signed right now",
                ));
            }
            PromiseAnswer::Full => {
                return Err(Refusal::new(
                    Reason::Busy,
                    "as many promises are held as may be",
                ));
            }
            PromiseAnswer::Starting => {
                return Err(Refusal::new(
                    Reason::Starting,
                    "nothing is promised in the first two seconds after a start",
                ));
            }
        })
    }

    fn promised(&self, held: &Held, prospect: &Result<Prospect, Refused>) -> Outcome {
        match prospect {
            Ok(Prospect::Free) => Outcome::Promised(Promised { signed: Vec::new() }),
            Ok(Prospect::Signed(root)) => {
                // The ratchet stands here: what is signed can change no more.
                self.promises.retire(held.duty);
                Outcome::Promised(Promised {
                    signed: root.0.to_vec(),
                })
            }
            Err(conflict) => {
                if matches!(
                    conflict,
                    Refused::Conflict(
                        Conflict::TargetNotAbove { .. } | Conflict::SlotNotAbove { .. }
                    )
                ) {
                    self.promises.retire(held.duty);
                }
                refused((*conflict).into())
            }
        }
    }
}

/// The claim and the ballot of an item that must have both.
pub(super) fn claim_and_ballot(
    accepted: &Accepted,
    ballot: Option<proto::Ballot>,
) -> Result<(Claim, Ballot), Refusal> {
    let invalid = |message: String| Refusal::new(Reason::Invalid, message);
    let claim = accepted
        .claim()
        .ok_or_else(|| invalid("a duty that cannot be slashed takes no ballot".to_owned()))?;
    let ballot = wire::ballot_from_proto(ballot).map_err(|error| invalid(error.to_string()))?;
    if ballot.root != accepted.root {
        return Err(invalid(format!(
            "the ballot is for {}, the order's signing root is {}",
            ballot.root, accepted.root
        )));
    }
    Ok((claim, ballot))
}

/// The label of the metric.
fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Promised(promised) if promised.signed.is_empty() => "promised",
        Outcome::Promised(_) => "signed",
        Outcome::Outbid(_) => "outbid",
        Outcome::Refused(refusal) => reason_label(refusal.reason()),
    }
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal.into())
}
