//! The program `cosigner`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> ExitCode {
    cosigner::cli::run(std::env::args_os())
}
