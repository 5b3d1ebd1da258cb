//! `countersign ledger`: histories in and out, and the orders that a committee's ledgers take.
//!
//! Online, a command goes to every cosigner of a committee at once and says of each whether it
//! confirmed; the exit code is 0 only if all did. Offline, it works on one cosigner's database
//! through the same code as the cosigner itself. Nothing here lowers a ratchet.

mod committee;
mod online;
mod orders;

mod files;
mod history;
mod offline;

mod meaning;
mod screen;
mod words;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{bail, ensure};
use clap::{ArgGroup, Subcommand};
use duty::{Epoch, PublicKey, Slot};
use slashing::{
    administration::{Freezing, Stop, Whom},
    rules::Watermark,
};

use committee::Place;
pub use committee::{Target, Whose};
use files::Existing;
use orders::Order;

/// Examples of the commands together.
pub const EXAMPLES: &str = "Examples:
  countersign ledger status --committee signer-api.toml --certs certs
  countersign ledger freeze --all --committee signer-api.toml --certs certs
  countersign ledger export --committee signer-api.toml --certs certs --out histories

Every command goes to all cosigners at once and says of each whether it confirmed. Exit code 0: all
did; 1: not all, and what that means for the committee is said; 2: the command line is wrong.";

/// The highest number that a ledger holds.
const HEIGHT_MAX: u64 = i64::MAX.unsigned_abs();

/// What to do with ledgers.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Write histories as slashing-protection interchange files (EIP-3076)
    Export(ExportArgs),
    /// Take an interchange file into every ledger; nothing is ever lowered by it
    Import(ImportArgs),
    /// Make one interchange file of several: the union, and the highest watermarks
    Merge(MergeArgs),
    /// Stop signing at a height, for a planned migration to another signer
    StopAt(StopAtArgs),
    /// Raise low watermarks: what is not above them is never signed
    Raise(RaiseArgs),
    /// Stop validators from signing anything, of whatever kind, from now on
    Freeze(FreezeArgs),
    /// Let frozen validators sign again
    Unfreeze(UnfreezeArgs),
    /// Show what is true of every ledger: identity, size, freezes, stops, quarantine
    Status(StatusArgs),
}

