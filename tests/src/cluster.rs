//! A whole committee of real processes: certificates, shares, ledgers, cosigners, signer-apis.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use cosigner::package::{self, Package, PackagedShare};
use countersign::certs::{Authority, CertifiedPem, Usage, Validity};
use duty::PublicKey;
use tempfile::TempDir;
use threshold::{CommitteeSize, ShareIndex};

use crate::{
    http::{self, Answer},
    process::{Process, eventually, free_port, program},
    vectors::NetworkLabel,
};

/// Where cosigners keep their ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// One file per cosigner.
    Sqlite,
    /// One database per cosigner on this process's throw-away cluster.
    Postgres,
}

/// Whether cosigners hold claims against their clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `clock = "checked"`.
    Checked,
    /// `clock = "unchecked"`: for recorded requests.
    Unchecked,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Such as `3-of-4`.
    pub committee: &'static str,
    /// The network whose versions and chain all configurations name.
    pub network: NetworkLabel,
    /// Secret keys of the validators, big-endian, for tests only.
    pub keys: Vec<[u8; 32]>,
    /// Where ledgers are kept.
    pub storage: Storage,
    /// How many signer-apis serve the committee.
    pub signers: usize,
    /// Whether cosigners check their clock.
    pub clock: Clock,
    /// More lines at the top of every signer-api's configuration.
    pub signer_lines: &'static str,
    /// More lines at the top of every cosigner's configuration.
    pub cosigner_lines: &'static str,
    /// Cosigners (from 1) that are not started: the test stands in for them at [`Prepared::address`].
    pub absent: Vec<u64>,
    /// Cosigners whose package is also kept for the test, beside being imported.
    pub spare: Vec<u64>,
}

impl Options {
    /// A 3-of-4 committee on SQLite with one signer-api, unchecked clocks, on mainnet's chain.
    #[must_use]
    pub fn new(keys: Vec<[u8; 32]>) -> Self {
        Self {
            committee: "3-of-4",
            network: NetworkLabel::Mainnet,
            keys,
            storage: Storage::Sqlite,
            signers: 1,
            clock: Clock::Unchecked,
            signer_lines: "",
            cosigner_lines: "",
            absent: Vec::new(),
            spare: Vec::new(),
        }
    }
}

/// A committee whose files are written and whose shares are imported, not yet started.
pub struct Prepared {
    dir: TempDir,
    options: Options,
    size: CommitteeSize,
    ports: Vec<u16>,
    validators: Vec<PublicKey>,
    /// The packages of absent cosigners, for their stand-ins.
    packages: Vec<Package>,
}

/// A running committee. Dropping it kills every process.
pub struct Cluster {
    prepared: Prepared,
    cosigners: Vec<Option<Process>>,
    signers: Vec<Signer>,
    http: reqwest::Client,
}

struct Signer {
    process: Process,
    port: u16,
    metrics: u16,
}

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

impl Prepared {
    /// Makes certificates, splits the keys, writes configurations, and imports every share.
    pub async fn new(options: Options) -> Self {
        daemon::install_crypto_provider();
        let dir = TempDir::with_prefix("countersign-test-").unwrap();
        let size: CommitteeSize = options.committee.parse().unwrap();
        write_certificates(&dir.path().join("certs"), size.members());
        let ports = (0..size.members()).map(|_| free_port()).collect();
        let mut prepared = Self {
            dir,
            options,
            size,
            ports,
            validators: Vec::new(),
            packages: Vec::new(),
        };
        prepared.write_network();
        let packages = prepared.split();
        let mut imports = tokio::task::JoinSet::new();
        for package in packages {
            let number = package.index.value();
            if prepared.options.absent.contains(&number) {
                prepared.packages.push(package);
                continue;
            }
            let home = prepared.write_cosigner(number).await;
            let sealed = seal(&package);
            if prepared.options.spare.contains(&number) {
                prepared.packages.push(package);
            }
            imports.spawn_blocking(move || import(&home, &sealed));
        }
        while let Some(done) = imports.join_next().await {
            done.unwrap();
        }
        prepared
    }

