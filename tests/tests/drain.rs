//! A process that is told to stop answers what it has taken on, or says no, and ends.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use duty::PublicKey;
use reqwest::Response;
use rustix::process::Signal;
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, test_keys},
    process::eventually,
    requests::{attestation, block, randao},
};
use tokio::{
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

const SOON: Duration = Duration::from_secs(30);

/// Where nothing hangs, a busy machine must not be taken for a lost request.
const PATIENT: &str = "deadline_ms = 5000\n";

fn signer_options(lines: &'static str) -> Options {
    Options {
        signer_lines: lines,
        ..Options::new(test_keys(4))
    }
}

fn address(cluster: &Cluster) -> SocketAddr {
    cluster.url(0).replace("http://", "").parse().unwrap()
}

fn post(
    http: &reqwest::Client,
    cluster: &Cluster,
    validator: &PublicKey,
    request: &Value,
) -> reqwest::RequestBuilder {
    let url = format!("{}/api/v1/eth2/sign/{validator}", cluster.url(0));
    let sent = http.post(url).header("accept", "application/json");
    sent.body(request.to_string())
}

/// Waits until there is a connection beside the one which the cluster was found up on.
async fn arrived(cluster: &Cluster) {
    eventually("the request has arrived", SOON, || async {
        let metrics = cluster.metrics(0).await;
        metrics.contains("countersign_http_connections_open 2")
    })
    .await;
}

/// Sends requests on one connection until the server says that an answer was the last one, or refuses
/// the next; how many were answered.
async fn until_told(address: SocketAddr, validator: PublicKey, signed: Arc<AtomicU64>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await.unwrap();
    for number in 1.. {
        let body = attestation(number - 1, number, 1).to_string();
        let head = format!(
            "POST /api/v1/eth2/sign/{validator} HTTP/1.1\r\nHost: {address}\r\n\
             Accept: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(&[head.into_bytes(), body.into_bytes()].concat())
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            assert_ne!(length, 0, "number {number} was not answered");
            answer.extend_from_slice(&part[..length]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "number {number}: {answer}"
        );
        signed.fetch_add(1, Ordering::Relaxed);
        if answer.to_ascii_lowercase().contains("connection: close") {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_api_answers_everything_it_was_asked_before_it_ends() {
    let mut cluster = Cluster::start(signer_options(PATIENT)).await;
    let (signed, mut callers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for validator in cluster.validators() {
        let caller = until_told(address(&cluster), *validator, Arc::clone(&signed));
        callers.spawn(caller);
    }
    eventually("requests are answered", SOON, || async {
        signed.load(Ordering::Relaxed) > 20
    })
    .await;
    cluster.signer(0).signal(Signal::TERM);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(cluster.signer(0).wait(SOON), Some(0));
    assert!(TcpStream::connect(address(&cluster)).await.is_err());
    let log = cluster.signer(0).log();
    assert!(
        log.contains("stopped") && !log.contains("still open"),
        "{log}"
    );
}

/// A request that nobody answers: too few cosigners are left.
async fn hang(cluster: &mut Cluster) -> JoinHandle<reqwest::Result<Response>> {
    for number in [1, 2] {
        cluster.cosigner(number).freeze();
    }
    let http = reqwest::Client::new();
    let (validator, request) = (cluster.validators()[0], randao(7));
    let hung = tokio::spawn(post(&http, cluster, &validator, &request).send());
    arrived(cluster).await;
    hung
}

#[tokio::test(flavor = "multi_thread")]
async fn health_turns_down_first_and_what_hangs_is_refused_in_time() {
    let lines = "deadline_ms = 60000\nstop_delay_ms = 1500\ndrain_ms = 2000\n";
    let mut cluster = Cluster::start(signer_options(lines)).await;
    let hung = hang(&mut cluster).await;

    let told = Instant::now();
    cluster.signer(0).signal(Signal::TERM);
    eventually("the log says that it stops", SOON, || async {
        cluster.signer_log(0).contains("the health check says so")
    })
    .await;
    let health = cluster.get(0, "/healthcheck").await;
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (503, Some("DOWN"))
    );
    // It serves yet, for who has not noticed.
    assert_eq!(cluster.get(0, "/upcheck").await.status, 200);

    let answer = hung.await.unwrap().unwrap();
    let took = told.elapsed();
    let connection = answer.headers().get("connection").cloned();
    assert_eq!(answer.status(), 500);
    let body = answer.text().await.unwrap();
    assert!(body.contains("\"reason\":\"stopping\""), "{body}");
    assert!(connection.is_some_and(|value| value == "close"));
    // 3.5 s, and as much again for a busy machine; the request's own deadline is a minute.
    assert!((1_500..15_000).contains(&took.as_millis()), "{took:?}");
    assert!(TcpStream::connect(address(&cluster)).await.is_err());
    assert_eq!(cluster.signer(0).wait(SOON), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let lines = "deadline_ms = 60000\ndrain_ms = 600000\n";
    let mut cluster = Cluster::start(signer_options(lines)).await;
    let hung = hang(&mut cluster).await;
    cluster.signer(0).signal(Signal::TERM);
    eventually("it stops", SOON, || async {
        cluster.signer_log(0).contains("no new connection")
    })
    .await;
    assert!(cluster.signer(0).runs());
    cluster.signer(0).signal(Signal::INT);
    assert_eq!(cluster.signer(0).wait(SOON), Some(0));
    assert!(hung.await.unwrap().is_err());
    assert!(cluster.signer_log(0).contains("cut off"));
}

/// One cosigner after the other stops and comes back while callers, who ask once, go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_that_stops_costs_no_request() {
    let mut cluster = Cluster::start(signer_options(PATIENT)).await;
    let signed = Arc::new(AtomicU64::new(0));
    let stopped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for validator in cluster.validators() {
        let url = format!("{}/api/v1/eth2/sign/{validator}", cluster.url(0));
        let (signed, stopped) = (Arc::clone(&signed), Arc::clone(&stopped));
        let http = reqwest::Client::new();
        callers.spawn(async move {
            for number in 1.. {
                for request in [
                    attestation(number - 1, number, 1),
                    block(number, 1),
                    randao(number),
                ] {
                    let sent = http.post(&url).header("accept", "application/json");
                    let answer = sent.body(request.to_string()).send().await.unwrap();
                    let (status, text) = (answer.status(), answer.text().await.unwrap());
                    assert_eq!(status, 200, "{request}: {text}");
                    signed.fetch_add(1, Ordering::Relaxed);
                }
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
    }
    for number in 1..=4 {
        let enough = signed.load(Ordering::Relaxed) + 60;
        eventually("signing goes on", SOON, || async {
            signed.load(Ordering::Relaxed) >= enough
        })
        .await;
        cluster.cosigner(number).signal(Signal::TERM);
        assert_eq!(cluster.cosigner(number).wait(SOON), Some(0));
        let log = cluster.cosigner(number).log();
        assert!(log.contains("stopping: no new promise"), "{log}");
        assert!(!log.contains("cut off"), "{log}");
        cluster.health_says(number, "DOWN").await;
        cluster.cosigner(number).restart();
        cluster.health_says(number, "UP").await;
    }
    stopped.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}
