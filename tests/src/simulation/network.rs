//! The ways between signer-apis and members.

use std::{
    future::pending,
    io,
    sync::{Arc, Weak},
};

use signer_api::seams::{Call, SendBy, Transport};
use tokio::{task::AbortHandle, time::sleep};
use tonic::{Request, Status, Streaming};
use wire::{batches::Batch, proto};

use super::{
    life::Life,
    member::{Answer, Asked},
    plan::Fault,
    world::{Node, World},
};

/// The way from one life of a signer-api to a member, whoever answers there.
pub(super) struct Way {
    world: Weak<World>,
    api: usize,
    life: Arc<Life>,
    member: usize,
}

impl Way {
    pub(super) fn to(
        world: &Arc<World>,
        api: usize,
        life: &Arc<Life>,
        member: usize,
    ) -> Arc<dyn Transport> {
        Arc::new(Self {
            world: Arc::downgrade(world),
            api,
            life: Arc::clone(life),
            member,
        })
    }

    /// `by` is when it must not be sent any more: not after the process stood still, either.
    fn call(&self, asked: Asked, by: Option<SendBy>) -> Call<Answer> {
        let (world, life) = (self.world.clone(), Arc::clone(&self.life));
        let (api, member) = (self.api, self.member);
        Box::pin(async move {
            life.goes_on().await;
            if by.is_some_and(SendBy::is_over) {
                return Err(Status::deadline_exceeded("was not sent in time"));
            }
            let world = world.upgrade().ok_or_else(broken)?;
            if world.happens(Fault::Duplicates, 15) {
                tokio::spawn(twice(Arc::clone(&world), api, member, asked.clone()));
            }
            let answer = there_and_back(world, api, member, asked).await;
            life.goes_on().await;
            answer
        })
    }
}

/// The same message again, whose answer nobody waits for.
async fn twice(world: Arc<World>, api: usize, member: usize, asked: Asked) {
    sleep(world.chance.ms(0, 900)).await;
    let _unheard = there_and_back(world, api, member, asked).await;
}

async fn there_and_back(
    world: Arc<World>,
    api: usize,
    member: usize,
    asked: Asked,
) -> Result<Answer, Status> {
    let signs = matches!(asked, Asked::Sign(_));
    if !world
        .travel(Node::Api(api), Node::Member(member), signs)
        .await
    {
        return lost(&world).await;
    }
    let (endpoint, its_life) = {
        let seat = world.seats[member].lock();
        (seat.endpoint.clone(), Arc::clone(&seat.life))
    };
    let Some(endpoint) = endpoint else {
        return Err(broken());
    };
    let answering = endpoint.ask(Arc::clone(&world), member, api, asked);
    let handler = tokio::spawn(async move {
        its_life.goes_on().await;
        let answer = answering.await;
        its_life.goes_on().await;
        answer
    });
    let given_up = GivenUp {
        world: Arc::downgrade(&world),
        call: Some(handler.abort_handle()),
    };
    world.seats[member]
        .lock()
        .calls
        .push(handler.abort_handle());
    let answer = handler.await;
    given_up.not();
    let Ok(answer) = answer else {
        return lost(&world).await;
    };
    match world
        .travel(Node::Member(member), Node::Api(api), signs)
        .await
    {
        true => answer,
        false => lost(&world).await,
    }
}

/// What is lost is noticed after a while, or never.
async fn lost(world: &World) -> Result<Answer, Status> {
    if world.chance.percent(50) {
        pending::<()>().await;
    }
    sleep(world.chance.ms(5, 300)).await;
    Err(broken())
}

/// An error that arose on the way.
fn broken() -> Status {
    Status::from_error(Box::new(io::Error::other("the connection broke")))
}

/// A call whose caller has gone is given up, sooner or later, wherever it is.
struct GivenUp {
    world: Weak<World>,
    call: Option<AbortHandle>,
}

impl GivenUp {
    fn not(mut self) {
        self.call = None;
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        let (Some(call), Some(world)) = (self.call.take(), self.world.upgrade()) else {
            return;
        };
        if world.happens(Fault::Cancellations, 60) {
            // At the runtime's end there is nobody left to do it.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let pause = world.chance.ms(0, 5);
                runtime.spawn(async move {
                    sleep(pause).await;
                    call.abort();
                });
            }
        }
    }
}

impl Transport for Way {
    fn promise(&self, batch: Request<Batch>) -> Call<proto::PromiseReply> {
        let by = batch.extensions().get().copied();
        let asked = Asked::Promise(batch.get_ref().read().unwrap());
        let call = self.call(asked, by);
        Box::pin(async move {
            match call.await? {
                Answer::Promised(reply) => Ok(reply),
                Answer::Signed(_) | Answer::Led(_) | Answer::Status(_) => Err(broken()),
            }
        })
    }

    fn sign(&self, batch: Request<Batch>) -> Call<proto::SignReply> {
        let by = batch.extensions().get().copied();
        let asked = Asked::Sign(batch.get_ref().read().unwrap());
        let call = self.call(asked, by);
        Box::pin(async move {
            match call.await? {
                Answer::Signed(reply) => Ok(reply),
                Answer::Promised(_) | Answer::Led(_) | Answer::Status(_) => Err(broken()),
            }
        })
    }

    fn lead(&self, request: proto::LeadRequest) -> Call<proto::LeadReply> {
        let call = self.call(Asked::Lead(request), None);
        Box::pin(async move {
            match call.await? {
                Answer::Led(reply) => Ok(reply),
                Answer::Promised(_) | Answer::Signed(_) | Answer::Status(_) => Err(broken()),
            }
        })
    }

    fn status(&self) -> Call<proto::StatusReply> {
        let call = self.call(Asked::Status, None);
        Box::pin(async move {
            match call.await? {
                Answer::Status(reply) => Ok(reply),
                Answer::Promised(_) | Answer::Signed(_) | Answer::Led(_) => Err(broken()),
            }
        })
    }

    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>> {
        // The committees are given: discovery is not what is simulated.
        Box::pin(async { Err(Status::unimplemented("not simulated")) })
    }
}
