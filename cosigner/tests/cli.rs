//! The program as an operator calls it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else has failed"
)]

mod support;

use std::{
    process::Output,
    time::{SystemTime, UNIX_EPOCH},
};

use cosigner::package::{Package, PackagedShare};
use keyshare::SecretShare;
use support::{Home, cosigner, errors, new_key, package_of};

fn check(home: &Home, change: &[(&str, &str)]) -> Output {
    let config = home.config(change);
    cosigner(&["run", "--config", config.to_str().unwrap(), "--check"])
}

#[test]
fn help_shows_every_command_and_examples() {
    let output = cosigner(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in ["run", "migrate", "import", "Examples:", "--never-signed"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let run = String::from_utf8(cosigner(&["run", "--help"]).stdout).unwrap();
    assert!(run.contains("--check") && !run.contains("stdin"), "{run}");
}

#[test]
fn the_sample_configuration_is_understood() {
    let home = Home::new();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/cosigner.toml");
    let output = support::command()
        .args(["run", "--check", "--config", sample])
        .env(
            "COUNTERSIGN_VAULT__PASSPHRASE_FILE",
            home.path("vault.passphrase"),
        )
        .env("COUNTERSIGN_TLS__CERTIFICATE", home.path("cosigner-1.pem"))
        .env("COUNTERSIGN_TLS__KEY", home.path("cosigner-1.key"))
        .env("COUNTERSIGN_TLS__CA", home.path("ca.pem"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "clock = \"checked\"",
        "ledger_wait_ms = 500",
        "genesis_time = 1606824023",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn what_is_checked_can_be_read_again_and_holds_no_secret() {
    let home = Home::new();
    let output = check(&home, &[]);
    assert!(output.status.success(), "{}", errors(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("a vault's passphrase"));
    let again = home.write("again.toml", &text);
    let output = cosigner(&["run", "--config", again.to_str().unwrap(), "--check"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    assert!(
        !home.path("cosigner.sqlite").exists(),
        "a check makes nothing"
    );
}

#[test]
fn a_bad_configuration_is_one_sentence_and_exit_code_2() {
    let home = Home::new();
    home.write("open.passphrase", "anyone may read this");
    home.secret("empty.passphrase", "");
    home.write("other.yaml", "not: a network");
    let zero = format!(
        "network = \"mainnet\"\ngenesis_validators_root = \"0x{:064}\"",
        0
    );
    for (from, to, says) in [
        ("clock =", "clocks =", "clocks"),
        ("\"unchecked\"", "\"perhaps\"", "clock"),
        ("\"mainnet\"", "\"mainnot\"", "mainnot"),
        ("\"mainnet\"", "\"other.yaml\"", "other.yaml"),
        (
            "network = \"mainnet\"",
            zero.as_str(),
            "genesis_validators_root",
        ),
        ("clock =", "genesis_time = 1\nclock =", "genesis_time"),
        ("clock =", "ledger_wait_ms = 1\nclock =", "ledger_wait_ms"),
        ("clock =", "promises_max = 0\nclock =", "promises_max"),
        ("[database.sqlite]", "[database.oracle]", "oracle"),
        ("path = ", "paths = ", "paths"),
        (
            "vault.passphrase",
            "missing.passphrase",
            "missing.passphrase",
        ),
        ("vault.passphrase", "open.passphrase", "chmod 600"),
        ("vault.passphrase", "empty.passphrase", "empty"),
        ("cosigner-1.pem", "missing.pem", "missing.pem"),
        ("cosigner-1.key", "missing.key", "missing.key"),
        ("ca.pem", "missing-ca.pem", "missing-ca.pem"),
        ("[\"signer-api\"]", "[]", "authority.sign"),
        ("[\"operator\"]", "[]", "authority.administer"),
        ("[\"signer-api\"]", "[\"a\", \"a\"]", "second \"a\""),
        ("[authority]", "[authority]\neverybody = true", "everybody"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"localhost\"",
            "listen",
        ),
        ("listen = \"127.0.0.1:0\"", "", "listen"),
    ] {
        let output = check(&home, &[(from, to)]);
        let error = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{to}: {error}");
        assert!(error.contains(says), "{to}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{to}: {error}");
        assert!(output.stdout.is_empty());
    }
    let output = cosigner(&["run", "--config", "/nowhere/cosigner.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("/nowhere/cosigner.toml"));
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let config = ["--config", "c", "--package", "p", "--passphrase-file", "f"];
    for more in [
        &["--watermark-source", "1"][..],
        &["--never-signed", "--watermark-source", "1"],
        &["--never-signed", "--history", "h"],
        &["--never-signed", "--replaces-lost-member"],
        &["--history", "h", "--replaces-lost-member"],
        &[
            "--watermark-source",
            "1",
            "--watermark-target",
            "-2",
            "--watermark-slot",
            "3",
        ],
        &["--never-signed", "--surprise"],
    ] {
        let output = cosigner(&[&["import"], &config[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
    }
}

#[test]
fn a_database_is_migrated_and_bound_to_its_chain() {
    let home = Home::new();
    let config = home.config(&[]);
    for _ in 0..2 {
        let output = cosigner(&["migrate", "--config", config.to_str().unwrap()]);
        assert!(output.status.success(), "{}", errors(&output));
    }
    let config = home.config(&[("\"mainnet\"", "\"hoodi\"")]);
    let output = cosigner(&["migrate", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("genesis validators root"));
}

#[test]
fn an_import_asks_what_the_keys_have_signed_and_says_why() {
    let home = Home::new();
    let config = home.config(&[]);
    let package = home.package("package", &package_of(vec![new_key()]).0);
    let output = home.import(&config, &package, &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = errors(&output);
    assert!(
        error.contains("--never-signed") && error.contains("slashed"),
        "{error}"
    );
    assert!(!home.path("cosigner.sqlite").exists());
}

#[test]
fn the_help_of_an_import_names_the_four_ways_and_warns_of_the_others_histories() {
    let output = cosigner(&["import", "--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "--history <FILE>",
        "--watermark-source",
        "--never-signed",
        "--replaces-lost-member",
        "Never use the other cosigners' histories",
        "Exactly one of the four must be said",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_member_that_replaces_a_lost_one_starts_at_its_clock_plus_one() {
    let home = Home::new();
    let unchecked = home.config(&[]);
    let package = home.package("package", &package_of(vec![new_key()]).0);
    let output = home.import(&unchecked, &package, &["--replaces-lost-member"]);
    assert_eq!(output.status.code(), Some(2));
    let error = errors(&output);
    assert!(error.contains("clock = \"checked\""), "{error}");
    assert!(!home.path("cosigner.sqlite").exists());

    let checked = home.config(&[("\"unchecked\"", "\"checked\"")]);
    let slot_now = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from((now.as_secs() - 1_606_824_023) / 12).unwrap()
    };
    let before = slot_now();
    let output = home.import(&checked, &package, &["--replaces-lost-member"]);
    let after = slot_now();
    assert!(output.status.success(), "{}", errors(&output));
    let database = rusqlite::Connection::open(home.path("cosigner.sqlite")).unwrap();
    let read =
        "SELECT source_epoch, target_epoch, slot, attestation_root, block_root FROM ratchets";
    let (source, target, slot): (i64, i64, i64) = database
        .query_row(read, [], |row| {
            assert_eq!(
                (row.get(3), row.get(4)),
                (Ok(None::<Vec<u8>>), Ok(None::<Vec<u8>>))
            );
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert!((before + 1..=after + 1).contains(&slot), "{slot}");
    assert!(
        (before / 32 + 1..=after / 32 + 1).contains(&target),
        "{target}"
    );
    assert_eq!(source, target);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("above slot {slot}")), "{said}");
}

#[test]
fn an_import_takes_all_of_a_package_or_nothing() {
    let home = Home::new();
    let config = home.config(&[]);
    let (first, second) = (new_key(), new_key());
    let commitments = first.committee.commitments().as_slice().to_vec();
    let other =
        SecretShare::from_be_bytes(&first.shares[&support::index(2)].to_be_bytes()).unwrap();
    let (package, _) = package_of(vec![first]);
    let package = home.package("first", &package);
    let output = home.import(&config, &package, &["--never-signed"]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("imported 1 share from"));
    let anchor = std::fs::read_to_string(home.path("cosigner.anchor")).unwrap();
    assert!(anchor.contains("\"commits\":1048576"), "{anchor}");

    let again = home.import(&config, &package, &["--never-signed"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        errors(&again).contains("holds a share of"),
        "{}",
        errors(&again)
    );

    // Another member's share of the same validator, after a new one: neither is taken.
    let (mut both, validators) = package_of(vec![second]);
    both.shares.push(PackagedShare {
        commitments,
        share: other,
    });
    let both = Package {
        index: support::index(1),
        ..both
    };
    let mixed = home.package("mixed", &both);
    let output = home.import(&config, &mixed, &["--never-signed"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("share 2"), "{}", errors(&output));
    both_absent(&home, &validators);
}

fn both_absent(home: &Home, validators: &[duty::PublicKey]) {
    let database = rusqlite::Connection::open(home.path("cosigner.sqlite")).unwrap();
    for table in ["shares", "ratchets"] {
        let count = |key: &[u8]| -> i64 {
            let query = format!("SELECT count(*) FROM {table} WHERE validator = ?1");
            database.query_row(&query, [key], |row| row.get(0)).unwrap()
        };
        assert!(
            validators.iter().all(|key| count(key.as_bytes()) == 0),
            "{table}"
        );
        let all: i64 = database
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(all, 1, "{table}");
    }
}

#[test]
fn an_import_that_the_anchor_can_not_count_says_so_after_it_was_made() {
    let home = Home::new();
    let config = home.config(&[("cosigner.anchor", "nowhere/anchor")]);
    let package = home.package("package", &package_of(vec![new_key()]).0);
    let output = home.import(&config, &package, &["--never-signed"]);
    assert_eq!(output.status.code(), Some(1));
    let error = errors(&output);
    assert!(
        error.contains("were imported") && error.contains("nowhere/anchor"),
        "{error}"
    );
}

#[test]
fn nothing_is_imported_into_a_ledger_that_was_put_back() {
    let home = Home::new();
    let config = home.config(&[]);
    let import = |name: &str| {
        let package = home.package(name, &package_of(vec![new_key()]).0);
        home.import(&config, &package, &["--never-signed"])
    };
    assert!(import("first").status.success());
    let database = rusqlite::Connection::open(home.path("cosigner.sqlite")).unwrap();
    let copy = home.path("backup").display().to_string();
    database.execute("VACUUM INTO ?1", [copy]).unwrap();
    drop(database);
    assert!(import("second").status.success());
    for log in ["cosigner.sqlite-wal", "cosigner.sqlite-shm"] {
        // The last to close it may have taken it away.
        let _gone = std::fs::remove_file(home.path(log));
    }
    std::fs::copy(home.path("backup"), home.path("cosigner.sqlite")).unwrap();
    let anchor = std::fs::read(home.path("cosigner.anchor")).unwrap();
    let output = import("third");
    assert_eq!(output.status.code(), Some(1));
    let error = errors(&output);
    assert!(error.contains("an older state"), "{error}");
    assert_eq!(std::fs::read(home.path("cosigner.anchor")).unwrap(), anchor);
}

#[test]
fn wrong_passphrases_are_told_from_damage() {
    let home = Home::new();
    let config = home.config(&[]);
    let package = home.package("package", &package_of(vec![new_key()]).0);
    home.secret("package.passphrase", "another one");
    let output = home.import(&config, &package, &["--never-signed"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("the passphrase is wrong"),
        "{}",
        errors(&output)
    );

    home.secret("package.passphrase", "a package's passphrase\n");
    let mut bytes = std::fs::read(&package).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&package, &bytes).unwrap();
    let output = home.import(&config, &package, &["--never-signed"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("damaged"), "{}", errors(&output));

    bytes[last] ^= 1;
    std::fs::write(&package, &bytes).unwrap();
    assert!(
        home.import(&config, &package, &["--never-signed"])
            .status
            .success()
    );
    home.secret("vault.passphrase", "not this vault's");
    let output = cosigner(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("the passphrase is wrong"),
        "{}",
        errors(&output)
    );
}
