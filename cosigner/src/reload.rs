//! What a running cosigner takes over from its files when they change.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use daemon::{
    config::ConfigError,
    reload::{Files, Reload, differing},
    tls::{self, ServerTls, TlsSlot},
};
use slashing::{Access, Database};
use tracing::{info, warn};

use crate::{
    authority::AuthoritySlot,
    config::{Config, Settings},
    service::Service,
};

/// The settings that are taken over; every other one needs a restart.
const LIVE: [&str; 10] = [
    "tls.certificate",
    "tls.key",
    "tls.ca",
    "database.postgres.password_file",
    "database.postgres.ca",
    "authority.sign",
    "authority.administer",
    "allow_voluntary_exits",
    "allow_deposits",
    "drain_ms",
];

/// What is taken over, and where it goes.
pub(crate) struct Taking {
    pub(crate) path: PathBuf,
    /// What the process was started with.
    pub(crate) started: Config,
    pub(crate) tls: Option<TlsSlot>,
    pub(crate) authority: AuthoritySlot,
    pub(crate) database: Database,
    pub(crate) service: Arc<Service>,
    pub(crate) drain_ms: Arc<AtomicU64>,
}

/// Everything as a start would have it.
pub(crate) struct Read {
    settings: Settings,
    tls: ServerTls,
    access: Access,
    differing: BTreeSet<String>,
}

impl Reload for Taking {
    type Read = Read;

    fn read(&self) -> Result<(Read, Files), ConfigError> {
        let settings = Settings::load(&self.path)?;
        let tls = tls::mutual_server(&settings.config.tls, &settings.authority.everyone())?;
        let access = Access::read(&self.started.database, &settings.config.database)
            .map_err(|error| ConfigError::new(error.to_string()))?;
        let files = settings.files(&self.path);
        let differing = differing(&self.started, &settings.config)?;
        let read = Read {
            settings,
            tls,
            access,
            differing,
        };
        Ok((read, files))
    }

    fn apply(&self, read: Read) -> BTreeSet<String> {
        let Read {
            settings,
            tls,
            access,
            mut differing,
        } = read;
        if let Some(slot) = &self.tls {
            slot.replace(tls);
        }
        self.database.replace_access(access);
        tokio::spawn(try_access(self.database.clone()));
        info!(
            sign = ?settings.authority.sign,
            administer = ?settings.authority.administer,
            allow_voluntary_exits = settings.config.allow_voluntary_exits,
            allow_deposits = settings.config.allow_deposits,
            "who may call, and what is allowed"
        );
        self.authority.replace(settings.authority);
        let config = settings.config;
        self.service
            .allow(config.allow_voluntary_exits, config.allow_deposits);
        self.drain_ms.store(config.drain_ms, Ordering::Relaxed);
        differing.retain(|setting| !LIVE.contains(&setting.as_str()));
        differing
    }
}

/// What is well-formed may be wrong all the same, and open connections go on: so it is told now, not
/// when the next connection is needed.
async fn try_access(database: Database) {
    if let Err(error) = database.try_access().await {
        warn!(
            %error,
            "new connections to the database fail with what the files say now; open ones go on"
        );
    }
}
