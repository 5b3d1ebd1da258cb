//! What a liar answers: anything but what it should.

use std::{future::pending, time::Duration};

use duty::SigningRoot;
use threshold::PartialSignature;
use tokio::time::sleep;
use tonic::{Code, Status};
use wire::proto::{self, promise_outcome, refusal::Reason, sign_outcome};

use super::{
    member::{Answer, Asked},
    plan::Lie,
    world::World,
};
use crate::liar::partials;

/// Everything that an error of gRPC's may be called.
const CODES: i32 = 17;

pub(super) async fn answer(
    world: &World,
    member: usize,
    api: usize,
    asked: Asked,
) -> Result<Answer, Status> {
    let lie = match world.plan.liars.get(&member) {
        // To every signer-api something else.
        Some(Lie::Any) if world.chance.percent(50) => {
            Lie::ALL[(member + api) % (Lie::ALL.len() - 1)]
        }
        Some(Lie::Any) | None => world.chance.pick(&Lie::ALL[..Lie::ALL.len() - 1]),
        Some(lie) => *lie,
    };
    match lie {
        Lie::Silent => return pending().await,
        Lie::Errors => {
            let code = i32::try_from(world.chance.below(CODES.unsigned_abs().into())).unwrap();
            return Err(Status::new(Code::from(code.max(1)), "an error"));
        }
        Lie::SignsAll
        | Lie::AnotherRoot
        | Lie::AnotherMember
        | Lie::Stolen
        | Lie::NoPoint
        | Lie::Infinity
        | Lie::Short
        | Lie::Malformed
        | Lie::Replayed
        | Lie::Shifted
        | Lie::TwoAnswers
        | Lie::Withholds
        | Lie::Refuses
        | Lie::SignedAnother
        | Lie::Overbids
        | Lie::Any => {}
    }
    match asked {
        Asked::Status => Ok(Answer::Status(proto::StatusReply {
            ready: true,
            message: String::new(),
            generation: world.chance.below(3),
            validators: u64::MAX,
            ledger: None,
            process: world.chance.below(3),
        })),
        // It lets anybody lead it who asks, and says whatever of its horizon.
        Asked::Lead(_) => Ok(Answer::Led(proto::LeadReply {
            led: world.chance.percent(80),
            epoch: world.chance.below(3),
            slot: world.chance.below(3),
        })),
        Asked::Promise(request) => {
            let outcome = |item: proto::PromiseItem| proto::PromiseOutcome {
                outcome: Some(promise(world, lie, item)),
            };
            let mut outcomes: Vec<_> = request.items.into_iter().map(outcome).collect();
            if lie == Lie::TwoAnswers {
                outcomes.extend(outcomes.clone());
            }
            Ok(Answer::Promised(proto::PromiseReply { outcomes }))
        }
        Asked::Sign(request) => {
            if lie == Lie::Withholds && world.chance.percent(50) {
                sleep(Duration::from_millis(700)).await;
                return pending().await;
            }
            let outcome = |item| proto::SignOutcome {
                outcome: Some(sign(world, member, lie, item)),
            };
            let mut outcomes: Vec<_> = request.items.into_iter().map(outcome).collect();
            if lie == Lie::TwoAnswers {
                outcomes.extend(outcomes.clone());
            }
            Ok(Answer::Signed(proto::SignReply { outcomes }))
        }
    }
}

fn refusal(reason: Reason) -> proto::Refusal {
    proto::Refusal {
        reason: reason.into(),
        message: "so it says".to_owned(),
    }
}

fn higher(world: &World, ballot: Option<proto::Ballot>) -> proto::Ballot {
    let ballot = ballot.unwrap_or_default();
    let round = match world.chance.below(3) {
        0 => u64::MAX,
        1 => 1 << 63,
        _ => ballot.round.saturating_add(1),
    };
    proto::Ballot { round, ..ballot }
}

