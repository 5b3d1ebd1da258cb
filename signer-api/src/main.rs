//! The signer-api's process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> ExitCode {
    signer_api::cli::run(std::env::args_os())
}
