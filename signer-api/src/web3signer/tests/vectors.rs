//! Every vector's root, with and without the root in the request, members in any order.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::*;

pub(super) const EXAMPLES: &str =
    include_str!("../../../../tests/fixtures/web3signer-wire-examples.json");
pub(super) const SELECTION: &str =
    include_str!("../../../../tests/fixtures/signing-requests.jsonl");

/// One request and its root.
pub(super) struct Vector {
    pub(super) name: String,
    pub(super) network: Network,
    pub(super) request: Value,
    /// The body as the client sent it, where that is known.
    pub(super) raw: Option<String>,
    pub(super) root: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub(super) fn lines(file: &str) -> Vec<Vector> {
    let (mainnet, minimal) = (mainnet(), minimal());
    let vector = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let network = if line["preset"] == "mainnet" {
            &mainnet
        } else {
            &minimal
        };
        assert_eq!(
            text(&line["genesis_fork_version"]),
            network.genesis_fork_version().to_string()
        );
        assert_eq!(
            text(&line["capella_fork_version"]),
            network.capella_fork_version().to_string()
        );
        Vector {
            name: text(&line["name"]),
            network: network.clone(),
            request: line["request"].clone(),
            raw: None,
            root: text(&line["signing_root"]),
        }
    };
    file.lines().map(vector).collect()
}

fn examples(file: &str) -> Vec<Vector> {
    let file: Value = serde_json::from_str(file).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    let vector = |case: &Value| Vector {
        name: text(&case["name"]),
        network: Network::preset("mainnet").unwrap(),
        request: case["request"].clone(),
        raw: None,
        root: text(&case["signing_root"]),
    };
    cases.map(vector).collect()
}

fn captured(dir: &Path) -> Vec<Vector> {
    let vector = |entry: Result<fs::DirEntry, std::io::Error>| {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        Vector {
            name: path.display().to_string(),
            network: minimal(),
            request: file["request"].clone(),
            raw: Some(text(&file["request_raw"])),
            root: text(&file["signing_root"]),
        }
    };
    fs::read_dir(dir).unwrap().map(vector).collect()
}

/// The same JSON with the members of every object the other way round.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .rev()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), reversed(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(reversed).collect();
            format!("[{}]", elements.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// The same request as another client might write it: numbers bare, digits in upper case and
/// without `0x`, a member that nobody knows in every object.
fn rewritten(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut rewritten: Map<_, _> = members
                .iter()
                .map(|(name, value)| (name.clone(), self::rewritten(value)))
                .collect();
            rewritten.insert(
                "proofs".to_owned(),
                serde_json::json!([{"index": 2}, null, 1.5]),
            );
            Value::Object(rewritten)
        }
        Value::Array(elements) => elements.iter().map(rewritten).collect(),
        Value::String(text) => match (text.parse::<u64>(), text.strip_prefix("0x")) {
            (Ok(number), _) => number.into(),
            (_, Some(digits)) => digits.to_ascii_uppercase().into(),
            (_, None) => value.clone(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn check(vectors: &[Vector]) {
    for Vector {
        name,
        network,
        request,
        raw,
        root,
    } in vectors
    {
        let mut bodies = vec![
            request.to_string(),
            unrooted(request.clone()).to_string(),
            reversed(request),
            rewritten(request).to_string(),
            serde_json::to_string_pretty(request).unwrap(),
        ];
        bodies.extend(raw.clone());
        for body in bodies {
            match parse(body.as_bytes(), PublicKey([7; 48]), network) {
                Ok(parsed) => assert_eq!(parsed.root.to_string(), *root, "{name}: {body}"),
                Err(error) => panic!("{name}: {error}: {body}"),
            }
        }
    }
}

#[test]
fn every_type_fork_and_shape_of_our_own_set_has_the_expected_root() {
    let vectors = lines(SELECTION);
    assert!(vectors.len() > 90);
    check(&vectors);
}

#[test]
fn every_worked_example_has_the_expected_root() {
    let vectors = examples(EXAMPLES);
    assert_eq!(vectors.len(), 19);
    check(&vectors);
}

#[test]
fn captured_requests_of_our_own_set_have_the_expected_root() {
    let dir = Path::new(FIXTURES).join("captured");
    let vectors = captured(&dir);
    assert_eq!(vectors.len(), 10);
    check(&vectors);
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

/// A file or directory of the shared vectors, which are not part of this repository.
fn shared(name: &str) -> Option<std::path::PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors")
        .join(name);
    if !path.exists() {
        eprintln!(
            "\n*** SKIPPED: there is no {} beside this checkout ***\n",
            path.display()
        );
        return None;
    }
    Some(path)
}

#[test]
fn all_450_requests_of_another_implementation_have_the_expected_root() {
    let Some(path) = shared("signing-requests.jsonl") else {
        return;
    };
    let vectors = lines(&fs::read_to_string(path).unwrap());
    assert_eq!(vectors.len(), 450);
    check(&vectors);
}

#[test]
fn all_shared_worked_examples_have_the_expected_root() {
    let Some(path) = shared("web3signer-wire-examples.json") else {
        return;
    };
    check(&examples(&fs::read_to_string(path).unwrap()));
}

#[test]
fn all_283_captured_requests_have_the_expected_root() {
    let Some(path) = shared("captured") else {
        return;
    };
    let vectors = captured(&path);
    assert_eq!(vectors.len(), 283);
    check(&vectors);
}