fn promise(world: &World, lie: Lie, item: proto::PromiseItem) -> promise_outcome::Outcome {
    use promise_outcome::Outcome;
    let promised = |signed| Outcome::Promised(proto::Promised { signed });
    match lie {
        Lie::Refuses => Outcome::Refused(refusal(Reason::Slashable)),
        Lie::SignedAnother => {
            let wishes = &world.plan.wishes;
            promised(wishes[world.chance.index(wishes.len())].root.0.to_vec())
        }
        Lie::Overbids => Outcome::Outbid(higher(world, item.ballot)),
        Lie::SignsAll
        | Lie::AnotherRoot
        | Lie::AnotherMember
        | Lie::Stolen
        | Lie::NoPoint
        | Lie::Infinity
        | Lie::Short
        | Lie::Malformed
        | Lie::Replayed
        | Lie::Shifted
        | Lie::TwoAnswers
        | Lie::Silent
        | Lie::Withholds
        | Lie::Errors
        | Lie::Any => promised(Vec::new()),
    }
}

fn malformed(world: &World) -> Vec<u8> {
    match world.chance.below(6) {
        0 => Vec::new(),
        1 => vec![0x80],
        2 => vec![0x80; 97],
        3 => partials::off_curve().to_vec(),
        4 => partials::outside_subgroup().to_vec(),
        _ => partials::generator().to_vec(),
    }
}

/// Two neighbours' errors cancel in a sum.
fn shifted(partial: PartialSignature, member: usize) -> PartialSignature {
    let times = match member % 2 {
        0 => partials::one(),
        _ => -partials::one(),
    };
    match partial {
        PartialSignature::Plain(point) => PartialSignature::Plain(partials::plus(&point, &times)),
        PartialSignature::Scaled { point, scale } => {
            let sum = partials::plus(&partials::compressed(&point), &times);
            let point = partials::uncompressed(&sum);
            PartialSignature::Scaled { point, scale }
        }
    }
}

fn sign(world: &World, member: usize, lie: Lie, item: proto::SignItem) -> sign_outcome::Outcome {
    use sign_outcome::Outcome;
    let order = item
        .order
        .and_then(|order| wire::order_from_proto(order).ok());
    let Some(order) = order else {
        return Outcome::Refused(refusal(Reason::Invalid));
    };
    let mut families = world.plan.families.iter();
    let Some(family) = families.find(|family| family.key() == order.validator) else {
        return Outcome::Refused(refusal(Reason::NotFound));
    };
    let root = order.signing_root();
    let partial = match lie {
        Lie::Refuses => return Outcome::Refused(refusal(Reason::Slashable)),
        Lie::Withholds => return Outcome::Refused(refusal(Reason::Busy)),
        Lie::Overbids => return Outcome::Outbid(higher(world, item.ballot)),
        Lie::AnotherRoot => {
            return wire::partial_to_proto(&family.partial(member, SigningRoot([9; 32])));
        }
        Lie::AnotherMember | Lie::Stolen => {
            let other = (member + 1) % world.plan.n;
            return wire::partial_to_proto(&family.partial(other, root));
        }
        Lie::NoPoint => vec![0x5a; 96],
        Lie::Infinity => [&[0xc0][..], &[0; 95]].concat(),
        Lie::Short => vec![0x80; 95],
        Lie::Malformed => malformed(world),
        Lie::Replayed => {
            let others = world.plan.wishes.iter().map(|wish| wish.root);
            let others: Vec<_> = others.filter(|other| *other != root).collect();
            let old = match others.is_empty() {
                true => SigningRoot([9; 32]),
                false => world.chance.pick(&others),
            };
            return wire::partial_to_proto(&family.partial(member, old));
        }
        Lie::Shifted => {
            return wire::partial_to_proto(&shifted(family.partial(member, root), member));
        }
        Lie::SignsAll
        | Lie::TwoAnswers
        | Lie::SignedAnother
        | Lie::Silent
        | Lie::Errors
        | Lie::Any => return wire::partial_to_proto(&family.partial(member, root)),
    };
    Outcome::Partial(partial)
}