    /// The validators' keys, in the order of the options' secret keys.
    #[must_use]
    pub fn validators(&self) -> &[PublicKey] {
        &self.validators
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A copy with the ledgers as they are now (SQLite only), for a chain that starts anew.
    #[must_use]
    pub fn fork(&self) -> Self {
        assert_eq!(
            self.options.storage,
            Storage::Sqlite,
            "only files can be copied"
        );
        let dir = TempDir::with_prefix("countersign-test-").unwrap();
        copy_dir(self.dir.path(), dir.path());
        let ports: Vec<u16> = self.ports.iter().map(|_| free_port()).collect();
        for (number, port) in (1..).zip(&ports) {
            let home = dir.path().join(format!("cosigner-{number}"));
            let config = fs::read_to_string(home.join("cosigner.toml")).unwrap();
            let config = config
                .replace(
                    self.dir.path().to_str().unwrap(),
                    dir.path().to_str().unwrap(),
                )
                .replace(
                    &format!(":{}\"", self.ports[usize::try_from(number).unwrap() - 1]),
                    &format!(":{port}\""),
                );
            fs::write(home.join("cosigner.toml"), config).unwrap();
        }
        Self {
            dir,
            options: self.options.clone(),
            size: self.size,
            ports,
            validators: self.validators.clone(),
            packages: Vec::new(),
        }
    }

    /// The packages of absent cosigners, for their stand-ins, in the order of their numbers.
    pub fn take_packages(&mut self) -> Vec<Package> {
        std::mem::take(&mut self.packages)
    }

    /// Where cosigner `number` (from 1) listens.
    #[must_use]
    pub fn address(&self, number: u64) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port(number)).into()
    }

    /// Starts everything and waits until all signer-apis say `UP`.
    pub async fn start(self) -> Cluster {
        let mut cluster = Cluster {
            cosigners: Vec::new(),
            signers: Vec::new(),
            http: reqwest::Client::new(),
            prepared: self,
        };
        for number in cluster.prepared.numbers() {
            let home = cluster.prepared.home(number);
            let process = (!cluster.prepared.options.absent.contains(&number)).then(|| {
                let config = home.join("cosigner.toml");
                let arguments = [
                    "run",
                    "--config",
                    config.to_str().unwrap(),
                    "--stop-with-stdin",
                ];
                Process::start("cosigner", &arguments, &home.join("log"))
            });
            cluster.cosigners.push(process);
        }
        for number in 1..=cluster.prepared.options.signers {
            let (port, metrics) = (free_port(), free_port());
            let config = cluster.prepared.write_signer(number, port, metrics);
            let arguments = [
                "run",
                "--config",
                config.to_str().unwrap(),
                "--stop-with-stdin",
            ];
            let log = config.with_extension("log");
            let process = Process::start("signer-api", &arguments, &log);
            cluster.signers.push(Signer {
                process,
                port,
                metrics,
            });
        }
        for signer in 0..cluster.signers.len() {
            cluster.up(signer).await;
        }
        cluster
    }

    fn numbers(&self) -> std::ops::RangeInclusive<u64> {
        1..=u64::try_from(self.size.members()).unwrap()
    }

    fn home(&self, number: u64) -> PathBuf {
        self.dir.path().join(format!("cosigner-{number}"))
    }

    fn port(&self, number: u64) -> u16 {
        self.ports[usize::try_from(number).unwrap() - 1]
    }

    fn network_value(&self) -> String {
        match self.options.network {
            NetworkLabel::Mainnet => "mainnet".to_owned(),
            NetworkLabel::Minimal | NetworkLabel::Local => self
                .dir
                .path()
                .join("config.yaml")
                .to_str()
                .unwrap()
                .to_owned(),
        }
    }

    fn write_network(&self) {
        fs::write(
            self.dir.path().join("config.yaml"),
            crate::network::MINIMAL_CONFIG,
        )
        .unwrap();
    }

    fn split(&mut self) -> Vec<Package> {
        let members: BTreeSet<ShareIndex> = self
            .numbers()
            .map(|number| ShareIndex::new(number).unwrap())
            .collect();
        let mut packages: Vec<Package> = members
            .iter()
            .map(|index| Package {
                members: members.iter().copied().collect(),
                index: *index,
                shares: Vec::new(),
            })
            .collect();
        for key in &self.options.keys {
            let key = keyshare::SecretKey::from_be_bytes(key).unwrap();
            self.validators.push(key.public_key());
            let mut random = |bytes: &mut [u8]| getrandom::fill(bytes).unwrap();
            let split = keyshare::split(key, self.size.threshold(), &members, &mut random).unwrap();
            let commitments = split.committee.commitments().as_slice().to_vec();
            for (package, share) in packages.iter_mut().zip(split.shares.into_values()) {
                package.shares.push(PackagedShare {
                    commitments: commitments.clone(),
                    share,
                });
            }
        }
        packages
    }

    async fn write_cosigner(&self, number: u64) -> PathBuf {
        let home = self.home(number);
        fs::create_dir(&home).unwrap();
        secret_file(&home.join("vault.passphrase"), "a passphrase of the tests");
        let database = match self.options.storage {
            Storage::Sqlite => {
                format!(
                    "[database.sqlite]\npath = \"{}\"",
                    home.join("ledger.sqlite").display()
                )
            }
            Storage::Postgres => {
                format!(
                    "[database.postgres]\nurl = \"{}\"",
                    throwaway::database().await
                )
            }
        };
        let certs = self.dir.path().join("certs");
        let config = crate::configs::cosigner(&crate::configs::CosignerConfig {
            lines: self.options.cosigner_lines,
            port: self.port(number),
            network: &self.network_value(),
            chain: match self.options.network {
                NetworkLabel::Mainnet => None,
                label @ (NetworkLabel::Minimal | NetworkLabel::Local) => {
                    Some(label.genesis_validators_root())
                }
            },
            clock: match self.options.clock {
                Clock::Checked => "checked",
                Clock::Unchecked => "unchecked",
            },
            database: &database,
            home: &home,
            certs: &certs,
            number,
        });
        fs::write(home.join("cosigner.toml"), config).unwrap();
        home
    }

    fn write_signer(&self, number: usize, port: u16, metrics: u16) -> PathBuf {
        let file = self.dir.path().join(format!("signer-api-{number}.toml"));
        let config = crate::configs::signer(&crate::configs::SignerConfig {
            lines: self.options.signer_lines,
            port,
            metrics,
            network: &self.network_value(),
            threshold: self.size.threshold(),
            certs: &self.dir.path().join("certs"),
            ports: &self.ports,
        });
        fs::write(&file, config).unwrap();
        file
    }
}

