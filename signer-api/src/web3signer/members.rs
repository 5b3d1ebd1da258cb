//! Members of JSON objects, and errors that name them by their path.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::error::BadRequest;

/// A member's JSON text, not yet parsed; never null.
pub(super) type Raw<'a> = &'a RawValue;

/// How much of a client's own text an error repeats, in bytes.
const REPEATED_MAX: usize = 200;

/// The members of those names in the object that `text` is; `None` for one that is missing or null.
/// `path` is the object's own path, empty for the body. All other members are skipped.
pub(super) fn pick<'a, const N: usize>(
    path: &str,
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Option<Raw<'a>>; N], BadRequest> {
    let mut found = [None; N];
    pick_into(path, text, &names, &mut found)?;
    Ok(found)
}

/// As [`pick`]; `found` gets what stands under the name of the same position.
pub(super) fn pick_into<'a>(
    path: &str,
    text: &'a str,
    names: &[&'static str],
    found: &mut [Option<Raw<'a>>],
) -> Result<(), BadRequest> {
    let mut json = serde_json::Deserializer::from_str(text);
    let picked = Pick { names, found }.deserialize(&mut json);
    picked.and_then(|()| json.end()).map_err(|error| {
        if path.is_empty() && !error.is_data() {
            return BadRequest::NotJson(clipped(&error.to_string()));
        }
        let path = if path.is_empty() { "the body" } else { path };
        described(path.to_owned(), error)
    })
}

/// The member at `path`, as a `T`. What does not parse is parsed again, to learn where that is:
/// keeping note of it takes half as long as parsing.
pub(super) fn member<'a, T: Deserialize<'a>>(path: &str, raw: Raw<'a>) -> Result<T, BadRequest> {
    let plain = T::deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
    plain.or_else(|_| located(path, raw))
}

/// As [`member`], slowly.
fn located<'a, T: Deserialize<'a>>(path: &str, raw: Raw<'a>) -> Result<T, BadRequest> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let inner = error.path();
        let path = match inner.iter().next() {
            None => path.to_owned(),
            Some(_) => format!("{path}.{inner}"),
        };
        described(path, error.into_inner())
    })
}

/// The error for a member `name` that the object at `path` does not have.
pub(super) fn missing(path: &str, name: &str) -> BadRequest {
    let dot = if path.is_empty() { "" } else { "." };
    BadRequest::Missing {
        path: format!("{path}{dot}{name}"),
    }
}

/// The error for the member at `path`.
pub(super) fn invalid(path: impl Into<String>, problem: impl Into<String>) -> BadRequest {
    BadRequest::Invalid {
        path: path.into(),
        problem: problem.into(),
    }
}

/// `text`, cut to a length that an error message may have.
pub(super) fn clipped(text: &str) -> String {
    if text.len() <= REPEATED_MAX {
        return text.to_owned();
    }
    let end = (0..=REPEATED_MAX)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// The words of an error for a member that an object lacks; [`described`] takes them apart again,
/// as an error of serde carries text and nothing else.
const LACKS: &str = "lacks ";

/// An object lacks the member `name`.
pub(super) fn lacks<E: serde::de::Error>(name: &str) -> E {
    E::custom(format_args!("{LACKS}{name}"))
}

/// An error of `serde_json`, which adds the place where it stood, for the member at `path`.
fn described(path: String, error: serde_json::Error) -> BadRequest {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let problem = text.strip_suffix(&place).unwrap_or(&text);
    match problem.strip_prefix(LACKS) {
        Some(name) => missing(&path, name),
        None => invalid(path, clipped(problem)),
    }
}

/// The name of a member, borrowed where it stands without escapes.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        from.deserialize_str(Names)
    }
}

/// The first member named `name` of the object that `text` begins with, if it is a string. What comes
/// after it is not looked at.
pub(super) fn first<'a>(text: &'a [u8], name: &'static str) -> Option<Cow<'a, str>> {
    let mut found = None;
    let first = First {
        name,
        found: &mut found,
    };
    // It always ends in the middle of the object, which is an error.
    let _ = first.deserialize(&mut serde_json::Deserializer::from_slice(text));
    found
}

struct First<'f, 'a> {
    name: &'static str,
    found: &'f mut Option<Cow<'a, str>>,
}

impl<'de> DeserializeSeed<'de> for First<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for First<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            if name == self.name {
                let Name(value) = map.next_value()?;
                *self.found = Some(value);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

struct Pick<'n, 'f, 'a> {
    names: &'n [&'static str],
    found: &'f mut [Option<Raw<'a>>],
}

impl<'de> DeserializeSeed<'de> for Pick<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = vec![false; self.names.len()];
        while let Some(Name(name)) = map.next_key()? {
            let Some(at) = self.names.iter().position(|known| *known == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let (Some(seen), Some(found)) = (seen.get_mut(at), self.found.get_mut(at)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(seen, true) {
                return Err(A::Error::duplicate_field(self.names.get(at).unwrap_or(&"")));
            }
            let raw: Raw<'de> = map.next_value()?;
            *found = (raw.get() != "null").then_some(raw);
        }
        Ok(())
    }
}
