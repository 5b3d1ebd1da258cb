use std::os::unix::fs::PermissionsExt;

use daemon::tls::{TlsFiles, mutual_client, mutual_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The TLS settings of one process of a committee.
fn files(directory: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        certificate: directory.join(format!("{name}.crt")),
        key: directory.join(format!("{name}.key")),
        ca: directory.join("ca.crt"),
    }
}

#[tokio::test]
async fn a_committee_of_written_files_can_talk() {
    use futures_util::StreamExt;
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("deep/certs");
    write_committee(&certs, 4).unwrap();
    let callers = ["signer-api-1".to_owned(), "operator".to_owned()].into();

    for cosigner in ["cosigner-1", "cosigner-4"] {
        let server = mutual_server(&files(&certs, cosigner), &callers).unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let limits = daemon::serve::ListenerLimits::default();
        let listener = daemon::serve::Listener::bind(local, Some(server), limits)
            .await
            .unwrap();
        let address = listener.address().to_string();
        let mut accepted = listener.into_stream();
        for caller in &callers {
            let client = mutual_client(&files(&certs, caller), cosigner).unwrap();
            let mut connection = client.connect(&address).await.unwrap();
            let mut peer = accepted.next().await.unwrap().unwrap();
            assert_eq!(*peer.peer().sans, [caller.as_str()]);
            peer.write_all(b"hello").await.unwrap();
            peer.flush().await.unwrap();
            connection.read_exact(&mut [0; 5]).await.unwrap();
        }
        // A cosigner cannot pass for a caller, nor for another cosigner.
        let other = mutual_client(&files(&certs, "signer-api-1"), "cosigner-2").unwrap();
        assert!(other.connect(&address).await.is_err());
    }
}

#[test]
fn keys_are_for_their_owner_alone_and_the_authoritys_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    write_committee(directory.path(), 2).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = text.contains("PRIVATE KEY");
        assert_eq!(secret, path.extension().unwrap() == "key");
        if secret {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    let expected = [
        "ca.crt",
        "cosigner-1.crt",
        "cosigner-1.key",
        "cosigner-2.crt",
        "cosigner-2.key",
        "operator.crt",
        "operator.key",
        "signer-api-1.crt",
        "signer-api-1.key",
    ];
    assert_eq!(names, expected);
}

#[test]
fn nothing_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("operator.key");
    std::fs::write(&kept, "mine").unwrap();
    let error = write_committee(directory.path(), 3).unwrap_err();
    assert!(
        matches!(&error, CertsError::Exists(path) if *path == kept),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused() {
    let authority = Authority::new(1).unwrap();
    let validity = Validity::days(1).unwrap();
    assert!(authority.issue("käse", Usage::Client, validity).is_err());
    assert!(matches!(
        Authority::new(u32::MAX),
        Err(CertsError::TooLong(_))
    ));
}

#[test]
fn the_table_names_every_file() {
    let validity = Validity::days(30).unwrap();
    let table = table(Path::new("certs"), &members(4, 2), validity);
    for name in [
        "cosigner-1",
        "cosigner-4",
        "signer-api-1",
        "signer-api-2",
        "operator",
    ] {
        assert!(
            table.contains(&format!("{name}.crt, {name}.key")),
            "{table}"
        );
    }
    assert!(!table.contains("cosigner-5") && table.lines().all(|line| line.len() <= 100));
}
