//! JSON objects as structs.
//!
//! serde's derive also takes an array for a struct, member by position; here an object is an object.

/// What an object may have.
pub(super) trait Object {
    /// The names of its members.
    const MEMBERS: &'static [&'static str];
}

/// A struct that is read from a JSON object with members of the same names, in any order. Unknown
/// members are ignored; an `Option` may be missing or null; a member that stands twice is refused.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($(#[$on:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        pub(super) struct $name { $($(#[$on])* pub(super) $field: $type,)+ }

        impl $crate::web3signer::object::Object for $name {
            const MEMBERS: &'static [&'static str] = &[$(stringify!($field)),+];
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Members;

                impl<'de> serde::de::Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        use serde::de::Error as _;
                        $(let mut $field: Option<$type> = None;)+
                        while let Some($crate::web3signer::members::Name(name)) = map.next_key()? {
                            match &*name {
                                $(stringify!($field) => {
                                    if $field.is_some() {
                                        return Err(A::Error::duplicate_field(stringify!($field)));
                                    }
                                    $field = Some(map.next_value()?);
                                })+
                                _ => { map.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok($name {
                            $($field: match $field {
                                Some(value) => value,
                                None => $crate::web3signer::object::absent(stringify!($field))?,
                            },)+
                        })
                    }
                }

                from.deserialize_map(Members)
            }
        }
    };
}

pub(super) use object;

/// The value of a member that is missing: `None` of an `Option`, else an error.
pub(super) fn absent<'de, T: serde::Deserialize<'de>, E: serde::de::Error>(
    name: &str,
) -> Result<T, E> {
    let null = serde::de::value::UnitDeserializer::<E>::new();
    T::deserialize(null).map_err(|_| super::members::lacks(name))
}
