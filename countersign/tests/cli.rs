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
