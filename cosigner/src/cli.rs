//! The command line.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use clap::{Args, Parser, Subcommand};
use daemon::{
    bulk::{self, Bulk},
    config::{self, ConfigError},
    reload::Prints,
    tls,
};
use duty::{Epoch, Slot};
use slashing::{
    Database, DatabaseError, InitialHistory, OpenError, Origin,
    anchor::{AnchorError, offline},
    interchange::Imported,
};

use crate::{
    config::Settings,
    import::{self, ImportError, Said},
    sealing::Passphrase,
    server::{self, Start, Stop},
    service::since_1970,
    vault::{self, Past, VaultError},
};

/// The exit code for what the operator can mend in files and arguments.
const MISCONFIGURED: u8 = 2;

const EXAMPLES: &str = "Examples:
  cosigner run --config /etc/countersign/cosigner.toml
  cosigner run --config cosigner.toml --check
  cosigner migrate --config cosigner.toml
  cosigner import --config cosigner.toml --package cosigner-1.package \\
      --passphrase-file cosigner-1.passphrase --never-signed

COUNTERSIGN_TLS__KEY=/run/key.pem overrides `key` in [tls], COUNTERSIGN__LISTEN overrides `listen`;
COUNTERSIGN_LOG=debug sets the log level. Exit code 2: a file or an argument must be changed.

SIGHUP, or a changed file: certificates, [authority] and allow_… are taken up while it runs; the log names
what needs a restart. SIGTERM, SIGINT: nothing new is promised, and calls under way are finished within
drain_ms; a second one ends it at once.";

const IMPORT_EXAMPLES: &str = "Examples:
  # Keys that are new
  cosigner import --config cosigner.toml --package cosigner-1.package \\
      --passphrase-file cosigner-1.passphrase --never-signed

  # Keys that have signed elsewhere: the slashing protection that was exported there (EIP-3076)
  cosigner import --config cosigner.toml --package cosigner-1.package \\
      --passphrase-file cosigner-1.passphrase --history slashing-protection.json

  # The same without a file: the highest numbers of all of them, or higher ones
  cosigner import --config cosigner.toml --package cosigner-1.package \\
      --passphrase-file cosigner-1.passphrase \\
      --watermark-source 421874 --watermark-target 421875 --watermark-slot 13500031

  # A cosigner made anew for one whose database is lost
  cosigner import --config cosigner.toml --package cosigner-1.package \\
      --passphrase-file cosigner-1.passphrase --replaces-lost-member

Exactly one of the four must be said. A key that starts with less history than it has can be slashed.
`countersign keys split` makes packages and passphrases. A running cosigner takes up what is imported.";

/// Holds one share of each validator's key; signs what its own ledger permits.
#[derive(Debug, Parser)]
#[command(name = "cosigner", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve signer-apis until SIGINT or SIGTERM; SIGHUP reads the configuration again
    Run(RunArguments),
    /// Apply the migrations that the database lacks
    Migrate {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Import a share package, together with what its keys have signed before
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArguments),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Read and check the configuration and its files, print it, and end
    #[arg(long)]
    check: bool,
    /// The database was restored from a backup or an image: quarantine, whatever the anchor says
    #[arg(long)]
    restored: bool,
    /// Stops when standard input closes: for a child process.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

#[derive(Debug, Args)]
struct ImportArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The share package.
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// The file with the package's passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    /// These keys have never signed anything.
    #[arg(long)]
    never_signed: bool,
    /// What these keys have signed: an interchange file (EIP-3076, version 5) that names each of
    /// them. Of other keys in it nothing is taken. Keys and history are activated together.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The highest source epoch that any of these keys has signed.
    #[arg(long, value_name = "EPOCH", requires_all = ["watermark_target", "watermark_slot"])]
    watermark_source: Option<u64>,
    /// The highest target epoch that any of these keys has signed.
    #[arg(long, value_name = "EPOCH", requires_all = ["watermark_source", "watermark_slot"])]
    watermark_target: Option<u64>,
    /// The highest block slot that any of these keys has signed.
    #[arg(long, value_name = "SLOT", requires_all = ["watermark_source", "watermark_target"])]
    watermark_slot: Option<u64>,
    /// This cosigner is made anew for one whose database is lost: it starts at this machine's clock
    /// plus one, which must be right. Never use the other cosigners' histories for this: the lost
    /// one's last votes may be in none of them, for they were given to whoever asked only it, and
    /// one that contradicts them can be slashed.
    #[arg(long)]
    replaces_lost_member: bool,
}

