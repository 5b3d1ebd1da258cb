//! Every process is stopped and started again, one after the other, while callers go on: nothing
//! they ask for is lost, if they ask twice, as clients do.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use duty::PublicKey;
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, Storage, test_keys},
    process::eventually,
    requests::{attestation, block, randao},
};
use tokio::time::{Instant, interval, timeout};

const SIGNERS: usize = 2;
const COSIGNERS: u64 = 4;
/// Callers, half of which prefer each signer-api.
const CALLERS: u8 = 6;
/// Between two requests of one caller.
const PAUSE: Duration = Duration::from_millis(100);
/// Several times what it is if nothing is configured, and so is a client's patience: the machine may
/// be busy. It changes nothing about what is lost when a process ends.
const DEADLINE_LINE: &str = "deadline_ms = 5000";
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of all signatures, so many are asked for again in the end.
const AGAIN: usize = 150;
/// `drain_ms`, and as much for a busy machine.
const ENDS: Duration = Duration::from_secs(30);
const READY: Duration = Duration::from_secs(60);

/// What callers have asked for.
#[derive(Default)]
struct Load {
    /// What is being restarted.
    now: Mutex<String>,
    stopped: AtomicBool,
    asked: AtomicU64,
    signed: Mutex<Vec<Signed>>,
    /// Needed a second try.
    retried: Mutex<Vec<String>>,
    lost: Mutex<Vec<String>>,
}

struct Signed {
    validator: PublicKey,
    request: Value,
    conflict: Option<Value>,
    signature: String,
}

/// The duties of one validator: for each number an attestation, a block and a RANDAO reveal, each
/// with what must not be signed beside it.
fn duties(number: u64) -> [(Value, Option<Value>); 3] {
    let vote = |message| attestation(number - 1, number, message);
    [
        (vote(1), Some(vote(2))),
        (block(number, 1), Some(block(number, 2))),
        (randao(number), None),
    ]
}

/// One validator client, with a connection that it keeps.
struct Caller<'c> {
    cluster: &'c Urls,
    load: &'c Load,
    http: reqwest::Client,
    validator: PublicKey,
    prefers: usize,
}

/// Where the signer-apis are.
struct Urls([String; SIGNERS]);

impl Caller<'_> {
    async fn call(&self) {
        let mut pace = interval(PAUSE);
        for number in 1.. {
            for (request, conflict) in duties(number) {
                if self.load.stopped.load(Ordering::Relaxed) {
                    return;
                }
                pace.tick().await;
                self.call_twice(request, conflict).await;
            }
        }
    }

    async fn call_twice(&self, request: Value, conflict: Option<Value>) {
        self.load.asked.fetch_add(1, Ordering::Relaxed);
        let mut failures = Vec::new();
        for signer in [self.prefers, 1 - self.prefers] {
            match self.ask(signer, &request).await {
                Ok(signature) => {
                    if !failures.is_empty() {
                        self.load.retried.lock().unwrap().push(failures.join("; "));
                    }
                    self.load.signed.lock().unwrap().push(Signed {
                        validator: self.validator,
                        request,
                        conflict,
                        signature,
                    });
                    return;
                }
                Err(failure) => failures.push(failure),
            }
        }
        let now = self.load.now.lock().unwrap().clone();
        let lost = format!("{now}: {}: {}", request["type"], failures.join("; "));
        self.load.lost.lock().unwrap().push(lost);
    }

    async fn ask(&self, signer: usize, request: &Value) -> Result<String, String> {
        let url = format!(
            "{}/api/v1/eth2/sign/{}",
            self.cluster.0[signer], self.validator
        );
        let began = Instant::now();
        let failed = |what: String| {
            let took = began.elapsed().as_millis();
            format!("signer-api {signer} after {took} ms: {what}")
        };
        let asking = async {
            let asked = self.http.post(url).header("accept", "text/plain");
            let request = asked.body(request.to_string());
            let response = request.send().await?;
            let status = response.status().as_u16();
            response.text().await.map(|body| (status, body))
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok((200, signature))) => Ok(signature),
            Ok(Ok((status, body))) => Err(failed(format!("{status} {body}"))),
            Ok(Err(error)) => Err(failed(format!("{error:?}"))),
            Err(_) => Err(failed("no answer".to_owned())),
        }
    }
}

