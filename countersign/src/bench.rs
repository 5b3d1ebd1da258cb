//! `countersign bench`: load like a slot's burst, every signature verified; or far more than that.

mod figures;
mod overload;
mod plain;
mod suite;
mod usage;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use daemon::network::Network;
use duty::{Duty, Epoch, PublicKey, Root, SigningOrder};
use indicatif::{ProgressBar, ProgressStyle};
use keyshare::SecretShare;
use threshold::Signature;
use tokio::{sync::Mutex, task::JoinSet};
use zeroize::Zeroizing;

use self::figures::{quantile, sorted_ms};
use crate::{attestation::Attestation, client::SignerApi};

const EXAMPLES: &str = "Examples:
  countersign bench http://127.0.0.1:9000
  countersign bench http://127.0.0.1:9000 --overload 60 --pid 4711
  countersign bench http://127.0.0.1:9000 --validators 500 --connections 64 --slots 20 --pattern distinct
  countersign bench --suite --out results
  countersign bench --suite --short
  countersign bench --suite --committees 3-of-4 --ledgers sqlite --only bursts,single
  countersign bench --suite --committees 3-of-4 --only history --history 10000000 --work /var/tmp

With --suite nothing needs to run: committees are started for it, with new keys, in a directory that
is removed at the end. Ratios are to plain signing (one whole key, one thread) in the same run, and
targets are those of a 3-of-4 committee with 1,000 validators on two cores. It fails only if a signature
is missing or wrong. Nothing else should run on the machine meanwhile.

Without it, the signer's cosigners must run with clock = \"unchecked\" (quickstart --clock unchecked), because a
validator attests here once per measured slot, not once per epoch. Never bench keys of a real chain:
their ratchets are raised far beyond today.";

/// Which votes the validators of one slot cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    /// All the same, as on a healthy chain since Electra.
    SameRoot,
    /// Each its own, the worst case for anything that could be shared.
    Distinct,
}

/// Arguments of `countersign bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// The signer's URL, such as http://127.0.0.1:9000
    #[arg(required_unless_present = "suite")]
    url: Option<String>,
    /// How many of the served validators attest in every slot [default: all; with --suite 1000]
    #[arg(long, value_name = "N")]
    validators: Option<usize>,
    /// How many keep-alive connections post at once [default: 32; with --suite one for each
    /// validator that asks]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// How many slots are measured, one after the other, after one to warm up
    #[arg(long, value_name = "N", default_value_t = 10)]
    slots: u64,
    /// Which votes the validators of one slot cast
    #[arg(long, value_enum, default_value = "same-root")]
    pattern: Pattern,
    /// The signer's network: a name, or the path of a consensus-layer config.yaml
    #[arg(long, value_name = "NAME|FILE", default_value = "hoodi")]
    network: String,
    /// The chain, where the network's configuration does not say it
    #[arg(long, value_name = "ROOT")]
    genesis_validators_root: Option<Root>,
    /// The first target epoch (the time in milliseconds if not given, so that runs never collide)
    #[arg(long, value_name = "EPOCH")]
    first_epoch: Option<u64>,
    /// Instead: ask for many times what the signer can do, for so long, and see what becomes of it
    #[arg(long, value_name = "SECONDS")]
    overload: Option<u64>,
    /// With --overload: how many times what it can do
    #[arg(long, value_name = "N", default_value_t = 10)]
    times: u32,
    /// With --overload: the signer's deadline, which the p99 of what it takes on must keep
    #[arg(long, value_name = "MS", default_value_t = 1200)]
    deadline_ms: u32,
    /// With --overload: processes whose memory is shown
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    #[command(flatten)]
    suite: suite::SuiteArgs,
}

impl BenchArgs {
    fn url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    fn connections(&self) -> usize {
        self.connections.unwrap_or(32)
    }
}

/// One answered request.
struct Answer {
    attestation: Attestation,
    outcome: Result<Signature, String>,
    took: Duration,
}

