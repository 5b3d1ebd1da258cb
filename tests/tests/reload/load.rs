//! Callers that must not notice anything, and what processes say of what they read.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign::certs::CertifiedPem;
use tests::{
    cluster::{Cluster, secret_file},
    process::{Process, eventually},
    requests::{attestation, randao},
};
use tokio::task::JoinSet;

/// Far more than a poll and a handshake take.
pub const SOON: Duration = Duration::from_secs(60);
pub const APPLIED: &str = "configuration and certificates were read again, and are applied";
pub const REFUSED: &str = "configuration or certificates have changed and cannot be used";
pub const UNCHANGED: &str = "were read again: nothing has changed";
pub const RECONNECTED: &str = "connected anew";

pub fn count(process: &Process, what: &str) -> usize {
    process.log().matches(what).count()
}

/// Writes a file as deployments do: whole, beside it, and renamed over it.
pub fn put(path: &Path, text: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

pub fn put_pair(certs: &Path, name: &str, pem: &CertifiedPem) {
    put(&certs.join(format!("{name}.crt")), &pem.certificate);
    let key = certs.join(format!("{name}.key"));
    secret_file(&key.with_extension("next"), &pem.key);
    fs::rename(key.with_extension("next"), key).unwrap();
}

/// Callers that go on until they are stopped, and must all get what they ask for.
pub struct Load {
    callers: JoinSet<()>,
    stopped: Arc<AtomicBool>,
    signed: Arc<AtomicU64>,
}

impl Load {
    pub fn start(cluster: &Cluster) -> Self {
        Self::over(cluster, &cluster.url(0), reqwest::Client::new)
    }

    /// As [`Load::start`], at a URL of a signer-api's, each caller with a client of its own.
    pub fn over(cluster: &Cluster, at: &str, http: impl Fn() -> reqwest::Client) -> Self {
        let (stopped, signed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut callers = JoinSet::new();
        for validator in cluster.validators() {
            let url = format!("{at}/api/v1/eth2/sign/{validator}");
            let stopped = Arc::clone(&stopped);
            let signed: Arc<AtomicU64> = Arc::clone(&signed);
            let http = http();
            callers.spawn(async move {
                for number in 1.. {
                    for request in [attestation(number - 1, number, 1), randao(number)] {
                        let sent = http.post(&url).header("accept", "application/json");
                        let answer = sent.body(request.to_string()).send().await.unwrap();
                        let status = answer.status();
                        let text = answer.text().await.unwrap();
                        assert_eq!(status, 200, "{request}: {text}");
                        signed.fetch_add(1, Ordering::Relaxed);
                    }
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self {
            callers,
            stopped,
            signed,
        }
    }

    /// Waits until every caller was answered often after this call.
    pub async fn goes_on(&self) {
        let enough = self.signed.load(Ordering::Relaxed) + 8 * self.callers.len() as u64;
        eventually("signing goes on", SOON, || async {
            self.signed.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    pub async fn end(mut self) -> u64 {
        self.stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        self.signed.load(Ordering::Relaxed)
    }
}

/// Waits until the log of a process says something so many times.
pub async fn says(process: &Process, what: &str, times: usize) {
    eventually(&format!("{what:?}, {times} times"), SOON, || async {
        count(process, what) >= times
    })
    .await;
}

/// The value of a metric with these labels.
pub async fn metric(address: &str, name: &str) -> Option<i64> {
    let answer = reqwest::get(format!("http://{address}/metrics")).await;
    let text = answer.unwrap().text().await.unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Where a cosigner whose metrics are on any port says that they are.
pub fn metrics_of(process: &Process) -> String {
    let log = process.log();
    let line = log
        .lines()
        .find(|line| line.contains("serving metrics"))
        .unwrap();
    let address = line.split("address=").nth(1).unwrap();
    address.split_whitespace().next().unwrap().to_owned()
}
