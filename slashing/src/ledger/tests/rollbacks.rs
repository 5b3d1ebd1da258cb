//! Ledgers that are older than reality, and an adversary that then asks for all that conflicts.
//!
//! A trial: a cosigner decides, its ledger is kept aside, it decides on, and its ledger is put
//! back as it was. From then on it is asked for everything that conflicts with anything it ever
//! signed, in every slot until well after its quarantine. **No two of its permits, before and after,
//! may be slashable together**, and in the end it must sign again. Claims are held against the clock
//! first, as the cosigner does.

use std::{fs, path::PathBuf};

use duty::{Claim, Epoch, Slot};
use futures_util::future::join_all;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use throwaway::Cluster;
use tokio_postgres::types::PgLsn;

use super::trust::{Hand, SLOTS_PER_EPOCH, quick};
use crate::{
    database::DatabaseConfig,
    ledger::Ledger,
    testing::{Place, attest, connect, decide, propose, wait_until},
};

const VALIDATORS: u8 = 3;
const START_EPOCH: u64 = 1000;

/// What becomes of the ledger, and of what is beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// The database is put back, the anchor is as it was left.
    DatabaseOnly,
    /// The database is put back on a machine without the anchor.
    WithoutAnchor,
    /// Database and anchor are put back together, from copies of the files.
    WithAnchor,
    /// The database is put back under the running process.
    UnderTheProcess,
}

/// One message that was permitted.
type Signed = (u8, Claim, u8);

/// A server and its asynchronous standby, which may have less when it is promoted.
struct Pair {
    primary: Cluster,
    standby: Cluster,
}

impl Pair {
    async fn start() -> Self {
        let primary = Cluster::start().await;
        let standby = primary.standby("standby").await;
        Self { primary, standby }
    }

    /// A URL that names both servers.
    async fn database(&self, name: &str) -> String {
        let client = connect(&self.primary.url("postgres")).await;
        let create = format!("CREATE DATABASE {name}");
        client.batch_execute(&create).await.unwrap();
        let url = self.primary.url(name);
        let other = self.standby.url("");
        let host = other.trim_end_matches('/').rsplit_once('@').unwrap().1;
        let (server, name) = url.rsplit_once('/').unwrap();
        format!("{server},{host}/{name}")
    }

    /// The standby has all that there is, and from now on gets no more.
    async fn cut(&mut self) {
        let primary = connect(&self.primary.url("postgres")).await;
        let standby = connect(&self.standby.url("postgres")).await;
        let row = primary.query_one("SELECT pg_current_wal_lsn()", &[]).await;
        let lsn: PgLsn = row.unwrap().get(0);
        wait_until("the standby has everything", async || {
            let replayed = "SELECT pg_last_wal_replay_lsn() >= $1";
            standby.query_one(replayed, &[&lsn]).await.unwrap().get(0)
        })
        .await;
        self.standby.stop().await;
    }

    /// The primary dies, and the standby takes its place.
    async fn fail_over(&mut self) {
        self.primary.crash().await;
        self.standby.restart().await;
        self.standby.promote().await;
        std::mem::swap(&mut self.primary, &mut self.standby);
    }

    /// The old primary follows the new one, for the next trial.
    async fn repair(&mut self) {
        self.standby.follow(&self.primary, "standby").await;
    }
}

struct Trial<'p> {
    place: Place,
    /// The servers, where the ledger is put back by a failover.
    pair: Option<&'p mut Pair>,
    hand: Hand,
    rng: TestRng,
    signed: Vec<Signed>,
}

/// EIP-3076 and the consensus specification: double vote, surround vote, double proposal.
fn is_slashable(one: &Signed, other: &Signed) -> bool {
    if one.0 != other.0 || (one.1, one.2) == (other.1, other.2) {
        return false;
    }
    match (one.1, other.1) {
        (
            Claim::Attest {
                source: s1,
                target: t1,
            },
            Claim::Attest {
                source: s2,
                target: t2,
            },
        ) => t1 == t2 || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2),
        (Claim::Propose { slot: one }, Claim::Propose { slot: other }) => one == other,
        (Claim::Attest { .. }, Claim::Propose { .. })
        | (Claim::Propose { .. }, Claim::Attest { .. }) => false,
    }
}

