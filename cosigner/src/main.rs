//! The program `cosigner`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cosigner::cli::run(std::env::args_os())
}
