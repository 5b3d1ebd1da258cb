//! Peers for tests: real tonic servers over real mutual TLS whose behaviour can be changed while
//! they run. Their shares are real, their ledger is a map.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use daemon::{
    metrics::Registry,
    serve::{Listener, ListenerLimits},
    tls::{self, TlsFiles},
};
use duty::{Claim, Duty, Permit, PublicKey, SigningOrder, SigningRoot};
use futures_util::Stream;
use keyshare::{SecretKey, SecretShare, split};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use threshold::{Ballot, Committee, ShareIndex};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, transport::Server};
use wire::proto::{self, cosigner_server, cosigner_server::CosignerServer};

use crate::{
    config::{Config, Cosigner},
    metrics::Metrics,
};

/// More than any reply has.
const OVERLONG_BYTES: usize = 5 * 1024 * 1024;

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Never answers.
    Hung,
    /// Answers after this.
    Slow(Duration),
    /// Gives partials after this, and everything else at once.
    SlowToSign(Duration),
    /// Says how it is, and fails at everything else.
    Failing,
    /// Does not say how it is, and is good at everything else.
    HungStatus,
    /// Gives partials over another root.
    Lying,
    /// Gives partials that are too short.
    Short,
    /// Answers with one outcome too few.
    Miscounting,
    /// Answers with more than is read.
    Overlong,
    /// Says that it is asked for more than it reads.
    Overwhelmed,
    /// Holds a higher ballot than there can be.
    Overbidding,
    Refusing(proto::refusal::Reason),
    /// Reports other commitments than there are.
    Misreporting,
    /// Reports the share index of the first peer as its own.
    Impersonating,
    /// Says another generation in its listings than in its status.
    Contradicting,
    /// Lists without an end, and nothing.
    Endless,
}

impl Manner {
    fn fail(self) -> Result<(), Status> {
        let words = "the test says so";
        if self == Self::Failing {
            Err(Status::internal(words))
        } else if self == Self::Overwhelmed {
            Err(Status::out_of_range(words))
        } else {
            Ok(())
        }
    }
}

/// One contest: a validator and what it can sign once.
type Contest = (PublicKey, bool, u64);

/// What a peer holds and has seen.
pub(crate) struct Peer {
    pub(crate) manner: Mutex<Manner>,
    pub(crate) generation: Mutex<u64>,
    pub(crate) ready: Mutex<bool>,
    pub(crate) ledger: Mutex<Option<proto::LedgerState>>,
    index: ShareIndex,
    shares: Mutex<BTreeMap<PublicKey, (Committee, SecretShare)>>,
    promised: Mutex<HashMap<Contest, Ballot>>,
    pub(crate) signed: Mutex<HashMap<Contest, SigningRoot>>,
    pub(crate) calls: AtomicUsize,
    pub(crate) signatures: AtomicUsize,
}

/// A committee of peers, and their certificates.
pub(crate) struct Peers {
    pub(crate) peers: Vec<Arc<Peer>>,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) config: Config,
    /// A runtime each, so that a server can be ended with its connections.
    servers: Vec<Option<Runtime>>,
    _files: TempDir,
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap()
}

