//! What committees are made of: keys, certificates, packages, files.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use cosigner::package::{self, Package};
use countersign::certs::{Authority, CertifiedPem, Usage, Validity};

use crate::process::program;

/// Numbered validator keys for tests: `1..=count`, each a constant times a small number.
#[must_use]
pub fn test_keys(count: u8) -> Vec<[u8; 32]> {
    (1..=count)
        .map(|number| {
            let mut key = [0; 32];
            key[1] = 0x11;
            key[31] = number;
            key
        })
        .collect()
}

/// Certificates of one authority: those of a committee, and some that must be refused.
pub(crate) fn write_certificates(dir: &Path, cosigners: usize) {
    fs::create_dir(dir).unwrap();
    let write = |file: &str, pem: &CertifiedPem| {
        fs::write(dir.join(format!("{file}.crt")), &pem.certificate).unwrap();
        secret_file(&dir.join(format!("{file}.key")), &pem.key);
    };
    let valid = || Validity::days(1).unwrap();
    let authority = Authority::new(1).unwrap();
    fs::write(dir.join("ca.crt"), authority.certificate()).unwrap();
    for number in 1..=cosigners {
        let name = format!("cosigner-{number}");
        write(
            &name,
            &authority.issue(&name, Usage::Server, valid()).unwrap(),
        );
    }
    for name in ["signer-api-1", "operator", "stranger", "client"] {
        write(
            name,
            &authority.issue(name, Usage::Client, valid()).unwrap(),
        );
    }
    write(
        "localhost",
        &authority
            .issue("localhost", Usage::Server, valid())
            .unwrap(),
    );
    let now = time::OffsetDateTime::now_utc();
    let past = Validity {
        from: now - time::Duration::DAY,
        until: now - time::Duration::HOUR,
    };
    write(
        "expired",
        &authority
            .issue("signer-api-1", Usage::Client, past)
            .unwrap(),
    );
    let other = Authority::new(1).unwrap();
    write(
        "other-ca",
        &other.issue("signer-api-1", Usage::Client, valid()).unwrap(),
    );
}

pub(crate) fn seal(package: &Package) -> Vec<u8> {
    let passphrase = cosigner::sealing::Passphrase::new(PASSPHRASE.as_bytes().to_vec()).unwrap();
    package::seal(package, &passphrase, &mut |bytes: &mut [u8]| {
        getrandom::fill(bytes).unwrap()
    })
    .unwrap()
}

const PASSPHRASE: &str = "a passphrase on its way";

pub(crate) fn import(home: &Path, sealed: &[u8]) {
    let (package, passphrase) = (home.join("shares.package"), home.join("package.passphrase"));
    fs::write(&package, sealed).unwrap();
    secret_file(&passphrase, PASSPHRASE);
    let output = std::process::Command::new(program("cosigner"))
        .arg("import")
        .arg("--config")
        .arg(home.join("cosigner.toml"))
        .arg("--package")
        .arg(&package)
        .arg("--passphrase-file")
        .arg(&passphrase)
        .arg("--never-signed")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An EIP-2335 keystore of a key, with a cheap key derivation.
#[must_use]
pub fn keystore(secret: &[u8; 32], password: &str) -> String {
    use countersign::keystore::{Kdf, Password, encrypt};
    let mut random = |bytes: &mut [u8]| getrandom::fill(bytes).unwrap();
    encrypt(
        secret,
        &Password::new(password),
        Kdf::pbkdf2(1_000).unwrap(),
        &mut random,
    )
    .unwrap()
}

/// Writes a file that only its owner may read.
pub fn secret_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
