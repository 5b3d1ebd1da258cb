//! What can not be taken is named, and changes nothing.

use serde_json::{Value, json};

use super::{CHAIN, file, import_text, section, tables};
use crate::testing::{Place, decide, patient, propose, validator};

/// A file with two good sections and what a change makes of the second.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut second = section(validator(2), &[(7, 1)], &[(3, 4, 1), (4, 5, 0)]);
    change(&mut second);
    file(vec![section(validator(1), &[(9, 0)], &[(1, 2, 3)]), second])
}

/// A file whose last entry has this value for a member.
fn with(member: &str, value: Value) -> String {
    changed(|section| section["signed_attestations"][1][member] = value)
}

/// Each of these names what is said to be wrong with it.
fn malformed_files() -> Vec<(String, &'static str)> {
    let good = changed(|_| {});
    let key = format!("data[1] (validator {})", validator(2));
    let mut files = vec![
        (String::new(), "EOF"),
        ("[]".to_owned(), "invalid type: sequence"),
        (good[..good.len() - 1].to_owned(), "EOF"),
        (format!("{good}{{}}"), "trailing characters"),
        (
            good.replace("metadata", "metadatum"),
            "missing field `metadata`",
        ),
        (good.replace("\"data\"", "\"date\""), "missing field `data`"),
        (
            good.replacen('{', "{\"data\":[],", 1),
            "duplicate field `data`",
        ),
        (
            good.replace(
                "\"interchange_format_version\"",
                "\"interchange_format_version\":\"5\",\"interchange_format_version\"",
            ),
            "duplicate field `interchange_format_version`",
        ),
        (good.replace(":\"5\"", ":\"4\""), "\"4\", not \"5\""),
        (
            good.replace(&CHAIN.to_string(), &format!("0x{}", "08".repeat(32))),
            "is for genesis validators root 0x0808",
        ),
        (
            changed(|section| section["pubkey"] = json!("0x0102")),
            "data[1] (whose pubkey was not read by then): \"0x0102\": expected 96",
        ),
        (
            changed(|section| section["pubkey"] = json!(format!("0x{}", "0g".repeat(48)))),
            "not hexadecimal",
        ),
        (
            changed(|section| section["signed_blocks"][0]["signing_root"] = json!("0x01")),
            "signed_blocks[0]: \"0x01\": expected 64",
        ),
        (
            changed(|section| section["signed_blocks"][0] = json!({})),
            "signed_blocks[0]: missing field `slot`",
        ),
        (
            changed(|section| section["signed_blocks"][0] = json!(["5", null, null, null])),
            "signed_blocks[0]: invalid type: sequence, expected an object",
        ),
        (
            changed(|section| section["signed_blocks"] = json!({})),
            "expected an array of entries",
        ),
        (
            changed(|section| section["signed_blocks"][0]["slot"] = json!(u64::MAX)),
            "signed_blocks[0]: slot 18446744073709551615 does not fit",
        ),
        (
            with("source_epoch", json!("9223372036854775808")),
            "signed_attestations[1]: source_epoch 9223372036854775808 does not fit",
        ),
        (
            with("target_epoch", json!("-1")),
            "\"-1\" is no decimal number",
        ),
        (
            with("target_epoch", json!("+5")),
            "\"+5\" is no decimal number",
        ),
        (with("target_epoch", json!("")), "\"\" is no decimal number"),
        (
            with("target_epoch", json!("0x5")),
            "\"0x5\" is no decimal number",
        ),
        (
            with("target_epoch", json!(5.0)),
            "invalid type: floating point",
        ),
        (with("target_epoch", json!(-5)), "invalid type: integer"),
        (
            with("target_epoch", Value::Null),
            "missing field `target_epoch`",
        ),
        (
            with("note", json!("x".repeat(70_000))),
            "a string is longer than it may be",
        ),
        (
            with("note", serde_json::from_str(&nested(100)).unwrap()),
            "nested deeper than it may be",
        ),
    ];
    for member in ["pubkey", "signed_blocks", "signed_attestations"] {
        let without = changed(|section| {
            section.as_object_mut().unwrap().remove(member);
        });
        let says = match member {
            "pubkey" => "missing field `pubkey`",
            "signed_blocks" => "missing field `signed_blocks`",
            _ => "missing field `signed_attestations`",
        };
        files.push((without, says));
    }
    files.push((with("source_epoch", json!("seven")), key.leak()));
    files
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test]
async fn a_malformed_file_is_named_and_leaves_every_table_as_it_was() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        assert_eq!(decide(&ledger, 1, propose(5), 1).await, Ok(()));
        // Whoever holds the ledger renews its lease.
        drop(ledger);
        let database = place.open().await;
        let earlier = file(vec![section(validator(2), &[(3, 1)], &[(1, 2, 1)])]);
        import_text(&database, CHAIN, earlier).await.unwrap();
        let before = tables(&place).await;
        for (text, says) in malformed_files() {
            let error = import_text(&database, CHAIN, text).await.unwrap_err();
            let error = error.to_string();
            assert!(error.contains(says), "{error}\nshould say: {says}");
            assert_eq!(
                error.matches("nothing was imported").count(),
                usize::from(!error.contains("cannot be read")),
                "{error}"
            );
        }
        let mut after = tables(&place).await;
        // A holder that left the ledger as the test went on.
        after.insert("standing".to_owned(), before["standing"].clone());
        assert_eq!(after, before);
        // The same file without the fault is taken.
        let imported = import_text(&database, CHAIN, changed(|_| {})).await;
        assert_eq!(imported.unwrap().entries, 5);
        assert_ne!(tables(&place).await["ratchets"], before["ratchets"]);
    }
}

/// A reader that fails after some bytes, as an upload does whose client goes away.
struct Breaking(std::io::Cursor<Vec<u8>>);

impl std::io::Read for Breaking {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::Error::other("the client is gone")),
            count => Ok(count),
        }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_every_table_as_it_was() {
    for place in Place::each().await {
        let database = place.open().await;
        let before = tables(&place).await;
        let whole = changed(|_| {}).into_bytes();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            let reader = Breaking(std::io::Cursor::new(whole[..length].to_vec()));
            let imported = super::import(&database, CHAIN, reader, |_| {}).await;
            let error = imported.unwrap_err().to_string();
            assert!(error.contains("the client is gone"), "{error}");
        }
        assert_eq!(tables(&place).await, before);
    }
}
