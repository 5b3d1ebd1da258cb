//! The command line of the real binary.
#![expect(clippy::unwrap_used, reason = "tests may")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

fn signer_api(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_signer-api"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The sample, with certificates that exist.
fn write_sample(directory: &Path) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["signer-api-1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    fs::write(directory.join("ca.crt"), issuer.pem()).unwrap();
    fs::write(directory.join("signer-api-1.crt"), certificate.pem()).unwrap();
    fs::write(directory.join("signer-api-1.key"), key.serialize_pem()).unwrap();
    let sample = include_str!("../../deploy/signer-api.toml");
    sample.replace("/etc/countersign", directory.to_str().unwrap())
}

fn check(directory: &Path, text: &str) -> Output {
    let file = directory.join("signer-api.toml");
    fs::write(&file, text).unwrap();
    signer_api(&["run", "--config", file.to_str().unwrap(), "--check"])
}

#[test]
fn help_explains_and_nonsense_is_refused() {
    let help = signer_api(&["run", "--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        text.contains("--config") && text.contains("--check"),
        "{text}"
    );
    assert!(!text.contains("stdin"), "{text}");
    for arguments in [&[][..], &["walk"], &["run"], &["run", "--config"]] {
        assert_eq!(
            signer_api(arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn the_sample_is_checked_and_printed() {
    let directory = tempfile::tempdir().unwrap();
    let output = check(directory.path(), &write_sample(directory.path()));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("threshold_min = 3") && text.contains("[[cosigners]]"),
        "{text}"
    );
}

#[test]
fn a_bad_configuration_ends_with_code_2_and_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let sample = write_sample(directory.path());
    let path = directory.path().to_str().unwrap();
    for (from, to, said) in [
        ("threshold_min = 3", "threshold_min = 2", "threshold_min"),
        ("threshold_min = 3", "thresholdmin = 3", "thresholdmin"),
        ("cosigner-2\"", "cosigner-1\"", "cosigner-1"),
        ("cosigner-2\"", "no name\"", "no name"),
        ("\"mainnet\"", "\"nonsense\"", "nonsense"),
        (
            &format!("{path}/ca.crt"),
            "/nowhere/ca.crt",
            "/nowhere/ca.crt",
        ),
        (
            &format!("{path}/signer-api-1.key"),
            &format!("{path}/ca.crt"),
            "ca.crt",
        ),
        (
            "# [http_tls]",
            "[http_tls]\ncertificate = \"/no.crt\"\nkey = \"/no.key\"",
            "/no.crt",
        ),
    ] {
        let text = sample.replacen(from, to, 1);
        assert_ne!(text, sample, "{from}");
        let output = check(directory.path(), &text);
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{to}: {sentence}");
        assert!(sentence.contains(said), "{to}: {sentence}");
        assert_eq!(sentence.trim_end().lines().count(), 1, "{sentence}");
        assert!(output.stdout.is_empty());
    }
    let missing = signer_api(&["run", "--config", "/nowhere/signer-api.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("/nowhere/signer-api.toml")
    );
}

#[test]
fn a_child_serves_until_its_standard_input_closes() {
    let directory = tempfile::tempdir().unwrap();
    let sample = write_sample(directory.path());
    let sample = sample.replace("127.0.0.1:9000", "127.0.0.1:0");
    let sample = sample.replace("127.0.0.1:9001", "127.0.0.1:0");
    let file = directory.path().join("signer-api.toml");
    fs::write(&file, sample).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_signer-api"))
        .args([
            "run",
            "--config",
            file.to_str().unwrap(),
            "--stop-with-stdin",
        ])
        .env("COUNTERSIGN_LOG", "info")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("serving"));
    let serving = serving.unwrap();
    for said in [
        "committee=3-of-4",
        "tolerated_faults=1",
        "tolerated_absences=1",
    ] {
        assert!(serving.contains(said), "{serving}");
    }
    drop(child.stdin.take());
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {said:#?}");
    assert!(
        said.iter().any(|line| line.contains("stopped")),
        "{said:#?}"
    );
}
