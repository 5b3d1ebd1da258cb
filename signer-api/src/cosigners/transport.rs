//! How calls get to one cosigner.

use std::{future::Future, pin::Pin};

use tonic::{Request, Status, Streaming, transport::Channel};
use wire::proto::{self, cosigner_client::CosignerClient};

/// A call that is under way; dropped, it is given up.
pub type Call<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// The network to one cosigner: gRPC over mutual TLS, or the simulation's. An error that arose on
/// the way, and not at the cosigner, has a source.
pub trait Transport: Send + Sync + 'static {
    /// Asks for promises.
    fn promise(&self, request: Request<proto::PromiseRequest>) -> Call<proto::PromiseReply>;
    /// Asks for partial signatures.
    fn sign(&self, request: Request<proto::SignRequest>) -> Call<proto::SignReply>;
    /// Asks how it is.
    fn status(&self) -> Call<proto::StatusReply>;
    /// Asks for its validators.
    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>>;
}

/// The network there is.
pub(super) struct Grpc(pub(super) Channel);

impl Grpc {
    fn client(&self) -> CosignerClient<Channel> {
        CosignerClient::new(self.0.clone())
    }
}

impl Transport for Grpc {
    fn promise(&self, request: Request<proto::PromiseRequest>) -> Call<proto::PromiseReply> {
        let mut client = self.client();
        Box::pin(async move {
            client
                .promise(request)
                .await
                .map(tonic::Response::into_inner)
        })
    }

    fn sign(&self, request: Request<proto::SignRequest>) -> Call<proto::SignReply> {
        let mut client = self.client();
        Box::pin(async move { client.sign(request).await.map(tonic::Response::into_inner) })
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