fn issue(issuer: &CertifiedIssuer<'static, KeyPair>, directory: &Path, name: &str) -> TlsFiles {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let file = |ending: &str| directory.join(format!("{name}.{ending}"));
    std::fs::write(file("crt"), certificate.pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
    TlsFiles {
        certificate: file("crt"),
        key: file("key"),
        ca: directory.join("ca.crt"),
    }
}

impl Peers {
    /// `n` running peers that share `validators` keys among them, `t` of them signing.
    pub(crate) async fn start(t: usize, n: usize, validators: usize) -> Self {
        daemon::install_crypto_provider();
        let files = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(files.path().join("ca.crt"), issuer.pem()).unwrap();
        let indices: BTreeSet<ShareIndex> = (1..=number(n))
            .map(|index| ShareIndex::new(index * 3).unwrap())
            .collect();
        let peers = indices
            .iter()
            .map(|index| Arc::new(Peer::new(*index)))
            .collect::<Vec<_>>();
        let mut keys = Vec::new();
        for _ in 0..validators {
            keys.push(deal(t, &indices, &peers));
        }
        let (mut servers, mut cosigners) = (Vec::new(), Vec::new());
        for (position, peer) in peers.iter().enumerate() {
            let san = format!("cosigner-{}", position + 1);
            let tls = issue(&issuer, files.path(), &san);
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let (address, server) = serve(Arc::clone(peer), &tls, listen).await;
            servers.push(Some(server));
            cosigners.push(Cosigner {
                address: address.to_string(),
                san,
            });
        }
        let tls = issue(&issuer, files.path(), "signer-api-1");
        let sample = include_str!("../../deploy/signer-api.toml");
        let sample: Config = daemon::config::parse("sample", sample, "NONE_", []).unwrap();
        let config = Config {
            threshold_min: t,
            tls,
            cosigners,
            ..sample
        };
        Self {
            peers,
            keys,
            config,
            servers,
            _files: files,
        }
    }

    /// Deals one more key, which the peers report from now on.
    pub(crate) fn deal_one_more(&mut self, t: usize) -> PublicKey {
        let indices = self.peers.iter().map(|peer| peer.index).collect();
        let key = deal(t, &indices, &self.peers);
        for peer in &self.peers {
            *peer.generation.lock() += 1;
        }
        self.keys.push(key);
        key
    }

    pub(crate) fn behave(&self, position: usize, manner: Manner) {
        *self.peers[position].manner.lock() = manner;
    }

    /// Ends a peer's server: connections break, new ones are refused.
    pub(crate) fn kill(&mut self, position: usize) {
        if let Some(server) = self.servers[position].take() {
            server.shutdown_background();
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for position in 0..self.servers.len() {
            self.kill(position);
        }
    }
}

pub(crate) fn metrics() -> (Arc<Metrics>, Registry) {
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::new(&mut registry));
    (metrics, registry)
}

/// What `registry` would show.
pub(crate) fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

/// Waits until `condition` holds; fails after ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn deal(t: usize, indices: &BTreeSet<ShareIndex>, peers: &[Arc<Peer>]) -> PublicKey {
    let secret = SecretKey::from_entropy(&rand::random());
    let mut entropy = |bytes: &mut [u8]| bytes.fill_with(rand::random);
    let dealt = split(secret, t, indices, &mut entropy).unwrap();
    let key = dealt.committee.group_key();
    for (index, share) in dealt.shares {
        let peer = peers.iter().find(|peer| peer.index == index).unwrap();
        peer.shares
            .lock()
            .insert(key, (dealt.committee.clone(), share));
    }
    key
}

async fn serve(peer: Arc<Peer>, tls: &TlsFiles, listen: SocketAddr) -> (SocketAddr, Runtime) {
    let allowed = ["signer-api-1".to_owned()].into();
    let config = tls::mutual_server(tls, &allowed).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (bound, address) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let limits = ListenerLimits::default();
        let listener = Listener::bind(listen, Some(config), limits).await.unwrap();
        bound.send(listener.address()).unwrap();
        let server = Server::builder().add_service(CosignerServer::from_arc(peer));
        server
            .serve_with_incoming(listener.into_stream())
            .await
            .unwrap();
    });
    (address.await.unwrap(), runtime)
}

impl Peer {
    fn new(index: ShareIndex) -> Self {
        Self {
            manner: Mutex::new(Manner::Honest),
            generation: Mutex::new(1),
            ready: Mutex::new(true),
            ledger: Mutex::new(Some(proto::LedgerState::default())),
            index,
            shares: Mutex::default(),
            promised: Mutex::default(),
            signed: Mutex::default(),
            calls: AtomicUsize::new(0),
            signatures: AtomicUsize::new(0),
        }
    }

