//! The files and databases that quickstart makes for the processes it starts.

use std::{
    fs::{self, DirBuilder},
    io::Write,
    net::{SocketAddr, TcpListener},
    ops::Range,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use daemon::network::Network;
use duty::Root;
use threshold::CommitteeSize;
use toml::{Table, Value};
use zeroize::Zeroizing;

use super::{
    plan::{Layout, Plan},
    postgres,
};

/// The cosigners' numbers, which are their share indices.
pub(crate) fn numbers(size: CommitteeSize) -> impl Iterator<Item = u64> {
    (1..).take(size.members())
}

/// Where ports are looked for, and how often at most.
const PORTS: Range<u16> = 20_000..32_000;
const PORT_TRIES: usize = 1_000;

/// Where the processes listen, chosen anew at every start.
pub(crate) struct Ports {
    cosigners: Vec<SocketAddr>,
    metrics: SocketAddr,
}

impl Ports {
    /// Takes ports that nobody listens on at the moment, below those that systems give to outgoing
    /// connections, so that none is taken before the process it is for listens.
    pub(crate) fn choose(cosigners: usize) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        for _ in 0..PORT_TRIES {
            if let Ok(socket) = TcpListener::bind(("127.0.0.1", rand::random_range(PORTS))) {
                held.push(socket);
            }
            if held.len() > cosigners {
                break;
            }
        }
        let mut addresses: Vec<SocketAddr> = held
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?;
        ensure!(
            addresses.len() > cosigners,
            "no free loopback ports in {PORTS:?}"
        );
        let metrics = addresses.pop().context("no free loopback port")?;
        Ok(Self {
            cosigners: addresses,
            metrics,
        })
    }

    /// Where the cosigners listen, in the order of their numbers.
    pub(crate) fn cosigners(&self) -> &[SocketAddr] {
        &self.cosigners
    }

    /// Where the signer-api's metrics are.
    pub(super) const fn metrics(&self) -> SocketAddr {
        self.metrics
    }
}

/// The chain that the plan's network is.
pub(crate) fn chain(plan: &Plan, network: &Network) -> anyhow::Result<Root> {
    plan.genesis_validators_root.or(network.genesis_validators_root()).context(
        "the network's configuration names no genesis validators root: give --genesis-validators-root",
    )
}

/// Makes a directory that only its owner may enter.
pub(super) fn private_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("{} cannot be made", dir.display()))
}

/// Keeps a second quickstart away from the directory until the file is dropped.
pub(super) fn lock(dir: &Path) -> anyhow::Result<fs::File> {
    let file = fs::File::create(dir.join("lock"))?;
    file.try_lock().map_err(|_| {
        anyhow::anyhow!(
            "another quickstart runs in {}: stop it, or give another --dir",
            dir.display()
        )
    })?;
    Ok(file)
}

/// Writes a new file that only its owner may read.
pub(super) fn secret_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be made", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// A passphrase of 256 random bits, as hexadecimal digits.
pub(super) fn random_passphrase() -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(const_hex::encode(bytes.as_slice())))
}

/// Makes every server's directory, its vault's passphrase, and its database where that is Postgres.
pub(super) async fn prepare(
    layout: &Layout<'_>,
    plan: &Plan,
    size: CommitteeSize,
    password: Option<&str>,
) -> anyhow::Result<()> {
    private_dir(&layout.signer_api())?;
    if let Some(password) = password {
        secret_file(&layout.postgres_password(), password)?;
    }
    for number in numbers(size) {
        let home = layout.cosigner(number);
        private_dir(&home)?;
        secret_file(&home.join("vault.passphrase"), &random_passphrase()?)?;
        if let Some(url) = &plan.postgres {
            postgres::create_database(url, password, &postgres::database_name(number)).await?;
        }
    }
    Ok(())
}

/// Writes the configuration files of all servers.
pub(crate) fn write_all(
    layout: &Layout<'_>,
    plan: &Plan,
    size: CommitteeSize,
    ports: &Ports,
    listen: SocketAddr,
) -> anyhow::Result<()> {
    for (number, address) in numbers(size).zip(&ports.cosigners) {
        let config = cosigner(layout, plan, number, *address)?;
        write(&layout.cosigner(number).join("cosigner.toml"), &config)?;
    }
    let config = signer_api(layout, plan, size, ports, listen)?;
    write(&layout.signer_api().join("signer-api.toml"), &config)
}

