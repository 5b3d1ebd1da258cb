//! Keystores, against the vectors of EIP-2335 and against what people really have in directories.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::*;

/// The password of EIP-2335's test cases, which is `testpassword🔑` once it is normalised.
const PASSWORD: &str = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";
const PUBLIC_KEY: &str = "0x9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07";

/// EIP-2335's test cases: scrypt and PBKDF2.
const VECTORS: [&str; 2] = [
    r#"{
        "crypto": {
            "kdf": {
                "function": "scrypt",
                "params": {
                    "dklen": 32,
                    "n": 262144,
                    "p": 1,
                    "r": 8,
                    "salt": "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
                },
                "message": ""
            },
            "checksum": {
                "function": "sha256",
                "params": {},
                "message": "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484"
            },
            "cipher": {
                "function": "aes-128-ctr",
                "params": { "iv": "264daa3f303d7259501c93d997d84fe6" },
                "message": "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f"
            }
        },
        "description": "This is a test keystore that uses scrypt to secure the secret.",
        "pubkey": "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07",
        "path": "m/12381/60/3141592653/589793238",
        "uuid": "1d85ae20-35c5-4611-98e8-aa14a633906f",
        "version": 4
    }"#,
    r#"{
        "crypto": {
            "kdf": {
                "function": "pbkdf2",
                "params": {
                    "dklen": 32,
                    "c": 262144,
                    "prf": "hmac-sha256",
                    "salt": "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
                },
                "message": ""
            },
            "checksum": {
                "function": "sha256",
                "params": {},
                "message": "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1"
            },
            "cipher": {
                "function": "aes-128-ctr",
                "params": { "iv": "264daa3f303d7259501c93d997d84fe6" },
                "message": "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad"
            }
        },
        "description": "This is a test keystore that uses PBKDF2 to secure the secret.",
        "pubkey": "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07",
        "path": "m/12381/60/0/0",
        "uuid": "64625def-3331-4eea-ab6f-782f3ed16a83",
        "version": 4
    }"#,
];

/// Cheap enough for a test of something else.
fn cheap() -> Kdf {
    Kdf::scrypt(2, 1, 1).unwrap()
}

fn secret(last: u8) -> [u8; 32] {
    let mut secret = [0; 32];
    (secret[0], secret[31]) = (0x1f, last);
    secret
}

fn public_key(last: u8) -> PublicKey {
    SecretKey::from_be_bytes(&secret(last))
        .unwrap()
        .public_key()
}

fn encrypted(last: u8, password: &str, kdf: Kdf) -> String {
    let mut entropy = |slice: &mut [u8]| slice.fill(last);
    encrypt(&secret(last), &Password::new(password), kdf, &mut entropy).unwrap()
}

#[test]
fn the_vectors_of_the_eip_decrypt() {
    for json in VECTORS {
        let keystore = Keystore::parse(json.as_bytes()).unwrap();
        let key = keystore.decrypt(&Password::new(PASSWORD)).unwrap();
        assert_eq!(key.public_key(), PUBLIC_KEY.parse().unwrap());
        assert_eq!(keystore.public_key(), Some(key.public_key()));
    }
}

#[test]
fn the_vectors_of_the_eip_are_what_encrypting_makes() {
    let mut secret = [0; 32];
    let hex = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    const_hex::decode_to_slice(hex, &mut secret).unwrap();
    let salt = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";
    let iv = "264daa3f303d7259501c93d997d84fe6";
    let uuids = [
        "1d85ae2035c5461198e8aa14a633906f",
        "64625def33314eeaab6f782f3ed16a83",
    ];
    for ((vector, kdf), uuid) in VECTORS
        .iter()
        .zip([Kdf::scrypt(262_144, 8, 1), Kdf::pbkdf2(262_144)])
        .zip(uuids)
    {
        let mut draws = [salt, iv, uuid].into_iter();
        let mut entropy = |slice: &mut [u8]| {
            const_hex::decode_to_slice(draws.next().unwrap(), slice).unwrap();
        };
        let password = Password::new(PASSWORD);
        let made = encrypt(&secret, &password, kdf.unwrap(), &mut entropy).unwrap();
        let mut made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(vector).unwrap();
        expected.as_object_mut().unwrap().remove("description");
        (made["path"], expected["path"]) = ("".into(), "".into());
        assert_eq!(made, expected);
    }
}

