//! The command line of `countersign`.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{bench, certs, keys, ledger, quickstart};

const EXAMPLES: &str = "Examples:
  countersign quickstart
  countersign keys split --help
  countersign certs new --committee 4 --out certs
  countersign ledger status --committee signer-api.toml --certs certs
  countersign bench http://127.0.0.1:9000";

/// Countersign: Web3Signer's API, and no machine that holds a validator key.
#[derive(Parser)]
#[command(name = "countersign", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole committee on this machine and sign with it
    Quickstart(quickstart::QuickstartArgs),
    /// Split validator keys into shares
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Make certificates for a committee
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Move slashing-protection histories, and give orders to the cosigners' ledgers
    #[command(subcommand, after_help = ledger::EXAMPLES)]
    Ledger(ledger::LedgerCommand),
    /// Load a signer with attestations and measure it
    Bench(bench::BenchArgs),
    /// Run a cosigner, as the program `cosigner` does
    #[command(hide = true, disable_help_flag = true)]
    Cosigner(ServerArgs),
    /// Run a signer-api, as the program `signer-api` does
    #[command(hide = true, disable_help_flag = true)]
    SignerApi(ServerArgs),
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Split EIP-2335 keystores into one encrypted package per cosigner
    Split(keys::SplitArgs),
}

#[derive(Subcommand)]
enum CertsCommand {
    /// Make a small CA and certificates for a committee, for trying out
    New(certs::NewArgs),
}

#[derive(clap::Args)]
struct ServerArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the command that `arguments` (the program's name first) ask for. Exit code 2 is a command line
/// that was not understood, 1 a command that failed.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    match Cli::parse_from(arguments).command {
        Command::Cosigner(server) => {
            cosigner::cli::run(std::iter::once("cosigner".into()).chain(server.arguments))
        }
        Command::SignerApi(server) => {
            signer_api::cli::run(std::iter::once("signer-api".into()).chain(server.arguments))
        }
        Command::Quickstart(args) => finish(block_on(quickstart::run(args))),
        Command::Bench(args) => finish(block_on(bench::run(args))),
        Command::Ledger(command) => finish(block_on(ledger::run(command))),
        Command::Keys(KeysCommand::Split(args)) => finish(keys::run(args)),
        Command::Certs(CertsCommand::New(args)) => finish(certs::run(args)),
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(future)
}

#[expect(
    clippy::print_stderr,
    reason = "a command's last word belongs to its user"
)]
fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            ExitCode::FAILURE
        }
    }
}
