//! Making a committee in a directory, and starting its processes.

use std::{
    ffi::OsString,
    fmt::Arguments,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use daemon::network::Network;
use duty::{Epoch, Slot};
use threshold::CommitteeSize;

use super::{
    ClockMode, QuickstartArgs,
    configs::{self, Ports},
    keys::{self, History},
    plan::{Demonstration, Layout, Plan},
    postgres,
    processes::Running,
};
use crate::{certs, client::SignerApi};

/// Tells whoever asked what has been done.
pub(crate) type Tell = fn(Arguments<'_>);

/// Makes a new directory: certificates, keys, shares, ledgers. The plan is written last.
pub(crate) async fn make(args: &QuickstartArgs, tell: Tell) -> anyhow::Result<Plan> {
    let size = args
        .committee
        .map_or_else(|| CommitteeSize::new(3, 4), Ok)?;
    let name = args.network.clone().unwrap_or_else(|| "hoodi".to_owned());
    let network = Network::load(&name)?;
    let clock = args.clock.unwrap_or(ClockMode::Checked);
    let layout = Layout(&args.dir);
    tell(format_args!(
        "Making a {size} committee for {name} in {}",
        args.dir.display()
    ));
    let packages = keys::packages(args, size)?;
    configs::private_dir(&args.dir)?;
    tell(format_args!(
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
    tell(format_args!(
        "  {} validator{} split; every cosigner holds one share of each, nothing holds a key",
        validators.len(),
        if validators.len() == 1 { "" } else { "s" }
    ));
    if args.keystore.is_some() {
        tell(format_args!(
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

/// Starts all cosigners and the signer-api, which comes last. `environment` overrides what the
/// signer-api's configuration file says.
pub(crate) fn start(
    layout: &Layout<'_>,
    size: CommitteeSize,
    environment: &[(String, String)],
) -> anyhow::Result<Vec<Running>> {
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
            &[],
        )?);
    }
    let home = layout.signer_api();
    let config = home.join("signer-api.toml");
    processes.push(Running::start(
        "signer-api",
        &arguments("signer-api", &config),
        &home.join("signer-api.log"),
        environment,
    )?);
    Ok(processes)
}

/// Waits until the committee's health check says `UP`.
///
/// # Errors
/// If a process ends, or the committee is not up after `wait`.
pub(crate) async fn await_up(
    signer: &SignerApi,
    processes: &mut [Running],
    dir: &Path,
    wait: Duration,
) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + wait;
    while !signer.is_up().await {
        for process in processes.iter_mut() {
            process.check()?;
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the committee is not up after {wait:?}: see the logs in {}",
                dir.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
