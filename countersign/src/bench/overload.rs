//! `countersign bench --overload`: many times as much as the signer can do, in an open loop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use daemon::network::Network;
use duty::{Epoch, PublicKey, Root};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    BenchArgs,
    figures::{self, sorted_ms},
    now_ms,
    plain::{Answer, Plain},
    usage,
};
use crate::attestation::Attestation;

/// Connections at once: fewer than a signer takes from one address, so that what is turned away is a
/// request.
const CONNECTIONS_MAX: usize = 3_000;
/// How long the signer's capacity is measured.
const CAPACITY_TIME: Duration = Duration::from_secs(5);
/// How many requests are under way while it is.
const CAPACITY_CONNECTIONS: usize = 256;
/// A line is printed as often as this.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often requests are sent, and proposals.
const TICK: Duration = Duration::from_millis(2);
const PROPOSAL_EVERY: Duration = Duration::from_millis(100);

/// What came of one request.
struct Sample {
    proposal: bool,
    end: End,
    took: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Signed,
    /// 500 with Retry-After.
    TurnedAway,
    /// 500 without.
    Unsigned,
    /// Anything else: 412 where a later target overtook this one.
    Other,
    /// No answer.
    Broken,
}

/// Makes requests that were never made before.
struct Load {
    network: Network,
    chain: Root,
    keys: Vec<PublicKey>,
    first: u64,
    made: u64,
}

impl Load {
    fn next_key(&self) -> (u64, Option<PublicKey>) {
        let count = u64::try_from(self.keys.len()).unwrap_or(1).max(1);
        let position = usize::try_from(self.made % count).unwrap_or_default();
        (self.made / count, self.keys.get(position).copied())
    }

    /// The path and the body of an attestation.
    fn attestation(&mut self) -> Option<(String, String)> {
        let (turn, key) = self.next_key();
        let target = Epoch(self.first.saturating_add(turn));
        let source = Epoch(self.first.saturating_sub(1));
        self.made = self.made.saturating_add(1);
        let attestation = Attestation::new(&self.network, self.chain, key?, (source, target), turn);
        Some((path(&key?), attestation.request().to_string()))
    }

    /// The path and the body of a block, or of what comes before it.
    fn proposal(&mut self) -> Option<(String, String)> {
        let (_, key) = self.next_key();
        self.made = self.made.saturating_add(1);
        let slot = self.first.saturating_mul(self.network.slots_per_epoch());
        let slot = slot.saturating_add(self.made);
        let epoch = Epoch(slot / self.network.slots_per_epoch());
        let version = self.network.version_at(epoch);
        let root = Root([0x2a; 32]);
        let fork = json!({"previous_version": version, "current_version": version, "epoch": "0"});
        let mut request = json!({
            "fork_info": {"fork": fork, "genesis_validators_root": self.chain},
        });
        let members = request.as_object_mut()?;
        if self.made.is_multiple_of(2) {
            members.insert("type".to_owned(), json!("RANDAO_REVEAL"));
            let reveal = json!({"epoch": epoch.to_string()});
            members.insert("randao_reveal".to_owned(), reveal);
        } else {
            members.insert("type".to_owned(), json!("BLOCK_V2"));
            let header = json!({
                "slot": slot.to_string(), "proposer_index": "7",
                "parent_root": root, "state_root": root, "body_root": root,
            });
            let block = json!({"version": "DENEB", "block_header": header});
            members.insert("beacon_block".to_owned(), block);
        }
        Some((path(&key?), request.to_string()))
    }
}

fn path(key: &PublicKey) -> String {
    format!("/api/v1/eth2/sign/{key}")
}

