//! How calls get to one cosigner.

mod channel;
mod connection;
mod guarded;

use std::{error::Error, future::Future, pin::Pin, sync::Arc};

use tokio::time::Instant;
use tonic::{Request, Status, Streaming};
use wire::{
    batches::{self, Batch},
    proto::{self, cosigner_client::CosignerClient},
};

pub(super) use self::{
    channel::{Channel, authority, is_late_call},
    guarded::{Guarded, is_too_large},
};
use super::line::Line;

/// A call that is under way; dropped, it is given up.
pub type Call<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// When a request must not be sent any more, among its extensions: not from a queue, and not on a
/// connection that was made meanwhile. What was to be signed under an old promise could so reach a
/// cosigner that has restarted since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendBy(pub Instant);

impl SendBy {
    /// Whether it must not be sent any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

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
    fn channel(&self) -> Guarded<Channel> {
        Guarded(self.0.channel())
    }

    fn client(&self) -> CosignerClient<Guarded<Channel>> {
        CosignerClient::new(self.channel())
    }
}

impl Transport for Grpc {
    fn promise(&self, request: Request<Batch>) -> Call<proto::PromiseReply> {
        Box::pin(batches::promise(self.channel(), request))
    }

    fn sign(&self, request: Request<Batch>) -> Call<proto::SignReply> {
        Box::pin(batches::sign(self.channel(), request))
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