#[test]
fn passwords_are_normalised_and_lose_their_control_codes() {
    for (text, normalised) in [
        (PASSWORD, "testpassword🔑"),
        (
            "test\u{0}\u{1f}\u{7f}\u{80}\u{9f}control\r\n",
            "testcontrol",
        ),
        ("with spaces \u{a0}", "with spaces  "),
        ("Å\u{fb01}①", "A\u{30a}fi1"),
        ("", ""),
    ] {
        assert_eq!(
            Password::new(text).as_bytes(),
            normalised.as_bytes(),
            "{text:?}"
        );
    }
}

#[test]
fn what_was_encrypted_decrypts_and_names_its_key() {
    for kdf in [
        cheap(),
        Kdf::pbkdf2(1).unwrap(),
        Kdf::scrypt(16, 3, 2).unwrap(),
    ] {
        let keystore = Keystore::parse(encrypted(7, "pass", kdf).as_bytes()).unwrap();
        let key = keystore.decrypt(&Password::new("pass\n")).unwrap();
        assert_eq!(key.public_key(), public_key(7));
        assert_eq!(keystore.public_key(), Some(public_key(7)));
        let wrong = keystore.decrypt(&Password::new("Pass"));
        assert_eq!(wrong.err(), Some(KeystoreError::WrongPassword));
    }
}

#[test]
fn another_public_key_in_the_file_is_an_error_and_none_is_not() {
    let mut json: serde_json::Value = serde_json::from_str(&encrypted(1, "pass", cheap())).unwrap();
    json["pubkey"] = public_key(2).to_string().into();
    let keystore = Keystore::parse(json.to_string().as_bytes()).unwrap();
    assert_eq!(
        keystore.decrypt(&Password::new("pass")).err(),
        Some(KeystoreError::OtherKey {
            stated: public_key(2),
            derived: public_key(1),
        })
    );
    json.as_object_mut().unwrap().remove("pubkey");
    let keystore = Keystore::parse(json.to_string().as_bytes()).unwrap();
    assert!(keystore.decrypt(&Password::new("pass")).is_ok());
}

/// The scrypt vector with `pointer` set to `value` (or removed) is refused, with `message`.
fn check_malformed(vector: &str, pointer: &str, value: Option<&str>, message: &str) {
    let mut json: serde_json::Value = serde_json::from_str(vector).unwrap();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(member.to_owned(), serde_json::from_str(value).unwrap()),
        None => parent.remove(member),
    };
    let error = Keystore::parse(json.to_string().as_bytes()).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with(message), "{pointer} {value:?}: {text}");
}

