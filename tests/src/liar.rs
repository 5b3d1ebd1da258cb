//! A cosigner that misbehaves when it is told to, and otherwise is the real one that it stands
//! before: signer-apis reach it at its address and under its name, and it holds its share.

mod answers;
mod connections;
mod frames;
mod lies;
pub mod partials;
mod says;
mod streams;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use cosigner::package::Package;
use daemon::tls::{self, TlsFiles};
use duty::PublicKey;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};
use wire::proto::{SignRequest, cosigner_client::CosignerClient, sign_outcome::Outcome as Sign};

pub use lies::{
    Breach, FalsePartial, FalseReply, FalseReport, FalseScaled, FalseStatus, Frames, Lie, On,
    Outbidding, Trouble,
};

/// A cosigner with a switch. It ends when this is dropped.
pub struct Liar {
    member: Arc<Member>,
    task: JoinHandle<()>,
}

/// What a liar has, and does.
struct Member {
    number: u64,
    certs: PathBuf,
    /// Everybody's shares: liars know each other, and more than they should.
    packages: Arc<Vec<Package>>,
    honest: CosignerClient<Channel>,
    lie: Mutex<Arc<Lie>>,
    /// Changes when connections must end.
    severed: watch::Sender<u64>,
    connections: AtomicU64,
    /// Which connection asked first since the switch.
    first: Mutex<Option<u64>>,
    relisted: AtomicU64,
    /// On which connections it was asked how it is since the switch.
    heard_by: Mutex<BTreeSet<u64>>,
    /// What it gave honestly.
    given: Mutex<HashMap<PublicKey, Sign>>,
    turns: Turns,
    counts: Counts,
}

/// Calls since the switch.
#[derive(Default)]
struct Counts {
    promises: AtomicU64,
    signatures: AtomicU64,
    listings: AtomicU64,
    connections: AtomicU64,
}

impl Liar {
    /// Starts the one that stands at `at` before cosigner `number` (from 1) at `behind`.
    pub async fn start(
        number: u64,
        at: SocketAddr,
        behind: SocketAddr,
        packages: Arc<Vec<Package>>,
        certs: &Path,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let member = Arc::new(Member {
            number,
            certs: certs.to_owned(),
            packages,
            honest: client(number, behind, certs),
            lie: Mutex::new(Arc::new(Lie::Honest)),
            severed: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            first: Mutex::default(),
            relisted: AtomicU64::new(0),
            heard_by: Mutex::default(),
            given: Mutex::default(),
            turns: Turns::default(),
            counts: Counts::default(),
        });
        let task = tokio::spawn(connections::serve(Arc::clone(&member), listener));
        Self { member, task }
    }

    /// Its number, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.member.number
    }

    /// From now on it behaves like this.
    pub fn switch(&self, to: Lie) {
        let member = &self.member;
        let before = std::mem::replace(&mut *member.lie.lock().unwrap(), Arc::new(to));
        let now = member.lie();
        *member.first.lock().unwrap() = None;
        member.heard_by.lock().unwrap().clear();
        for count in member.counts.all() {
            count.store(0, Ordering::Relaxed);
        }
        if before.relists() || now.relists() {
            member.relisted.fetch_add(1, Ordering::Relaxed);
        }
        if before.severs() || now.severs() {
            member.severed.send_modify(|times| *times += 1);
        }
    }

    /// How often it was asked to promise since it was switched.
    #[must_use]
    pub fn promises(&self) -> u64 {
        self.member.counts.promises.load(Ordering::Relaxed)
    }

    /// How often it was asked to sign since it was switched.
    #[must_use]
    pub fn signatures(&self) -> u64 {
        self.member.counts.signatures.load(Ordering::Relaxed)
    }

    /// How often its validators were listed since it was switched.
    #[must_use]
    pub fn listings(&self) -> u64 {
        self.member.counts.listings.load(Ordering::Relaxed)
    }

    /// How many have asked how it is since it was switched: each has a connection of its own.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.member.heard_by.lock().unwrap().len()
    }

    /// How often somebody connected since it was switched.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.member.counts.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counts {
    fn all(&self) -> [&AtomicU64; 4] {
        let Self {
            promises,
            signatures,
            listings,
            connections,
        } = self;
        [promises, signatures, listings, connections]
    }
}

impl Member {
    fn lie(&self) -> Arc<Lie> {
        Arc::clone(&self.lie.lock().unwrap())
    }

    /// How often it was in the way before; `None` each second time that it is asked for `work`, because who only
    /// fails is soon not asked any more.
    fn every_second(&self, work: Work) -> Option<usize> {
        let asked = match work {
            Work::Promise => &self.turns.promises,
            Work::Sign => &self.turns.signatures,
            Work::SignAtOnce => &self.turns.at_once,
        };
        let is_its_turn = asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        is_its_turn.then(|| self.turn())
    }

    /// How often it was in the way before.
    fn turn(&self) -> usize {
        self.turns.taken.fetch_add(1, Ordering::Relaxed)
    }
}

/// What it is asked for: of each, so many failures in a row are too many.
#[derive(Debug, Clone, Copy)]
enum Work {
    Promise,
    Sign,
    /// What takes no promise.
    SignAtOnce,
}

impl Work {
    fn of(request: &SignRequest) -> Self {
        if request.items.iter().all(|item| item.ballot.is_none()) {
            Self::SignAtOnce
        } else {
            Self::Sign
        }
    }
}

/// Who does one of several things in turn.
#[derive(Default)]
struct Turns {
    taken: AtomicUsize,
    promises: AtomicUsize,
    signatures: AtomicUsize,
    at_once: AtomicUsize,
}

fn files(certs: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        certificate: certs.join(format!("{name}.crt")),
        key: certs.join(format!("{name}.key")),
        ca: certs.join("ca.crt"),
    }
}

fn client(number: u64, at: SocketAddr, certs: &Path) -> CosignerClient<Channel> {
    let connector =
        tls::mutual_client(&files(certs, "signer-api-1"), &format!("cosigner-{number}"));
    let endpoint = Endpoint::from_shared(format!("http://{at}")).unwrap();
    CosignerClient::new(endpoint.connect_with_connector_lazy(connector.unwrap()))
}
