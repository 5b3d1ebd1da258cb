//! What one slow cosigner of 3-of-4 costs, and how soon a dead one is noticed: real processes, a
//! proxy in front of each cosigner.
//!
//!     cargo build -p countersign -p cosigner -p signer-api
//!     cargo run -p tests --example slow_cosigner

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, Prepared, test_keys},
    proxy::{Fault, Proxy},
    requests::{attestation, randao},
};
use tokio::time::{Instant, sleep};

/// Requests of one measurement.
const REQUESTS: usize = 400;
/// How much longer the slow cosigner takes.
const SLOW: Duration = Duration::from_millis(500);

/// A request for each epoch.
type Kind = fn(u64) -> Value;

const RANDAO: Kind = randao;
const ATTESTATION: Kind = |epoch| attestation(epoch, epoch + 1, 1);

#[tokio::main]
async fn main() {
    let mut prepared = Prepared::new(Options::new(test_keys(1))).await;
    let targets = (1..=4).map(|number| Proxy::start(prepared.address(number)));
    let proxies = join_all(targets.collect::<Vec<_>>()).await;
    prepared.detour(0, proxies.iter().map(Proxy::port).collect());
    let mut cluster = prepared.start().await;
    let mut epoch = 10;
    for (kind, request) in [("randao", RANDAO), ("attestation", ATTESTATION)] {
        for (what, fault) in [
            ("all well", Fault::Pass),
            ("one takes 500 ms longer", Fault::Delay(SLOW)),
            ("one is dead", Fault::Drop),
        ] {
            proxies[3].set(fault);
            let mut took = Vec::new();
            for _ in 0..REQUESTS {
                epoch += 1;
                took.push(answered(&cluster, &request(epoch)).await);
            }
            took.sort_unstable();
            let at = |thousandth: usize| took[REQUESTS * thousandth / 1_000].as_secs_f64() * 1e3;
            println!(
                "{kind}, {what}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                at(500),
                at(990),
                at(999)
            );
            proxies[3].heal();
            cluster.health_says(4, "UP").await;
        }
    }
    for round in 0..10 {
        proxies[3].set(Fault::Drop);
        let black_hole = noticed(&cluster).await;
        proxies[3].heal();
        cluster.health_says(4, "UP").await;
        cluster.cosigner(4).freeze();
        let frozen = noticed(&cluster).await;
        cluster.cosigner(4).thaw();
        let back = Instant::now();
        cluster.health_says(4, "UP").await;
        let back = back.elapsed();
        println!(
            "{round}: a black hole is noticed after {black_hole:?}, SIGSTOP after {frozen:?}, \
             SIGCONT after {back:?}"
        );
    }
}

async fn answered(cluster: &Cluster, request: &Value) -> Duration {
    let began = Instant::now();
    let answer = cluster.sign(0, &cluster.validators()[0], request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    began.elapsed()
}

/// How long it takes until the health check says that cosigner 4 is DOWN.
async fn noticed(cluster: &Cluster) -> Duration {
    let began = Instant::now();
    loop {
        let health = cluster.get(0, "/healthcheck").await.json();
        let down =
            health["checks"].as_array().unwrap().iter().any(|check| {
                check["id"] == "cosigner-check:cosigner-4" && check["status"] == "DOWN"
            });
        if down {
            return began.elapsed();
        }
        sleep(Duration::from_millis(20)).await;
    }
}
