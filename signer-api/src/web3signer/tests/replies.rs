//! The choice of a reply's form, and the key in a path.

use crate::web3signer::{RequestKind, parse_identifier, wants_json};

#[test]
fn json_is_answered_to_those_who_ask_for_it_or_for_anything() {
    for (accept, json) in [
        (&["application/json"][..], true),
        (&["*/*"], true),
        (&["text/plain, application/json;q=0.1"], true),
        (&["APPLICATION/JSON ; charset=utf-8"], true),
        (&["text/plain", "*/*;q=0"], true),
        (&[], false),
        (&[""], false),
        (&["text/plain"], false),
        (&["application/*"], false),
        (&["application/json+x"], false),
        (&["text/html;x=application/json"], false),
    ] {
        assert_eq!(wants_json(accept.iter().copied()), json, "{accept:?}");
    }
}

#[test]
fn an_identifier_is_a_key_in_either_case_with_0x_or_without_and_else_none() {
    let key = format!("0x{}", "aB".repeat(48));
    let expected = Some(duty::PublicKey([0xab; 48]));
    let digits = "ab".repeat(48);
    for same in [&key, &key.to_uppercase(), &digits, &digits.to_uppercase()] {
        assert_eq!(parse_identifier(same), expected, "{same}");
    }
    for junk in [
        "",
        "0x",
        "12345",
        "0x0x",
        "ß",
        &key[..97],
        &format!("{key}00"),
        &format!(" {key}"),
    ] {
        assert_eq!(parse_identifier(junk), None, "{junk}");
    }
}

#[test]
fn every_type_has_a_name_of_its_own_that_leads_back_to_it() {
    for kind in RequestKind::ALL {
        assert_eq!(RequestKind::from_name(kind.name()), Some(kind));
        assert_eq!(
            RequestKind::from_name(&kind.name().to_lowercase()),
            Some(kind)
        );
    }
    assert_eq!(RequestKind::from_name("BLS_TO_EXECUTION_CHANGE"), None);
}