impl Trial<'_> {
    fn roll(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    /// Whether the cosigner's clock lets a claim through to the ledger.
    fn is_within_clock(&self, claim: &Claim) -> bool {
        let now = self.hand.now();
        match *claim {
            Claim::Attest { source, target } => {
                source < now.epoch && target.0 <= now.epoch.0 + 1 && source <= target
            }
            Claim::Propose { slot } => slot.0 <= now.slot.0 + 1,
        }
    }

    async fn ask(&mut self, ledger: &Ledger, number: u8, claim: Claim, root: u8) -> bool {
        if !self.is_within_clock(&claim) {
            return false;
        }
        let permitted = decide(ledger, number, claim, root).await.is_ok();
        let message = (number, claim, root);
        if permitted && !self.signed.contains(&message) {
            self.signed.push(message);
        }
        permitted
    }

    /// An honest slot or several: time passes, some validators attest and propose.
    async fn live(&mut self, ledger: &Ledger, steps: u64) {
        for _ in 0..steps {
            let slot = self.hand.now().slot.0 + 1 + self.roll(20);
            self.hand.set_slot(slot);
            let epoch = slot / SLOTS_PER_EPOCH;
            let number = 1 + u8::try_from(self.roll(VALIDATORS.into())).unwrap();
            let source = epoch - 1 - self.roll(2);
            let target = epoch + self.roll(2);
            self.ask(ledger, number, attest(source, target), 1).await;
            if self.roll(3) == 0 {
                let ahead = self.roll(2);
                self.ask(ledger, number, propose(slot + ahead), 1).await;
            }
        }
    }

    /// Everything around everything that was ever signed, with another root.
    async fn attack(&mut self, ledger: &Ledger) {
        for (number, claim, _) in self.signed.clone() {
            let conflicting: Vec<Claim> = match claim {
                Claim::Attest {
                    source: Epoch(s),
                    target: Epoch(t),
                } => vec![
                    attest(s, t),
                    attest(s + 1, t),
                    attest(s.saturating_sub(1), t + 1),
                    attest(s + 1, t.saturating_sub(1).max(s + 1)),
                    attest(s, t + 1),
                    attest(s.saturating_sub(2), t + 2),
                ],
                Claim::Propose { slot: Slot(slot) } => vec![propose(slot), propose(slot + 1)],
            };
            for claim in conflicting {
                self.ask(ledger, number, claim, 2).await;
            }
        }
    }

    fn check(&self, what: &str) {
        for (position, one) in self.signed.iter().enumerate() {
            for other in &self.signed[..position] {
                assert!(!is_slashable(one, other), "{what}: {one:?} and {other:?}");
            }
        }
    }

    async fn open(&self) -> Ledger {
        let database = self.place.open().await;
        Ledger::open(database, self.hand.opening(&self.place))
            .await
            .unwrap()
    }

    fn anchor(&self) -> PathBuf {
        self.place.directory.path().join("anchor")
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.place.directory.path().join(name)
    }

    /// Keeps ledger and anchor aside, as they are now.
    async fn keep_aside(&mut self) {
        fs::copy(self.anchor(), self.aside("old-anchor")).unwrap();
        if let Some(pair) = &mut self.pair {
            return pair.cut().await;
        }
        match &self.place.config {
            DatabaseConfig::Sqlite(_) => {
                let sql = format!("VACUUM INTO '{}'", self.aside("old").display());
                self.place.execute(&sql).await.unwrap();
            }
            DatabaseConfig::Postgres(config) => {
                // The server copies a database only while nobody is connected to it.
                let (server, name) = config.url.rsplit_once('/').unwrap();
                let client = connect(&format!("{server}/postgres")).await;
                disconnect_all(&client, name).await;
                let copy = format!("CREATE DATABASE {name}_old TEMPLATE {name}");
                while client.batch_execute(&copy).await.is_err() {
                    disconnect_all(&client, name).await;
                }
            }
        }
    }

    /// SQLite looks after its log until the last connection has closed: not from under the next
    /// file.
    async fn until_closed(&self) {
        let DatabaseConfig::Sqlite(config) = &self.place.config else {
            return;
        };
        wait_until("the file is closed", async || {
            let open = fs::read_dir("/proc/self/fd").unwrap();
            let mut files = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            !files.any(|file| file.starts_with(&config.path))
        })
        .await;
    }

    async fn put_back(&mut self) {
        if let Some(pair) = &mut self.pair {
            return pair.fail_over().await;
        }
        match &self.place.config {
            DatabaseConfig::Sqlite(config) => {
                for suffix in ["-wal", "-shm"] {
                    let mut path = config.path.clone().into_os_string();
                    path.push(suffix);
                    let _none = fs::remove_file(path);
                }
                fs::rename(self.aside("old"), &config.path).unwrap();
            }
            DatabaseConfig::Postgres(config) => {
                let (server, name) = config.url.rsplit_once('/').unwrap();
                let client = connect(&format!("{server}/postgres")).await;
                let rename = format!("ALTER DATABASE {name} RENAME TO {name}_gone");
                while client.batch_execute(&rename).await.is_err() {
                    disconnect_all(&client, name).await;
                }
                let rename = format!("ALTER DATABASE {name}_old RENAME TO {name}");
                client.batch_execute(&rename).await.unwrap();
            }
        }
    }

    async fn run(mut self, mishap: Mishap, what: &str) {
        let before = 1 + self.roll(6);
        let between = self.roll(6);
        let mut ledger = self.open().await;
        self.live(&ledger, before).await;
        // An orderly end in between now and then: whoever holds the ledger changes.
        if self.roll(2) == 0 {
            ledger.close().await;
            drop(ledger);
            ledger = self.open().await;
        }
        self.keep_aside().await;
        let kept = self.signed.len();
        self.live(&ledger, between).await;
        let lost = self.signed.len() > kept;
        if mishap == Mishap::UnderTheProcess {
            self.put_back().await;
        } else {
            ledger.close().await;
            drop(ledger);
            self.until_closed().await;
            self.put_back().await;
            match mishap {
                Mishap::DatabaseOnly | Mishap::UnderTheProcess => {}
                Mishap::WithoutAnchor => fs::remove_file(self.anchor()).unwrap(),
                Mishap::WithAnchor => {
                    fs::rename(self.aside("old-anchor"), self.anchor()).unwrap();
                }
            }
            ledger = self.open().await;
            assert!(
                ledger.state().quarantine.is_some() || !lost,
                "{what}: what was lost is not noticed"
            );
        }
        for _ in 0..6 {
            self.attack(&ledger).await;
            let slot = self.hand.now().slot.0 + 1 + self.roll(SLOTS_PER_EPOCH);
            self.hand.set_slot(slot);
        }
        self.check(what);
        let now = self.hand.now();
        self.hand.set_slot((now.epoch.0 + 3) * SLOTS_PER_EPOCH);
        let epoch = self.hand.now().epoch.0;
        for number in 1..=VALIDATORS {
            let signs = self.ask(&ledger, number, attest(epoch - 1, epoch), 1).await;
            let slot = self.hand.now().slot.0;
            let proposes = self.ask(&ledger, number, propose(slot), 1).await;
            assert!(signs && proposes, "{what}: it does not come back");
        }
        self.check(what);
    }
}

