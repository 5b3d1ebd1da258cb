//! From nothing, or from an earlier run's directory, to a committee that signs.

use std::{
    ffi::OsString,
    io::Write,
    net::TcpListener,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use daemon::network::Network;
use duty::{Epoch, Root, Slot};
use futures_util::{StreamExt, stream::FuturesUnordered};
use threshold::CommitteeSize;

use super::{
    ClockMode, QuickstartArgs,
    configs::{self, Ports},
    keys::{self, History},
    plan::{Demonstration, Layout, Plan},
    postgres,
    processes::Running,
};
use crate::{attestation::Attestation, certs, client::SignerApi};

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

    let mut processes = start(&layout, size)?;
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
    let made = make(args).await;
    if made.is_err() {
        // It was not there, or empty.
        let _ = std::fs::remove_dir_all(&args.dir);
        if existed {
            let _ = configs::private_dir(&args.dir);
        }
    }
    made
}

/// Makes a new directory: certificates, keys, shares, ledgers. The plan is written last.
async fn make(args: &QuickstartArgs) -> anyhow::Result<Plan> {
    let size = args
        .committee
        .map_or_else(|| CommitteeSize::new(3, 4), Ok)?;
    let name = args.network.clone().unwrap_or_else(|| "hoodi".to_owned());
    let network = Network::load(&name)?;
    let clock = args.clock.unwrap_or(ClockMode::Checked);
    let layout = Layout(&args.dir);
    say(format_args!(
        "Making a {size} committee for {name} in {}",
        args.dir.display()
    ));
    let packages = keys::packages(args, size)?;
    configs::private_dir(&args.dir)?;
    say(format_args!(
        "  certificates: a CA, {} cosigners, a signer-api",
        size.members()
    ));
    certs::write_committee(&layout.certificates(), size.members())?;

    let postgres = args
        .postgres
        .as_deref()
        .map(postgres::without_password)
        .transpose()?;
    let (postgres, password) = postgres.unzip();
    let (history, votes) = history_and_votes(args, &network, clock)?;
    let mut plan = Plan {
        committee: size.to_string(),
        network: name,
        genesis_validators_root: args.genesis_validators_root,
        genesis_time: args.genesis_time,
        clock,
        postgres,
        validators: args
            .keystore
            .is_none()
            .then_some(args.validators.unwrap_or(1)),
        keystore: args.keystore.clone(),
        demonstration: Demonstration {
            validator: duty::PublicKey([0; 48]),
            source: votes.0.0,
            target: votes.1.0,
        },
    };
    let password = password.flatten();
    let password = password.as_ref().map(|password| password.as_str());
    configs::prepare(&layout, &plan, size, password).await?;
    configs::write_all(
        &layout,
        &plan,
        size,
        &Ports::choose(size.members())?,
        args.listen,
    )?;
    let validators = keys::import(&layout, packages, history).await?;
    plan.demonstration.validator = *validators.first().context("no validator was made")?;
    say(format_args!(
        "  {} validator{} split; every cosigner holds one share of each, nothing holds a key",
        validators.len(),
        if validators.len() == 1 { "" } else { "s" }
    ));
    if args.keystore.is_some() {
        say(format_args!(
            "  the keystore's key must not sign anywhere else from now on: remove it from every \
             validator client\n  and signer before you go on, or it can be slashed"
        ));
    }
    plan.write(&args.dir)?;
    Ok(plan)
}

/// What imported keys may have signed, and the source and target epoch of the demonstration.
///
/// A key made here has signed nothing. A key from a keystore may have signed until a moment ago, so
/// its watermark is set to now: nothing that it can have signed before conflicts with anything above.
fn history_and_votes(
    args: &QuickstartArgs,
    network: &Network,
    clock: ClockMode,
) -> anyhow::Result<(History, (Epoch, Epoch))> {
    let genesis = args.genesis_time.or(network.genesis_time());
    let slot = match (clock, genesis) {
        (ClockMode::Unchecked, _) | (ClockMode::Checked, None) => None,
        (ClockMode::Checked, Some(genesis)) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            now.saturating_sub(genesis)
                .checked_div(network.seconds_per_slot())
                .map(Slot)
        }
    };
    let Some(slot) = slot else {
        return Ok((History::NeverSigned, (Epoch(0), Epoch(0))));
    };
    let now = network.epoch_of(slot);
    let previous = Epoch(now.0.saturating_sub(1));
    if args.keystore.is_none() {
        return Ok((History::NeverSigned, (previous, now)));
    }
    let history = History::UpTo {
        source: previous,
        target: now,
        slot,
    };
    Ok((history, (previous, Epoch(now.0.saturating_add(1)))))
}

/// Starts all cosigners and the signer-api.
fn start(layout: &Layout<'_>, size: CommitteeSize) -> anyhow::Result<Vec<Running>> {
    let mut processes = Vec::new();
    let arguments = |server: &str, config: &Path| -> Vec<OsString> {
        [
            "--config".as_ref(),
            config.as_os_str(),
            "--stop-with-stdin".as_ref(),
        ]
        .iter()
        .fold(
            vec![server.into(), "run".into()],
            |mut arguments, argument| {
                arguments.push((*argument).to_owned());
                arguments
            },
        )
    };
    for number in configs::numbers(size) {
        let home = layout.cosigner(number);
        let config = home.join("cosigner.toml");
        processes.push(Running::start(
            &format!("cosigner-{number}"),
            &arguments("cosigner", &config),
            &home.join("cosigner.log"),
        )?);
    }
    let home = layout.signer_api();
    let config = home.join("signer-api.toml");
    processes.push(Running::start(
        "signer-api",
        &arguments("signer-api", &config),
        &home.join("signer-api.log"),
    )?);
    Ok(processes)
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
    let deadline = tokio::time::Instant::now() + UP_WAIT;
    say(format_args!("Starting {} processes", processes.len()));
    while !signer.is_up().await {
        for process in processes.iter_mut() {
            process.check()?;
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the committee is not up after {UP_WAIT:?}: see the logs in {}",
                args.dir.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
