//! The values of an interchange file: decimal digits, and hexadecimal bytes.

use std::{fmt, marker::PhantomData, str::FromStr};

use duty::HexError;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A number without a sign: a string of decimal digits, as the format has it, or a JSON number, as
/// some write it.
pub(super) struct Digits(pub(super) String);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Number)
    }
}

struct Number;

impl Visitor<'_> for Number {
    type Value = Digits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of decimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Digits, E> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(E::custom(format!("\"{text:.80}\" is no decimal number")));
        }
        Ok(Digits(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Digits, E> {
        Ok(Digits(number.to_string()))
    }
}

/// Hexadecimal bytes of either case, with or without `0x`.
pub(super) struct Hex<T>(pub(super) T);

impl<'de, T: FromStr<Err = HexError>> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text(PhantomData))
    }
}

struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = HexError>> Visitor<'_> for Text<T> {
    type Value = Hex<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of hexadecimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Hex<T>, E> {
        let digits = text.strip_prefix("0X");
        let digits = digits.filter(|digits| !digits.starts_with("0x"));
        let digits = digits.unwrap_or(text);
        match digits.parse() {
            Ok(bytes) => Ok(Hex(bytes)),
            Err(error) => Err(E::custom(format!("\"{text:.120}\": {error}"))),
        }
    }
}
