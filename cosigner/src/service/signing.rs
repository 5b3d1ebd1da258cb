//! The second round, or the only one: a permit, then a partial signature.

use std::{sync::Arc, time::Instant};

use duty::{Claim, DutyKind, Permit, PublicKey, SigningRoot, SigningRoots};
use futures_util::future::join_all;
use keyshare::Withheld;
use slashing::{Ask, Prospect, Question};
use threshold::{Ballot, PartialSignature, round::Lead};
use wire::{
    lead_from_proto,
    proto::{self, SignItem, SignOutcome, refusal::Reason, sign_outcome::Outcome},
};

use super::{
    STOPPING, Service,
    orders::{Accepted, Refusal},
    promising::claim_and_ballot,
    signers::Urgency,
};
use crate::{
    promises::{DutyId, SignAnswer},
    vault::NotHeld,
};

/// Partials of batches up to this long are computed while the ledger decides, and given out when
/// it has permitted them. In a burst no processor waits for the disk, so nothing would be gained.
const PREPARED_MAX: usize = 8;

/// What is said when no promise is held, and no lead stands in for it.
const TOO_LATE: (Reason, &str) = (
    Reason::TooLate,
    "the duty is not, or no more, promised to this ballot",
);
const NOT_LED: (Reason, &str) = (
    Reason::NotLed,
    "the caller does not lead here, or not in duties as low as this: it needs a promise",
);

/// What an item is to be signed under.
struct Under {
    ballot: Option<proto::Ballot>,
    /// It stands in for a promise.
    lead: Option<Lead>,
}

/// An item on its way to a signature.
struct Item {
    kind: Option<DutyKind>,
    step: Step,
}

enum Step {
    Permitted(Permit),
    Outbid(Ballot),
    Refused(Refusal),
}