/// Measures the capacity, then asks for many times as much.
pub(super) async fn run(
    args: &BenchArgs,
    network: Network,
    chain: Root,
    keys: Vec<PublicKey>,
    seconds: u64,
) -> anyhow::Result<()> {
    let load = Load {
        network,
        chain,
        keys,
        first: args.first_epoch.map_or_else(now_ms, Ok)?,
        made: 0,
    };
    let (capacity, load) = capacity(args, load).await?;
    let rate = capacity.saturating_mul(args.times.into()).max(1);
    say(&format!(
        "capacity {capacity} signatures/s; {rate} requests/s for {seconds} s, and 10 proposals/s\n\
         time   signed/s  p99 ms | turned away/s  p50 ms  p99 ms | unsigned  other  broken  unsent | \
         proposals signed  p99 ms | RSS MiB"
    ));
    let (samples, mut arrived) = mpsc::unbounded_channel();
    let url = args.url().to_owned();
    let duration = Duration::from_secs(seconds);
    let sending = tokio::spawn(send(url, load, rate, duration, samples));
    let mut all = Vec::new();
    let began = Instant::now();
    let mut shown = 0;
    let mut lines = interval(LINE_EVERY);
    lines.tick().await;
    let mut grown: Vec<Vec<u64>> = Vec::new();
    loop {
        tokio::select! {
            sample = arrived.recv() => match sample {
                Some(sample) => all.push(sample),
                None => break,
            },
            _ = lines.tick() => {
                let rss = resident(&args.pid);
                let samples = all.get(shown..).unwrap_or_default();
                say(&line(began.elapsed(), samples, LINE_EVERY, &rss));
                grown.push(rss);
                shown = all.len();
            }
        }
    }
    let unsent = sending.await??;
    conclude(args, &all, unsent, duration, &grown)
}

/// How many signatures a second it makes when asked for a few hundred at once.
async fn capacity(args: &BenchArgs, load: Load) -> anyhow::Result<(u64, Load)> {
    let load = Arc::new(Mutex::new(load));
    let until = Instant::now() + CAPACITY_TIME;
    let mut workers = JoinSet::new();
    for _ in 0..CAPACITY_CONNECTIONS {
        let (load, mut connection) = (Arc::clone(&load), Plain::new(args.url())?);
        workers.spawn(async move {
            let mut signed = 0_u64;
            while Instant::now() < until {
                let request = load.lock().await.attestation();
                let Some((path, body)) = request else { break };
                match connection.post(&path, &body).await {
                    Ok(answer) if answer.status == 200 => signed = signed.saturating_add(1),
                    Ok(_) | Err(_) => {}
                }
            }
            signed
        });
    }
    let signed: u64 = workers.join_all().await.into_iter().sum();
    ensure!(
        signed > 0,
        "the signer signs nothing: run `countersign bench` without --overload"
    );
    let load = Arc::into_inner(load)
        .context("a worker is left")?
        .into_inner();
    Ok((signed / CAPACITY_TIME.as_secs(), load))
}

/// Sends so many a second, whatever becomes of them; how many found no connection free.
async fn send(
    url: String,
    mut load: Load,
    rate: u64,
    duration: Duration,
    samples: mpsc::UnboundedSender<Sample>,
) -> anyhow::Result<u64> {
    let idle = Arc::new(Mutex::new(Vec::new()));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut sent, mut proposed, mut unsent) = (Instant::now(), 0_u64, 0_u64, 0_u64);
    while began.elapsed() < duration {
        ticks.tick().await;
        let elapsed = began.elapsed();
        let proposals = elapsed.as_millis() / PROPOSAL_EVERY.as_millis();
        let due = u64::try_from(elapsed.as_micros())?.saturating_mul(rate) / 1_000_000;
        while sent < due || u128::from(proposed) < proposals {
            let proposal = u128::from(proposed) < proposals;
            let request = if proposal {
                load.proposal()
            } else {
                load.attestation()
            };
            let (path, body) = request.context("no validators")?;
            if proposal {
                proposed = proposed.saturating_add(1);
            } else {
                sent = sent.saturating_add(1);
            }
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                unsent = unsent.saturating_add(1);
                continue;
            };
            let free = idle.lock().await.pop();
            let mut connection = free.map_or_else(|| Plain::new(&url), Ok)?;
            let (idle, samples) = (Arc::clone(&idle), samples.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                let answer = connection.post(&path, &body).await;
                let took = answer
                    .as_ref()
                    .map_or(began.elapsed(), |answer| answer.took);
                let end = answer.map_or(End::Broken, |answer| end_of(&answer));
                // Nobody counts any more what comes after the end.
                let _ = samples.send(Sample {
                    proposal,
                    end,
                    took,
                });
                idle.lock().await.push(connection);
                drop(place);
            });
        }
    }
    Ok(unsent)
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
}

