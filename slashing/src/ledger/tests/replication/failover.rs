//! Promotions under load, both ways, with old primaries that come back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use duty::Claim;
use parking_lot::Mutex;
use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use throwaway::Cluster;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::PAUSE;
use crate::{
    ledger::{Denial, Ledger},
    testing::{Place, attest, connect, decide, propose, wait_until, waiting},
};

const PROMOTIONS: usize = 20;
/// How long after a promotion permits must flow again.
const BACK_WAIT: Duration = Duration::from_secs(5);
const LEDGER_WAIT_MS: u64 = 1_000;
const VALIDATORS: u8 = 9;
/// So many permits are a few transactions, and none of them was under way before.
const SOME_PERMITS: usize = 30;
/// Each node waits for the other, whichever it is.
const EITHER: (&str, &str) = ("synchronous_standby_names", "ANY 1 (left, right)");
const NOBODY: (&str, &str) = ("synchronous_standby_names", "");

/// What becomes of the old primary.
#[derive(Debug, Clone, Copy)]
enum Old {
    /// It crashes, and comes back as a primary that still waits for its standby.
    Crashes,
    /// It crashes, and comes back as a primary that waits for nobody.
    ComesBackCareless,
    /// It stands still, and goes on when another has taken its place.
    Freezes,
    /// Nobody tells it that another has taken its place.
    Lives,
    /// It is stopped, and is a standby from its next start.
    Stops,
}

const OLD: [Old; 5] = [
    Old::Crashes,
    Old::ComesBackCareless,
    Old::Freezes,
    Old::Lives,
    Old::Stops,
];

type Permitted = (u8, Claim, u8);

/// What was permitted, by whichever server.
#[derive(Clone, Default)]
struct Permits(Arc<Mutex<Vec<Permitted>>>);

impl Permits {
    fn count(&self) -> usize {
        self.0.lock().len()
    }

    async fn flow(&self) {
        let enough = self.count() + SOME_PERMITS;
        wait_until("permits flow", async || self.count() >= enough).await;
    }
}

/// Asks for one height after the other; changes its mind about the root whenever it got no
/// answer; and asks for another root of what it got, and of what it was refused.
async fn load(ledger: Ledger, number: u8, permits: Permits) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for height in 1.. {
        // The servers that come and go need the machine, too.
        sleep(PAUSE).await;
        let claim = match height % 4 {
            0 => propose(height),
            _ => attest(height - 1, height),
        };
        loop {
            let root = if rng.next_u32().is_multiple_of(2) {
                1
            } else {
                2
            };
            match decide(&ledger, number, claim, root).await {
                Ok(()) => permits.0.lock().push((number, claim, root)),
                Err(Denial::Refused(_)) => {}
                Err(Denial::Unavailable(_)) => {
                    sleep(PAUSE).await;
                    continue;
                }
            }
            if decide(&ledger, number, claim, 3 - root).await.is_ok() {
                permits.0.lock().push((number, claim, 3 - root));
            }
            break;
        }
    }
}

/// One permit per validator and height, and what was permitted is in the ledger.
async fn check(permits: &Permits, url: &str) {
    let client = connect(url).await;
    let kept = "SELECT validator, target_epoch, signing_root, true FROM attestations
        UNION ALL SELECT validator, slot, signing_root, false FROM blocks";
    let rows = client.query(kept, &[]).await.unwrap();
    let kept: BTreeMap<(u8, i64, bool), u8> = rows
        .iter()
        .map(|row| {
            let first = |column| row.get::<_, &[u8]>(column)[0];
            ((first(0), row.get(1), row.get(3)), first(2))
        })
        .collect();
    for (number, claim, root) in permits.0.lock().iter() {
        let (height, is_vote) = match claim {
            Claim::Attest { target, .. } => (target.0, true),
            Claim::Propose { slot } => (slot.0, false),
        };
        let key = (*number, i64::try_from(height).unwrap(), is_vote);
        assert_eq!(kept.get(&key), Some(root), "{number} {claim:?}");
    }
}

