//! A committee on disk: what its processes are started from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use cosigner::package::Package;
use duty::PublicKey;
use slashing::anchor::{Anchor, Found};
use tempfile::TempDir;
use threshold::{CommitteeSize, ShareIndex};

use crate::{
    cluster::Cluster,
    material::{copy_dir, import, seal, secret_file, write_certificates},
    process::free_port,
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
#[derive(Clone)]
pub struct Options {
    /// Such as `3-of-4`.
    pub committee: &'static str,
    /// The network whose versions and chain all configurations name.
    pub network: NetworkLabel,
    /// Secret keys of the validators, big-endian, for tests only.
    pub keys: Vec<[u8; 32]>,
    /// Where ledgers are kept.
    pub storage: Storage,
    /// The server of Postgres ledgers, if not this process's common one.
    pub server: Option<Arc<throwaway::Cluster>>,
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
            server: None,
            signers: 1,
            clock: Clock::Unchecked,
            signer_lines: "",
            cosigner_lines: "",
            absent: Vec::new(),
            spare: Vec::new(),
        }
    }
}

/// Makes a copied anchor one of its own: a copy is told from the file that was written.
fn adopt(path: &Path) {
    let mut anchor = Anchor::open(path).unwrap();
    if let Found::Mark(copied) = anchor.found().clone() {
        let mut mark = anchor.mark(copied.ledger_id, copied.holder, copied.commits);
        mark.highest = copied.highest;
        mark.ended = true;
        anchor.write(mark).unwrap();
    }
}

/// A committee whose files are written and whose shares are imported, not yet started.
pub struct Prepared {
    pub(crate) dir: TempDir,
    pub(crate) options: Options,
    size: CommitteeSize,
    ports: Vec<u16>,
    validators: Vec<PublicKey>,
    /// The packages of absent cosigners, for their stand-ins.
    packages: Vec<Package>,
    /// Over which ports a signer-api (from 1) reaches the cosigners, if not over their own.
    detours: BTreeMap<usize, Vec<u16>>,
    /// More lines at the top of a signer-api's (from 1) configuration, instead of the options'.
    signer_lines: BTreeMap<usize, &'static str>,
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
            detours: BTreeMap::new(),
            signer_lines: BTreeMap::new(),
        };
        prepared.write_network();
        let secrets = prepared.options.keys.clone();
        let packages = prepared.split(&secrets);
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
            adopt(&home.join("ledger.anchor"));
        }
        Self {
            dir,
            options: self.options.clone(),
            size: self.size,
            ports,
            validators: self.validators.clone(),
            packages: Vec::new(),
            detours: BTreeMap::new(),
            signer_lines: BTreeMap::new(),
        }
    }

    /// The packages of absent cosigners, for their stand-ins, in the order of their numbers.
    pub fn take_packages(&mut self) -> Vec<Package> {
        std::mem::take(&mut self.packages)
    }

    /// Where cosigner `number` (from 1) listens.
    #[must_use]
    pub fn address(&self, number: u64) -> SocketAddr {
        ([127, 0, 0, 1], self.port(number)).into()
    }

    /// Has signer-api `number` (from 0) reach the cosigners over these ports, the first first.
    pub fn detour(&mut self, number: usize, ports: Vec<u16>) {
        assert_eq!(ports.len(), self.ports.len(), "a port for each cosigner");
        self.detours.insert(number + 1, ports);
    }

    /// Puts these lines at the top of the configuration of signer-api `number` (from 0), instead of
    /// the options'.
    pub fn configure_signer(&mut self, number: usize, lines: &'static str) {
        self.signer_lines.insert(number + 1, lines);
    }

    /// Where the Postgres server of cosigner `number` (from 1) is.
    #[must_use]
    pub fn database_address(&self, number: u64) -> SocketAddr {
        let url = self.database_url(number);
        let address = url.split(['@', '/']).nth(3).unwrap();
        address.parse().unwrap()
    }

    /// Has cosigner `number` (from 1) reach its Postgres server over this port.
    pub fn detour_database(&self, number: u64, port: u16) {
        let file = self.home(number).join("cosigner.toml");
        let address = self.database_address(number);
        let detour = SocketAddr::new(address.ip(), port);
        let config = fs::read_to_string(&file).unwrap();
        let config = config.replace(&format!("@{address}/"), &format!("@{detour}/"));
        fs::write(&file, config).unwrap();
    }

    fn database_url(&self, number: u64) -> String {
        let config = fs::read_to_string(self.home(number).join("cosigner.toml")).unwrap();
        let config: toml::Table = config.parse().unwrap();
        let url = &config["database"]["postgres"]["url"];
        url.as_str().unwrap().to_owned()
    }

    /// Starts everything and waits until all signer-apis say `UP`.
    pub async fn start(self) -> Cluster {
        Cluster::of(self).await
    }

    pub(crate) fn numbers(&self) -> std::ops::RangeInclusive<u64> {
        1..=u64::try_from(self.size.members()).unwrap()
    }

    pub(crate) fn home(&self, number: u64) -> PathBuf {
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

    pub(crate) fn split(&mut self, secrets: &[[u8; 32]]) -> Vec<Package> {
        let members: BTreeSet<ShareIndex> = self
            .numbers()
            .map(|number| ShareIndex::new(number).unwrap())
            .collect();
        let secret = |bytes: &[u8; 32]| keyshare::SecretKey::from_be_bytes(bytes).unwrap();
        let keys: Vec<_> = secrets.iter().map(secret).collect();
        self.validators
            .extend(keys.iter().map(keyshare::SecretKey::public_key));
        countersign::keys::packages(keys, self.size, &members, &mut |_| {}).unwrap()
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
                let url = match &self.options.server {
                    Some(server) => server.database().await,
                    None => throwaway::database().await,
                };
                format!("[database.postgres]\nurl = \"{url}\"")
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

    pub(crate) fn write_signer(&self, number: usize, port: u16, metrics: u16) -> PathBuf {
        let file = self.dir.path().join(format!("signer-api-{number}.toml"));
        let config = crate::configs::signer(&crate::configs::SignerConfig {
            lines: self
                .signer_lines
                .get(&number)
                .copied()
                .unwrap_or(self.options.signer_lines),
            port,
            metrics,
            network: &self.network_value(),
            threshold: self.size.threshold(),
            certs: &self.dir.path().join("certs"),
            ports: self.detours.get(&number).unwrap_or(&self.ports),
        });
        fs::write(&file, config).unwrap();
        file
    }
}
