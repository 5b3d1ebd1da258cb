//! The signer-api's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    signer_api::cli::run(std::env::args_os())
}
