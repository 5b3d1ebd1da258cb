//! What is measured on a cluster that is up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use duty::PublicKey;
use tokio::task::spawn_blocking;

use super::{
    cluster::Cluster,
    duties::{self, Asked, Kind},
    figures::{Spread, float, ms, quantile, sorted_ms},
    generator::{self, Answer, Burst},
    usage,
};

/// How many validators are kept out of bursts for the single requests beside them.
pub(super) const SINGLES: usize = 8;

/// Bursts of one kind.
pub(super) struct Bursts {
    /// Signatures per second, of each repetition.
    pub(super) rates: Vec<f64>,
    /// Signatures per second.
    pub(super) rate: Spread,
    /// Milliseconds until the last answer.
    pub(super) last: Spread,
    /// Milliseconds until the answer, of all bursts together, sorted.
    pub(super) answered: Vec<f64>,
    /// Processor time per signature in milliseconds: of each cosigner, then of the signer-api.
    pub(super) cpu: Vec<f64>,
    /// The load generator's own, likewise.
    pub(super) own_cpu: f64,
}

/// Single requests, one at a time.
pub(super) struct Singles {
    /// Milliseconds, sorted.
    pub(super) took: Vec<f64>,
    /// The median of each repetition.
    pub(super) medians: Vec<f64>,
}

/// What is done before each repetition, and after the last.
pub(super) type Between<'a> = &'a mut (dyn FnMut() -> anyhow::Result<()> + Send);

impl Singles {
    pub(super) fn p50(&self) -> f64 {
        quantile(&self.took, 500)
    }

    pub(super) fn p99(&self) -> f64 {
        quantile(&self.took, 990)
    }
}

/// Bursts of `validators` requests, after one that warms up; every signature is verified.
///
/// # Errors
/// If any request is not signed, or a signature is wrong.
pub(super) async fn bursts(
    cluster: &mut Cluster,
    kind: Kind,
    validators: usize,
    connections: usize,
    repetitions: usize,
    between: Between<'_>,
) -> anyhow::Result<Bursts> {
    let keys: Vec<PublicKey> = cluster.keys.iter().take(validators).copied().collect();
    burst(cluster, kind, &keys, connections).await?;
    let (mut rates, mut last, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    let mut own_cpu = Duration::ZERO;
    let pids = cluster.pids();
    let mut cpu = vec![Duration::ZERO; pids.len()];
    for _ in 0..repetitions {
        between()?;
        let before = cpu_of(&pids)?;
        let burst = burst(cluster, kind, &keys, connections).await?;
        let after = cpu_of(&pids)?;
        for (sum, (before, after)) in cpu.iter_mut().zip(before.into_iter().zip(after)) {
            *sum = sum.saturating_add(after.saturating_sub(before));
        }
        own_cpu = own_cpu.saturating_add(burst.own_cpu);
        rates.push(float(burst.answers.len()) / burst.elapsed.as_secs_f64());
        last.push(ms(burst.elapsed));
        answered.extend(burst.answers.iter().map(|answer| answer.after));
    }
    between()?;
    let signatures = float(answered.len());
    Ok(Bursts {
        rate: Spread::of(rates.clone()),
        rates,
        last: Spread::of(last),
        answered: sorted_ms(answered),
        cpu: cpu.into_iter().map(|time| ms(time) / signatures).collect(),
        own_cpu: ms(own_cpu) / signatures,
    })
}

fn cpu_of(pids: &[u32]) -> anyhow::Result<Vec<Duration>> {
    pids.iter().map(|pid| usage::cpu(*pid)).collect()
}

/// One burst, measured, and then verified.
async fn burst(
    cluster: &mut Cluster,
    kind: Kind,
    keys: &[PublicKey],
    connections: usize,
) -> anyhow::Result<Burst> {
    let host = cluster.host;
    let asked = cluster.duties.make(kind, keys, host);
    let sent = spawn_blocking(move || {
        let burst = generator::at_once(host, &asked, connections)?;
        duties::verify(&asked, &burst.answers)?;
        anyhow::Ok(burst)
    });
    sent.await.context("the load generator failed")?
}

/// So many single requests in each repetition, one after another.
///
/// # Errors
/// As [`bursts`].
pub(super) async fn singles(
    cluster: &mut Cluster,
    kind: Kind,
    requests: usize,
    repetitions: usize,
    between: Between<'_>,
) -> anyhow::Result<Singles> {
    let (mut all, mut medians) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        between()?;
        let asked = in_turn(cluster, kind, requests);
        let host = cluster.host;
        let answers = spawn_blocking(move || one_by_one(host, &asked, &AtomicBool::new(false)));
        let answers = answers.await.context("the load generator failed")??;
        medians.push(Singles::of(&answers).p50());
        all.extend(answers);
    }
    between()?;
    let all = Singles::of(&all);
    Ok(Singles { medians, ..all })
}

/// Single requests of a few validators, while bursts of the others go on without a pause.
///
/// # Errors
/// As [`bursts`].
pub(super) async fn singles_beside_bursts(
    cluster: &mut Cluster,
    kind: Kind,
    validators: usize,
    connections: usize,
    repetitions: usize,
) -> anyhow::Result<Singles> {
    let host = cluster.host;
    let others: Vec<PublicKey> = cluster.keys.iter().skip(SINGLES).copied().collect();
    let others = others
        .get(..validators.min(others.len()))
        .unwrap_or(&others);
    let loads: Vec<Vec<Asked>> = (0..repetitions)
        .map(|_| cluster.duties.make(Kind::SameRoot, others, host))
        .collect();
    // More than can be answered meanwhile.
    let asked = in_turn(cluster, kind, validators.saturating_mul(repetitions));
    let enough = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&enough);
    let beside = spawn_blocking(move || one_by_one(host, &asked, &over));
    let load = spawn_blocking(move || {
        let bursts: anyhow::Result<Vec<_>> = loads
            .iter()
            .map(|asked| generator::at_once(host, asked, connections))
            .collect();
        enough.store(true, Ordering::Relaxed);
        for (asked, burst) in loads.iter().zip(bursts?) {
            duties::verify(asked, &burst.answers)?;
        }
        anyhow::Ok(())
    });
    load.await.context("the load generator failed")??;
    let answers = beside.await.context("the load generator failed")??;
    Ok(Singles::of(&answers))
}

/// Requests of the first few validators in turn, each for a new epoch.
fn in_turn(cluster: &mut Cluster, kind: Kind, requests: usize) -> Vec<Asked> {
    let host = cluster.host;
    let keys: Vec<PublicKey> = cluster.keys.iter().take(SINGLES).copied().collect();
    let turns = keys.iter().cycle().take(requests);
    turns
        .flat_map(|key| cluster.duties.make(kind, &[*key], host))
        .collect()
}

fn one_by_one(
    host: std::net::SocketAddr,
    asked: &[Asked],
    enough: &AtomicBool,
) -> anyhow::Result<Vec<Answer>> {
    let answers = generator::one_by_one(host, asked, enough)?;
    let answered = asked.get(..answers.len()).unwrap_or_default();
    duties::verify(answered, &answers)?;
    Ok(answers)
}

impl Singles {
    fn of(answers: &[Answer]) -> Self {
        let took = sorted_ms(answers.iter().map(|answer| answer.after));
        Self {
            medians: vec![quantile(&took, 500)],
            took,
        }
    }
}