async fn says(cluster: &Cluster, number: u64, status: &str) {
    let name = format!("cosigner-{number}");
    for signer in 0..SIGNERS {
        let what = format!("signer-api {signer} says {status} of {name}");
        eventually(&what, READY, || async {
            let health = cluster.get(signer, "/healthcheck").await.json();
            let mut checks = health["checks"].as_array().into_iter().flatten();
            checks.any(|check| {
                check["id"].as_str().is_some_and(|id| id.ends_with(&name))
                    && check["status"] == status
            })
        })
        .await;
    }
}

async fn restart_cosigners(cluster: &mut Cluster, load: &Load, signal: Signal) {
    for number in 1..=COSIGNERS {
        *load.now.lock().unwrap() = format!("{signal:?}, cosigner-{number}");
        let cosigner = cluster.cosigner(number);
        cosigner.signal(signal);
        let code = cosigner.wait(ENDS);
        let expected = (signal == Signal::TERM).then_some(0);
        assert_eq!(code, expected, "cosigner-{number}: {}", cosigner.log());
        // What is said of it now is of the one that has ended.
        says(cluster, number, "DOWN").await;
        cluster.cosigner(number).restart();
        says(cluster, number, "UP").await;
    }
}

async fn restart_signers(cluster: &mut Cluster, load: &Load) {
    for number in 0..SIGNERS {
        *load.now.lock().unwrap() = format!("signer-api {number}");
        let signer = cluster.signer(number);
        signer.signal(Signal::TERM);
        let code = signer.wait(ENDS);
        assert_eq!(code, Some(0), "signer-api {number}: {}", signer.log());
        signer.restart();
        cluster.up(number).await;
    }
}

/// What was signed has one signature for ever, and what conflicts with it has none. Some of each
/// time and kind are asked for again, for there are many.
async fn nothing_conflicts(cluster: &Cluster, signed: &[Signed]) {
    let step = signed.len().div_ceil(AGAIN);
    for (at, one) in signed.iter().enumerate().step_by(step) {
        let again = cluster.sign(at % 2, &one.validator, &one.request).await;
        assert_eq!(again.signature(), one.signature, "{}", one.request);
        if let Some(conflict) = &one.conflict {
            let other = cluster.sign(at % 2, &one.validator, conflict).await;
            assert_eq!(other.status, 412, "{other:?} {conflict}");
        }
    }
}

async fn check(storage: Storage) {
    let options = Options {
        storage,
        signers: SIGNERS,
        signer_lines: DEADLINE_LINE,
        ..Options::new(test_keys(CALLERS))
    };
    let mut cluster = Cluster::start(options).await;
    let load = Load::default();
    let urls = Urls([0, 1].map(|number| cluster.url(number)));
    let validators = cluster.validators().to_vec();
    let callers = validators.iter().enumerate().map(|(at, validator)| Caller {
        cluster: &urls,
        load: &load,
        http: reqwest::Client::new(),
        validator: *validator,
        prefers: at % SIGNERS,
    });
    let callers: Vec<_> = callers.collect();
    let restarting = async {
        restart_signers(&mut cluster, &load).await;
        restart_cosigners(&mut cluster, &load, Signal::TERM).await;
        restart_cosigners(&mut cluster, &load, Signal::KILL).await;
        load.stopped.store(true, Ordering::Relaxed);
    };
    tokio::join!(restarting, join_all(callers.iter().map(Caller::call)));

    drop(callers);
    let Load {
        asked,
        signed,
        retried,
        lost,
        ..
    } = load;
    let (signed, retried) = (signed.into_inner().unwrap(), retried.into_inner().unwrap());
    let (asked, lost) = (asked.into_inner(), lost.into_inner().unwrap());
    let (again, first) = (retried.len(), retried.first());
    println!("{storage:?}: {asked} asked, {again} of them twice, such as {first:?}");
    assert!(lost.is_empty(), "{} of {asked} lost: {lost:#?}", lost.len());
    assert_eq!(u64::try_from(signed.len()).unwrap(), asked);
    nothing_conflicts(&cluster, &signed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signature_is_lost_while_every_process_restarts_on_sqlite() {
    check(Storage::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signature_is_lost_while_every_process_restarts_on_postgres() {
    check(Storage::Postgres).await;
}
