//! `countersign bench --suite --short`: every part runs, on both kinds of ledger, and every signature
//! is verified. How fast is for a quiet machine, not for a test.

use std::{fs, process::Command};

use serde_json::Value;
use tests::process::program;

/// What each cluster must have been measured at.
const PARTS: [&str; 9] = [
    "burst of 64, same root",
    "burst of 64, distinct votes",
    "burst of 64, RANDAO reveals",
    "one attestation at a time: p50",
    "one block at a time, beside bursts: p99",
    "same root, one stands still",
    "same root, one is killed",
    "same root, one answers wrongly",
    "all at once: 64",
];

#[test]
fn the_suite_measures_every_part_and_writes_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("figures");
    let ran = Command::new(program("countersign"))
        .args([
            "bench",
            "--suite",
            "--short",
            "--ledgers",
            "sqlite,postgres",
        ])
        .args(["--held", "100", "--history", "1000"])
        .arg("--work")
        .arg(dir.path())
        .arg("--out")
        .arg(&out)
        .env("HOME", dir.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{error}");
    let table = String::from_utf8(ran.stdout).unwrap();
    let text = fs::read_to_string(out.join("suite.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    let left_out = results["not_measured"].as_array().unwrap();
    assert!(left_out.is_empty(), "{left_out:?}\n{error}");
    let rows = results["rows"].as_array().unwrap();
    for cluster in ["3-of-4 SQLite", "3-of-4 Postgres"] {
        for part in PARTS {
            let of = |row: &&Value| row["cluster"] == cluster && row["what"] == part;
            let row = rows.iter().find(of);
            let row = row.unwrap_or_else(|| panic!("{cluster}: no {part}\n{table}"));
            assert!(row["measured"]["median"].as_f64().unwrap() > 0.0, "{row}");
            assert!(table.contains(part), "{part}");
        }
    }
    for name in ["latency.svg", "rates.svg"] {
        let drawn = fs::read_to_string(out.join(name)).unwrap();
        assert!(drawn.trim_end().ends_with("</svg>"), "{name}");
        assert!(drawn.contains("3-of-4 Postgres"), "{name}");
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "ledgers and keys are left behind");
}
