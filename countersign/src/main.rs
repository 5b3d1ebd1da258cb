//! The operator's tool; see `countersign --help`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> ExitCode {
    countersign::cli::run(std::env::args_os().collect())
}
