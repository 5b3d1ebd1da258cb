//! Payloads that arrive as `{version, data}` or bare: aggregates (section 5.2) and the Gloas types,
//! which early clients sent without the wrapping.

use daemon::network::Fork;
use serde::de::DeserializeOwned;

use super::{
    error::BadRequest,
    members::{Raw, clipped, invalid, member, missing, pick_into},
    object::Object,
};

/// A payload, out of its wrapping.
#[derive(Debug)]
pub(super) struct Versioned<T> {
    /// What `version` says.
    pub(super) version: Version,
    /// The payload itself.
    pub(super) data: T,
    /// Where the payload stood, for errors.
    pub(super) path: String,
}

/// What a payload says about its fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// Nothing.
    Unsaid,
    /// A fork this version knows.
    Known {
        /// The member's path.
        path: String,
        /// The fork.
        fork: Fork,
    },
    /// Another one; as it was written.
    Unknown {
        /// The member's path.
        path: String,
        /// Its text.
        name: String,
    },
}

impl Version {
    fn parse(path: String, raw: Raw<'_>) -> Result<Self, BadRequest> {
        let name: String = member(&path, raw)?;
        Ok(match Fork::from_name(&name.to_ascii_uppercase()) {
            Some(fork) => Self::Known { path, fork },
            None => Self::Unknown {
                path,
                name: clipped(&name),
            },
        })
    }
}

/// The error for a `version` whose shape is not known here, unless the request's root proves that it
/// is one that is.
pub(super) fn unserved(path: &str, name: &str) -> BadRequest {
    invalid(
        path,
        format!("{name:?} is not served without a signingRoot that confirms the shape"),
    )
}

/// The payload that stands under `name`.
///
/// It is wrapped if `data` is an object and `version` stands beside it. A bare payload may carry a
/// `version` too, and one has a member called `data` itself (`builder_request_auth`), which is a
/// string; so the other members are looked at as well, and errors name what is missing.
pub(super) fn unwrapped<T: DeserializeOwned + Object>(
    name: &str,
    raw: Raw<'_>,
) -> Result<Versioned<T>, BadRequest> {
    let mut names = vec!["version", "data"];
    names.extend(T::MEMBERS.iter().filter(|member| **member != "data"));
    let mut found = vec![None; names.len()];
    pick_into(name, raw.get(), &names, &mut found)?;
    let mut found = found.into_iter();
    let (version, data) = (found.next().flatten(), found.next().flatten());
    let own_data = T::MEMBERS.contains(&"data");
    let object = data.is_some_and(|data| data.get().starts_with('{'));
    let bare = found.any(|member| member.is_some()) || (own_data && data.is_some() && !object);

    let at = format!("{name}.version");
    let stated = version.map(|raw| Version::parse(at, raw)).transpose()?;
    if bare && !(object && stated.is_some()) {
        let version = stated.unwrap_or(Version::Unsaid);
        return Ok(Versioned {
            version,
            data: member(name, raw)?,
            path: name.to_owned(),
        });
    }
    if version.is_none() && data.is_none() {
        // An object of neither layout: says which member is missing first.
        return Ok(Versioned {
            version: Version::Unsaid,
            data: member(name, raw)?,
            path: name.to_owned(),
        });
    }
    let version = stated.ok_or_else(|| missing(name, "version"))?;
    let path = format!("{name}.data");
    let data = data.ok_or_else(|| missing(name, "data"))?;
    Ok(Versioned {
        version,
        data: member(&path, data)?,
        path,
    })
}
