//! Configuration: one TOML file, overridden by environment variables, read into a type.
//!
//! A variable `COUNTERSIGN_HTTP__LISTEN` sets `listen` in `[http]`; further levels and the
//! entries of lists are separated by two underscores as well (`COUNTERSIGN_COSIGNERS__0__SAN` is
//! `san` of the first `[[cosigners]]`), and a key that stands in no section has nothing before
//! its two underscores (`COUNTERSIGN__NETWORK`). Names are lowered. Names without `__` are not
//! ours: `COUNTERSIGN_LOG`, or what Kubernetes derives from a service called "countersign".
//!
//! The value is TOML (`120`, `true`, `["a", "b"]`); where it is not, or where the file has a
//! string at that key, it is taken as a string as it stands, without quotes.
//!
//! Secrets are never in a configuration, only the paths of their files ([`secret_from_file`]), so
//! printing an effective configuration ([`to_toml`]) shows none.

mod overrides;
mod secret;

use std::fmt::Display;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use overrides::Overridden;
pub use secret::secret_from_file;

/// The prefix of the environment variables that override a configuration file.
pub const ENVIRONMENT_PREFIX: &str = "COUNTERSIGN_";

/// What is wrong with a configuration, and what to change: one sentence for the operator.
///
/// Nothing can be done about it in the process; `main` prints it and exits with code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// An error that reads as `sentence`, which says what to change and contains no secret.
    pub fn new(sentence: impl Into<String>) -> Self {
        ConfigError(sentence.into())
    }
}

/// Reads the file at `path` into a `T`, after the environment variables that begin with `prefix`
/// ([`ENVIRONMENT_PREFIX`]) have replaced or added settings.
///
/// # Errors
///
/// When the file cannot be read, is not TOML, or does not fit `T`.
pub fn load<T: DeserializeOwned>(path: &Path, prefix: &str) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    parse(&path.display().to_string(), &text, prefix, variables)
}

/// As [`load`], of a `text` that is called `name` in errors, and with the given `variables`.
///
/// # Errors
///
/// When `text` is not TOML or does not fit `T`.
pub fn parse<T: DeserializeOwned>(
    name: &str,
    text: &str,
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let document = Overridden::new(name, text, prefix, variables);
    let tree = document.tree()?;
    serde_path_to_error::deserialize(toml::de::Deserializer::from(tree)).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let place = document.place(error.span().map(|span| span.start));
        ConfigError::new(misfit(&path, &place, &condensed(error.message())))
    })
}

/// `value`, if it lies in `min..=max`; `name` is the setting's path, such as `http.keep_alive_ms`.
///
/// # Errors
///
/// When it lies outside.
pub fn in_range<T: PartialOrd + Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
) -> Result<T, ConfigError> {
    if value < min || value > max {
        return Err(ConfigError::new(format!(
            "set `{name}` to a value from {min} to {max}: it is {value}"
        )));
    }
    Ok(value)
}

/// The effective configuration as TOML, for `--check`.
///
/// # Errors
///
/// When `T` cannot be written as TOML.
pub fn to_toml<T: Serialize>(value: &T) -> Result<String, ConfigError> {
    toml::to_string_pretty(value).map_err(|error| {
        ConfigError::new(format!(
            "the configuration cannot be written as TOML: {error}"
        ))
    })
}

/// The sentence for a file that cannot be read.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and grows"
)]
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
    use std::io::ErrorKind;
    let path = path.display();
    ConfigError::new(match error.kind() {
        ErrorKind::NotFound => format!("there is no file {path}: make it or correct its path"),
        ErrorKind::PermissionDenied => {
            format!("{path} may not be read by this user: change its owner or its mode")
        }
        ErrorKind::IsADirectory => format!("{path} is a directory: name a file"),
        ErrorKind::InvalidData => format!("{path} is not UTF-8 text: write it as such"),
        _ => format!("{path} cannot be read ({error}): correct its path"),
    })
}

/// The sentence for a setting at `path` that does not fit the type it is read into.
fn misfit(path: &str, place: &str, message: &str) -> String {
    let section = path.rsplit_once('.').map_or("", |(section, _)| section);
    if message.starts_with("unknown field") {
        return format!("remove or rename `{path}` in {place}: {message}");
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        let within = if path == "." {
            String::new()
        } else {
            format!(" to `{path}`")
        };
        return format!("add {key}{within} in {place}: it has no default");
    }
    if message.starts_with("unknown variant") && !section.is_empty() {
        return format!("correct `{path}` in {place}: {message}");
    }
    if path == "." {
        return format!("correct {place}: {message}");
    }
    format!("correct `{path}` in {place}: {message}")
}

/// A message of several lines as one.
fn condensed(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
