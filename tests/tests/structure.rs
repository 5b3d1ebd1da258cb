//! The architecture's rules about who may use whom, held against the tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn manifest(dir: &str) -> toml::Table {
    fs::read_to_string(root().join(dir).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

fn dependencies(dir: &str) -> BTreeSet<String> {
    manifest(dir)
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file outside of tests, as its path in the tree and its text.
fn production_sources() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    for dir in [
        "crates",
        "slashing",
        "signer-api",
        "cosigner",
        "countersign",
    ] {
        sources(&root().join(dir), &mut files);
    }
    files
        .into_iter()
        .map(|file| {
            let name = file
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = fs::read_to_string(file).unwrap();
            (name, text)
        })
        .filter(|(name, _)| !name.contains("/tests") && !name.contains("throwaway"))
        .collect()
}

#[test]
fn crates_use_only_whom_they_may() {
    let ours = [
        "courtesy",
        "duty",
        "threshold",
        "keyshare",
        "wire",
        "daemon",
        "slashing",
        "cosigner",
        "signer-api",
        "countersign",
    ];
    for (dir, may_use) in [
        ("crates/duty", vec![]),
        ("crates/courtesy", vec![]),
        ("crates/threshold", vec!["courtesy", "duty"]),
        ("crates/keyshare", vec!["courtesy", "duty", "threshold"]),
        ("crates/wire", vec!["duty", "threshold"]),
        ("crates/daemon", vec!["courtesy", "duty"]),
        ("slashing", vec!["duty"]),
        (
            "signer-api",
            vec!["courtesy", "duty", "threshold", "wire", "daemon"],
        ),
        (
            "cosigner",
            vec![
                "courtesy",
                "duty",
                "threshold",
                "keyshare",
                "slashing",
                "wire",
                "daemon",
            ],
        ),
    ] {
        for name in dependencies(dir)
            .iter()
            .filter(|name| ours.contains(&name.as_str()))
        {
            assert!(
                may_use.contains(&name.as_str()),
                "{dir} must not use {name}"
            );
        }
    }
}

#[test]
fn pure_crates_use_no_runtime_network_or_database() {
    let impure = [
        "tokio",
        "tonic",
        "hyper",
        "axum",
        "rusqlite",
        "tokio-postgres",
        "rand",
        "tracing",
    ];
    for dir in ["crates/duty", "crates/threshold", "crates/keyshare"] {
        for name in impure {
            assert!(
                !dependencies(dir).contains(name),
                "{dir} must not use {name}"
            );
        }
    }
}

#[test]
fn only_the_two_bls_files_name_blst_or_are_unsafe() {
    for (name, text) in production_sources() {
        let allowed = ["crates/threshold/src/bls", "crates/keyshare/src/bls"];
        if allowed.iter().any(|bls| name.starts_with(bls)) {
            continue;
        }
        assert!(
            !text.contains("blst::") && !text.contains("use blst"),
            "{name} names blst"
        );
        assert!(
            !text.contains("unsafe {") && !text.contains("unsafe fn"),
            "{name} is unsafe"
        );
    }
}

#[test]
fn statements_on_ledger_tables_stand_only_in_slashing() {
    for (name, text) in production_sources() {
        if name.starts_with("slashing/") {
            continue;
        }
        for table in [
            "ratchets",
            "attestations",
            "blocks",
            "imported_",
            "standing",
        ] {
            for verb in ["FROM", "INTO", "UPDATE", "DELETE FROM"] {
                assert!(
                    !text.contains(&format!("{verb} {table}")),
                    "{name} touches {table}"
                );
            }
        }
    }
}

#[test]
fn no_file_is_a_cellar() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        // About 400, and half as much again for the data that tests are made of.
        let for_tests = ["tests", "tests.rs", "testing.rs", "simulation.rs"];
        let is_test = file
            .iter()
            .any(|part| for_tests.iter().any(|name| part == *name));
        let most = if is_test { 600 } else { 470 };
        assert!(lines <= most, "{} has {lines} lines", file.display());
    }
}