const EXPORT_EXAMPLES: &str = "Examples:
  # Every cosigner's, as histories/cosigner-1.json and so on; then one file of them
  countersign ledger export --committee signer-api.toml --certs certs --out histories
  countersign ledger merge histories/*.json --out history.json

  # One cosigner's, to standard output
  countersign ledger export --cosigner 10.0.0.1:9100=cosigner-1 --certs certs --out -

  # From the database of a cosigner that does not run
  countersign ledger export --config cosigner.toml --out history.json

A history is a picture of the moment. Before another signer takes over, stop this one for good: see
countersign ledger stop-at --help and freeze --help.";

/// Arguments of `countersign ledger export`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    #[command(flatten)]
    whose: Whose,
    /// The file to write, or - for standard output; a directory if several cosigners are asked
    #[arg(long, value_name = "FILE|DIR|-")]
    out: PathBuf,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    /// Only these validators' histories [default: all]
    #[arg(value_name = "KEY")]
    keys: Vec<PublicKey>,
}

const IMPORT_EXAMPLES: &str = "Examples:
  # What another signer wrote, into every cosigner
  countersign ledger import history.json --committee signer-api.toml --certs certs

  # Into the database of a cosigner that does not run
  countersign ledger import history.json --config cosigner.toml

Each cosigner takes the file whole or not at all. Ratchets rise to what the file holds and are never
lowered, so that taking a file twice, or an old one, does no harm.";

/// Arguments of `countersign ledger import`.
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    #[command(flatten)]
    whose: Whose,
    /// The interchange file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const MERGE_EXAMPLES: &str = "Examples:
  countersign ledger merge histories/*.json --out history.json
  countersign ledger merge cosigner-1.json cosigner-2.json --out - | gzip > history.json.gz

Of n cosigners of which t sign, any n - t + 1 exports hold every signature that was made.";

/// Arguments of `countersign ledger merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = MERGE_EXAMPLES)]
pub struct MergeArgs {
    /// Interchange files of one chain
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The file to write, or - for standard output
    #[arg(long, value_name = "FILE|-")]
    out: PathBuf,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
}

const STOP_AT_EXAMPLES: &str = "Examples:
  # From epoch 421875 on nothing is attested, from its first slot on nothing is proposed
  countersign ledger stop-at --epoch 421875 --slot 13500000 \\
      --committee signer-api.toml --certs certs

  # Sign on
  countersign ledger stop-at --lift --committee signer-api.toml --certs certs

Both heights must be given: an order replaces the one before it as a whole, so one alone would let the
other kind of duty go. Duties that cannot be slashed are signed on; `freeze` stops those as well.";

/// Arguments of `countersign ledger stop-at`.
#[derive(Debug, clap::Args)]
#[command(after_help = STOP_AT_EXAMPLES)]
#[command(group(
    ArgGroup::new("heights").required(true).multiple(true).args(["epoch", "slot", "lift"])
))]
pub struct StopAtArgs {
    #[command(flatten)]
    whose: Whose,
    /// Sign no attestation with this target epoch or above
    #[arg(
        long, value_name = "EPOCH", requires = "slot",
        value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX)
    )]
    epoch: Option<u64>,
    /// Sign no block of this slot or above
    #[arg(
        long, value_name = "SLOT", requires = "epoch",
        value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX)
    )]
    slot: Option<u64>,
    /// Stop at no height any more
    #[arg(long, conflicts_with_all = ["epoch", "slot"])]
    lift: bool,
}

const RAISE_EXAMPLES: &str = "Examples:
  # Whatever these validators signed up to now, elsewhere too, can no longer be contradicted
  countersign ledger raise --source 421874 --target 421875 --slot 13500031 \\
      --committee signer-api.toml --certs certs

  # One validator, in the database of a cosigner that does not run
  countersign ledger raise --source 421874 --target 421875 --slot 13500031 \\
      --config cosigner.toml 0x93247f22…

Give the highest numbers that may have been signed, or higher ones. Nothing is ever lowered.";

/// Arguments of `countersign ledger raise`.
#[derive(Debug, clap::Args)]
#[command(after_help = RAISE_EXAMPLES)]
pub struct RaiseArgs {
    #[command(flatten)]
    whose: Whose,
    /// The highest source epoch that may have been signed
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX))]
    source: u64,
    /// The highest target epoch that may have been signed
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX))]
    target: u64,
    /// The highest block slot that may have been signed
    #[arg(long, value_name = "SLOT", value_parser = clap::value_parser!(u64).range(..=HEIGHT_MAX))]
    slot: u64,
    /// Only these validators [default: all]
    #[arg(value_name = "KEY")]
    keys: Vec<PublicKey>,
}

const FREEZE_EXAMPLES: &str = "Examples:
  # The kill switch
  countersign ledger freeze --all --committee signer-api.toml --certs certs

  # One validator
  countersign ledger freeze --committee signer-api.toml --certs certs \\
      0x93247f22…

A cosigner confirms when the order is in force: from its next request on it refuses every kind of
duty, and restarts do not change that. With t of n cosigners signing, n - t + 1 confirmations are
enough to stop a validator. With --config, a cosigner that runs on that database takes the order up
within seconds, and nobody says when.";

/// Arguments of `countersign ledger freeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = FREEZE_EXAMPLES)]
pub struct FreezeArgs {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    whom: WhomArgs,
}

const UNFREEZE_EXAMPLES: &str = "Examples:
  countersign ledger unfreeze --all --committee signer-api.toml --certs certs
  countersign ledger unfreeze --config cosigner.toml \\
      0x93247f22…

What was frozen with --all is let go with --all, what was frozen by its key by its key; a validator
signs again when neither holds.";

/// Arguments of `countersign ledger unfreeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = UNFREEZE_EXAMPLES)]
pub struct UnfreezeArgs {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    whom: WhomArgs,
}

/// Validators, or all of them in words.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("whom").required(true).args(["keys", "all"])))]
pub struct WhomArgs {
    /// Validators' public keys
    #[arg(value_name = "KEY")]
    keys: Vec<PublicKey>,
    /// Every validator, also those to come
    #[arg(long)]
    all: bool,
}

impl WhomArgs {
    fn whom(self) -> Whom {
        if self.all {
            Whom::Everyone
        } else {
            Whom::These(self.keys.into_iter().collect())
        }
    }
}

const STATUS_EXAMPLES: &str = "Examples:
  countersign ledger status --committee signer-api.toml --certs certs
  countersign ledger status --config cosigner.toml

Two cosigners that show the same ledger share one, or a copy of it: stop one of them at once.";

/// Arguments of `countersign ledger status`.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArgs {
    #[command(flatten)]
    whose: Whose,
}

/// Does what `command` says.
///
/// # Errors
/// A sentence: an argument or a file that cannot be used, or who did not confirm and what that
/// means. What was confirmed before stays.
pub async fn run(command: LedgerCommand) -> anyhow::Result<()> {
    daemon::install_crypto_provider();
    let interrupted = daemon::shutdown::signal();
    tokio::select! {
        biased;
        // Dropped, a command leaves no half file, and calls that were under way are given up.
        () = interrupted => bail!(
            "interrupted; what was confirmed stays, what was not may be in force or not"
        ),
        done = carry_out(command) => done,
    }
}

async fn carry_out(command: LedgerCommand) -> anyhow::Result<()> {
    match command {
        LedgerCommand::Export(args) => export(args).await,
        LedgerCommand::Import(args) => match args.whose.find()? {
            Place::Online(committee) => history::import(&committee, &args.file).await,
            Place::Offline(settings) => offline::import(&settings, &args.file).await,
        },
        LedgerCommand::Merge(args) => {
            offline::merge(args.files, &args.out, existing(args.force)).await
        }
        LedgerCommand::StopAt(args) => {
            let stop = Stop {
                epoch: args.epoch.map(Epoch),
                slot: args.slot.map(Slot),
            };
            Order::StopAt(stop).give(&args.whose.find()?).await
        }
        LedgerCommand::Raise(args) => raise(args).await,
        LedgerCommand::Freeze(args) => {
            let order = Order::Freeze(args.whom.whom(), Freezing::Freeze);
            order.give(&args.whose.find()?).await
        }
        LedgerCommand::Unfreeze(args) => {
            let order = Order::Freeze(args.whom.whom(), Freezing::Release);
            order.give(&args.whose.find()?).await
        }
        LedgerCommand::Status(args) => Order::Status.give(&args.whose.find()?).await,
    }
}

async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let (whom, existing) = (these_or_everyone(args.keys), existing(args.force));
    match args.whose.find()? {
        Place::Online(committee) => history::export(&committee, &whom, &args.out, existing).await,
        Place::Offline(settings) => offline::export(&settings, &whom, &args.out, existing).await,
    }
}

async fn raise(args: RaiseArgs) -> anyhow::Result<()> {
    ensure!(
        args.source <= args.target,
        "--source {} is above --target {}: no vote has a source after its target",
        args.source,
        args.target
    );
    let (source, target) = (Epoch(args.source), Epoch(args.target));
    let watermark = Watermark::new(source, target, Slot(args.slot))?;
    let order = Order::Raise(these_or_everyone(args.keys), watermark);
    order.give(&args.whose.find()?).await
}

fn these_or_everyone(keys: Vec<PublicKey>) -> Whom {
    let keys: BTreeSet<_> = keys.into_iter().collect();
    if keys.is_empty() {
        Whom::Everyone
    } else {
        Whom::These(keys)
    }
}

const fn existing(force: bool) -> Existing {
    if force {
        Existing::Replace
    } else {
        Existing::Keep
    }
}
