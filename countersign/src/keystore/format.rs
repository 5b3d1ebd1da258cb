//! The JSON of a keystore. What is not needed to decrypt (description, path, uuid) is not read.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::{
    Keystore, KeystoreError,
    kdf::{Function, Kdf, UnacceptableCost},
};

/// The version of EIP-2335.
const VERSION: u64 = 4;
/// Bytes of a salt at most; usual are 32.
const SALT_BYTES_MAX: usize = 1024;
/// The fewest bytes of derived key that the cipher and the checksum need.
const DERIVED_BYTES_MIN: u64 = 32;

#[derive(Deserialize)]
struct File<'a> {
    version: u64,
    #[serde(borrow, deserialize_with = "object")]
    crypto: Crypto<'a>,
    pubkey: Option<String>,
}

#[derive(Deserialize)]
struct Crypto<'a> {
    #[serde(borrow, deserialize_with = "object")]
    kdf: Module<'a>,
    #[serde(borrow, deserialize_with = "object")]
    checksum: Module<'a>,
    #[serde(borrow, deserialize_with = "object")]
    cipher: Module<'a>,
}

#[derive(Deserialize)]
struct Module<'a> {
    function: String,
    /// Its shape depends on the function.
    #[serde(borrow)]
    params: &'a RawValue,
    message: String,
}

#[derive(Deserialize)]
struct ScryptParams {
    dklen: u64,
    n: u64,
    r: u32,
    p: u32,
    salt: String,
}

#[derive(Deserialize)]
struct Pbkdf2Params {
    dklen: u64,
    c: u32,
    prf: String,
    salt: String,
}

#[derive(Deserialize)]
struct CipherParams {
    iv: String,
}

pub(super) fn read(json: &[u8]) -> Result<Keystore, KeystoreError> {
    let text = str::from_utf8(json).map_err(|_| malformed("the file", "is not UTF-8"))?;
    let file: File<'_> = parse("", text)?;
    if file.version != VERSION {
        let reason = format!("expected {VERSION} (EIP-2335), got {}", file.version);
        return Err(malformed("version", reason));
    }
    let Crypto {
        kdf,
        checksum,
        cipher,
    } = file.crypto;
    expect_function("crypto.checksum.function", &checksum.function, "sha256")?;
    expect_function("crypto.cipher.function", &cipher.function, "aes-128-ctr")?;
    let cipher_params: CipherParams = parse("crypto.cipher.params", cipher.params.get())?;
    let (kdf, salt) = read_kdf(&kdf)?;
    let public_key = match file.pubkey {
        Some(hex) => Some(hex.parse().map_err(|error| malformed("pubkey", error))?),
        None => None,
    };
    Ok(Keystore {
        kdf,
        salt,
        iv: bytes("crypto.cipher.params.iv", &cipher_params.iv)?,
        ciphertext: bytes("crypto.cipher.message", &cipher.message)?,
        checksum: bytes("crypto.checksum.message", &checksum.message)?,
        public_key,
    })
}

fn read_kdf(module: &Module<'_>) -> Result<(Kdf, Vec<u8>), KeystoreError> {
    const PARAMS: &str = "crypto.kdf.params";
    let unacceptable =
        |error: UnacceptableCost| malformed(&format!("{PARAMS}.{}", error.parameter), error.reason);
    let (kdf, dklen, salt) = match module.function.as_str() {
        "scrypt" => {
            let params: ScryptParams = parse(PARAMS, module.params.get())?;
            let kdf = Kdf::scrypt(params.n, params.r, params.p).map_err(unacceptable)?;
            (kdf, params.dklen, params.salt)
        }
        "pbkdf2" => {
            let params: Pbkdf2Params = parse(PARAMS, module.params.get())?;
            expect_function("crypto.kdf.params.prf", &params.prf, "hmac-sha256")?;
            let kdf = Kdf::pbkdf2(params.c).map_err(unacceptable)?;
            (kdf, params.dklen, params.salt)
        }
        other => {
            let reason = format!("expected scrypt or pbkdf2, got {other:?}");
            return Err(malformed("crypto.kdf.function", reason));
        }
    };
    if dklen < DERIVED_BYTES_MIN {
        let reason = format!("expected at least {DERIVED_BYTES_MIN} bytes, got {dklen}");
        return Err(malformed("crypto.kdf.params.dklen", reason));
    }
    let salt = const_hex::decode(&salt).map_err(|e| malformed("crypto.kdf.params.salt", e))?;
    if (1..=SALT_BYTES_MAX).contains(&salt.len()) {
        Ok((kdf, salt))
    } else {
        let reason = format!("expected 1 to {SALT_BYTES_MAX} bytes, got {}", salt.len());
        Err(malformed("crypto.kdf.params.salt", reason))
    }
}