#[test]
fn malformed_members_are_named() {
    for (pointer, value, message) in [
        (
            "/version",
            Some("3"),
            "version: expected 4 (EIP-2335), got 3",
        ),
        ("/version", None, "the file: missing field `version`"),
        ("/version", Some("\"4\""), "version: invalid type: string"),
        ("/crypto", None, "the file: missing field `crypto`"),
        ("/crypto/kdf", None, "crypto: missing field `kdf`"),
        (
            "/crypto/kdf/function",
            Some("\"argon2\""),
            "crypto.kdf.function: expected scrypt or",
        ),
        (
            "/crypto/kdf/params",
            Some("[]"),
            "crypto.kdf.params: invalid type: sequence, expected an object",
        ),
        (
            "/crypto/kdf/params/n",
            None,
            "crypto.kdf.params: missing field `n`",
        ),
        (
            "/crypto/kdf/params/n",
            Some("-1"),
            "crypto.kdf.params.n: invalid value",
        ),
        (
            "/crypto/kdf/params/n",
            Some("262145"),
            "crypto.kdf.params.n: expected a power of two",
        ),
        (
            "/crypto/kdf/params/n",
            Some("0"),
            "crypto.kdf.params.n: expected a power of two",
        ),
        (
            "/crypto/kdf/params/n",
            Some("2097152"),
            "crypto.kdf.params.n: n·r·128",
        ),
        (
            "/crypto/kdf/params/n",
            Some("9223372036854775808"),
            "crypto.kdf.params.n: n·r·128",
        ),
        (
            "/crypto/kdf/params/r",
            Some("0"),
            "crypto.kdf.params.r: expected at least 1",
        ),
        (
            "/crypto/kdf/params/r",
            Some("4294967295"),
            "crypto.kdf.params.n: n·r·128",
        ),
        (
            "/crypto/kdf/params/p",
            Some("0"),
            "crypto.kdf.params.p: expected at least 1",
        ),
        (
            "/crypto/kdf/params/p",
            Some("33"),
            "crypto.kdf.params.p: n·r·p",
        ),
        (
            "/crypto/kdf/params/dklen",
            Some("31"),
            "crypto.kdf.params.dklen: expected at least 32",
        ),
        (
            "/crypto/kdf/params/salt",
            Some("\"\""),
            "crypto.kdf.params.salt: expected 1 to 1024",
        ),
        (
            "/crypto/kdf/params/salt",
            Some("\"0\""),
            "crypto.kdf.params.salt: odd number",
        ),
        (
            "/crypto/checksum/function",
            Some("\"md5\""),
            "crypto.checksum.function: expected sha256",
        ),
        (
            "/crypto/checksum/message",
            Some("\"00\""),
            "crypto.checksum.message: expected 32 bytes",
        ),
        (
            "/crypto/cipher/function",
            Some("\"rc4\""),
            "crypto.cipher.function: expected aes-128-ctr",
        ),
        (
            "/crypto/cipher/params/iv",
            Some("\"00\""),
            "crypto.cipher.params.iv: expected 16 bytes",
        ),
        (
            "/crypto/cipher/params",
            Some("{}"),
            "crypto.cipher.params: missing field `iv`",
        ),
        (
            "/crypto/cipher/message",
            Some("\"zz\""),
            "crypto.cipher.message: expected 32 bytes",
        ),
        (
            "/pubkey",
            Some("\"0x00\""),
            "pubkey: expected 96 hexadecimal digits, got 2",
        ),
    ] {
        check_malformed(VECTORS[0], pointer, value, message);
    }
    for (pointer, value, message) in [
        (
            "/crypto/kdf/params/c",
            Some("0"),
            "crypto.kdf.params.c: expected 1 to 16777216",
        ),
        (
            "/crypto/kdf/params/c",
            Some("16777217"),
            "crypto.kdf.params.c: expected 1 to 16777216",
        ),
        (
            "/crypto/kdf/params/prf",
            Some("\"hmac-md5\""),
            "crypto.kdf.params.prf: expected hmac",
        ),
        (
            "/crypto/kdf/params/prf",
            None,
            "crypto.kdf.params: missing field `prf`",
        ),
    ] {
        check_malformed(VECTORS[1], pointer, value, message);
    }
    for (json, message) in [
        ("", "the file: EOF"),
        ("[]", "the file: invalid type: sequence, expected an object"),
        ("{\"version\":4} x", "the file: missing field `crypto`"),
        ("\u{feff}{}", "the file: expected value"),
    ] {
        let text = Keystore::parse(json.as_bytes()).err().unwrap().to_string();
        assert!(text.starts_with(message), "{json:?}: {text}");
    }
    assert!(Keystore::parse(&[0xff]).is_err());
}

#[test]
fn the_largest_accepted_cost_is_known_without_paying_it() {
    let one_gib = Kdf::scrypt(1 << 20, 8, 1).unwrap();
    assert_eq!(one_gib.memory_bytes(), 1 << 30);
    assert_eq!(Kdf::scrypt(262_144, 8, 1).unwrap().memory_bytes(), 1 << 28);
    assert_eq!(Kdf::pbkdf2(1 << 24).unwrap().memory_bytes(), 0);
}

/// A directory with keystores, and one with passwords.
struct Directories {
    root: tempfile::TempDir,
}

impl Directories {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("keys")).unwrap();
        fs::create_dir(root.path().join("passwords")).unwrap();
        Self { root }
    }

    fn keys(&self) -> PathBuf {
        self.root.path().join("keys")
    }

    fn passwords(&self) -> PathBuf {
        self.root.path().join("passwords")
    }

    fn keystore(&self, name: &str, last: u8, password: &str) -> PathBuf {
        let path = self.keys().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, encrypted(last, password, cheap())).unwrap();
        path
    }

    fn password(&self, name: &str, password: &str) -> PathBuf {
        let path = self.passwords().join(name);
        fs::write(&path, password).unwrap();
        path
    }

    fn decrypt(&self, passwords: &Path) -> Result<Vec<PublicKey>, FileError> {
        let seen = Mutex::new(Vec::new());
        let keys = decrypt_all(&self.keys(), &Passwords::at(passwords), &|progress| {
            seen.lock().unwrap().push((progress.done, progress.total));
        })?;
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        let total = keys.len();
        assert_eq!(
            seen,
            (1..=total).map(|done| (done, total)).collect::<Vec<_>>()
        );
        Ok(keys.iter().map(SecretKey::public_key).collect())
    }
}

#[test]
fn a_directory_decrypts_with_one_password_in_the_order_of_names() {
    let directories = Directories::new();
    for last in (1..=9).rev() {
        directories.keystore(&format!("keystore-{last}.json"), last, "all");
    }
    fs::write(directories.keys().join("deposit_data-1.json"), "[]").unwrap();
    fs::write(directories.keys().join("notes.txt"), "hello").unwrap();
    let password = directories.password("one", "all\n");
    let expected: Vec<PublicKey> = (1..=9).map(public_key).collect();
    assert_eq!(directories.decrypt(&password).unwrap(), expected);

    let single = directories.keys().join("keystore-3.json");
    let key = decrypt_file(&single, &password).unwrap();
    assert_eq!(key.public_key(), public_key(3));
    let keys = decrypt_all(&single, &Passwords::File(password), &|_| {}).unwrap();
    assert_eq!(keys.len(), 1);
}

