//! The operator's tool; see `countersign --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    countersign::cli::run(std::env::args_os().collect())
}