/// Deserialises one JSON value; an error names the member by its path under `parent`.
fn parse<'a, T: Deserialize<'a>>(parent: &str, json: &'a str) -> Result<T, KeystoreError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let value = object(tracked).map_err(|error| {
        let path = track.path().to_string();
        let member = match (parent, path.as_str()) {
            ("", ".") => "the file".to_owned(),
            (parent, ".") => parent.to_owned(),
            ("", path) => path.to_owned(),
            (parent, path) => format!("{parent}.{path}"),
        };
        malformed(&member, error)
    })?;
    deserializer
        .end()
        .map_err(|error| malformed("the file", error))?;
    Ok(value)
}

/// A struct from an object. serde's derive also takes an array, member by position.
fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct Members<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    from.deserialize_map(Members(PhantomData))
}

fn expect_function(member: &str, function: &str, expected: &str) -> Result<(), KeystoreError> {
    if function == expected {
        Ok(())
    } else {
        Err(malformed(
            member,
            format!("expected {expected}, got {function:?}"),
        ))
    }
}

/// Exactly N bytes of hexadecimal digits.
fn bytes<const N: usize>(member: &str, hex: &str) -> Result<[u8; N], KeystoreError> {
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    if digits.len() != 2 * N {
        let reason = format!(
            "expected {N} bytes, got {} hexadecimal digits",
            digits.len()
        );
        return Err(malformed(member, reason));
    }
    const_hex::decode_to_array(digits).map_err(|error| malformed(member, error))
}

fn malformed(member: &str, reason: impl ToString) -> KeystoreError {
    KeystoreError::Malformed {
        member: member.to_owned(),
        reason: reason.to_string(),
    }
}

pub(super) fn write(keystore: &Keystore, mut uuid: [u8; 16]) -> String {
    let salt = const_hex::encode(&keystore.salt);
    let kdf = match keystore.kdf.function() {
        Function::Scrypt(params) => serde_json::json!({
            "function": "scrypt",
            "params": { "dklen": 32, "n": params.n(), "r": params.r(), "p": params.p(), "salt": salt },
            "message": "",
        }),
        Function::Pbkdf2(rounds) => serde_json::json!({
            "function": "pbkdf2",
            "params": { "dklen": 32, "c": rounds, "prf": "hmac-sha256", "salt": salt },
            "message": "",
        }),
    };
    let json = serde_json::json!({
        "crypto": {
            "kdf": kdf,
            "checksum": {
                "function": "sha256",
                "params": {},
                "message": const_hex::encode(keystore.checksum),
            },
            "cipher": {
                "function": "aes-128-ctr",
                "params": { "iv": const_hex::encode(keystore.iv) },
                "message": const_hex::encode(keystore.ciphertext),
            },
        },
        "pubkey": keystore.public_key.map(|key| const_hex::encode(key.as_bytes())),
        "path": "",
        "uuid": uuid_text(&mut uuid),
        "version": VERSION,
    });
    format!("{json:#}\n")
}

/// Version 4, variant 1 (RFC 4122), of random bytes.
fn uuid_text(bytes: &mut [u8; 16]) -> String {
    let [.., version, _, variant, _, _, _, _, _, _, _] = bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let hex = const_hex::encode(bytes);
    let mut rest = hex.as_str();
    let groups = [8, 4, 4, 4, 12].map(|length| {
        let (group, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        rest = after;
        group
    });
    groups.join("-")
}