/// Runs the load and prints the figures.
///
/// # Errors
/// If the signer cannot be reached, serves too few validators, or any signature is missing or wrong.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    if args.suite.suite {
        return suite::run(&args.suite, args.validators, args.connections).await;
    }
    let network = Network::load(&args.network)?;
    let chain = args.genesis_validators_root.or(network.genesis_validators_root()).context(
        "the network's configuration names no genesis validators root: give --genesis-validators-root",
    )?;
    ensure!(args.connections() > 0, "--connections must be at least 1");
    ensure!(args.slots > 0, "--slots must be at least 1");
    ensure!(
        args.url().starts_with("http://") || args.url().starts_with("https://"),
        "{} is no URL: it begins with http:// or https://",
        args.url()
    );
    let keys = SignerApi::new(args.url())?.public_keys().await?;
    let wanted = args.validators.unwrap_or(keys.len());
    ensure!(
        wanted > 0 && wanted <= keys.len(),
        "--validators {wanted}: the signer serves {} validators",
        keys.len()
    );
    let keys: Vec<PublicKey> = keys.into_iter().take(wanted).collect();
    if let Some(seconds) = args.overload {
        return overload::run(&args, network, chain, keys, seconds).await;
    }
    let first = args.first_epoch.map_or_else(now_ms, Ok)?;
    let slot = |number: u64| -> Vec<Attestation> {
        let target = Epoch(first.saturating_add(number));
        let source = Epoch(target.0.saturating_sub(1));
        let attestation = |(position, key): (u64, &PublicKey)| {
            let salt = match args.pattern {
                Pattern::SameRoot => 0,
                Pattern::Distinct => position,
            };
            Attestation::new(&network, chain, *key, (source, target), salt)
        };
        (0..).zip(&keys).map(attestation).collect()
    };
    let clients = (0..args.connections())
        .map(|_| SignerApi::new(args.url()))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let bar = progress(args.slots.saturating_add(1), "slots")?;
    post_all(&clients, slot(0)).await?;
    bar.inc(1);
    let mut answers = Vec::new();
    let started = Instant::now();
    for number in 1..=args.slots {
        answers.extend(post_all(&clients, slot(number)).await?);
        bar.inc(1);
    }
    let elapsed = started.elapsed();
    bar.finish_and_clear();
    report(&args, answers, elapsed)
}

/// Posts all attestations over all connections, as fast as they are answered.
async fn post_all(
    clients: &[SignerApi],
    attestations: Vec<Attestation>,
) -> anyhow::Result<Vec<Answer>> {
    let queue = Arc::new(Mutex::new(attestations));
    let mut workers = JoinSet::new();
    for client in clients {
        let (client, queue) = (client.clone(), Arc::clone(&queue));
        workers.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let Some(attestation) = queue.lock().await.pop() else {
                    return answers;
                };
                let body = attestation.request().to_string().into_bytes();
                let started = Instant::now();
                let outcome = client.sign(&attestation.validator(), body).await;
                let took = started.elapsed();
                let outcome = outcome.map_err(|error| format!("{error:#}"));
                answers.push(Answer {
                    attestation,
                    outcome,
                    took,
                });
            }
        });
    }
    let mut answers = Vec::new();
    while let Some(finished) = workers.join_next().await {
        answers.extend(finished.context("a connection's task failed")?);
    }
    Ok(answers)
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what the command is for"
)]
fn report(args: &BenchArgs, answers: Vec<Answer>, elapsed: Duration) -> anyhow::Result<()> {
    let posted = answers.len();
    let took = sorted_ms(answers.iter().map(|answer| answer.took));
    let mut errors = Vec::new();
    let mut wrong = 0_usize;
    let bar = progress(u64::try_from(posted)?, "signatures verified")?;
    for answer in &answers {
        match &answer.outcome {
            Err(error) => errors.push(error),
            Ok(signature) => {
                let attestation = &answer.attestation;
                let root = attestation.signing_root();
                if threshold::verify(&attestation.validator(), root, signature).is_err() {
                    wrong = wrong.saturating_add(1);
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let signed = posted.saturating_sub(errors.len());
    let rate = f64::from(u32::try_from(signed)?) / elapsed.as_secs_f64();
    let plain = plain_signing_rate(Duration::from_secs(1))?;
    println!(
        "signatures     {signed} verified {} wrong {wrong}",
        signed.saturating_sub(wrong)
    );
    println!("errors         {}", errors.len());
    println!(
        "rate           {rate:.0} signatures/s over {} connections",
        args.connections()
    );
    println!(
        "latency        p50 {:.1} ms, p99 {:.1} ms",
        quantile(&took, 500),
        quantile(&took, 990)
    );
    println!("plain signing  {plain:.0} signatures/s, one thread, one whole key, same run");
    println!("ratio          {:.2} of plain signing", rate / plain);
    if let Some(error) = errors.first() {
        anyhow::bail!(
            "{} of {posted} requests failed, the first with: {error}",
            errors.len()
        );
    }
    ensure!(wrong == 0, "{wrong} signatures do not verify");
    Ok(())
}

/// How many messages per second one thread signs with one key, on this machine, now.
fn plain_signing_rate(time: Duration) -> anyhow::Result<f64> {
    // Any scalar takes as long as any other.
    let secret = Zeroizing::new([7; 32]);
    let share = SecretShare::from_be_bytes(&secret)?;
    let mut signed = 0_u32;
    let started = Instant::now();
    while started.elapsed() < time {
        let order = SigningOrder {
            validator: PublicKey([0; 48]),
            fork_version: duty::ForkVersion([0; 4]),
            genesis_validators_root: Root::ZERO,
            duty: Duty::RandaoReveal(Epoch(u64::from(signed))),
        };
        if let Ok(permit) = order.permit_without_claim() {
            let _ = share.sign(permit);
        }
        signed = signed.saturating_add(1);
    }
    Ok(f64::from(signed) / started.elapsed().as_secs_f64())
}

fn progress(length: u64, what: &'static str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}")?;
    Ok(ProgressBar::new(length)
        .with_style(style)
        .with_message(what))
}

fn now_ms() -> anyhow::Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}