    async fn tarry(&self) -> Manner {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let manner = *self.manner.lock();
        match manner {
            Manner::Hung => std::future::pending().await,
            Manner::Slow(pause) => tokio::time::sleep(pause).await,
            Manner::Honest
            | Manner::SlowToSign(_)
            | Manner::Failing
            | Manner::HungStatus
            | Manner::Lying
            | Manner::Short
            | Manner::Miscounting
            | Manner::Overlong
            | Manner::Overwhelmed
            | Manner::Overbidding
            | Manner::Refusing(_)
            | Manner::Misreporting
            | Manner::Impersonating
            | Manner::Contradicting
            | Manner::Endless => {}
        }
        manner
    }

    fn promise_one(&self, item: proto::PromiseItem) -> proto::promise_outcome::Outcome {
        use proto::promise_outcome::Outcome;
        let order = wire::order_from_proto(item.order.unwrap()).unwrap();
        let ballot = wire::ballot_from_proto(item.ballot).unwrap();
        let contest = contest(&order).unwrap();
        let mut promised = self.promised.lock();
        let held = promised.entry(contest).or_insert(ballot);
        if *held > ballot {
            return Outcome::Outbid(wire::ballot_to_proto(held));
        }
        *held = ballot;
        let signed = self.signed.lock().get(&contest).map(|root| root.0.to_vec());
        Outcome::Promised(proto::Promised {
            signed: signed.unwrap_or_default(),
        })
    }

    fn sign_one(&self, item: proto::SignItem, manner: Manner) -> proto::sign_outcome::Outcome {
        use proto::sign_outcome::Outcome;
        let order = wire::order_from_proto(item.order.unwrap()).unwrap();
        let root = order.signing_root();
        if let Some(contest) = contest(&order) {
            let ballot = wire::ballot_from_proto(item.ballot).unwrap();
            match self.promised.lock().get(&contest) {
                Some(held) if *held > ballot => {
                    return Outcome::Outbid(wire::ballot_to_proto(held));
                }
                Some(held) if *held == ballot => {}
                Some(_) | None => {
                    return Outcome::Refused(refusal(proto::refusal::Reason::TooLate));
                }
            }
            if *self.signed.lock().entry(contest).or_insert(root) != root {
                return Outcome::Refused(refusal(proto::refusal::Reason::Slashable));
            }
        }
        let shares = self.shares.lock();
        let Some((_, share)) = shares.get(&order.validator) else {
            return Outcome::Refused(refusal(proto::refusal::Reason::NotFound));
        };
        self.signatures.fetch_add(1, Ordering::Relaxed);
        if manner == Manner::Short {
            return Outcome::Partial(vec![1; 95]);
        }
        let signed = if manner == Manner::Lying {
            let other = SigningOrder {
                duty: Duty::RandaoReveal(duty::Epoch(77)),
                ..order
            };
            other.permit_without_claim().unwrap()
        } else {
            permit(&order)
        };
        wire::partial_to_proto(&share.sign(signed))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this peer's ledger is the map that said yes"
)]
fn permit(order: &SigningOrder) -> Permit {
    Permit::after_commit(order.validator, order.signing_root())
}

fn contest(order: &SigningOrder) -> Option<Contest> {
    Some(match order.claim()? {
        Claim::Attest { target, .. } => (order.validator, false, target.0),
        Claim::Propose { slot } => (order.validator, true, slot.0),
    })
}

fn refusal(reason: proto::refusal::Reason) -> proto::Refusal {
    proto::Refusal {
        reason: reason.into(),
        message: "the test says no".to_owned(),
    }
}

type Pages = Pin<Box<dyn Stream<Item = Result<proto::ValidatorsPage, Status>> + Send>>;

