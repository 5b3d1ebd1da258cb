//! What a liar answers to one call, before it is delivered.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cosigner::package::Package;
use duty::{Duty, Epoch, PublicKey, SigningOrder};
use keyshare::SecretShare;
use prost::Message;
use threshold::PartialSignature;
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tonic::Status;
use wire::proto::{
    self, PromiseOutcome, Promised, Refusal, SignOutcome, promise_outcome::Outcome as Promise,
    sign_outcome::Outcome as Sign,
};

use super::{
    Member, Work,
    lies::{FalsePartial, FalseReply, FalseScaled, Lie, Outbidding},
    partials,
};

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Promise,
    Sign,
    Lead,
    Validators,
    Status,
}

/// What is said.
pub(super) enum Answer {
    /// These, and success.
    Messages(Vec<Vec<u8>>),
    /// This one, without an end.
    Again(Vec<u8>),
    /// A gRPC status.
    Status(u32, String),
}

/// Every gRPC status that is not success, and two that are none.
const CODES: [u32; 18] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    1 << 31,
];
/// As the protocol numbers it.
const BUSY: i32 = proto::refusal::Reason::Busy as i32;

impl Method {
    pub(super) fn of(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("Promise") => Self::Promise,
            Some("Sign") => Self::Sign,
            Some("Lead") => Self::Lead,
            Some("Validators") => Self::Validators,
            Some("Status") => Self::Status,
            other => panic!("a cosigner is asked for {other:?}"),
        }
    }

    /// Whether it is asked for something.
    pub(super) fn is_asked(self) -> bool {
        matches!(self, Self::Promise | Self::Sign)
    }
}

fn message(reply: &impl Message) -> Answer {
    Answer::Messages(vec![reply.encode_to_vec()])
}

fn refusal(reason: i32, message: &str) -> Refusal {
    Refusal {
        reason,
        message: message.to_owned(),
    }
}

fn share_of<'a>(package: &'a Package, validator: &PublicKey) -> &'a SecretShare {
    let shares = &mut package.shares.iter();
    let of = |share: &&cosigner::package::PackagedShare| share.commitments[0] == validator.0;
    &shares.find(of).unwrap().share
}

fn signed(share: &SecretShare, order: &SigningOrder) -> [u8; 96] {
    // A liar asks no ledger.
    #[expect(clippy::disallowed_methods, reason = "this one is meant to misbehave")]
    let permit = duty::Permit::after_commit(order.validator, order.signing_root());
    match share.sign(permit) {
        PartialSignature::Plain(point) => point,
        PartialSignature::Scaled { .. } => panic!("a share signs in the plain form"),
    }
}

