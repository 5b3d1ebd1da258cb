//! One cosigner, from its configuration to its end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use daemon::{
    serve::{Listener, ListenerLimits},
    shutdown, telemetry,
};
use rustls::ServerConfig;
use slashing::{Database, Ledger, LedgerLimits, Opening, Origin};
use threshold::CommitteeSize;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    cli::Failure,
    clock::Clock,
    config::Settings,
    metrics::Metrics,
    pruning,
    sealing::Passphrase,
    service::{self, Parts, Service, Signers},
    vault::{Listing, Shares, Vault},
};

/// How often the database is asked for newly imported shares.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// How long calls that are under way may take when the process stops.
const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// What ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGINT or SIGTERM.
    OnSignal,
    /// These, and the end of standard input.
    WithStdin,
}

/// The system's randomness, for whoever cannot return an error.
#[derive(Default)]
pub(crate) struct Entropy {
    failed: Option<getrandom::Error>,
}

impl Entropy {
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            self.failed = Some(error);
        }
    }

    /// Whether everything that was filled is random.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.failed {
            None => Ok(()),
            Some(error) => Err(Failure::Failed(format!(
                "the system gives no randomness: {error}"
            ))),
        }
    }
}

/// What comes before any thread and any secret: logs, and hardening.
pub(crate) fn prepare(settings: &Settings) -> Result<(), Failure> {
    telemetry::init(settings.config.log.format)?;
    daemon::harden();
    Ok(())
}

/// Serves until it is told to stop.
pub(crate) async fn run(
    settings: Settings,
    tls: Arc<ServerConfig>,
    passphrase: Passphrase,
    stop: Stop,
    origin: Origin,
) -> Result<(), Failure> {
    // Listened for from the start, so that a signal during the start is not lost.
    let signal = shutdown::signal();
    let config = &settings.config;
    let database = Database::open(&config.database, settings.genesis_validators_root).await?;
    let mut entropy = Entropy::default();
    let vault = Vault::open(database.clone(), passphrase, &mut |bytes| {
        entropy.fill(bytes)
    })
    .await?;
    entropy.check()?;
    let vault = Arc::new(vault);
    let metrics = Arc::new(Metrics::default());
    let listing = vault.listing();
    introduce(&settings, &listing, &metrics);
    let ledger = open_ledger(&settings, database, origin).await?;
    let shares = Arc::clone(&vault);
    let service = Service::new(Parts {
        vault: shares,
        signers: Signers::new(),
        time: Box::new(service::since_1970),
        ledger: ledger.clone(),
        clock: settings.clock,
        promises_max: settings.promises_max(listing.reports.len()),
        genesis_validators_root: settings.genesis_validators_root,
        slots_per_epoch: settings.slots_per_epoch,
        allow_voluntary_exits: config.allow_voluntary_exits,
        allow_deposits: config.allow_deposits,
        metrics: Arc::clone(&metrics),
        ledger_wait: settings.ledger_wait,
    });
    let listener = Listener::bind(config.listen, Some(tls), ListenerLimits::default()).await?;
    let mut registry = metrics.registry();
    listener.counters().register(&mut registry);
    if let Some(section) = &config.metrics {
        let forever = std::future::pending();
        let address = daemon::metrics::serve(section.listen, registry, forever).await?;
        info!(%address, "serving metrics");
    }
    let reloading = tokio::spawn(keep_reloading(vault, metrics));
    let pruning = tokio::spawn(pruning::keep_pruning(
        ledger.clone(),
        pruning::Keep::of(&settings),
    ));
    info!(address = %listener.address(), "serving signer-apis");
    let served = tokio::select! {
        served = serve(listener, service, &settings, signal, stop) => served,
        name = ledger.lost() => Err(Failure::Failed(format!(
            "another cosigner ({name}) has taken the ledger: stop one of the two; a new start waits \
             for the other's end"
        ))),
    };
    reloading.abort();
    pruning.abort();
    ledger.close().await;
    info!("stopped");
    served
}