async fn disconnect_all(client: &tokio_postgres::Client, name: &str) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    client.query(sql, &[&name]).await.unwrap();
}

async fn trial(place: Place, pair: Option<&mut Pair>, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mishap = [
        Mishap::DatabaseOnly,
        Mishap::WithoutAnchor,
        Mishap::WithAnchor,
        Mishap::UnderTheProcess,
    ][usize::try_from(rng.next_u64() % 4).unwrap()];
    drop(place.registered(quick()).await);
    let what = format!("seed {seed}, {mishap:?}, {:?}", place.config);
    let trial = Trial {
        hand: Hand::at_epoch(START_EPOCH),
        place,
        pair,
        rng,
        signed: Vec::new(),
    };
    trial.run(mishap, &what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_older_than_reality_never_yields_a_conflicting_permit() {
    for chunk in (0..120).collect::<Vec<u64>>().chunks(6) {
        join_all(chunk.iter().map(|seed| trial(Place::sqlite(), None, *seed))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_older_than_reality_never_yields_a_conflicting_permit() {
    for chunk in (1000..1060).collect::<Vec<u64>>().chunks(4) {
        join_all(chunk.iter().map(async |seed| {
            trial(Place::postgres(throwaway::database().await), None, *seed).await;
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_that_lacks_commits_never_yields_a_conflicting_permit() {
    let mut pair = Pair::start().await;
    for seed in 2000..2020 {
        let place = Place::postgres(pair.database(&format!("trial_{seed}")).await);
        trial(place, Some(&mut pair), seed).await;
        pair.repair().await;
    }
}
