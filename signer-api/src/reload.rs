//! What a running signer-api takes over from its files when they change.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use daemon::{
    config::ConfigError,
    reload::{Files, Reload, differing},
    tls::{self, ServerTls, TlsSlot},
};

use crate::{
    config::Config,
    cosigners::{Cosigners, Renewal},
    routes::{App, Live},
};

/// The settings that are taken over; every other one needs a restart.
const LIVE: [&str; 10] = [
    "tls.certificate",
    "tls.key",
    "tls.ca",
    "http_tls.certificate",
    "http_tls.key",
    "http_tls.client_ca",
    "allowed_hosts",
    "deadline_ms",
    "stop_delay_ms",
    "drain_ms",
];

/// The setting of which addresses are taken over, and who is listed is not.
const COSIGNERS: &str = "cosigners";

/// What is taken over, and where it goes.
pub(crate) struct Taking {
    pub(crate) path: PathBuf,
    /// What the process was started with.
    pub(crate) started: Config,
    pub(crate) http_tls: Option<TlsSlot>,
    pub(crate) app: Arc<App>,
}

/// Everything as a start would have it.
pub(crate) struct Read {
    config: Config,
    http_tls: Option<ServerTls>,
    renewal: Renewal,
    differing: BTreeSet<String>,
}

impl Reload for Taking {
    type Read = Read;

    fn read(&self) -> Result<(Read, Files), ConfigError> {
        let config = Config::load(&self.path)?;
        let http_tls = http_tls(&config)?;
        let renewal = Cosigners::prepare(&config)?;
        let files = config.files(&self.path);
        let differing = differing(&self.started, &config)?;
        let read = Read {
            config,
            http_tls,
            renewal,
            differing,
        };
        Ok((read, files))
    }

    fn apply(&self, read: Read) -> BTreeSet<String> {
        let Read {
            config,
            http_tls,
            renewal,
            mut differing,
        } = read;
        if let (Some(slot), Some(tls)) = (&self.http_tls, http_tls) {
            slot.replace(tls);
        }
        self.app.cosigners.renew(&renewal);
        self.app.admission.follow(config.deadline());
        self.app.live.store(Arc::new(Live::of(&config)));
        let listed = |config: &Config| {
            let sans = config.cosigners.iter().map(|cosigner| &cosigner.san);
            sans.cloned().collect::<Vec<_>>()
        };
        if listed(&self.started) == listed(&config) {
            differing.remove(COSIGNERS);
        }
        differing.retain(|setting| !LIVE.contains(&setting.as_str()));
        differing
    }
}

impl Live {
    pub(crate) fn of(config: &Config) -> Self {
        let milliseconds = std::time::Duration::from_millis;
        let allowed_hosts = config.allowed_hosts.iter();
        Self {
            allowed_hosts: allowed_hosts
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            deadline: config.deadline(),
            stop_delay: milliseconds(config.stop_delay_ms),
            drain: milliseconds(config.drain_ms),
        }
    }
}

/// TLS towards validator clients, where it is configured.
pub(crate) fn http_tls(config: &Config) -> Result<Option<ServerTls>, ConfigError> {
    let files = config.http_tls.as_ref();
    let files = files
        .map(|files| tls::http_server(&files.certificate, &files.key, files.client_ca.as_deref()));
    files.transpose()
}
