//! How calls get to one cosigner.

mod guarded;
mod timely;

use std::{error::Error, future::Future, pin::Pin, sync::Arc};

use tokio::time::Instant;
use tonic::{Request, Status, Streaming};
use wire::{
    batches::{self, Batch},
    proto::{self, cosigner_client::CosignerClient},
};

use self::timely::Timely;
pub(super) use self::{
    guarded::{Guarded, is_too_large},
    timely::is_late_call,
};
use super::line::Line;

/// A call that is under way; dropped, it is given up.
pub type Call<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// When a request must not be sent any more, among its extensions: not from a queue, and not on a
/// connection that was made meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendBy(pub Instant);

/// The network to one cosigner: gRPC over mutual TLS, or the simulation's. An error that arose on
/// this side, and not at the cosigner, has a source.
pub trait Transport: Send + Sync + 'static {
    /// Asks for promises.
    fn promise(&self, request: Request<Batch>) -> Call<proto::PromiseReply>;
    /// Asks for partial signatures.
    fn sign(&self, request: Request<Batch>) -> Call<proto::SignReply>;
    /// Asks to lead it.
    fn lead(&self, request: proto::LeadRequest) -> Call<proto::LeadReply>;
    /// Asks how it is.
    fn status(&self) -> Call<proto::StatusReply>;
    /// Asks for its validators.
    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>>;
}

/// Why a call failed on its way, if it did.
pub(super) fn failed_on_its_way(status: &Status) -> Option<&(dyn Error + 'static)> {
    status.source().filter(|_| !is_too_large(status))
}

/// The network there is.
pub(super) struct Grpc(pub(super) Arc<Line>);

impl Grpc {
    fn channel(&self) -> Timely {
        Timely(Guarded(self.0.channel()))
    }

    fn client(&self) -> CosignerClient<Timely> {
        CosignerClient::new(self.channel())
    }
}

impl Transport for Grpc {
    fn promise(&self, request: Request<Batch>) -> Call<proto::PromiseReply> {
        let channel = self.channel();
        timely::unless_late(request, |request| batches::promise(channel, request))
    }

    fn sign(&self, request: Request<Batch>) -> Call<proto::SignReply> {
        let channel = self.channel();
        timely::unless_late(request, |request| batches::sign(channel, request))
    }

    fn lead(&self, request: proto::LeadRequest) -> Call<proto::LeadReply> {
        let mut client = self.client();
        let asked = async move { client.lead(request).await };
        Box::pin(async move { asked.await.map(tonic::Response::into_inner) })
    }

    fn status(&self) -> Call<proto::StatusReply> {
        let mut client = self.client();
        let asked = async move { client.status(proto::StatusRequest {}).await };
        Box::pin(async move { asked.await.map(tonic::Response::into_inner) })
    }

    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>> {
        let mut client = self.client();
        let asked = async move { client.validators(proto::ValidatorsRequest {}).await };
        Box::pin(async move { asked.await.map(tonic::Response::into_inner) })
    }
}