fn cosigner(
    layout: &Layout<'_>,
    plan: &Plan,
    number: u64,
    address: SocketAddr,
) -> anyhow::Result<Table> {
    let home = layout.cosigner(number);
    let mut config = Table::new();
    config.insert("listen".into(), address.to_string().into());
    network(&mut config, plan)?;
    if let Some(root) = plan.genesis_validators_root {
        config.insert("genesis_validators_root".into(), root.to_string().into());
    }
    if let Some(time) = plan.genesis_time {
        config.insert("genesis_time".into(), Value::Integer(i64::try_from(time)?));
    }
    config.insert("clock".into(), plan.clock.to_string().into());
    config.insert("allow_voluntary_exits".into(), true.into());
    config.insert("allow_deposits".into(), true.into());
    config.insert("anchor".into(), path(&home.join("ledger.anchor"))?);
    let database = match &plan.postgres {
        None => table([(
            "sqlite",
            table([("path", path(&home.join("ledger.sqlite"))?)]),
        )]),
        Some(url) => {
            let url = postgres::with_database(url, &postgres::database_name(number))?;
            let mut postgres = Table::from_iter([("url".to_owned(), url.into())]);
            let password = layout.postgres_password();
            if password.exists() {
                postgres.insert("password_file".into(), path(&password)?);
            }
            table([("postgres", Value::Table(postgres))])
        }
    };
    config.insert("database".into(), database);
    let passphrase = path(&home.join("vault.passphrase"))?;
    config.insert("vault".into(), table([("passphrase_file", passphrase)]));
    config.insert("tls".into(), tls(layout, &format!("cosigner-{number}"))?);
    let names = |name: &str| Value::Array(vec![name.into()]);
    config.insert(
        "authority".into(),
        table([
            ("sign", names("signer-api-1")),
            ("administer", names("operator")),
        ]),
    );
    Ok(config)
}

fn signer_api(
    layout: &Layout<'_>,
    plan: &Plan,
    size: CommitteeSize,
    ports: &Ports,
    listen: SocketAddr,
) -> anyhow::Result<Table> {
    let mut config = Table::new();
    config.insert("listen".into(), listen.to_string().into());
    network(&mut config, plan)?;
    config.insert(
        "threshold_min".into(),
        Value::Integer(i64::try_from(size.threshold())?),
    );
    config.insert("tls".into(), tls(layout, "signer-api-1")?);
    config.insert(
        "metrics".into(),
        table([("listen", ports.metrics.to_string().into())]),
    );
    let cosigners = numbers(size)
        .zip(&ports.cosigners)
        .map(|(number, address)| {
            table([
                ("address", address.to_string().into()),
                ("san", format!("cosigner-{number}").into()),
            ])
        });
    config.insert("cosigners".into(), Value::Array(cosigners.collect()));
    Ok(config)
}

fn network(config: &mut Table, plan: &Plan) -> anyhow::Result<()> {
    // A file's path is kept absolute, so that the directory can be started from anywhere.
    let file = Path::new(&plan.network);
    let network = if file.exists() {
        path(&file.canonicalize()?)?
    } else {
        (*plan.network).into()
    };
    config.insert("network".into(), network);
    Ok(())
}

fn tls(layout: &Layout<'_>, name: &str) -> anyhow::Result<Value> {
    let certs = layout.certificates();
    Ok(table([
        ("certificate", path(&certs.join(format!("{name}.crt")))?),
        ("key", path(&certs.join(format!("{name}.key")))?),
        ("ca", path(&certs.join("ca.crt"))?),
    ]))
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

/// A path as TOML text, absolute.
fn path(path: &Path) -> anyhow::Result<Value> {
    let absolute = std::path::absolute(path)?;
    match absolute.to_str() {
        Some(text) => Ok(text.into()),
        None => bail!(
            "{} is not UTF-8, which TOML files must be",
            absolute.display()
        ),
    }
}

fn write(file: &Path, config: &Table) -> anyhow::Result<()> {
    fs::write(file, toml::to_string(config)?)
        .with_context(|| format!("{} cannot be written", file.display()))
}
