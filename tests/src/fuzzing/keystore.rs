//! The keystore: what is read has an acceptable price, and what decrypts is the key it states.

use countersign::keystore::{Kdf, Keystore, KeystoreError, Password, encrypt};
use keyshare::SecretKey;
use serde_json::Value;

use super::{Choices, Reached};

/// The password of the keystores among the seeds.
pub(super) const PASSWORD: &str = "correct horse";

/// scrypt's n·r·p, and rounds of PBKDF2, that an input is decrypted with: what costs more is only
/// read, and its price compared.
const WORK_MAX: u64 = 4_096;
/// What reading accepts, restated: bytes of scrypt's memory, its n·r·p, and rounds of PBKDF2.
const PRICES_MAX: (u64, u64, u64) = (1 << 30, 1 << 26, 1 << 24);

/// Holds for `data` that begins as JSON, as a keystore: no panic; what is read states a price that is
/// acceptable; what decrypts is the key that the file states; another password decrypts nothing. Holds
/// for other data, as a secret key, a price and a password: the key encrypts to a keystore that
/// decrypts to it, with that password only.
pub fn property(data: &[u8]) -> Reached {
    match data.trim_ascii_start().first() {
        Some(b'{') => read(data),
        _ => made(Choices::new(data)),
    }
}

fn made(mut choices: Choices<'_>) -> Reached {
    let work = u32::from(choices.below(64)) + 1;
    let kdf = match choices.below(2) {
        0 => Kdf::pbkdf2(work),
        _ => Kdf::scrypt(1 << (1 + work % 6), 1 + work / 16, 1 + work % 3),
    };
    let secret: [u8; 32] = choices.array();
    let mut entropy = choices.byte();
    let mut fill = |bytes: &mut [u8]| {
        for byte in bytes {
            entropy = entropy.wrapping_mul(31).wrapping_add(7);
            *byte = entropy;
        }
    };
    let text = String::from_utf8_lossy(choices.rest()).into_owned();
    let key = SecretKey::from_be_bytes(&secret);
    let (password, other) = (Password::new(&text), Password::new(&format!("{text}.")));
    let file = encrypt(&secret, &password, kdf.unwrap(), &mut fill);
    let Ok(key) = key else {
        assert!(matches!(file, Err(KeystoreError::NotAKey)));
        return Reached::Refused;
    };
    let keystore = Keystore::parse(file.unwrap().as_bytes()).unwrap();
    assert_eq!(keystore.public_key(), Some(key.public_key()));
    let decrypted = keystore.decrypt(&password).map(|key| key.public_key());
    assert_eq!(decrypted, Ok(key.public_key()));
    let opened = keystore.decrypt(&other).map(|key| key.public_key());
    assert_eq!(opened, Err(KeystoreError::WrongPassword));
    Reached::Taken
}

fn read(data: &[u8]) -> Reached {
    let keystore = match Keystore::parse(data) {
        Ok(keystore) => keystore,
        Err(refused) => {
            assert!(matches!(refused, KeystoreError::Malformed { .. }));
            return Reached::Refused;
        }
    };
    // Members that nobody asked for may hold what this JSON library does not.
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return Reached::Refused;
    };
    let work = price(&value, keystore.memory_bytes());
    let stated = value["pubkey"]
        .as_str()
        .map(|digits| digits.parse().unwrap());
    assert_eq!(keystore.public_key(), stated);
    if work > WORK_MAX {
        return Reached::Refused;
    }
    let other = keystore.decrypt(&Password::new("wrong horse"));
    let checksum = &value["crypto"]["checksum"]["message"];
    assert!(
        matches!(other, Err(KeystoreError::WrongPassword)),
        "{checksum}"
    );
    match keystore.decrypt(&Password::new(PASSWORD)) {
        Ok(key) => {
            let key = key.public_key();
            assert!(keystore.public_key().is_none_or(|stated| stated == key));
            Reached::Taken
        }
        Err(KeystoreError::OtherKey { stated, derived }) => {
            assert_eq!(keystore.public_key(), Some(stated));
            assert_ne!(stated, derived);
            Reached::Taken
        }
        Err(KeystoreError::WrongPassword | KeystoreError::NotAKey) => Reached::Refused,
        Err(KeystoreError::Malformed { member, reason }) => panic!("{member}: {reason}"),
    }
}

/// How much work the file asks for, once it is held that it may.
fn price(file: &Value, memory_bytes: u64) -> u64 {
    let params = &file["crypto"]["kdf"]["params"];
    let number = |name: &str| params[name].as_u64().unwrap();
    if file["crypto"]["kdf"]["function"] == "scrypt" {
        let (n, r, p) = (number("n"), number("r"), number("p"));
        assert!(n.is_power_of_two() && n > 1 && r > 0 && p > 0);
        assert_eq!(memory_bytes, 128 * n * r);
        assert!(memory_bytes <= PRICES_MAX.0 && n * r * p <= PRICES_MAX.1);
        n * r * p
    } else {
        assert_eq!(
            (memory_bytes, params["prf"].as_str()),
            (0, Some("hmac-sha256"))
        );
        assert!((1..=PRICES_MAX.2).contains(&number("c")));
        number("c")
    }
}