fn end_of(answer: &Answer) -> End {
    let is_signed =
        || serde_json::from_slice(&answer.body).is_ok_and(|it: Signed| it.signature.len() == 194);
    match answer.status {
        200 if is_signed() => End::Signed,
        500 if answer.retry_after => End::TurnedAway,
        500 => End::Unsigned,
        _ => End::Other,
    }
}

fn count(samples: &[Sample], end: End) -> usize {
    let of = |sample: &&Sample| !sample.proposal && sample.end == end;
    samples.iter().filter(of).count()
}

/// In milliseconds.
fn quantile(samples: &[Sample], per_mille: usize, of: impl Fn(&Sample) -> bool) -> f64 {
    let times = samples.iter().filter(|sample| of(sample));
    figures::quantile(&sorted_ms(times.map(|sample| sample.took)), per_mille)
}

fn line(at: Duration, samples: &[Sample], within: Duration, rss: &[u64]) -> String {
    let seconds = usize::try_from(within.as_secs()).unwrap_or(1).max(1);
    let signed = |s: &Sample| !s.proposal && s.end == End::Signed;
    let turned = |s: &Sample| !s.proposal && s.end == End::TurnedAway;
    let proposals = samples.iter().filter(|s| s.proposal).count();
    let proposed = samples
        .iter()
        .filter(|s| s.proposal && s.end == End::Signed)
        .count();
    let rss: Vec<String> = rss.iter().map(|kib| (kib / 1024).to_string()).collect();
    format!(
        "{:4} s {:9} {:7.0} | {:13} {:7.1} {:7.1} | {:8} {:6} {:7} {:7} | {:>16} {:7.0} | {}",
        at.as_secs(),
        count(samples, End::Signed) / seconds,
        quantile(samples, 990, signed),
        count(samples, End::TurnedAway) / seconds,
        quantile(samples, 500, turned),
        quantile(samples, 990, turned),
        count(samples, End::Unsigned),
        count(samples, End::Other),
        count(samples, End::Broken),
        "",
        format!("{proposed} of {proposals}"),
        quantile(samples, 990, |s| s.proposal),
        rss.join(" "),
    )
}

fn conclude(
    args: &BenchArgs,
    all: &[Sample],
    unsent: u64,
    duration: Duration,
    grown: &[Vec<u64>],
) -> anyhow::Result<()> {
    say(&line(duration, all, duration, &resident(&args.pid)));
    let admitted = |s: &Sample| !s.proposal && matches!(s.end, End::Signed | End::Unsigned);
    let p99 = quantile(all, 990, admitted);
    let (signed, unsigned) = (count(all, End::Signed), count(all, End::Unsigned));
    say(&format!(
        "admitted: {signed} signed, {unsigned} not, p99 {p99:.0} ms; unsent for want of \
         connections: {unsent}"
    ));
    if let (Some(first), Some(last)) = (grown.first(), grown.last()) {
        say(&format!(
            "RSS of --pid, KiB: {first:?} after 10 s, {last:?} at the end"
        ));
    }
    let deadline = f64::from(args.deadline_ms);
    let lost = all.iter().filter(|s| s.proposal);
    // A block that a later one overtook is refused, as it should be.
    let lost = lost
        .filter(|s| !matches!(s.end, End::Signed | End::Other))
        .count();
    ensure!(
        p99 <= deadline,
        "the p99 of what was admitted, {p99:.0} ms, is beyond the deadline"
    );
    ensure!(
        unsigned.saturating_mul(100) <= signed.saturating_add(unsigned),
        "{unsigned} of what was admitted was not signed, and {signed} was"
    );
    ensure!(lost == 0, "{lost} proposals were not signed");
    Ok(())
}

/// The resident memory of each process, in KiB; 0 of one that is not there.
fn resident(pids: &[u32]) -> Vec<u64> {
    let kib = |pid: &u32| usage::resident_kib(*pid).unwrap_or_default();
    pids.iter().map(kib).collect()
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what the command is for"
)]
fn say(text: &str) {
    println!("{text}");
}