/// Takes the ledger. One that may have forgotten something is quarantined by that.
async fn open_ledger(
    settings: &Settings,
    database: Database,
    origin: Origin,
) -> Result<Ledger, Failure> {
    let limits = LedgerLimits {
        ledger_wait: settings.ledger_wait,
        ..LedgerLimits::default()
    };
    let clock = settings.clock;
    let opening = Opening {
        limits,
        anchor: settings.anchor.clone(),
        time: Arc::new(move || clock.position(service::since_1970())),
        origin,
    };
    Ok(Ledger::open(database, opening).await?)
}

async fn serve(
    listener: Listener,
    service: Arc<Service>,
    settings: &Settings,
    signal: impl Future<Output = ()>,
    stop: Stop,
) -> Result<(), Failure> {
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = service::router(service, settings.authority.clone());
    let mut serving = std::pin::pin!(router.serve_with_incoming_shutdown(
        listener.into_stream(),
        async move {
            // Either way it is the end.
            let _told = stopped.await;
        }
    ));
    let failed = |error: tonic::transport::Error| Failure::Failed(error.to_string());
    let told = async {
        match stop {
            Stop::OnSignal => signal.await,
            Stop::WithStdin => tokio::select! {
                () = signal => {}
                () = shutdown::when_stdin_closes() => {}
            },
        }
    };
    tokio::select! {
        ended = &mut serving => return ended.map_err(failed),
        () = told => info!("stopping: no new calls"),
    }
    drop(stopping);
    timeout(DRAIN_WAIT, serving)
        .await
        .unwrap_or_else(|_| {
            warn!("calls that are still under way are cut off");
            Ok(())
        })
        .map_err(failed)
}

/// Says what an operator must know of this start.
fn introduce(settings: &Settings, listing: &Listing, metrics: &Metrics) {
    if settings.clock == Clock::Unchecked {
        metrics.clock_unchecked();
        warn!(
            "THE CLOCK IS UNCHECKED: claims far in the future are signed, after which a validator \
             can sign nothing before them. Only for replaying recorded requests: set \
             clock = \"checked\""
        );
    }
    if settings.config.allow_voluntary_exits {
        warn!("voluntary exits are signed: allow_voluntary_exits is set");
    }
    if settings.config.allow_deposits {
        warn!("deposits are signed: allow_deposits is set");
    }
    info!(
        validators = listing.reports.len(),
        network = settings.config.network,
        genesis_validators_root = %settings.genesis_validators_root,
        "shares are loaded"
    );
    tell_committees(listing, metrics, &mut BTreeSet::new());
}

/// Logs and exports the tolerances of each size of committee once.
fn tell_committees(listing: &Listing, metrics: &Metrics, told: &mut BTreeSet<(usize, usize)>) {
    metrics.validators(u64::try_from(listing.reports.len()).unwrap_or(u64::MAX));
    for report in &listing.reports {
        let (t, n) = (report.commitments.len(), report.members.len());
        let Ok(size) = CommitteeSize::new(t, n) else {
            continue;
        };
        if told.insert((t, n)) {
            metrics.committee(size);
            info!(
                committee = %size,
                tolerated_faults = size.tolerated_faults(),
                tolerated_absences = size.tolerated_absences(),
                "a committee of this cosigner"
            );
        }
    }
}

/// Picks up imported shares without a restart.
async fn keep_reloading(vault: Arc<Vault>, metrics: Arc<Metrics>) {
    let mut told = BTreeSet::new();
    let mut failing = false;
    let mut generation = vault.listing().generation;
    loop {
        tokio::time::sleep(RELOAD_EVERY).await;
        match vault.reload().await {
            Ok(_) => failing = false,
            // Once an outage, not once a second.
            Err(_) if failing => {}
            Err(error) => {
                failing = true;
                warn!(%error, "newly imported shares cannot be loaded");
            }
        }
        let listing = vault.listing();
        if listing.generation != generation {
            generation = listing.generation;
            info!(validators = listing.reports.len(), "shares were imported");
            tell_committees(&listing, &metrics, &mut told);
        }
    }
}
