//! The command line, and the process' life: read, start, serve, drain.

use std::{
    ffi::OsString,
    future::Future,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use axum::response::IntoResponse;
use clap::{Parser, Subcommand};
use daemon::{
    bulk::{self, Bulk},
    config::{self, ConfigError},
    metrics::Registry,
    network::Network,
    reload::{self, Hangups, Prints, ReloadNumbers},
    serve::{self, Drain, HttpLimits, Listener, ListenerLimits},
    shutdown, telemetry, tls,
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::{
    admission::Admission,
    config::Config,
    cosigners::Cosigners,
    cpu::Cpu,
    metrics::{Metrics, PeerCertificates},
    reload::{Taking, http_tls},
    reply::Refused,
    routes::{self, App, Live},
    signing::Signing,
    validators::Validators,
};

/// The exit code for a command line or a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// How long what is still under way behind the drain may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "Examples:
  signer-api run --config /etc/countersign/signer-api.toml
  signer-api run --config signer-api.toml --check

COUNTERSIGN_TLS__KEY=/run/key.pem overrides `key` in [tls], COUNTERSIGN__LISTEN overrides `listen`;
COUNTERSIGN_LOG=debug sets the log level. Exit code 2: a file or an argument must be changed.

SIGHUP, or a changed file: certificates, addresses of cosigners, allowed_hosts and deadlines are taken
up while it runs; the log names what needs a restart. SIGTERM, SIGINT: /healthcheck says DOWN, and after
stop_delay_ms the port is closed and requests under way are answered within drain_ms; a second one ends
it at once.";

/// Speaks Web3Signer to validator clients; signs with a committee of cosigners.
#[derive(Parser)]
#[command(name = "signer-api", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve validator clients until SIGINT or SIGTERM; SIGHUP reads the configuration again
    Run {
        /// The configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Read and check the configuration and its files, print it, and end
        #[arg(long)]
        check: bool,
        /// Stops when standard input closes, so that a parent's death is the end.
        #[arg(long, hide = true)]
        stop_with_stdin: bool,
    },
}

/// Runs `args`, the first of which is the program's name, to its end.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output with code 0, errors to standard error.
            let code = if error.use_stderr() { UNUSABLE } else { 0 };
            // There is nobody left to tell that it could not be said.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let Command::Run {
        config,
        check,
        stop_with_stdin,
    } = arguments.command;
    tls_provider();
    let done = if check {
        check_only(&config)
    } else {
        serve_until_stopped(&config, stop_with_stdin)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "signer-api: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn tls_provider() {
    daemon::install_crypto_provider();
}