impl Member {
    /// Counts the call; which lie it is for.
    pub(super) fn counted(&self, method: Method, connection: u64) -> Arc<Lie> {
        let count = match method {
            Method::Promise => &self.counts.promises,
            Method::Sign => &self.counts.signatures,
            Method::Validators => &self.counts.listings,
            Method::Lead => return self.lie(),
            Method::Status => {
                self.heard_by.lock().unwrap().insert(connection);
                return self.lie();
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        let lie = self.lie();
        match &*lie {
            Lie::TwoFaced(one, other) if method.is_asked() => {
                let mut first = self.first.lock().unwrap();
                let is_first = *first.get_or_insert(connection) == connection;
                Arc::new(if is_first { one } else { other }.as_ref().clone())
            }
            _ => lie,
        }
    }

    pub(super) async fn answer(&self, lie: &Lie, method: Method, request: &[u8]) -> Answer {
        let answer = match method {
            Method::Promise => {
                let request = proto::PromiseRequest::decode(request).unwrap();
                self.promise(lie, request).await
            }
            Method::Sign => {
                let request = proto::SignRequest::decode(request).unwrap();
                self.sign(lie, request).await
            }
            Method::Lead => self.led(request).await,
            Method::Validators => self.validators(lie).await,
            Method::Status => self.status(lie).await,
        };
        answer.unwrap_or_else(|status| {
            let code = status.code() as i32;
            Answer::Status(u32::try_from(code).unwrap(), status.message().to_owned())
        })
    }

    /// Who lies all the same lets itself be led as if it were honest.
    async fn led(&self, request: &[u8]) -> Result<Answer, Status> {
        let request = proto::LeadRequest::decode(request).unwrap();
        let reply = self.honest.clone().lead(request).await?;
        Ok(message(reply.get_ref()))
    }

    async fn status(&self, lie: &Lie) -> Result<Answer, Status> {
        let request = proto::StatusRequest {};
        let status = self.honest.clone().status(request).await?.into_inner();
        Ok(match lie {
            Lie::Status(lie) => self.say_status(status, Some(*lie)),
            _ => self.say_status(status, None),
        })
    }

    async fn validators(&self, lie: &Lie) -> Result<Answer, Status> {
        let request = proto::ValidatorsRequest {};
        let pages = self.honest.clone().validators(request).await?.into_inner();
        let pages = pages.collect::<Result<Vec<_>, Status>>().await?;
        Ok(match lie {
            Lie::Report(lie) => self.say_validators(pages, Some(*lie)),
            _ => self.say_validators(pages, None),
        })
    }

    async fn promise(&self, lie: &Lie, request: proto::PromiseRequest) -> Result<Answer, Status> {
        match lie {
            Lie::Slow(pause) => sleep(*pause).await,
            Lie::Partial(_) | Lie::Stream(..) => {
                let outcomes = request.items.iter().map(|_| promised(Vec::new()));
                let outcomes = outcomes.collect();
                return Ok(message(&proto::PromiseReply { outcomes }));
            }
            Lie::Reply(lie) => return Ok(false_promises(lie, &request)),
            Lie::Codes => {
                if let Some(status) = self.code(Work::Promise) {
                    return Ok(status);
                }
            }
            _ => {}
        }
        let reply = self.honest.clone().promise(request).await?;
        Ok(message(reply.get_ref()))
    }

    async fn sign(&self, lie: &Lie, request: proto::SignRequest) -> Result<Answer, Status> {
        let is_direct = request.items.iter().all(|item| item.ballot.is_none());
        let partials = |lie: Option<&FalsePartial>| {
            let items = request.items.iter();
            items
                .map(|item| self.partial(item, lie))
                .collect::<Vec<_>>()
        };
        match lie {
            Lie::Slow(pause) if is_direct => sleep(*pause).await,
            Lie::Partial(lie) => {
                return Ok(said(partials(Some(lie)).into_iter()));
            }
            Lie::Stream(..) => return Ok(said(partials(None).into_iter())),
            Lie::Reply(lie) => return Ok(false_signatures(lie, &request, partials(None))),
            Lie::Codes => {
                if let Some(status) = self.code(Work::of(&request)) {
                    return Ok(status);
                }
            }
            _ => {}
        }
        let keys = request.items.iter().map(|item| order(item).validator);
        let keys: Vec<PublicKey> = keys.collect();
        let reply = self.honest.clone().sign(request).await?.into_inner();
        let mut given = self.given.lock().unwrap();
        for (key, outcome) in keys.into_iter().zip(&reply.outcomes) {
            if let Some(partial @ (Sign::Partial(_) | Sign::Scaled(_))) = &outcome.outcome {
                given.insert(key, partial.clone());
            }
        }
        Ok(message(&reply))
    }

    /// The next status.
    fn code(&self, work: Work) -> Option<Answer> {
        let turn = self.every_second(work)?;
        let message = "something that sounds official".to_owned();
        Some(Answer::Status(CODES[turn % CODES.len()], message))
    }

    fn package(&self, number: u64) -> &Package {
        let mut packages = self.packages.iter();
        let found = packages.find(|package| package.index.value() == number);
        found.unwrap()
    }

    fn partial(&self, item: &proto::SignItem, lie: Option<&FalsePartial>) -> Sign {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        let order = order(item);
        let mine = self.package(self.number);
        let share = share_of(mine, &order.validator);
        let honest = signed(share, &order);
        let another = || SigningOrder {
            duty: Duty::RandaoReveal(Epoch(u64::MAX - 1)),
            ..order.clone()
        };
        let turned = |mask: u8| {
            let mut bytes = honest;
            bytes[0] ^= mask;
            bytes
        };
        let bytes = match lie {
            None | Some(FalsePartial::Reckless) => honest,
            Some(FalsePartial::AnotherRoot) => signed(share, &another()),
            Some(FalsePartial::AnotherMembers(number)) => {
                signed(share_of(self.package(*number), &order.validator), &order)
            }
            Some(FalsePartial::AnotherValidators) => {
                let mut others = mine.shares.iter();
                let other = others.find(|other| other.commitments[0] != order.validator.0);
                signed(&other.unwrap().share, &order)
            }
            Some(FalsePartial::Replayed) => {
                let given = self.given.lock().unwrap().get(&order.validator).cloned();
                // It may never have been asked for one; then this would have been it.
                return given.unwrap_or_else(|| Sign::Partial(signed(share, &another()).to_vec()));
            }
            Some(FalsePartial::Length(length)) => {
                let mut bytes = honest.to_vec();
                bytes.resize(*length, 0);
                return Sign::Partial(bytes);
            }
            Some(FalsePartial::Scaled(lie)) => return Sign::Scaled(scaled(&honest, lie)),
            Some(FalsePartial::Bytes(bytes)) => *bytes,
            Some(FalsePartial::PlusModulus) => partials::plus_modulus(&honest),
            Some(FalsePartial::Plus(times)) => partials::plus(&honest, times),
            Some(FalsePartial::Flags(mask)) => turned(*mask),
            Some(FalsePartial::NowAndThen) => {
                if NOW.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    signed(share, &another())
                } else {
                    honest
                }
            }
        };
        Sign::Partial(bytes.to_vec())
    }
}

fn scaled(honest: &[u8; 96], lie: &FalseScaled) -> proto::ScaledPartial {
    let point = partials::uncompressed(honest).to_vec();
    match lie {
        FalseScaled::Scale(scale) => proto::ScaledPartial {
            point,
            scale: *scale,
        },
        FalseScaled::Bytes(bytes) => proto::ScaledPartial {
            point: bytes.to_vec(),
            scale: 1,
        },
    }
}

fn order(item: &proto::SignItem) -> SigningOrder {
    wire::order_from_proto(item.order.clone().unwrap()).unwrap()
}

fn promised(signed: Vec<u8>) -> PromiseOutcome {
    PromiseOutcome {
        outcome: Some(Promise::Promised(Promised { signed })),
    }
}

fn said(outcomes: impl Iterator<Item = Sign>) -> Answer {
    let outcomes = outcomes.map(|outcome| SignOutcome {
        outcome: Some(outcome),
    });
    message(&proto::SignReply {
        outcomes: outcomes.collect(),
    })
}

/// A ballot that outbids, or does not.
fn outbidding(mine: &proto::Ballot, by: Outbidding) -> proto::Ballot {
    let round = match by {
        Outbidding::Half => 1 << 63,
        Outbidding::Last => u64::MAX,
        Outbidding::By(more) => mine.round.saturating_add(more),
        Outbidding::Lower => mine.round.saturating_sub(1),
    };
    let root = match by {
        Outbidding::Lower => vec![0; 32],
        Outbidding::Half | Outbidding::Last | Outbidding::By(_) => vec![0xff; 32],
    };
    proto::Ballot { round, root }
}

fn false_promises(lie: &FalseReply, request: &proto::PromiseRequest) -> Answer {
    let each = |outcome: &dyn Fn(&proto::PromiseItem) -> Option<Promise>| {
        let items = request.items.iter();
        let outcomes = items.map(|item| PromiseOutcome {
            outcome: outcome(item),
        });
        outcomes.collect::<Vec<_>>()
    };
    let all = || each(&|_| promised(Vec::new()).outcome);
    let outcomes = match lie {
        FalseReply::More => all().into_iter().chain(all()).collect(),
        FalseReply::Fewer => all().split_off(1),
        FalseReply::None => Vec::new(),
        FalseReply::Empty => each(&|_| None),
        FalseReply::Twice => {
            let reply = proto::PromiseReply { outcomes: all() }.encode_to_vec();
            return Answer::Messages(vec![reply.clone(), reply]);
        }
        FalseReply::Both | FalseReply::PromisesThenRefuses(_) => all(),
        FalseReply::Outbid(by) => {
            each(&|item| Some(Promise::Outbid(outbidding(item.ballot.as_ref()?, *by))))
        }
        FalseReply::Signed(bytes) => each(&|_| promised(bytes.clone()).outcome),
        FalseReply::Refused(reason) => {
            each(&|_| Some(Promise::Refused(refusal(*reason, "because"))))
        }
        FalseReply::RefusedAtLength(reason) => {
            let why = "\u{1b}[2J\r\n\0because".repeat(20_000);
            each(&|_| Some(Promise::Refused(refusal(*reason, &why))))
        }
    };
    message(&proto::PromiseReply { outcomes })
}

fn false_signatures(lie: &FalseReply, request: &proto::SignRequest, partials: Vec<Sign>) -> Answer {
    let items = &request.items;
    let all = || partials.iter().cloned();
    let refused = |reason: i32, why: &str| {
        let outcome = Sign::Refused(refusal(reason, why));
        said(std::iter::repeat_n(outcome, items.len()))
    };
    match lie {
        FalseReply::More => said(all().chain(all())),
        FalseReply::Fewer => said(all().skip(1)),
        FalseReply::None => said(std::iter::empty()),
        FalseReply::Empty => {
            let outcomes = vec![SignOutcome { outcome: None }; items.len()];
            message(&proto::SignReply { outcomes })
        }
        FalseReply::Twice => match said(all()) {
            Answer::Messages(mut messages) => {
                messages.extend(messages.clone());
                Answer::Messages(messages)
            }
            other => other,
        },
        FalseReply::Both => {
            // Of a member that may be there once, the last counts: the bytes are made by hand.
            let outcomes = all().map(|outcome| {
                let both = [Some(outcome), Some(Sign::Refused(refusal(BUSY, "and not")))];
                let both = both.map(|outcome| SignOutcome { outcome }.encode_to_vec());
                let outcome = both.concat();
                let mut bytes = vec![0x0a];
                prost::encode_length_delimiter(outcome.len(), &mut bytes).unwrap();
                [bytes, outcome].concat()
            });
            Answer::Messages(vec![outcomes.collect::<Vec<_>>().concat()])
        }
        FalseReply::Outbid(by) => {
            let outcomes = items.iter().map(|item| match &item.ballot {
                Some(ballot) => Sign::Outbid(outbidding(ballot, *by)),
                None => Sign::Refused(refusal(BUSY, "not now")),
            });
            said(outcomes)
        }
        FalseReply::Signed(_) => refused(BUSY, "not now"),
        FalseReply::Refused(reason) | FalseReply::PromisesThenRefuses(reason) => {
            refused(*reason, "because")
        }
        FalseReply::RefusedAtLength(reason) => {
            refused(*reason, &"\u{1b}[2J\r\n\0because".repeat(20_000))
        }
    }
}
