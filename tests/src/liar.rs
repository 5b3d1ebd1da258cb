//! A cosigner that lies: it holds a real share, has a real certificate, promises everything, and signs
//! something else than it was asked for.

use std::{net::SocketAddr, path::Path, pin::Pin, sync::Arc};

use cosigner::package::Package;
use daemon::{
    serve::{Listener, ListenerLimits},
    tls::{self, TlsFiles},
};
use duty::{Duty, Epoch, PublicKey, SigningOrder};
use futures_util::Stream;
use keyshare::SecretShare;
use tokio_stream as stream;
use tonic::{Request, Response, Status, transport::Server};
use wire::proto::{
    self,
    cosigner_server::{Cosigner, CosignerServer},
};

/// What a liar answers instead of its partial signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Its share's signature over another root.
    AnotherRoot,
    /// The right root, signed by another member's share.
    AnotherIndex,
    /// Bytes that are no point.
    Garbage,
    /// A point of the curve that is not in the subgroup.
    OutsideSubgroup,
    /// An answer that is too short.
    Short,
    /// The right partials, but reports of commitments that nobody else has.
    Commitments,
}

struct Liar {
    lie: Lie,
    package: Package,
    /// The same validators' shares of another member.
    other: Package,
}

/// Starts a liar that stands in for the cosigner of `package` at `address`; it ends with the returned
/// task.
pub async fn start(
    lie: Lie,
    package: Package,
    other: Package,
    address: SocketAddr,
    certs: &Path,
) -> tokio::task::JoinHandle<()> {
    let name = format!("cosigner-{}", package.index.value());
    let files = TlsFiles {
        certificate: certs.join(format!("{name}.crt")),
        key: certs.join(format!("{name}.key")),
        ca: certs.join("ca.crt"),
    };
    let peers = ["signer-api-1".to_owned()].into_iter().collect();
    let config = tls::mutual_server(&files, &peers).unwrap();
    let listener = Listener::bind(address, Some(config), ListenerLimits::default())
        .await
        .unwrap();
    let service = CosignerServer::from_arc(Arc::new(Liar {
        lie,
        package,
        other,
    }));
    tokio::spawn(async move {
        Server::builder()
            .add_service(service)
            .serve_with_incoming(listener.into_stream())
            .await
            .unwrap();
    })
}

/// The compressed x = 1 + u: on the curve of G2, outside the subgroup.
fn outside_subgroup() -> Vec<u8> {
    let mut point = vec![0; 96];
    point[0] = 0x80;
    point[47] = 1;
    point[95] = 1;
    point
}

fn share_of<'a>(package: &'a Package, validator: &PublicKey) -> &'a SecretShare {
    let shares = &mut package.shares.iter();
    &shares
        .find(|share| share.commitments[0] == validator.0)
        .unwrap()
        .share
}

impl Liar {
    fn partial(&self, order: SigningOrder) -> Vec<u8> {
        let mine = share_of(&self.package, &order.validator);
        let permit = |order: &SigningOrder| {
            // A liar asks no ledger.
            #[expect(clippy::disallowed_methods, reason = "this one is meant to misbehave")]
            duty::Permit::after_commit(order.validator, order.signing_root())
        };
        match self.lie {
            Lie::AnotherRoot => {
                let other = SigningOrder {
                    duty: Duty::RandaoReveal(Epoch(999)),
                    ..order
                };
                mine.sign(permit(&other)).0.to_vec()
            }
            Lie::AnotherIndex => share_of(&self.other, &order.validator)
                .sign(permit(&order))
                .0
                .to_vec(),
            Lie::Garbage => vec![0x5a; 96],
            Lie::OutsideSubgroup => outside_subgroup(),
            Lie::Short => vec![0x80; 95],
            Lie::Commitments => mine.sign(permit(&order)).0.to_vec(),
        }
    }

    fn report(&self, share: &cosigner::package::PackagedShare) -> proto::Validator {
        let mut commitments: Vec<Vec<u8>> = share
            .commitments
            .iter()
            .map(|point| point.to_vec())
            .collect();
        if self.lie == Lie::Commitments {
            commitments.swap(1, 2);
        }
        proto::Validator {
            pubkey: share.commitments[0].to_vec(),
            index: self.package.index.value(),
            members: self
                .package
                .members
                .iter()
                .map(|index| index.value())
                .collect(),
            commitments,
        }
    }
}

#[tonic::async_trait]
impl Cosigner for Liar {
    async fn promise(
        &self,
        request: Request<proto::PromiseRequest>,
    ) -> Result<Response<proto::PromiseReply>, Status> {
        use proto::{PromiseOutcome, Promised, promise_outcome::Outcome};
        let outcomes = request
            .into_inner()
            .items
            .into_iter()
            .map(|_| PromiseOutcome {
                outcome: Some(Outcome::Promised(Promised { signed: Vec::new() })),
            });
        Ok(Response::new(proto::PromiseReply {
            outcomes: outcomes.collect(),
        }))
    }

    async fn sign(
        &self,
        request: Request<proto::SignRequest>,
    ) -> Result<Response<proto::SignReply>, Status> {
        use proto::{SignOutcome, sign_outcome::Outcome};
        let outcomes = request.into_inner().items.into_iter().map(|item| {
            let order = wire::order_from_proto(item.order.unwrap()).unwrap();
            SignOutcome {
                outcome: Some(Outcome::Partial(self.partial(order))),
            }
        });
        Ok(Response::new(proto::SignReply {
            outcomes: outcomes.collect(),
        }))
    }

    type ValidatorsStream =
        Pin<Box<dyn Stream<Item = Result<proto::ValidatorsPage, Status>> + Send>>;

    async fn validators(
        &self,
        _request: Request<proto::ValidatorsRequest>,
    ) -> Result<Response<Self::ValidatorsStream>, Status> {
        let validators = self
            .package
            .shares
            .iter()
            .map(|share| self.report(share))
            .collect();
        let page = proto::ValidatorsPage {
            generation: 1,
            validators,
        };
        Ok(Response::new(Box::pin(stream::iter([Ok(page)]))))
    }

    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        Ok(Response::new(proto::StatusReply {
            ready: true,
            message: String::new(),
            generation: 1,
            validators: u64::try_from(self.package.shares.len()).unwrap(),
            ledger: None,
        }))
    }
}