/// Why the program ends with a code other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What the operator can mend: exit code 2.
    #[error("{0}")]
    Misconfigured(String),
    /// What failed: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// Runs the program: `args` begin with its name.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // To a closed pipe nothing can be said.
            let _unsaid = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(MISCONFIGURED));
        }
    };
    tls::install_crypto_provider();
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _unsaid = writeln!(io::stderr(), "cosigner: {failure}");
            match failure {
                Failure::Misconfigured(_) => ExitCode::from(MISCONFIGURED),
                Failure::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => {
            let path = arguments.file.config;
            let prints = Prints::of([&path]);
            let settings = Settings::load(&path)?;
            let prints = prints.and(settings.files(&path).prints());
            let tls = tls::mutual_server(&settings.config.tls, &settings.authority.everyone())?;
            let passphrase = Passphrase::read(&settings.config.vault.passphrase_file)?;
            if arguments.check {
                return say(&config::to_toml(&settings.config)?);
            }
            let stop = if arguments.stop_with_stdin {
                Stop::WithStdin
            } else {
                Stop::OnSignal
            };
            server::prepare(&settings)?;
            let origin = if arguments.restored {
                Origin::Restored
            } else {
                Origin::AsLeft
            };
            let start = Start {
                path,
                prints,
                settings,
                tls,
                passphrase,
                stop,
                origin,
            };
            let for_bursts = bulk::runtime().map_err(no_threads)?;
            runtime()?.block_on(server::run(start, Bulk::on(&for_bursts)))
        }
        Command::Migrate { file } => {
            let settings = Settings::load(&file.config)?;
            // Opened, not only migrated: a database of another chain is told here already.
            let (database, root) = (&settings.config.database, settings.genesis_validators_root);
            runtime()?.block_on(Database::open(database, root))?;
            say("the database's schema is current\n")
        }
        Command::Import(arguments) => import(&arguments),
    }
}

fn import(arguments: &ImportArguments) -> Result<(), Failure> {
    let said = import::history(said(arguments))?;
    daemon::harden();
    let settings = Settings::load(&arguments.file.config)?;
    let past = match said {
        Said::Stated(history) => Past::Stated(history),
        Said::InFile(path) => import::read_history(&path, settings.genesis_validators_root)?,
        Said::ByLostMember => {
            Past::Stated(import::after_lost_member(&settings.clock, since_1970())?)
        }
    };
    let start = started_at(&past);
    let vault_passphrase = Passphrase::read(&settings.config.vault.passphrase_file)?;
    let package_passphrase = Passphrase::read(&arguments.passphrase_file)?;
    let package = import::read(&arguments.package, &package_passphrase)?;
    let newcomers = import::verify(package)?;
    let count = newcomers.len();
    let history = runtime()?.block_on(async {
        let (config, root) = (&settings.config.database, settings.genesis_validators_root);
        let database = Database::open(config, root).await?;
        let expected = offline::expect(&settings.anchor, &database, settings.now()).await;
        let expected = expected.map_err(|error| Failure::Failed(error.to_string()))?;
        let mut entropy = server::Entropy::default();
        let imported = vault::import(&database, vault_passphrase, newcomers, past, &mut |bytes| {
            entropy.fill(bytes);
        })
        .await?;
        let counted = expected.count(&database).await;
        counted.map_err(|error| {
            Failure::Failed(format!(
                "the shares were imported, but the anchor does not count that: {error}"
            ))
        })?;
        entropy.check()?;
        Ok::<_, Failure>(imported)
    })?;
    if let Some(imported) = history {
        say(&told(&imported))?;
    }
    let shares = if count == 1 { "share" } else { "shares" };
    say(&format!(
        "imported {count} {shares} from {}{start}\n",
        shown(&arguments.package)
    ))
}

