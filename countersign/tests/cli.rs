//! The program as its users meet it. That this test exists also makes cargo build the program for the
//! workspace's end-to-end tests.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn run(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_command_explains_itself_with_examples() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        &["--help"][..],
        &["quickstart", "--help"],
        &["keys", "split", "--help"],
        &["certs", "new", "--help"],
        &["bench", "--help"],
        &["ledger", "--help"],
        &["ledger", "export", "--help"],
        &["ledger", "import", "--help"],
        &["ledger", "merge", "--help"],
        &["ledger", "stop-at", "--help"],
        &["ledger", "raise", "--help"],
        &["ledger", "freeze", "--help"],
        &["ledger", "unfreeze", "--help"],
        &["ledger", "status", "--help"],
    ] {
        let output = run(command, dir.path());
        assert!(output.status.success(), "{command:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Examples:"), "{command:?}: {help}");
        assert!(help.contains("countersign"), "{command:?}: {help}");
    }
}

#[test]
fn certificates_are_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let command = ["certs", "new", "--committee", "3", "--out", "certs"];
    assert!(run(&command, dir.path()).status.success());
    for name in [
        "ca.crt",
        "cosigner-3.crt",
        "cosigner-3.key",
        "signer-api-1.crt",
        "operator.key",
    ] {
        assert!(dir.path().join("certs").join(name).exists(), "{name}");
    }
    let again = run(&command, dir.path());
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is there already"));
}

#[test]
fn an_order_to_ledgers_that_is_not_clear_is_given_to_none() {
    let dir = tempfile::tempdir().unwrap();
    let key = format!("0x{}", "ab".repeat(48));
    for (command, code, said) in [
        ("status", 2, "--committee"),
        (
            "status --config a --cosigner h:1=c",
            2,
            "cannot be used with",
        ),
        ("status --config a --certs b", 2, "cannot be used with"),
        ("status --config none.toml", 1, "none.toml"),
        ("status --committee none.toml --certs c", 1, "none.toml"),
        ("status --cosigner h:1=c", 1, "--certs"),
        ("status --cosigner h:1=c --certs none", 1, "ca.crt"),
        (
            "status --cosigner h:1=c --cosigner i:1=c --certs .",
            1,
            "c is given twice",
        ),
        ("status --cosigner h:1 --certs .", 2, "HOST:PORT=SAN"),
        ("freeze --config a", 2, "--all"),
        ("freeze --config a 0x12", 2, "0x12"),
        ("freeze --config a --all KEY", 2, "cannot be used with"),
        ("unfreeze --config a", 2, "--all"),
        ("stop-at --config a", 2, "--lift"),
        (
            "stop-at --config a --lift --epoch 1",
            2,
            "cannot be used with",
        ),
        (
            "stop-at --config a --epoch 9223372036854775808 --slot 1",
            2,
            "9223372036854775807",
        ),
        ("stop-at --config a --epoch 9", 2, "--slot"),
        ("raise --config a --source 1 --target 2", 2, "--slot"),
        (
            "raise --config a --source 3 --target 2 --slot 1",
            1,
            "--source 3 is above",
        ),
        ("import --config a", 2, "<FILE>"),
        ("export --config a", 2, "--out"),
        ("merge --out merged.json", 2, "<FILE>"),
        ("merge none.json --out merged.json", 1, "none.json"),
    ] {
        let command = command.replace("KEY", &key);
        let arguments: Vec<&str> = ["ledger"].into_iter().chain(command.split(' ')).collect();
        let output = run(&arguments, dir.path());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command}: {error}");
        assert!(error.contains(said), "{command}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "something was left behind");
}

#[test]
fn a_wrong_path_makes_no_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let config = "listen = \"127.0.0.1:0\"\nnetwork = \"hoodi\"\n\
        [database.sqlite]\npath = \"none.sqlite\"\n[vault]\npassphrase_file = \"p\"\n\
        [tls]\ncertificate = \"c\"\nkey = \"k\"\nca = \"a\"\n\
        [authority]\nsign = [\"s\"]\nadminister = [\"o\"]\n";
    std::fs::write(dir.path().join("cosigner.toml"), config).unwrap();
    std::fs::write(dir.path().join("history.json"), "{}").unwrap();
    for command in [
        "status",
        "freeze --all",
        "export --out new.json",
        "import history.json",
    ] {
        let command = format!("ledger {command} --config cosigner.toml");
        let output = run(&command.split(' ').collect::<Vec<_>>(), dir.path());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(error.contains("none.sqlite"), "{command}: {error}");
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 2, "something was made");
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    for (command, code, said) in [
        (
            &["bench", "http://127.0.0.1:1"][..],
            1,
            "is the signer running there?",
        ),
        (
            &["bench", "http://127.0.0.1:1", "--slots", "0"],
            1,
            "at least 1",
        ),
        (&["bench", "127.0.0.1:9000"], 1, "no URL"),
        (
            &["bench", "http://127.0.0.1:1", "--connections", "0"],
            1,
            "at least 1",
        ),
        (
            &[
                "keys",
                "split",
                "--keystores",
                "none",
                "--passwords",
                "none",
                "--out",
                "out",
            ],
            1,
            "none",
        ),
        (
            &["quickstart", "--committee", "1-of-2"],
            2,
            "more than half",
        ),
        (&["quickstart", "--listen", "0.0.0.0:9000"], 1, "loopback"),
        (&["nonsense"], 2, "nonsense"),
    ] {
        let output = run(command, dir.path());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {error}");
        assert!(error.contains(said), "{command:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    assert!(
        !dir.path().join("countersign-quickstart").exists(),
        "something was left behind"
    );
}