#[tonic::async_trait]
impl cosigner_server::Cosigner for Peer {
    async fn promise(
        &self,
        request: Request<proto::PromiseRequest>,
    ) -> Result<Response<proto::PromiseReply>, Status> {
        use proto::promise_outcome::Outcome;
        let manner = self.tarry().await;
        manner.fail()?;
        let outcomes = request.into_inner().items.into_iter().map(|item| {
            let far = proto::Ballot {
                round: u64::MAX,
                root: vec![0xff; 32],
            };
            let outcome = if let Manner::Refusing(reason) = manner {
                Outcome::Refused(refusal(reason))
            } else if manner == Manner::Overbidding {
                Outcome::Outbid(far)
            } else if manner == Manner::Overlong {
                let signed = vec![7; OVERLONG_BYTES];
                Outcome::Promised(proto::Promised { signed })
            } else {
                self.promise_one(item)
            };
            proto::PromiseOutcome {
                outcome: Some(outcome),
            }
        });
        let skipped = usize::from(manner == Manner::Miscounting);
        Ok(Response::new(proto::PromiseReply {
            outcomes: outcomes.skip(skipped).collect(),
        }))
    }

    async fn sign(
        &self,
        request: Request<proto::SignRequest>,
    ) -> Result<Response<proto::SignReply>, Status> {
        use proto::sign_outcome::Outcome;
        let manner = self.tarry().await;
        manner.fail()?;
        if let Manner::SlowToSign(pause) = manner {
            tokio::time::sleep(pause).await;
        }
        let outcomes = request.into_inner().items.into_iter().map(|item| {
            let outcome = if let Manner::Refusing(reason) = manner {
                Outcome::Refused(refusal(reason))
            } else if manner == Manner::Overlong {
                Outcome::Partial(vec![7; OVERLONG_BYTES])
            } else {
                self.sign_one(item, manner)
            };
            proto::SignOutcome {
                outcome: Some(outcome),
            }
        });
        let skipped = usize::from(manner == Manner::Miscounting);
        Ok(Response::new(proto::SignReply {
            outcomes: outcomes.skip(skipped).collect(),
        }))
    }

    /// Nobody leads it.
    async fn lead(
        &self,
        _request: Request<proto::LeadRequest>,
    ) -> Result<Response<proto::LeadReply>, Status> {
        Ok(Response::new(proto::LeadReply::default()))
    }

    type ValidatorsStream = Pages;

    async fn validators(
        &self,
        _request: Request<proto::ValidatorsRequest>,
    ) -> Result<Response<Pages>, Status> {
        let manner = self.tarry().await;
        let told = *self.generation.lock();
        let generation = told.wrapping_add(u64::from(manner == Manner::Contradicting));
        if manner == Manner::Endless {
            let page = move || {
                Ok(proto::ValidatorsPage {
                    generation,
                    validators: Vec::new(),
                })
            };
            let pages = futures_util::stream::repeat_with(page);
            return Ok(Response::new(Box::pin(pages)));
        }
        let index = if manner == Manner::Impersonating {
            3
        } else {
            self.index.value()
        };
        let shares = self.shares.lock();
        let reports = shares.iter().map(|(key, (committee, _))| {
            let mut commitments: Vec<Vec<u8>> = committee
                .commitments()
                .as_slice()
                .iter()
                .map(|point| point.to_vec())
                .collect();
            if manner == Manner::Misreporting {
                commitments.reverse();
            }
            proto::Validator {
                pubkey: key.0.to_vec(),
                index,
                members: committee
                    .members()
                    .iter()
                    .map(|index| index.value())
                    .collect(),
                commitments,
            }
        });
        let reports: Vec<proto::Validator> = reports.collect();
        let pages = reports.chunks(wire::PAGE_MAX).map(|page| {
            Ok(proto::ValidatorsPage {
                generation,
                validators: page.to_vec(),
            })
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(
            pages.collect::<Vec<_>>(),
        ))))
    }

    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        if self.tarry().await == Manner::HungStatus {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(proto::StatusReply {
            ready: *self.ready.lock(),
            message: "the test says so".to_owned(),
            generation: *self.generation.lock(),
            validators: number(self.shares.lock().len()),
            ledger: *self.ledger.lock(),
            process: 1,
        }))
    }
}