impl Cluster {
    /// Prepares and starts a committee.
    pub async fn start(options: Options) -> Self {
        Prepared::new(options).await.start().await
    }

    /// The validators' keys, in the order of the options' secret keys.
    #[must_use]
    pub fn validators(&self) -> &[PublicKey] {
        &self.prepared.validators
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.prepared.dir.path()
    }

    /// Cosigner `number` (from 1).
    pub fn cosigner(&mut self, number: u64) -> &mut Process {
        self.cosigners[usize::try_from(number).unwrap() - 1]
            .as_mut()
            .unwrap()
    }

    /// Signer-api `number` (from 0).
    pub fn signer(&mut self, number: usize) -> &mut Process {
        &mut self.signers[number].process
    }

    /// The URL of signer-api `number` (from 0).
    #[must_use]
    pub fn url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.signers[number].port)
    }

    /// Kills every cosigner with SIGKILL and starts them again.
    pub async fn crash_cosigners(&mut self) {
        let numbers: Vec<u64> = self.prepared.numbers().collect();
        for number in &numbers {
            self.cosigner(*number).kill();
        }
        // What is said of them now is of the killed ones; it must be known that they are gone.
        for number in &numbers {
            self.health_says(*number, "DOWN").await;
        }
        for number in &numbers {
            self.cosigner(*number).restart();
        }
        for number in &numbers {
            self.health_says(*number, "UP").await;
        }
    }

    /// Waits until the first signer-api's health check says so of cosigner `number`.
    pub async fn health_says(&self, number: u64, status: &str) {
        let what = format!("cosigner-{number} is {status}");
        eventually(&what, Duration::from_secs(30), || async {
            let health = self.get(0, "/healthcheck").await.json();
            let name = format!("cosigner-{number}");
            let mut checks = health["checks"].as_array().into_iter().flatten();
            checks.any(|check| {
                check["id"].as_str().is_some_and(|id| id.ends_with(&name))
                    && check["status"] == status
            })
        })
        .await;
    }

    /// Waits until signer-api `number` says `UP`.
    pub async fn up(&self, number: usize) {
        eventually("the committee is up", Duration::from_secs(60), || async {
            match self
                .http
                .get(format!("{}/healthcheck", self.url(number)))
                .send()
                .await
            {
                Ok(response) => response.status() == 200,
                Err(_) => false,
            }
        })
        .await;
    }

    /// GETs a path of signer-api `number`.
    pub async fn get(&self, number: usize, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url(number)));
        Answer::of(request.send().await.unwrap()).await
    }

    /// POSTs a body to a path of signer-api `number`; without `accept` no such header is sent at all.
    pub async fn post(
        &self,
        number: usize,
        path: &str,
        accept: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let (url, body) = (self.url(number), body.into());
        if let Some(accept) = accept {
            let request = self
                .http
                .post(format!("{url}{path}"))
                .header("accept", accept);
            return Answer::of(request.body(body).send().await.unwrap()).await;
        }
        let address = url.replace("http://", "");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        http::raw(&address, &[head.into_bytes(), body].concat()).await
    }

    /// Posts a signing request for a validator, as JSON, to signer-api `number`.
    pub async fn sign(
        &self,
        number: usize,
        validator: &PublicKey,
        request: &serde_json::Value,
    ) -> Answer {
        let path = format!("/api/v1/eth2/sign/{validator}");
        self.post(number, &path, Some("application/json"), request.to_string())
            .await
    }

    /// Where cosigner `number` (from 1) listens.
    #[must_use]
    pub fn address(&self, number: u64) -> std::net::SocketAddr {
        self.prepared.address(number)
    }

    /// Where the metrics of signer-api `number` (from 0) are.
    #[must_use]
    pub fn metrics_address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.signers[number].metrics)
    }

    /// The metrics of signer-api `number`, as text.
    pub async fn metrics(&self, number: usize) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.signers[number].metrics);
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }
}

/// Certificates of one authority: those of a committee, and some that must be refused.
fn write_certificates(dir: &Path, cosigners: usize) {
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

fn seal(package: &Package) -> Vec<u8> {
    let passphrase = cosigner::sealing::Passphrase::new(PASSPHRASE.as_bytes().to_vec()).unwrap();
    package::seal(package, &passphrase, &mut |bytes: &mut [u8]| {
        getrandom::fill(bytes).unwrap()
    })
    .unwrap()
}

const PASSPHRASE: &str = "a passphrase on its way";

fn import(home: &Path, sealed: &[u8]) {
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

fn copy_dir(from: &Path, to: &Path) {
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
