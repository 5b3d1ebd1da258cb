//! Logs, to standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use serde::{Deserialize, Serialize};
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::config::ConfigError;

/// The environment variable with the log filter, such as `info` or `info,signer_api=debug`.
pub const FILTER_VARIABLE: &str = "COUNTERSIGN_LOG";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error, at level info unless [`FILTER_VARIABLE`] says otherwise, and
/// logs panics. A second call changes nothing.
///
/// # Errors
///
/// When [`FILTER_VARIABLE`] is not a filter.
pub fn init(format: LogFormat) -> Result<(), ConfigError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            ConfigError::new(format!(
                "correct the environment variable {FILTER_VARIABLE} (\"{text}\"): {error}; \
                 `info` and `info,signer_api=debug` are filters"
            ))
        })?,
        Err(_) => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Fails only when a logger is installed already, as in tests, where the first one stays.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Logs where a panic happened. Its message only if it is a literal: a formatted one may hold
/// whatever was in the variables, and the place finds the bug as well.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(message withheld)");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(%place, thread, %backtrace, "panic: {message}");
    } else {
        error!(%place, thread, "panic: {message}");
    }
}