/// What the operator says of the keys' past, each thing that is said.
fn said(arguments: &ImportArguments) -> Vec<Said> {
    let mut said = Vec::new();
    if arguments.never_signed {
        said.push(Said::Stated(InitialHistory::NeverSigned));
    }
    said.extend(arguments.history.clone().map(Said::InFile));
    if let (Some(source), Some(target), Some(slot)) = (
        arguments.watermark_source,
        arguments.watermark_target,
        arguments.watermark_slot,
    ) {
        said.push(Said::Stated(InitialHistory::Watermark {
            source: Epoch(source),
            target: Epoch(target),
            slot: Slot(slot),
        }));
    }
    if arguments.replaces_lost_member {
        said.push(Said::ByLostMember);
    }
    said
}

/// The heights from which the keys start, if those are known before they are imported.
fn started_at(past: &Past) -> String {
    match past {
        Past::Stated(InitialHistory::Watermark {
            source,
            target,
            slot,
        }) => format!(
            ": they sign attestations from source epoch {source}, above target epoch {target}, and \
             blocks above slot {slot}"
        ),
        Past::Stated(InitialHistory::NeverSigned) | Past::InFile { .. } => String::new(),
    }
}

/// What came of a file of what keys have signed.
fn told(imported: &Imported) -> String {
    let mut text = format!("history: {} entries\n", imported.entries);
    for validator in &imported.minified {
        text += &format!(
            "history: entries of {validator} are SLASHABLE together: only the highest count\n"
        );
    }
    text
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn say(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// A runtime with threads for half of the processors: the others compute, on threads that may be held,
/// and each change of threads costs a request as much as reading it.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.div_ceil(2))
        .enable_all()
        .build()
        .map_err(no_threads)
}

fn no_threads(error: io::Error) -> Failure {
    Failure::Failed(format!("the system gives no threads: {error}"))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Misconfigured(error.to_string())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Config(_) | DatabaseError::AnotherChain { .. } => {
                Self::Misconfigured(error.to_string())
            }
            DatabaseError::Unavailable(_) | DatabaseError::Schema(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Database(error) => error.into(),
            // Started again by the service manager, it succeeds the other.
            OpenError::Anchor(AnchorError::InUse(_) | AnchorError::Stopping)
            | OpenError::Held(_)
            | OpenError::Randomness(_) => Self::Failed(error.to_string()),
            OpenError::Anchor(AnchorError::File { .. })
            | OpenError::Implausible(_)
            | OpenError::Unraisable(_) => Self::Misconfigured(error.to_string()),
        }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Locked(_)
            | VaultError::History { .. }
            | VaultError::NotInHistory { .. }
            | VaultError::NothingInHistory { .. } => Self::Misconfigured(error.to_string()),
            VaultError::Unavailable(_)
            | VaultError::Share { .. }
            | VaultError::Header(_)
            | VaultError::AlreadyHeld(_)
            | VaultError::Uncounted(_)
            | VaultError::Register(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Config(error) => error.into(),
            ImportError::Database(error) => error.into(),
            ImportError::Vault(error) => error.into(),
            ImportError::Package { .. } | ImportError::History { .. } => {
                Self::Misconfigured(error.to_string())
            }
            ImportError::Members(_)
            | ImportError::Empty
            | ImportError::Twice(_)
            | ImportError::Share { .. }
            | ImportError::System(_) => Self::Failed(error.to_string()),
        }
    }
}