impl Service {
    /// One outcome per item, in their order. `Err` if the batch mixes what can be slashed with what
    /// cannot, which would let a stalled ledger stop both.
    pub(super) async fn sign_all(
        &self,
        items: Vec<SignItem>,
        scaled: bool,
    ) -> Result<Vec<SignOutcome>, &'static str> {
        let mut roots = SigningRoots::default();
        let accepted: Vec<_> = items
            .into_iter()
            .map(|item| {
                courtesy::offer();
                let under = Under {
                    ballot: item.ballot,
                    lead: lead_from_proto(item.lead),
                };
                (self.accept(item.order, &mut roots), under)
            })
            .collect();
        let slashable = |accepted: &Result<Accepted, Refusal>| {
            accepted.as_ref().ok().map(|a| a.claim().is_some())
        };
        let mut kinds = accepted
            .iter()
            .filter_map(|(accepted, _)| slashable(accepted));
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            return Err("a batch holds only duties that can be slashed, or none");
        }
        let kinds = accepted.iter().filter_map(|(accepted, _)| {
            let accepted = accepted.as_ref().ok()?;
            Some(accepted.order.duty.kind())
        });
        // A batch that goes with others' waits as they do.
        let urgency = kinds.map(urgency).max().unwrap_or(Urgency::Bulk);
        let is_early = scaled && first == Some(true) && accepted.len() <= PREPARED_MAX;
        let expected = || {
            let expected = accepted.iter().map(|(accepted, _)| {
                let accepted = accepted.as_ref().ok()?;
                Some((accepted.order.validator, accepted.root))
            });
            expected.collect::<Option<Vec<_>>>()
        };
        let prepared = self.prepare(urgency, is_early.then(expected).flatten());
        let started = Instant::now();
        let permitted = async {
            let items = join_all(accepted.into_iter().map(|(accepted, under)| async move {
                courtesy::offer();
                match accepted {
                    Ok(accepted) => {
                        let kind = Some(accepted.order.duty.kind());
                        let step = self
                            .permit(accepted, under)
                            .await
                            .unwrap_or_else(Step::Refused);
                        Item { kind, step }
                    }
                    Err(refusal) => Item {
                        kind: None,
                        step: Step::Refused(refusal),
                    },
                }
            }))
            .await;
            if first == Some(true) {
                self.parts.metrics.stage("ledger", started.elapsed());
            }
            items
        };
        let (items, prepared) = tokio::join!(permitted, prepared);
        Ok(self.sign_permitted(items, prepared, urgency, scaled).await)
    }

    /// Computes partials while the ledger decides: the one waits for a processor, the other for a
    /// disk.
    async fn prepare(
        &self,
        urgency: Urgency,
        expected: Option<Vec<(PublicKey, SigningRoot)>>,
    ) -> Vec<Option<Withheld>> {
        let Some(expected) = expected else {
            return Vec::new();
        };
        let started = Instant::now();
        let vault = Arc::clone(&self.parts.vault);
        let prepare = move || vault.prepare(&expected);
        let prepared = self.parts.signers.run(urgency, prepare).await;
        self.parts.metrics.stage("sign", started.elapsed());
        prepared.unwrap_or_default()
    }

    /// A permit for an order: from the ledger if it can be slashed, else at once.
    async fn permit(
        &self,
        accepted: Accepted,
        Under { ballot, lead }: Under,
    ) -> Result<Step, Refusal> {
        let claim = match accepted.order.permit_without_claim() {
            Ok(_) if ballot.is_some() || lead.is_some() => {
                let message = "a duty that cannot be slashed takes no ballot";
                return Err(Refusal::new(Reason::Invalid, message));
            }
            Ok(permit) => return Ok(Step::Permitted(permit)),
            Err(claim) => claim,
        };
        let (_, ballot) = claim_and_ballot(&accepted, ballot)?;
        let duty = DutyId::new(accepted.order.validator, &claim);
        let begun = match lead {
            None => self.promises.begin_sign(duty, ballot),
            Some(lead) => self.promises.begin_sign_led(duty, ballot, lead),
        };
        let without_promise = match begun {
            Ok(fence) => Ok(fence),
            Err(SignAnswer::Outbid(higher)) => return Ok(Step::Outbid(higher)),
            Err(SignAnswer::NotLed) => Err(NOT_LED),
            Err(SignAnswer::NotPromised | SignAnswer::TooLate | SignAnswer::Begun) => Err(TOO_LATE),
        };
        let fence: Box<dyn Send> = match without_promise {
            Ok(fence) => Box::new(fence),
            Err(why) => {
                self.only_if_signed(&accepted, claim, why).await?;
                Box::new(())
            }
        };
        let (validator, root) = (accepted.order.validator, accepted.root);
        let ask = Ask {
            validator,
            claim,
            root,
            fence,
        };
        let permit = self.parts.ledger.decide(ask).await.map_err(Refusal::from)?;
        self.promises.retire(duty);
        Ok(Step::Permitted(permit))
    }

    /// Without a promise only what this ledger has signed already may be asked for again: that adds
    /// no vote, so it spoils no other caller's round.
    async fn only_if_signed(
        &self,
        accepted: &Accepted,
        claim: Claim,
        (reason, message): (Reason, &str),
    ) -> Result<(), Refusal> {
        let question = Question {
            validator: accepted.order.validator,
            claim,
            root: accepted.root,
        };
        let foreseen = self
            .parts
            .ledger
            .foresee(vec![question])
            .await
            .map_err(Refusal::from)?;
        match foreseen.into_iter().next() {
            Some(Ok(Prospect::Signed(root))) if root == accepted.root => Ok(()),
            Some(Ok(Prospect::Signed(_) | Prospect::Free)) | None => {
                Err(Refusal::new(reason, message))
            }
            Some(Err(refused)) => Err(refused.into()),
        }
    }

    /// Signs what was permitted. `prepared` is as long as the items, or empty.
    async fn sign_permitted(
        &self,
        items: Vec<Item>,
        prepared: Vec<Option<Withheld>>,
        urgency: Urgency,
        scaled: bool,
    ) -> Vec<SignOutcome> {
        let kinds: Vec<Option<DutyKind>> = items.iter().map(|item| item.kind).collect();
        let mut prepared = prepared.into_iter();
        let mut permits = Vec::new();
        let outcome = |item: Item| {
            let withheld = prepared.next().flatten();
            match item.step {
                Step::Permitted(permit) => match self.release(withheld, permit) {
                    Ok(partial) => Some(signed(&partial)),
                    Err(permit) => {
                        permits.push(permit);
                        None
                    }
                },
                Step::Outbid(higher) => {
                    Some((Outcome::Outbid(wire::ballot_to_proto(&higher)), "outbid"))
                }
                Step::Refused(refusal) => Some(refused(refusal)),
            }
        };
        let outcomes: Vec<Option<Answer>> = items.into_iter().map(outcome).collect();
        let mut rest = self.sign_now(urgency, permits, scaled).await.into_iter();
        let mut next = || {
            rest.next()
                .unwrap_or_else(|| refused(Refusal::new(Reason::Busy, STOPPING)))
        };
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(&mut next));
        let answer = |(kind, (outcome, label)): (Option<DutyKind>, Answer)| {
            self.parts.metrics.answered(kind, label);
            SignOutcome {
                outcome: Some(outcome),
            }
        };
        kinds.into_iter().zip(outcomes).map(answer).collect()
    }

    fn release(
        &self,
        withheld: Option<Withheld>,
        permit: Permit,
    ) -> Result<PartialSignature, Permit> {
        match withheld {
            Some(withheld) => self.parts.vault.release(withheld, permit),
            None => Err(permit),
        }
    }

    /// Signs together, on threads of its own. No answers if the process is stopping.
    async fn sign_now(&self, urgency: Urgency, permits: Vec<Permit>, scaled: bool) -> Vec<Answer> {
        if permits.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let vault = Arc::clone(&self.parts.vault);
        let signing = self.parts.signers.run(urgency, move || {
            let partials = vault.sign(permits, scaled).into_iter();
            let answer = |partial: Result<PartialSignature, NotHeld>| match partial {
                Ok(partial) => signed(&partial),
                Err(not_held) => refused(Refusal::new(Reason::NotFound, not_held.to_string())),
            };
            partials.map(answer).collect()
        });
        let answers = signing.await;
        self.parts.metrics.stage("sign", started.elapsed());
        answers.unwrap_or_default()
    }
}

/// An outcome, and its label of the metric.
type Answer = (Outcome, &'static str);

fn signed(partial: &PartialSignature) -> Answer {
    (wire::partial_to_proto(partial), "signed")
}

fn refused(refusal: Refusal) -> Answer {
    let label = refusal.label();
    (Outcome::Refused(refusal.into()), label)
}

/// On which threads this kind of duty is signed: what a chain waits for is not kept waiting behind
/// the rest, nor a proposal behind anything else.
const fn urgency(kind: DutyKind) -> Urgency {
    match kind {
        DutyKind::Block | DutyKind::RandaoReveal | DutyKind::ExecutionPayload => Urgency::Proposal,
        DutyKind::Attestation | DutyKind::SyncCommitteeMessage | DutyKind::PayloadAttestation => {
            Urgency::Prompt
        }
        DutyKind::AggregationSlot
        | DutyKind::AggregateAndProof
        | DutyKind::SyncCommitteeSelectionProof
        | DutyKind::SyncCommitteeContributionAndProof
        | DutyKind::ProposerPreferences
        | DutyKind::BuilderRequestAuth
        | DutyKind::ValidatorRegistration
        | DutyKind::VoluntaryExit
        | DutyKind::Deposit => Urgency::Bulk,
    }
}
