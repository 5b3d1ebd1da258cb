//! Every member of every type, missing, null, of another kind, or garbled: a refusal names it.

use serde_json::{Value, json};

use super::{
    vectors::{SELECTION, Vector, lines},
    *,
};

/// A member: how to reach it, and its path as errors write it.
#[derive(Clone)]
struct Member {
    pointer: String,
    path: String,
    value: Value,
}

/// All members of all objects in `value`, those in arrays included.
fn members(value: &Value, pointer: &str, path: &str, found: &mut Vec<Member>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                let member = Member {
                    pointer: format!("{pointer}/{name}"),
                    path: format!("{path}{dot}{name}"),
                    value: value.clone(),
                };
                members(value, &member.pointer, &member.path, found);
                found.push(member);
            }
        }
        Value::Array(elements) => {
            for (at, value) in elements.iter().enumerate() {
                members(
                    value,
                    &format!("{pointer}/{at}"),
                    &format!("{path}[{at}]"),
                    found,
                );
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The members that have to be there. A registration's `fork_info` is ignored, roots are optional.
fn required(request: &Value) -> Vec<Member> {
    let mut found = Vec::new();
    members(request, "", "", &mut found);
    let registration = request["type"] == "VALIDATOR_REGISTRATION";
    found.retain(|member| {
        let root = ["signingRoot", "signing_root"].contains(&member.path.as_str());
        let ignored = registration && member.path.starts_with("fork_info");
        !root && !ignored
    });
    found
}

fn with(request: &Value, member: &Member, value: Value) -> Value {
    let mut request = request.clone();
    *request.pointer_mut(&member.pointer).unwrap() = value;
    request
}

fn without(request: &Value, member: &Member) -> Value {
    let mut request = request.clone();
    let (parent, name) = member.pointer.rsplit_once('/').unwrap();
    request
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(name);
    request
}

/// A refusal of `request` says `member`'s path first. A payload that is missing altogether has the
/// name that is canonical today.
fn check(vector: &Vector, request: &Value, member: &Member) {
    let message = refusal(request, &vector.network);
    let path = match member.path.as_str() {
        "payload_attestation" => "payload_attestation_message",
        path => path,
    };
    let named = [&member.path, path].into_iter().any(|path| {
        message
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with([' ', ':']))
    });
    assert!(
        named,
        "{}: {:?} said of {}",
        vector.name, message, member.path
    );
    assert!(message.len() < 1_000, "{message}");
}

#[test]
fn a_member_that_is_missing_or_null_is_named() {
    for vector in lines(SELECTION) {
        for member in required(&vector.request) {
            check(&vector, &without(&vector.request, &member), &member);
            check(
                &vector,
                &with(&vector.request, &member, Value::Null),
                &member,
            );
        }
    }
}

#[test]
fn a_member_of_another_kind_is_named() {
    for vector in lines(SELECTION) {
        for member in required(&vector.request) {
            let others = match &member.value {
                Value::Object(object) => {
                    // By position, as derived code would take it.
                    let values: Vec<_> = object.values().cloned().collect();
                    vec![json!(values), json!("0x00"), json!(7), json!(true)]
                }
                Value::Array(_) => vec![json!({}), json!("0x00"), json!(7), json!(true)],
                Value::Bool(_) => vec![json!({}), json!([]), json!("true"), json!(1)],
                Value::Number(_) | Value::String(_) => {
                    vec![
                        json!({}),
                        json!([member.value]),
                        json!(-1),
                        json!(1.5),
                        json!(true),
                    ]
                }
                Value::Null => unreachable!(),
            };
            for other in others {
                // An authorisation's `data` is a string, if it is not wrapped.
                if member.path == "builder_request_auth.data" && other.is_string() {
                    assert!(
                        refusal(&with(&vector.request, &member, other), &vector.network)
                            .starts_with("builder_request_auth.slot is missing")
                    );
                    continue;
                }
                check(&vector, &with(&vector.request, &member, other), &member);
            }
        }
    }
}

#[test]
fn a_garbled_value_is_named() {
    for vector in lines(SELECTION) {
        for member in required(&vector.request) {
            let Value::String(text) = &member.value else {
                continue;
            };
            let garbled = match text.strip_prefix("0x") {
                // Odd, too long, foreign, doubly prefixed.
                Some(digits) => {
                    let foreign = "g".repeat(digits.len().max(2));
                    let long = format!("0x{digits}{}", "00".repeat(20_000));
                    vec![
                        format!("0x{digits}0"),
                        long,
                        foreign,
                        format!("0x0x{digits}"),
                    ]
                }
                None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let long = format!("1{}", "0".repeat(78));
                    let signed = [format!("+{text}"), format!("-{text}"), format!(" {text}")];
                    [
                        vec![long, String::new(), "0x10".to_owned()],
                        signed.to_vec(),
                    ]
                    .concat()
                }
                None => vec![format!("{text}x"), String::new()],
            };
            for garbled in garbled {
                let transaction = member.path.ends_with("block_access_list");
                let mut request = with(&vector.request, &member, json!(garbled));
                if member.path.ends_with(".version") {
                    // With a root, a fork that is not known may be served.
                    request = unrooted(request);
                }
                if transaction && text.starts_with("0x") && garbled.len() > 20_000 {
                    assert!(ask(&unrooted(request), &vector.network).is_ok());
                    continue;
                }
                check(&vector, &request, &member);
            }
        }
    }
}

#[test]
fn a_uint64_may_be_the_largest_but_not_more() {
    let network = mainnet();
    let mut request = unrooted(example("RANDAO_REVEAL"));
    for epoch in [
        json!(u64::MAX),
        json!(u64::MAX.to_string()),
        json!(0),
        json!("0"),
    ] {
        request["randao_reveal"]["epoch"] = epoch;
        assert!(ask(&request, &network).is_ok(), "{request}");
    }
    for epoch in [
        json!("18446744073709551616"),
        json!(1.8e19),
        json!("1e3"),
        json!("٣"),
    ] {
        request["randao_reveal"]["epoch"] = epoch;
        assert!(refusal(&request, &network).starts_with("randao_reveal.epoch: "));
    }
}

#[test]
fn a_root_of_fewer_digits_is_padded_on_the_left() {
    let network = mainnet();
    let mut request = unrooted(example("SYNC_COMMITTEE_MESSAGE"));
    let mut roots = Vec::new();
    let whole = format!("0x{}0a0B", "00".repeat(30));
    for root in [whole.as_str(), "0x0a0B", "0A0b", "0x000a0b"] {
        request["sync_committee_message"]["beacon_block_root"] = json!(root);
        roots.push(root_of(&request, &network));
    }
    roots.dedup();
    assert_eq!(roots.len(), 1);
}

#[test]
fn a_signing_root_that_is_garbled_is_named_and_one_that_is_null_is_absent() {
    let network = mainnet();
    for name in ["signingRoot", "signing_root"] {
        let mut request = unrooted(example("ATTESTATION"));
        for root in [
            json!("0x0"),
            json!(0),
            json!({}),
            json!("00".repeat(33)),
            json!("0xzz"),
        ] {
            request[name] = root;
            assert!(refusal(&request, &network).starts_with(&format!("{name}: ")));
        }
        request[name] = Value::Null;
        assert!(ask(&request, &network).is_ok());
    }
}
