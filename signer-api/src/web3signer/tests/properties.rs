//! Whatever arrives, the answer is an order or a refusal, and never a panic.

use std::{sync::LazyLock, time::Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    vectors::{SELECTION, Vector, lines},
    *,
};
use crate::web3signer::{RequestKind, payloads::BODY_MEMBERS};

static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(|| lines(SELECTION));

/// Parses, and holds what comes out against what is promised of it.
fn check(body: &[u8], network: &Network) {
    match parse(body, PublicKey([7; 48]), network) {
        Ok(parsed) => assert_eq!(parsed.root, parsed.order.signing_root()),
        Err(error) => assert!(error.to_string().len() < 1_000, "{error}"),
    }
}

fn names() -> impl Strategy<Value = String> {
    let kinds = RequestKind::ALL.map(|kind| kind.name().to_owned());
    let known = ["fork", "epoch", "slot"];
    let more = [
        "version",
        "data",
        "block",
        "block_header",
        "aggregate",
        "body",
        "target",
        "root",
    ];
    let members = BODY_MEMBERS
        .into_iter()
        .chain(known)
        .chain(more)
        .map(str::to_owned);
    let all: Vec<_> = kinds.into_iter().chain(members).collect();
    prop_oneof![4 => prop::sample::select(all), 1 => any::<String>()]
}

fn leaves() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(|number| Value::from(number.to_string())),
        prop::collection::vec(any::<u8>(), 0..100)
            .prop_map(|bytes| Value::from(const_hex::encode_prefixed(bytes))),
        names().prop_map(Value::from),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    leaves().prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(names(), inner, 0..8)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Every place in `value`, as a pointer.
fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
    found.push(pointer.to_owned());
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .map(|(at, value)| (at.to_string(), value))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (name, value) in inner {
        places(value, &format!("{pointer}/{name}"), found);
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(body in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&body, &VECTORS[0].network);
    }

    #[test]
    fn any_json_gives_an_answer(body in values()) {
        check(body.to_string().as_bytes(), &VECTORS[0].network);
    }

    #[test]
    fn a_request_with_anything_anywhere_gives_an_answer(
        vector in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), values()), 1..3),
    ) {
        let vector = vector.get(&VECTORS[..]);
        let mut request = vector.request.clone();
        for (place, value) in changes {
            let mut found = Vec::new();
            places(&request, "", &mut found);
            // Not found: a name that would have to be escaped.
            if let Some(place) = request.pointer_mut(place.get::<String>(&found)) {
                *place = value;
            }
        }
        check(request.to_string().as_bytes(), &vector.network);
    }

    #[test]
    fn a_request_cut_short_or_with_a_byte_changed_gives_an_answer(
        vector in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let vector = vector.get(&VECTORS[..]);
        let mut body = vector.request.to_string().into_bytes();
        let at = at.index(body.len());
        check(&body[..at], &vector.network);
        body[at] = byte;
        check(&body, &vector.network);
    }
}

#[test]
fn requests_of_the_last_epochs_and_slots_can_be_signed() {
    fn largest(value: &mut Value) {
        match value {
            Value::Object(members) => members.values_mut().for_each(largest),
            Value::Array(elements) => elements.iter_mut().for_each(largest),
            Value::String(text) if text.parse::<u64>().is_ok() => *value = json!(u64::MAX),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for vector in VECTORS.iter() {
        let mut request = unrooted(vector.request.clone());
        largest(&mut request);
        root_of(&request, &vector.network);
    }
}

#[test]
fn a_body_nested_ever_deeper_is_refused_or_skipped_but_never_followed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let network = mainnet();
    for deep in [deep, objects] {
        check(deep.as_bytes(), &network);
        let known = example("AGGREGATION_SLOT").to_string();
        for name in BODY_MEMBERS {
            let body = known.replace(&format!("\"{name}\":"), "\"replaced\":");
            let body = format!("{{\"{name}\":{deep},{}", &body[1..]);
            let error = parse(body.as_bytes(), PublicKey([7; 48]), &network).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
        let body = format!("{{\"unknown\":{deep},{}", &known[1..]);
        assert!(parse(body.as_bytes(), PublicKey([7; 48]), &network).is_ok());
    }
}

#[test]
fn an_envelope_of_megabytes_takes_time_linear_in_its_length() {
    let vector = VECTORS
        .iter()
        .find(|it| it.name.contains("EXECUTION_PAYLOAD_ENVELOPE"))
        .unwrap();
    let mut request = unrooted(vector.request.clone());
    let place = ["", "/data"].into_iter().find_map(|data| {
        let place = format!("/execution_payload_envelope{data}/payload/transactions");
        request.pointer(&place).map(|_| place)
    });
    let place = place.unwrap();
    for megabytes in [1, 5] {
        let transaction = json!(format!("0x{}", "a5".repeat(500)));
        let all = vec![transaction; megabytes * 1_000];
        *request.pointer_mut(&place).unwrap() = all.into();
        let body = request.to_string();
        let start = Instant::now();
        check(body.as_bytes(), &vector.network);
        eprintln!("{} bytes of envelope: {:?}", body.len(), start.elapsed());
        assert!(start.elapsed().as_secs() < 10);
    }
}
