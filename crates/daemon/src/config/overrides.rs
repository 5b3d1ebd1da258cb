//! A TOML document and the environment variables that override it, parsed so that every value
//! still knows where it came from.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, condensed};

/// A file's text and the variables that change it.
pub(super) struct Overridden<'a> {
    file: &'a str,
    text: &'a str,
    variables: Vec<Variable>,
}

/// One variable. Its value stands behind as many blanks as there are bytes before it in the file
/// and the other variables, so that a span tells them all apart.
struct Variable {
    name: String,
    path: Vec<String>,
    begin: usize,
    padded: String,
}

/// What a variable's value is written behind to be parsed.
const KEY: &str = "v=";

impl<'a> Overridden<'a> {
    pub(super) fn new(
        file: &'a str,
        text: &'a str,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((path_of(&name, prefix)?, name, value)))
            .collect();
        ours.sort();
        let mut begin = text.len().saturating_add(1);
        let variables = ours
            .into_iter()
            .map(|(path, name, value)| {
                let padded = format!("{}{KEY}{value}", " ".repeat(begin));
                let variable = Variable {
                    name,
                    path,
                    begin,
                    padded,
                };
                begin = variable.padded.len().saturating_add(1);
                variable
            })
            .collect();
        Overridden {
            file,
            text,
            variables,
        }
    }

    /// The file's tree with the variables' values in it.
    pub(super) fn tree(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        let mut tree = DeTable::parse(self.text).map_err(|error| {
            let place = self.place(error.span().map(|span| span.start));
            ConfigError::new(format!("correct {place}: {}", condensed(error.message())))
        })?;
        for variable in &self.variables {
            variable.set(tree.get_mut())?;
        }
        Ok(tree)
    }

    /// Where the byte at `offset` of a span is, in words.
    pub(super) fn place(&self, offset: Option<usize>) -> String {
        let Some(offset) = offset else {
            return self.file.to_owned();
        };
        if let Some(before) = self.text.as_bytes().get(..offset) {
            let line = before
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                .saturating_add(1);
            return format!("{}, line {line}", self.file);
        }
        self.variables
            .iter()
            .rev()
            .find(|variable| variable.begin <= offset)
            .map_or_else(|| self.file.to_owned(), |variable| variable.described())
    }
}

impl Variable {
    fn described(&self) -> String {
        format!("the environment variable {}", self.name)
    }

    fn set<'s>(&'s self, tree: &mut DeTable<'s>) -> Result<(), ConfigError> {
        let Some((key, sections)) = self.path.split_last() else {
            return Ok(());
        };
        let mut table = tree;
        let mut sections = sections.iter();
        while let Some(section) = sections.next() {
            let mut entry = table
                .entry(self.spanned(section.clone().into()))
                .or_insert_with(|| self.spanned(DeValue::Table(DeTable::new())))
                .get_mut();
            if let DeValue::Array(list) = entry {
                let place = sections
                    .next()
                    .and_then(|place| place.parse::<usize>().ok());
                entry = match place.and_then(|place| list.get_mut(place)) {
                    Some(item) => item.get_mut(),
                    None => return Err(self.astray(section, "list with that entry")),
                };
            }
            let DeValue::Table(inner) = entry else {
                return Err(self.astray(section, "section"));
            };
            table = inner;
        }
        let stands = table.get(key.as_str()).map(|value| value.get_ref());
        let value = self.value(stands)?;
        // An entry keeps its old key, whose span is the file's: the value must tell the place.
        table.remove(key.as_str());
        table.insert(self.spanned(key.clone().into()), value);
        Ok(())
    }

    /// The value, given what `stands` in the file at its place.
    fn value(&self, stands: Option<&DeValue<'_>>) -> Result<Spanned<DeValue<'_>>, ConfigError> {
        let raw = self
            .padded
            .get(self.begin.saturating_add(KEY.len())..)
            .unwrap_or_default();
        let text = || self.spanned(DeValue::String(raw.into()));
        let value = DeTable::parse(&self.padded).ok().and_then(|table| {
            let table = table.into_inner();
            // A value with a line break in it could smuggle in other keys.
            (table.len() == 1).then(|| table.into_iter().next().map(|(_, value)| value))?
        });
        match (value, stands) {
            (Some(value), _) if matches!(value.get_ref(), DeValue::String(_)) => Ok(value),
            (_, Some(DeValue::String(_))) | (None, None) => Ok(text()),
            (Some(value), _) => Ok(value),
            (None, Some(other)) => Err(ConfigError::new(format!(
                "correct {}: the file has {} there, and this is none",
                self.described(),
                named(other)
            ))),
        }
    }

    fn astray(&self, section: &str, wanted: &str) -> ConfigError {
        ConfigError::new(format!(
            "remove or rename {}: `{section}` is no {wanted}",
            self.described()
        ))
    }

    fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(self.begin..self.begin, value)
    }
}

fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The path which the variable called `name` sets, if it is one of ours.
fn path_of(name: &str, prefix: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(prefix)?;
    // No section: of the two underscores one belongs to the prefix.
    let path: Vec<String> = match rest.strip_prefix('_') {
        Some(key) => key.split("__").map(str::to_lowercase).collect(),
        None if rest.contains("__") => rest.split("__").map(str::to_lowercase).collect(),
        None => return None,
    };
    path.iter().all(|part| !part.is_empty()).then_some(path)
}