struct Nodes {
    clusters: [Cluster; 2],
    names: [&'static str; 2],
    database: String,
}

impl Nodes {
    async fn client(&self, at: usize) -> tokio_postgres::Client {
        connect(&self.clusters[at].url(&self.database)).await
    }

    /// Returns when `primary` waits for the other, and the other has all there is.
    async fn wait_until_synchronous(&mut self, primary: usize) {
        self.clusters[primary].set(&[EITHER]).await;
        let client = self.client(primary).await;
        let sql = "SELECT FROM pg_stat_replication WHERE sync_state = 'quorum'
            AND pg_current_wal_lsn() - flush_lsn < 65536";
        wait_until("the standby is waited for", async || {
            !client.query(sql, &[]).await.unwrap().is_empty()
        })
        .await;
    }

    /// Promotes the other one, and returns how long no permits flowed after that.
    async fn promote(&mut self, primary: usize, old: Old, permits: &Permits) -> Duration {
        let next = 1 - primary;
        match old {
            Old::Crashes | Old::ComesBackCareless => self.clusters[primary].crash().await,
            Old::Freezes => self.clusters[primary].freeze(),
            Old::Lives => {}
            Old::Stops => self.clusters[primary].stop().await,
        }
        // There is nobody left to wait for.
        self.clusters[next].set(&[NOBODY]).await;
        self.clusters[next].promote().await;
        let promoted = Instant::now();
        permits.flow().await;
        promoted.elapsed()
    }

    /// Has the old primary come back, as if it still were one, and then follow the new one.
    async fn come_back(&mut self, primary: usize, old: Old, permits: &Permits) {
        let next = 1 - primary;
        let [left, right] = &mut self.clusters;
        let (zombie, new) = match primary {
            0 => (left, right),
            _ => (right, left),
        };
        match old {
            Old::Crashes => zombie.restart().await,
            Old::ComesBackCareless => {
                zombie.set(&[NOBODY]).await;
                zombie.restart().await;
            }
            Old::Freezes => zombie.thaw(),
            Old::Lives => {}
            Old::Stops => return zombie.stream_from(new, self.names[primary]).await,
        }
        // The ledger has to choose once more, now that both answer.
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'countersign'";
        for at in [next, primary] {
            let client = self.client(at).await;
            client.query(sql, &[]).await.unwrap();
            permits.flow().await;
        }
        let [left, right] = &mut self.clusters;
        let (zombie, new) = match primary {
            0 => (left, right),
            _ => (right, left),
        };
        zombie.follow(new, self.names[primary]).await;
    }
}

#[tokio::test]
async fn twenty_promotions_under_load_permit_nothing_twice_and_lose_nothing() {
    let left = Cluster::start().await;
    let url = left.database().await;
    let right = left.standby("right").await;
    let (_, database) = url.rsplit_once('/').unwrap();
    let mut nodes = Nodes {
        names: ["left", "right"],
        database: database.to_owned(),
        clusters: [left, right],
    };
    let [left, right] = [&nodes.clusters[0], &nodes.clusters[1]].map(Cluster::port);
    let both = format!("postgres://postgres@127.0.0.1:{left},127.0.0.1:{right}/{database}");
    let place = Place::postgres(both);
    let ledger = place.registered(waiting(LEDGER_WAIT_MS)).await;

    let permits = Permits::default();
    let mut loads = JoinSet::new();
    for number in 1..=VALIDATORS {
        loads.spawn(load(ledger.clone(), number, permits.clone()));
    }
    let mut longest = Duration::ZERO;
    for round in 0..PROMOTIONS {
        let (primary, old) = (round % 2, OLD[round % OLD.len()]);
        nodes.wait_until_synchronous(primary).await;
        permits.flow().await;
        let back = nodes.promote(primary, old, &permits).await;
        println!("promotion {round} ({old:?}): permits after {back:?}");
        longest = longest.max(back);
        nodes.come_back(primary, old, &permits).await;
    }
    println!("{} permits", permits.count());
    loads.shutdown().await;
    check(&permits, &nodes.clusters[PROMOTIONS % 2].url(database)).await;
    assert!(longest < BACK_WAIT, "{longest:?}");
}