fn check_only(path: &std::path::Path) -> Result<(), ConfigError> {
    let config = Config::load(path)?;
    let text = config::to_toml(&config)?;
    Network::load(&config.network)?;
    http_tls(&config)?;
    for cosigner in &config.cosigners {
        tls::mutual_client(&config.tls, &cosigner.san)?;
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn serve_until_stopped(path: &std::path::Path, stop_with_stdin: bool) -> Result<(), ConfigError> {
    let prints = Prints::of([path]);
    let config = Config::load(path)?;
    let prints = prints.and(config.files(path).prints());
    telemetry::init(config.log_format)?;
    daemon::harden();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let for_bursts = bulk::runtime().map_err(no_runtime)?;
    let bulk = Bulk::on(&for_bursts);
    let served = runtime.block_on(async {
        let (stop, hangups) = (stop(stop_with_stdin), Hangups::listen());
        let watched = Watched {
            path: path.to_owned(),
            prints,
            hangups,
        };
        serve(config, watched, stop, bulk).await
    });
    // Requests were drained; what still runs is health checks and connections to cosigners. They end
    // before the process does: its end takes the source of random numbers away, and a handshake
    // that needs one then aborts. A name that is being looked up may not keep the process for long.
    let ended_by = Instant::now() + END_WITHIN;
    runtime.shutdown_timeout(END_WITHIN);
    for_bursts.shutdown_timeout(ended_by.saturating_duration_since(Instant::now()));
    served
}

fn no_runtime(error: io::Error) -> ConfigError {
    ConfigError::new(format!("no runtime can be started: {error}"))
}

/// Ends when the process shall stop.
fn stop(with_stdin: bool) -> impl Future<Output = ()> + Send {
    let signal = shutdown::signal();
    let stdin = with_stdin.then(shutdown::when_stdin_closes);
    async move {
        match stdin {
            None => signal.await,
            Some(stdin) => {
                tokio::select! {
                    () = signal => {}
                    () = stdin => {}
                }
            }
        }
    }
}

/// What is read again when it changes.
struct Watched {
    path: PathBuf,
    /// What the files held before they were read.
    prints: Prints,
    hangups: Hangups,
}

impl Watched {
    /// Takes up changes until it is dropped.
    fn watch(
        self,
        started: Config,
        listener: &Listener,
        app: &Arc<App>,
        numbers: ReloadNumbers,
    ) -> impl Future<Output = ()> + use<> {
        let files = started.files(&self.path);
        let taking = Arc::new(Taking {
            path: self.path,
            started,
            http_tls: listener.tls(),
            app: Arc::clone(app),
        });
        reload::watch(taking, self.hangups, files, self.prints, numbers)
    }
}

async fn serve(
    config: Config,
    watched: Watched,
    stop: impl Future<Output = ()> + Send + 'static,
    bulk: Bulk,
) -> Result<(), ConfigError> {
    let committee = config.committee()?;
    let network = Arc::new(Network::load(&config.network)?);
    let tls = http_tls(&config)?;
    if tls.is_none() && !config.listen.ip().is_loopback() {
        warn!(listen = %config.listen, "requests and signatures can be read on their way");
    }
    let mut registry = Registry::default();
    let app = build(&config, network, committee, bulk, &mut registry)?;
    let limits = ListenerLimits {
        connections_max: config.connections_max,
        connections_per_address_max: config.connections_per_address_max,
        ..ListenerLimits::default()
    };
    let listener = Listener::bind(config.listen, tls, limits).await?;
    listener
        .counters()
        .register(registry.sub_registry_with_prefix("countersign_http"));
    let numbers = ReloadNumbers::default();
    numbers.register(registry.sub_registry_with_prefix("countersign"));
    registry.register_collector(Box::new(PeerCertificates(Arc::clone(&app.cosigners))));
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    if let Some(metrics) = &config.metrics {
        let mut stopped = stopped.clone();
        let until = async move {
            // An error says that this process is ending anyway.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let address = daemon::metrics::serve(metrics.listen, registry, until).await?;
        info!(%address, "metrics are served");
    }
    info!(
        address = %listener.address(),
        committee = %committee,
        tolerated_faults = committee.tolerated_faults(),
        tolerated_absences = committee.tolerated_absences(),
        network = config.network,
        "serving; slashable messages are safe while no more than tolerated_faults cosigners are \
         faulty, and signatures are made while no more than tolerated_absences are absent"
    );
    let http = HttpLimits {
        keep_alive: Duration::from_millis(config.keep_alive_ms),
        ..HttpLimits::default()
    };
    let watching = watched.watch(config, &listener, &app, numbers);
    let watching = tokio::spawn(watching);
    let (told, was_told) = tokio::sync::oneshot::channel();
    let end = begin_to_stop(Arc::clone(&app), stop, told);
    tokio::select! {
        () = serve::http(listener, routes::router(app), http, end) => {}
        () = told_again(was_told) => warn!("told to stop again: what is under way is cut off"),
    }
    watching.abort();
    stopping.send_replace(true);
    info!("stopped");
    Ok(())
}

/// Waits until the process shall stop, says so in the health check, and for how long the end may take.
async fn begin_to_stop(
    app: Arc<App>,
    stop: impl Future<Output = ()>,
    told: oneshot::Sender<()>,
) -> Drain {
    stop.await;
    // Nobody hears it if serving has ended by itself.
    let _ = told.send(());
    app.stopping.store(true, Ordering::Relaxed);
    let stop_delay = app.live.load().stop_delay;
    if !stop_delay.is_zero() {
        info!(
            ?stop_delay,
            "stopping: the health check says so, and nothing else changes yet"
        );
        tokio::time::sleep(stop_delay).await;
    }
    let drain = app.live.load().drain;
    info!(
        ?drain,
        "stopping: no new connection; what is under way is answered"
    );
    Drain {
        within: drain,
        too_late: || Refused::stopping().into_response(),
    }
}

/// Ends with the first signal after the one that began the end.
async fn told_again(was_told: oneshot::Receiver<()>) {
    match was_told.await {
        Ok(()) => shutdown::signal().await,
        Err(_) => std::future::pending().await,
    }
}

pub(crate) fn build(
    config: &Config,
    network: Arc<Network>,
    committee: threshold::CommitteeSize,
    bulk: Bulk,
    registry: &mut Registry,
) -> Result<Arc<App>, ConfigError> {
    let metrics = Arc::new(Metrics::new(registry));
    let cpu = Cpu::start()
        .map_err(|error| ConfigError::new(format!("no thread can be started: {error}")))?;
    let cosigners = Arc::new(Cosigners::open(config, &metrics)?);
    let validators = Validators::discover(Arc::clone(&cosigners), committee, Arc::clone(&metrics));
    let leads = config.lead.then(|| committee.threshold());
    let signing = Signing::new(
        Arc::clone(&cosigners),
        cpu.clone(),
        Arc::clone(&metrics),
        leads,
    );
    Ok(Arc::new(App {
        network,
        live: ArcSwap::from_pointee(Live::of(config)),
        stopping: AtomicBool::new(false),
        threshold_min: config.threshold_min,
        admission: Admission::new(
            config.requests_max,
            config.body_memory_mib.saturating_mul(1024 * 1024),
        )
        .within(config.deadline()),
        cpu,
        bulk,
        cosigners,
        validators,
        signing,
        metrics,
    }))
}
