//! Where the server is, and how it is spoken to.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use rustls::pki_types::{
    CertificateDer,
    pem::{self, PemObject},
};
use tokio_postgres::{
    Config, NoTls,
    config::{self, SslMode, TargetSessionAttrs},
    error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{CONNECT_WAIT, Connection, clause, former::Former, unavailable};
use crate::database::{DatabaseError, PostgresConfig};

/// How long the server may leave sent bytes unacknowledged before the connection counts as lost.
const UNACKNOWLEDGED_WAIT: Duration = Duration::from_secs(5);
/// The port where the URL says none.
const PORT: u16 = 5432;

/// A server's addresses, and what is asked of whichever answers.
pub(in crate::database) struct Server {
    /// At least one, each with another name.
    pub(super) hosts: Vec<Host>,
    pub(super) synchronous_standbys_min: u32,
    tls: Option<MakeRustlsConnect>,
    /// Tried when the configured password is refused.
    former: Former,
}

/// One address of a server.
pub(super) struct Host {
    /// Its address and port, for people.
    pub(super) name: String,
    config: Config,
}

impl Server {
    pub(in crate::database) fn configured(from: &PostgresConfig) -> Result<Self, DatabaseError> {
        let mut config = parse(&from.url).map_err(DatabaseError::Config)?;
        if let Some(path) = &from.password_file {
            config.password(password(path)?);
        }
        if from.ca.is_some() && config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Require);
        }
        let tls = match (config.get_ssl_mode(), &from.ca) {
            (SslMode::Require, Some(ca)) => Some(trusting(ca)?),
            (SslMode::Require, None) => {
                return Err(DatabaseError::Config(
                    "sslmode=require needs `ca`, the certificates to trust".to_owned(),
                ));
            }
            _ => None,
        };
        if config.get_application_name().is_none() {
            config.application_name("countersign");
        }
        config.connect_timeout(CONNECT_WAIT);
        config.tcp_user_timeout(UNACKNOWLEDGED_WAIT);
        Ok(Self {
            hosts: hosts(&config).map_err(DatabaseError::Config)?,
            synchronous_standbys_min: from.synchronous_standbys_min,
            tls,
            former: Former::default(),
        })
    }

    pub(super) async fn connect(&self, host: &Host) -> Result<Connection, DatabaseError> {
        let refused = match self.shake_hands(&host.config).await {
            Ok(connection) => {
                self.former.has_let_in(host.config.get_password());
                return Ok(connection);
            }
            Err(error) => error,
        };
        if refused.code() != Some(&SqlState::INVALID_PASSWORD) {
            return Err(unavailable(refused));
        }
        for password in self.former.newest_first() {
            let mut config = host.config.clone();
            config.password(&*password);
            // If it is refused as well, what is configured is what to tell of.
            let Ok(connection) = self.shake_hands(&config).await else {
                continue;
            };
            self.former.has_let_in(Some(&password));
            tracing::warn!(
                host = host.name,
                "the database refuses the password in the file, and takes one that was in it \
                 before: change the role's password, or correct the file"
            );
            return Ok(connection);
        }
        Err(unavailable(refused))
    }

    async fn shake_hands(&self, config: &Config) -> Result<Connection, tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => Connection::to(config, tls.clone()).await,
            None => Connection::to(config, NoTls).await,
        }
    }

    /// Takes the place of another one, whose password goes on to count until this one's has let
    /// us in.
    pub(super) fn succeed(mut self, before: &Self) -> Self {
        self.former = before.former.clone();
        if let (was, Some(now)) = (before.password(), self.password())
            && was != Some(now)
        {
            self.former.add(was, now);
        }
        self
    }

    fn password(&self) -> Option<&[u8]> {
        self.hosts.first()?.config.get_password()
    }
}

fn password(path: &Path) -> Result<Vec<u8>, DatabaseError> {
    let refused = |error: &str| unreadable("password_file", path, error);
    let mut password = fs::read(path).map_err(|error| refused(&error.to_string()))?;
    let end = password.iter().rposition(|byte| !b"\r\n".contains(byte));
    let end = end.ok_or_else(|| refused("there is no password in it"))?;
    password.truncate(end.saturating_add(1));
    Ok(password)
}

/// Parses a URL that must not hold a password, of a server that can be written to.
pub(in crate::database) fn parse(url: &str) -> Result<Config, String> {
    let config: Config = url
        .parse()
        .map_err(|error: tokio_postgres::Error| format!("url: {}", clause(&error)))?;
    if config.get_password().is_some() {
        return Err(
            "url holds a password: put it into a file and name that in password_file".into(),
        );
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
        return Err(
            "url says target_session_attrs=read-only, and a ledger is written: leave it out".into(),
        );
    }
    hosts(&config)?;
    Ok(config)
}

/// One configuration per host, for each is tried on its own. That it can be written to is asked
/// of each, whatever the URL says.
fn hosts(config: &Config) -> Result<Vec<Host>, String> {
    let (names, addresses, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    let count = names.len().max(addresses.len());
    if count == 0 {
        return Err("url names no host".to_owned());
    }
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err("url has as many `host` as `hostaddr`, or only one kind".to_owned());
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("url has one port for all hosts, or one for each".to_owned());
    }
    let mut seen = BTreeSet::new();
    let hosts = (0..count).map(|at| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        let mut single = without_hosts(config);
        single.port(port);
        let mut shown = String::new();
        match names.get(at) {
            Some(config::Host::Tcp(name)) => {
                single.host(name);
                shown.clone_from(name);
            }
            #[cfg(unix)]
            Some(config::Host::Unix(path)) => {
                single.host_path(path);
                shown = path.display().to_string();
            }
            None => {}
        }
        if let Some(address) = addresses.get(at) {
            single.hostaddr(*address);
            shown = address.to_string();
        }
        Host {
            name: format!("{shown}:{port}"),
            config: single,
        }
    });
    Ok(hosts
        .filter(|host| seen.insert(host.name.clone()))
        .collect())
}

/// All of a configuration but its hosts, which can only be added to.
fn without_hosts(config: &Config) -> Config {
    let mut bare = Config::new();
    bare.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        bare.user(user);
    }
    if let Some(password) = config.get_password() {
        bare.password(password);
    }
    if let Some(dbname) = config.get_dbname() {
        bare.dbname(dbname);
    }
    if let Some(options) = config.get_options() {
        bare.options(options);
    }
    if let Some(name) = config.get_application_name() {
        bare.application_name(name);
    }
    if let Some(wait) = config.get_connect_timeout() {
        bare.connect_timeout(*wait);
    }
    if let Some(wait) = config.get_tcp_user_timeout() {
        bare.tcp_user_timeout(*wait);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        bare.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        bare.keepalives_retries(retries);
    }
    bare
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and grows"
)]
fn trusting(ca: &Path) -> Result<MakeRustlsConnect, DatabaseError> {
    let refused = |error: String| unreadable("ca", ca, &error);
    let malformed = |error: pem::Error| match error {
        pem::Error::Io(error) => refused(error.to_string()),
        // The others may quote what they found, which may be a key.
        _ => refused("it is not well-formed PEM".to_owned()),
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(malformed)? {
        let certificate = certificate.map_err(malformed)?;
        roots
            .add(certificate)
            .map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn unreadable(what: &str, path: &Path, error: &str) -> DatabaseError {
    DatabaseError::Config(format!("{what} {}: {error}", path.display()))
}
