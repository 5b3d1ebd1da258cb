//! A cosigner's directory: certificates, passphrases, a configuration, packages.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod running;
pub(crate) mod stage;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cosigner::{
    package::{self, Package, PackagedShare},
    sealing::Passphrase,
};
use daemon::tls::TlsFiles;
use duty::PublicKey;
use keyshare::{SecretKey, Split, split};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use threshold::ShareIndex;

pub(crate) const SERVER: &str = "cosigner-1";
pub(crate) const SIGNER: &str = "signer-api";
pub(crate) const OPERATOR: &str = "operator";

pub(crate) struct Home {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Home {
    pub(crate) fn new() -> Self {
        daemon::install_crypto_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let home = Self {
            directory: tempfile::tempdir().unwrap(),
            issuer,
        };
        home.write("ca.pem", &home.issuer.pem());
        home.certificate(SERVER);
        home.secret("vault.passphrase", "a vault's passphrase\n");
        home.secret("package.passphrase", "a package's passphrase\n");
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A certificate for a DNS name, for either side.
    pub(crate) fn certificate(&self, name: &str) -> TlsFiles {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TlsFiles {
            certificate: self.write(&format!("{name}.pem"), &certificate.pem()),
            key: self.secret(&format!("{name}.key"), &key.serialize_pem()),
            ca: self.path("ca.pem"),
        }
    }

    /// A configuration that works; `change` replaces parts of its text.
    pub(crate) fn config(&self, change: &[(&str, &str)]) -> PathBuf {
        let at = |name| self.path(name).display().to_string();
        let mut text = format!(
            r#"listen = "127.0.0.1:0"
network = "mainnet"
clock = "unchecked"
anchor = "{anchor}"

[database.sqlite]
path = "{database}"

[vault]
passphrase_file = "{passphrase}"

[tls]
certificate = "{certificate}"
key = "{key}"
ca = "{ca}"

[authority]
sign = ["{SIGNER}"]
administer = ["{OPERATOR}"]
"#,
            anchor = at("cosigner.anchor"),
            database = at("cosigner.sqlite"),
            passphrase = at("vault.passphrase"),
            certificate = at(&format!("{SERVER}.pem")),
            key = at(&format!("{SERVER}.key")),
            ca = at("ca.pem"),
        );
        for (from, to) in change {
            assert!(text.contains(from), "{from} is not in the configuration");
            text = text.replace(from, to);
        }
        self.write("cosigner.toml", &text)
    }

    /// Seals a package; `cosigner import` reads it with the passphrase file of [`Home::new`].
    pub(crate) fn package(&self, name: &str, package: &Package) -> PathBuf {
        let passphrase = Passphrase::read(&self.path("package.passphrase")).unwrap();
        let bytes = package::seal(package, &passphrase, &mut entropy).unwrap();
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Runs `cosigner import` with further arguments.
    pub(crate) fn import(&self, config: &Path, package: &Path, more: &[&str]) -> Output {
        let passphrase = self.path("package.passphrase");
        let mut arguments = vec!["import", "--config", config.to_str().unwrap()];
        arguments.extend(["--package", package.to_str().unwrap()]);
        arguments.extend(["--passphrase-file", passphrase.to_str().unwrap()]);
        arguments.extend(more);
        cosigner(&arguments)
    }
}

pub(crate) fn entropy(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

pub(crate) fn index(value: u64) -> ShareIndex {
    ShareIndex::new(value).unwrap()
}

/// Splits a new key 2-of-3, among the members 1, 2 and 3.
pub(crate) fn new_key() -> Split {
    let mut seed = [0; 32];
    entropy(&mut seed);
    let members: BTreeSet<ShareIndex> = [1, 2, 3].map(index).into();
    split(SecretKey::from_entropy(&seed), 2, &members, &mut entropy).unwrap()
}

/// The package of member 1, and the validators in it.
pub(crate) fn package_of(splits: Vec<Split>) -> (Package, Vec<PublicKey>) {
    let validators = splits
        .iter()
        .map(|split| split.committee.group_key())
        .collect();
    let shares = splits.into_iter().map(|mut split| PackagedShare {
        commitments: split.committee.commitments().as_slice().to_vec(),
        share: split.shares.remove(&index(1)).unwrap(),
    });
    let members = [1, 2, 3].map(index).to_vec();
    (
        Package {
            shares: shares.collect(),
            members,
            index: index(1),
        },
        validators,
    )
}

pub(crate) fn cosigner(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cosigner"))
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
