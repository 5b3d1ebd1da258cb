//! A cosigner whose partial signatures do not verify. It stands before the real one, under its name,
//! and passes everything on, but instead of each partial it gives an older one: a good point, of
//! another message. It knows nothing of the partials' form.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use daemon::{
    serve::{Listener, ListenerLimits},
    tls::{self, TlsFiles},
};
use tokio::task::JoinHandle;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};
use wire::proto::{
    LeadReply, LeadRequest, PromiseReply, PromiseRequest, SignReply, SignRequest, StatusReply,
    StatusRequest, ValidatorsPage, ValidatorsRequest,
    cosigner_client::CosignerClient,
    cosigner_server::{Cosigner, CosignerServer},
    sign_outcome::Outcome,
};

/// Runs until it is dropped.
pub(super) struct Liar {
    serving: JoinHandle<()>,
    told: Arc<AtomicU64>,
}

struct Front {
    honest: CosignerClient<Channel>,
    /// What was asked for before.
    older: Mutex<Option<Outcome>>,
    told: Arc<AtomicU64>,
}

impl Liar {
    /// Starts one at `front` for cosigner `number`, which listens at `behind`.
    ///
    /// # Errors
    /// If certificates cannot be read or nothing can listen there.
    pub(super) async fn start(
        number: usize,
        front: SocketAddr,
        behind: SocketAddr,
        certificates: &Path,
    ) -> anyhow::Result<Self> {
        let files = |name: &str| TlsFiles {
            certificate: certificates.join(format!("{name}.crt")),
            key: certificates.join(format!("{name}.key")),
            ca: certificates.join("ca.crt"),
        };
        let (signer, own) = ("signer-api-1".to_owned(), format!("cosigner-{number}"));
        let connector = tls::mutual_client(&files(&signer), &own)?;
        let endpoint = Endpoint::from_shared(format!("http://{behind}"))?;
        let honest = CosignerClient::new(endpoint.connect_with_connector_lazy(connector));
        let server = tls::mutual_server(&files(&own), &[signer].into())?;
        let listener = Listener::bind(front, Some(server), ListenerLimits::default()).await?;
        let told = Arc::new(AtomicU64::new(0));
        let front = Front {
            honest,
            older: Mutex::new(None),
            told: Arc::clone(&told),
        };
        let service = CosignerServer::new(front).max_decoding_message_size(wire::BATCH_BYTES_MAX);
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(listener.into_stream());
        let serving = tokio::spawn(async {
            // It ends when it is given up, and not before.
            let _ended = serving.await;
        });
        Ok(Self { serving, told })
    }

    /// How many wrong partials it gave.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tonic::async_trait]
impl Cosigner for Front {
    type ValidatorsStream = Streaming<ValidatorsPage>;

    async fn promise(
        &self,
        request: Request<PromiseRequest>,
    ) -> Result<Response<PromiseReply>, Status> {
        self.honest.clone().promise(request.into_inner()).await
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignReply>, Status> {
        let mut reply = self.honest.clone().sign(request.into_inner()).await?;
        let older = self.older.lock();
        let mut older = older.map_err(|_| Status::internal("poisoned"))?;
        for outcome in &mut reply.get_mut().outcomes {
            let is_partial = !matches!(
                outcome.outcome,
                None | Some(Outcome::Outbid(_) | Outcome::Refused(_))
            );
            if is_partial {
                std::mem::swap(&mut outcome.outcome, &mut older);
                self.told.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(reply)
    }

    async fn lead(&self, request: Request<LeadRequest>) -> Result<Response<LeadReply>, Status> {
        self.honest.clone().lead(request.into_inner()).await
    }

    async fn validators(
        &self,
        request: Request<ValidatorsRequest>,
    ) -> Result<Response<Self::ValidatorsStream>, Status> {
        self.honest.clone().validators(request.into_inner()).await
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        self.honest.clone().status(request.into_inner()).await
    }
}
