//! In which settings two configurations differ.

use std::collections::BTreeSet;

use serde::Serialize;
use toml::{Table, Value};

use crate::config::ConfigError;

/// The settings whose values differ, as an operator writes them: `listen`, `tls.key`, `cosigners`.
///
/// # Errors
///
/// When one of them cannot be written as TOML.
pub fn differing<T: Serialize>(one: &T, other: &T) -> Result<BTreeSet<String>, ConfigError> {
    let table = |value| {
        Table::try_from(value).map_err(|error| {
            ConfigError::new(format!(
                "the configuration cannot be written as TOML: {error}"
            ))
        })
    };
    let mut differing = BTreeSet::new();
    compare("", &table(one)?, &table(other)?, &mut differing);
    Ok(differing)
}

fn compare(section: &str, one: &Table, other: &Table, into: &mut BTreeSet<String>) {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for key in keys {
        let path = if section.is_empty() {
            key.clone()
        } else {
            format!("{section}.{key}")
        };
        match (one.get(key), other.get(key)) {
            (Some(Value::Table(one)), Some(Value::Table(other))) => {
                compare(&path, one, other, into);
            }
            (one, other) if one == other => {}
            (_, _) => {
                into.insert(path);
            }
        }
    }
}
