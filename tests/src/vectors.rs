//! Recorded requests with the answers that other implementations gave.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

/// One request and its one right answer.
#[derive(Debug, Clone)]
pub struct Vector {
    /// A name for messages.
    pub name: String,
    /// Which committee's network it belongs to: all vectors with one label agree on it.
    pub network: NetworkLabel,
    /// Conflicting duties of one validator lie in different groups, each wanting a ledger of its own.
    pub group: String,
    /// The validator's secret key, 32 bytes big-endian, for tests only.
    pub secret_key: [u8; 32],
    /// The path to post to.
    pub path: String,
    /// The value of `Accept`, if the client sent one.
    pub accept: Option<String>,
    /// The body to post.
    pub body: Vec<u8>,
    /// `0x` and 192 hexadecimal digits.
    pub signature: String,
}

/// The networks that vectors belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetworkLabel {
    /// Mainnet's preset, versions and chain.
    Mainnet,
    /// Minimal preset, versions 0x0N000001, the chain of `signing-requests.jsonl`.
    Minimal,
    /// Minimal preset, versions 0x0N000001, the local chain of the captured requests.
    Local,
}

impl NetworkLabel {
    /// The chain's genesis validators root.
    #[must_use]
    pub const fn genesis_validators_root(self) -> &'static str {
        match self {
            Self::Mainnet => "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95",
            Self::Minimal => "0x0eeac61e52e2695684a10331439130ca6da0f3e2927f16fd292d9b616a55d2ab",
            Self::Local => "0x05d79a31a8e69ecd78114c50ce73116be33027d8431b82fff6c0b3cd9c2cbb1f",
        }
    }
}

/// A file of ../shared/vectors, or of this repository's own fixtures.
fn shared() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    dir.is_dir().then_some(dir)
}

/// The directory of vectors beside the checkout; says loudly that a test is skipped if there is none.
pub fn shared_or_skip(test: &str) -> Option<PathBuf> {
    let found = shared();
    if found.is_none() {
        eprintln!(
            "\n*** SKIPPED: {test}: there is no ../shared/vectors beside this checkout ***\n"
        );
    }
    found
}

#[derive(Deserialize)]
struct Line {
    name: String,
    preset: String,
    secret_key: String,
    pubkey: String,
    request: Value,
    signature: String,
}

/// `signing-requests.jsonl`: random requests for every type and fork.
#[must_use]
pub fn signing_requests(file: &Path) -> Vec<Vector> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| {
            let line: Line = serde_json::from_str(line).unwrap();
            Vector {
                network: if line.preset == "mainnet" {
                    NetworkLabel::Mainnet
                } else {
                    NetworkLabel::Minimal
                },
                group: line.preset,
                name: line.name,
                secret_key: hex32(&line.secret_key),
                path: format!("/api/v1/eth2/sign/{}", line.pubkey),
                accept: Some("application/json".to_owned()),
                body: line.request.to_string().into_bytes(),
                signature: line.signature,
            }
        })
        .collect()
}

/// `web3signer-wire-examples.json`: the wire contract's worked examples, all of one mainnet key.
#[must_use]
pub fn wire_examples(file: &Path) -> Vec<Vector> {
    let file: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| Vector {
            name: format!("wire/{}", text(&case["name"])),
            network: NetworkLabel::Mainnet,
            group: "mainnet".to_owned(),
            secret_key: hex32(&text(&file["secret_key"])),
            path: format!("/api/v1/eth2/sign/{}", text(&file["public_key"])),
            accept: None,
            body: case["request"].to_string().into_bytes(),
            signature: text(&case["signature"]),
        })
        .collect()
}

/// `captured/`: what real clients posted. Every client ran a chain of its own for every fork, with the
/// same keys, so each of those wants a ledger of its own.
#[must_use]
pub fn captured(dir: &Path) -> Vec<Vector> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let pubkey = text(&value["pubkey"]);
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            Vector {
                network: NetworkLabel::Local,
                group: format!("{} {}", text(&value["client"]), text(&value["fork"])),
                name,
                secret_key: interop_key(&pubkey),
                path: text(&value["path"]),
                accept: value["headers"]["accept"].as_str().map(str::to_owned),
                body: text(&value["request_raw"]).into_bytes(),
                signature: text(&value["response"]["signature"]),
            }
        })
        .collect()
}

/// The well-known interop key with this public key: validator i's secret is SHA-256 of i as 32 bytes
/// little-endian, read as a little-endian integer, modulo the curve's order.
fn interop_key(pubkey: &str) -> [u8; 32] {
    use std::{collections::HashMap, sync::OnceLock};
    static KEYS: OnceLock<HashMap<String, [u8; 32]>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        (0..INTEROP_KEYS)
            .map(|number| {
                let secret = interop_secret(number);
                let key = keyshare::SecretKey::from_be_bytes(&secret).unwrap();
                (key.public_key().to_string(), secret)
            })
            .collect()
    });
    *keys
        .get(&pubkey.to_lowercase())
        .unwrap_or_else(|| panic!("{pubkey} is no interop key"))
}

const INTEROP_KEYS: u64 = 64;

/// The order of the BLS12-381 groups, big-endian.
const ORDER: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05,
    0x53, 0xbd, 0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

fn interop_secret(number: u64) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut input = [0; 32];
    input[..8].copy_from_slice(&number.to_le_bytes());
    let mut secret: [u8; 32] = Sha256::digest(input).into();
    secret.reverse();
    while secret >= ORDER {
        let mut borrow = false;
        for (digit, order) in secret.iter_mut().zip(ORDER).rev() {
            let (less, first) = digit.overflowing_sub(order);
            let (less, second) = less.overflowing_sub(u8::from(borrow));
            (*digit, borrow) = (less, first || second);
        }
    }
    secret
}

/// 32 bytes from hexadecimal digits.
#[must_use]
pub fn hex32(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    const_hex::decode_to_slice(text, &mut bytes).unwrap();
    bytes
}
