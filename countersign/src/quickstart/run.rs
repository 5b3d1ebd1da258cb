//! From nothing, or from an earlier run's directory, to a committee that signs.

use std::{io::Write, net::TcpListener, time::Duration};

use anyhow::{Context, ensure};
use daemon::network::Network;
use duty::{Epoch, Root};
use futures_util::{StreamExt, stream::FuturesUnordered};
use threshold::CommitteeSize;

use super::{
    QuickstartArgs,
    configs::{self, Ports},
    make,
    plan::{Demonstration, Layout, Plan},
    processes::Running,
};
use crate::{attestation::Attestation, client::SignerApi};

/// How long the committee may take until its health check says `UP`.
const UP_WAIT: Duration = Duration::from_secs(60);

/// Starts the committee, signs one attestation with it, and stays until interrupted.
///
/// # Errors
/// Whatever stands in the way, as one sentence; all processes are stopped then.
pub async fn run(args: QuickstartArgs) -> anyhow::Result<()> {
    daemon::install_crypto_provider();
    // Whole keys are here until they are split.
    daemon::harden();
    ensure!(
        args.listen.ip().is_loopback(),
        "quickstart serves plain HTTP, so it listens on loopback only, such as 127.0.0.1:9000; a real \
         deployment has TLS (docs/OPERATING.md)"
    );
    // Before anything is made: whoever listens there would be taken for the new signer-api.
    TcpListener::bind(args.listen).with_context(|| {
        format!(
            "{} is not free: give another --listen, or stop what listens there",
            args.listen
        )
    })?;
    let plan = match Plan::read(&args.dir)? {
        Some(plan) => {
            plan.agrees_with(&args, &args.dir)?;
            say(format_args!("Continuing with {}", args.dir.display()));
            plan
        }
        None => make_or_nothing(&args).await?,
    };
    let _lock = configs::lock(&args.dir)?;
    let size: CommitteeSize = plan.committee.parse()?;
    let ports = Ports::choose(size.members())?;
    let layout = Layout(&args.dir);
    configs::write_all(&layout, &plan, size, &ports, args.listen)?;

    let mut processes = make::start(&layout, size, &[])?;
    let interrupted = daemon::shutdown::signal();
    let outcome = tokio::select! {
        biased;
        () = interrupted => Ok(()),
        outcome = serve(&args, &plan, &ports, &mut processes) => outcome,
    };
    say(format_args!("Stopping {} processes", processes.len()));
    // The signer-api, started last, stops first, so that it drains while its cosigners still sign.
    for process in processes.into_iter().rev() {
        process.stop().await;
    }
    outcome
}

/// Makes a new directory. What fails half way leaves nothing behind: its keys have signed nothing, and
/// those of a keystore are still in the keystore.
async fn make_or_nothing(args: &QuickstartArgs) -> anyhow::Result<Plan> {
    let existed = args.dir.exists();
    let made = make::make(args, say).await;
    if made.is_err() {
        // It was not there, or empty.
        let _ = std::fs::remove_dir_all(&args.dir);
        if existed {
            let _ = configs::private_dir(&args.dir);
        }
    }
    made
}

/// Waits until the committee is up, signs the demonstration, and watches over the processes.
async fn serve(
    args: &QuickstartArgs,
    plan: &Plan,
    ports: &Ports,
    processes: &mut [Running],
) -> anyhow::Result<()> {
    let url = format!("http://{}", args.listen);
    let signer = SignerApi::new(&url)?;
    say(format_args!("Starting {} processes", processes.len()));
    make::await_up(&signer, processes, &args.dir, UP_WAIT).await?;
    let ids: Vec<String> = processes
        .iter()
        .filter_map(Running::id)
        .map(|id| id.to_string())
        .collect();
    say(format_args!("  up, process ids {}", ids.join(" ")));
    demonstrate(plan, &signer, &url).await?;
    say(format_args!(
        "Metrics for Prometheus: http://{}/metrics
Everything is in {}: certs/, cosigner-*/ (ledger, log), signer-api/ (log).
Interrupt with Ctrl-C; the same command continues with the same keys and ledgers.",
        ports.metrics(),
        args.dir.display(),
    ));
    watch(
        processes,
        plan.committee.parse::<CommitteeSize>()?.threshold(),
    )
    .await
}

/// Watches over the processes: says which cosigner has ended, and goes on while enough are left.
async fn watch(processes: &mut [Running], threshold: usize) -> anyhow::Result<()> {
    let mut left = processes.len().saturating_sub(1);
    let mut ends: FuturesUnordered<_> = processes.iter_mut().map(Running::watch).collect();
    while let Some((is_cosigner, error)) = ends.next().await {
        if !is_cosigner {
            return Err(error);
        }
        left = left.saturating_sub(1);
        if left < threshold {
            return Err(error.context(format!(
                "only {left} cosigners are left, {threshold} must sign"
            )));
        }
        say(format_args!(
            "{error:#}\n{left} cosigners are left and {threshold} sign: it goes on"
        ));
    }
    Ok(())
}

/// Signs the demonstration through the HTTP API, verifies it, and says what to do next.
async fn demonstrate(plan: &Plan, signer: &SignerApi, url: &str) -> anyhow::Result<()> {
    let network = Network::load(&plan.network)?;
    let chain = configs::chain(plan, &network)?;
    let attestation = attestation(plan, &network, chain);
    let validator = attestation.validator();
    let request = attestation.request().to_string();
    let signature = signer
        .sign(&validator, request.clone().into_bytes())
        .await
        .context("the demonstration was not signed")?;
    threshold::verify(&validator, attestation.signing_root(), &signature)
        .context("the signature does not verify")?;
    // Shown in part only: what a keystore's key signs here must not be published.
    let text = signature.to_string();
    let (head, tail) = text.split_at_checked(18).unwrap_or((&text, ""));
    let shown = tail
        .len()
        .checked_sub(16)
        .and_then(|at| tail.get(at..))
        .unwrap_or(tail);
    let keys = signer.public_keys().await?.len();
    say(format_args!(
        "
Signed one attestation and verified it under the validator's public key:
  validator     {validator}
  source→target {} → {}
  signing root  {}
  signature     {head}…{shown}  (made by {} shares)

Give this URL to a validator client as its Web3Signer or remote signer ({keys} key{} served):

  {url}

Ask for the same signature yourself:

  curl -s {url}/api/v1/eth2/sign/{validator} \\
    -H 'Accept: application/json' -d '{request}'
",
        plan.demonstration.source,
        plan.demonstration.target,
        attestation.signing_root(),
        plan.committee.replace("-of-", " of "),
        if keys == 1 { "" } else { "s" },
    ));
    Ok(())
}

fn attestation(plan: &Plan, network: &Network, chain: Root) -> Attestation {
    let Demonstration {
        validator,
        source,
        target,
    } = plan.demonstration;
    Attestation::new(network, chain, validator, (Epoch(source), Epoch(target)), 0)
}

/// Tells the person who started it; one who has stopped listening stops nothing.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
