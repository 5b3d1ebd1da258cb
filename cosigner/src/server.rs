//! One cosigner, from its configuration to its end.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use daemon::{
    bulk::Bulk,
    reload::{self, Hangups, Prints, ReloadNumbers},
    serve::{Listener, ListenerLimits},
    shutdown, telemetry,
    tls::ServerTls,
};
use slashing::{Database, Ledger, LedgerLimits, Opening, Origin};
use threshold::CommitteeSize;
use tracing::{info, warn};

use crate::{
    cli::Failure,
    clock::Clock,
    config::Settings,
    metrics::Metrics,
    pruning,
    reload::Taking,
    sealing::Passphrase,
    service::{self, Parts, Service, Signers},
    vault::{Listing, Shares, Vault},
};

/// How often the database is asked for newly imported shares.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// How long the ledger's orderly end may take, besides what it waits for its database.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

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

/// What a cosigner is started with.
pub(crate) struct Start {
    /// The configuration's file, of which changes are taken up.
    pub(crate) path: PathBuf,
    /// What it held, and what those files held that it names, before they were read.
    pub(crate) prints: Prints,
    pub(crate) settings: Settings,
    pub(crate) tls: ServerTls,
    pub(crate) passphrase: Passphrase,
    pub(crate) stop: Stop,
    pub(crate) origin: Origin,
}

/// Serves until it is told to stop.
pub(crate) async fn run(start: Start, bulk: Bulk) -> Result<(), Failure> {
    // Listened for from the start, so that a signal during the start is not lost.
    let (signal, hangups) = (shutdown::signal(), Hangups::listen());
    let settings = &start.settings;
    let config = &settings.config;
    let database = Database::open(&config.database, settings.genesis_validators_root).await?;
    let mut entropy = Entropy::default();
    let vault = Vault::open(database.clone(), start.passphrase, &mut |bytes| {
        entropy.fill(bytes)
    })
    .await?;
    entropy.check()?;
    let vault = Arc::new(vault);
    let metrics = Arc::new(Metrics::default());
    introduce(settings, &vault.listing(), &metrics);
    let ledger = open_ledger(settings, database.clone(), start.origin).await?;
    let service = service(settings, &vault, &ledger, bulk, &metrics);
    let limits = ListenerLimits::default();
    let listener = Listener::bind(config.listen, Some(start.tls), limits).await?;
    let (mut registry, numbers) = (metrics.registry(), ReloadNumbers::default());
    listener.counters().register(&mut registry);
    numbers.register(&mut registry);
    if let Some(section) = &config.metrics {
        let forever = std::future::pending();
        let address = daemon::metrics::serve(section.listen, registry, forever).await?;
        info!(%address, "serving metrics");
    }
    let taking = Arc::new(Taking {
        path: start.path.clone(),
        started: config.clone(),
        tls: listener.tls(),
        authority: settings.authority.clone().into(),
        database,
        service,
        drain_ms: Arc::new(config.drain_ms.into()),
    });
    let keep = pruning::Keep::of(settings);
    let background = [
        tokio::spawn(keep_reloading(vault, metrics)),
        tokio::spawn(pruning::keep_pruning(ledger.clone(), keep)),
        tokio::spawn(reload::watch(
            Arc::clone(&taking),
            hangups,
            settings.files(&start.path),
            start.prints,
            numbers,
        )),
    ];
    info!(address = %listener.address(), "serving signer-apis");
    let served = tokio::select! {
        served = serve(listener, &taking, signal, start.stop) => served,
        name = ledger.lost() => Err(Failure::Failed(format!(
            "another cosigner ({name}) has taken the ledger: stop one of the two; a new start waits \
             for the other's end"
        ))),
    };
    background.iter().for_each(tokio::task::JoinHandle::abort);
    // What a database or a disk does must not keep the process for ever.
    let closing = settings.ledger_wait.saturating_mul(2) + CLOSE_WAIT;
    if tokio::time::timeout(closing, ledger.close()).await.is_err() {
        warn!("the ledger could not be closed in order: its database or its disk hangs");
    }
    info!("stopped");
    served
}

fn service(
    settings: &Settings,
    vault: &Arc<Vault>,
    ledger: &Ledger,
    bulk: Bulk,
    metrics: &Arc<Metrics>,
) -> Arc<Service> {
    let shares = Arc::clone(vault);
    Service::new(Parts {
        vault: shares,
        signers: Signers::new(),
        bulk,
        time: Box::new(service::since_1970),
        ledger: ledger.clone(),
        clock: settings.clock,
        promises_max: settings.promises_max(vault.listing().reports.len()),
        genesis_validators_root: settings.genesis_validators_root,
        slots_per_epoch: settings.slots_per_epoch,
        allow_voluntary_exits: settings.config.allow_voluntary_exits,
        allow_deposits: settings.config.allow_deposits,
        metrics: Arc::clone(metrics),
        ledger_wait: settings.ledger_wait,
    })
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
    taking: &Taking,
    signal: impl Future<Output = ()>,
    stop: Stop,
) -> Result<(), Failure> {
    let service = Arc::clone(&taking.service);
    let router = service::router(Arc::clone(&service), taking.authority.clone());
    let connections = listener.into_stream();
    let closer = connections.closer();
    // Graceful, but not by this signal: when the connections come to an end, the last is with them.
    let serving = router.serve_with_incoming_shutdown(connections, std::future::pending());
    let mut serving = std::pin::pin!(serving);
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
        () = told => {}
    }
    let again = shutdown::signal();
    let drain = Duration::from_millis(taking.drain_ms.load(Ordering::Relaxed));
    info!(
        ?drain,
        "stopping: no new promise, no new call; what is under way is finished"
    );
    service.stop();
    closer.close();
    let cut_off = async {
        tokio::select! {
            () = tokio::time::sleep(drain) => {}
            () = again => {}
        }
    };
    tokio::select! {
        ended = serving => ended.map_err(failed),
        () = cut_off => {
            warn!("calls that are still under way are cut off");
            Ok(())
        }
    }
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