#[test]
fn a_password_is_found_under_each_name_it_may_have() {
    let directories = Directories::new();
    let hex = |last| const_hex::encode(public_key(last).as_bytes());
    // The names of Teku, of Web3Signer, of Nimbus, of Lighthouse with its directory per key.
    directories.keystore("a.json", 1, "first");
    directories.password("a.txt", "first\n");
    directories.keystore("b.json", 2, "second");
    directories.password("b", "second");
    directories.keystore("c.json", 3, "third");
    directories.password(&format!("{}.txt", hex(3)), "third");
    directories.keystore("d.json", 4, "fourth");
    directories.password(&format!("0x{}.txt", hex(4)), "fourth\r\n");
    directories.keystore("e.json", 5, "fifth");
    directories.password(&hex(5), "fifth");
    directories.keystore(&format!("0x{}/voting-keystore.json", hex(6)), 6, "sixth");
    directories.password(&format!("0x{}", hex(6)), "sixth");
    let mut found = directories.decrypt(&directories.passwords()).unwrap();
    found.sort();
    let mut expected: Vec<PublicKey> = (1..=6).map(public_key).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn one_bad_file_spoils_all_and_is_named() {
    let directories = Directories::new();
    let passwords = directories.passwords();
    for last in 1..=4 {
        directories.keystore(&format!("{last}.json"), last, "right");
        directories.password(&format!("{last}.txt"), "right");
    }
    assert_eq!(directories.decrypt(&passwords).unwrap().len(), 4);
    let message = || directories.decrypt(&passwords).unwrap_err().to_string();

    directories.password("3.txt", "wrong");
    assert!(
        message().ends_with("keys/3.json: the password is wrong"),
        "{}",
        message()
    );
    directories.password("3.txt", "\n");
    assert!(
        message().ends_with("passwords/3.txt is empty"),
        "{}",
        message()
    );
    fs::write(passwords.join("3.txt"), [0xff]).unwrap();
    assert!(
        message().ends_with("passwords/3.txt is not UTF-8"),
        "{}",
        message()
    );
    fs::write(passwords.join("3.txt"), [b'x'; 4097]).unwrap();
    assert!(
        message().ends_with("passwords/3.txt has more than 4096 bytes"),
        "{}",
        message()
    );
    fs::remove_file(passwords.join("3.txt")).unwrap();
    assert!(
        message().contains("keys/3.json: no password for it in"),
        "{}",
        message()
    );
    assert!(
        message().contains("looked for 3.txt, 3, 0x"),
        "{}",
        message()
    );

    directories.password("3.txt", "right");
    fs::write(directories.keys().join("2.json"), "{}").unwrap();
    assert!(
        message().contains("keys/2.json: the file: missing field"),
        "{}",
        message()
    );
    fs::write(directories.keys().join("2.json"), vec![b' '; 65 * 1024]).unwrap();
    assert!(
        message().contains("keys/2.json: the file: has more than"),
        "{}",
        message()
    );
}

#[test]
fn one_key_in_two_files_is_refused_whether_they_say_so_or_not() {
    let directories = Directories::new();
    let password = directories.password("one", "all");
    directories.keystore("a.json", 1, "all");
    let second = directories.keystore("b.json", 1, "all");
    let message = || directories.decrypt(&password).unwrap_err().to_string();
    assert!(message().contains("a.json and "), "{}", message());
    assert!(
        message().contains("b.json hold the same key 0x"),
        "{}",
        message()
    );

    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&second).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("pubkey");
    fs::write(&second, json.to_string()).unwrap();
    assert!(
        message().contains("b.json hold the same key 0x"),
        "{}",
        message()
    );
}

#[test]
fn nothing_to_decrypt_is_an_error() {
    let directories = Directories::new();
    let password = directories.password("one", "all");
    let message = directories.decrypt(&password).unwrap_err().to_string();
    assert!(
        message.ends_with("keys has no keystore, no file that ends in .json"),
        "{message}"
    );
    let missing = directories.keys().join("missing.json");
    let error = decrypt_file(&missing, &password).err().unwrap().to_string();
    assert!(
        error.contains("missing.json cannot be read: No such file"),
        "{error}"
    );
}
