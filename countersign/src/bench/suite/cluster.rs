//! A committee of real processes that the suite starts for itself, in a directory of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use daemon::network::Network;
use duty::PublicKey;
use rustix::process::{Pid, Signal, kill_process};
use threshold::CommitteeSize;

use super::{duties::Duties, liar::Liar, postgres::Postgres};
use crate::{
    client::SignerApi,
    quickstart::{
        ClockMode, QuickstartArgs,
        configs::{self, Ports},
        make,
        plan::{Layout, Plan},
        processes::Running,
    },
};

/// The chain that is played.
const NETWORK: &str = "hoodi";
/// How long a committee may take until it is up: 100,000 validators on a slow machine.
const UP_WAIT: Duration = Duration::from_secs(300);

/// Which of the cosigners misbehaves: always the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It is like the others.
    Honest,
    /// Its partial signatures do not verify.
    Lies,
}

/// A committee, and its processes while they run.
pub(super) struct Cluster {
    pub(super) size: CommitteeSize,
    pub(super) host: SocketAddr,
    pub(super) keys: Vec<PublicKey>,
    pub(super) duties: Duties,
    /// How long the last start took until the committee was up.
    pub(super) ready: Duration,
    dir: PathBuf,
    plan: Plan,
    deadline_ms: u64,
    processes: Vec<Running>,
    liar: Option<Liar>,
    // The last field: it ends when nobody needs it any more.
    postgres: Option<Postgres>,
}

impl Cluster {
    /// Makes keys, shares, certificates and ledgers; on `postgres` if that is given.
    ///
    /// # Errors
    /// Whatever stands in the way, as one sentence.
    pub(super) async fn make(
        dir: &Path,
        size: CommitteeSize,
        validators: usize,
        postgres: Option<Postgres>,
        deadline_ms: u64,
    ) -> anyhow::Result<Self> {
        let host = SocketAddr::from(([127, 0, 0, 1], 0));
        let args = QuickstartArgs {
            committee: Some(size),
            validators: Some(u32::try_from(validators)?),
            keystore: None,
            password_file: None,
            network: Some(NETWORK.to_owned()),
            genesis_validators_root: None,
            genesis_time: None,
            postgres: postgres.as_ref().map(Postgres::url),
            dir: dir.to_owned(),
            listen: host,
            clock: Some(ClockMode::Unchecked),
        };
        let plan = make::make(&args, |_| {}).await?;
        let network = Network::load(NETWORK)?;
        let chain = configs::chain(&plan, &network)?;
        Ok(Self {
            size,
            host,
            keys: Vec::new(),
            duties: Duties::new(network, chain),
            ready: Duration::ZERO,
            dir: dir.to_owned(),
            plan,
            deadline_ms,
            processes: Vec::new(),
            liar: None,
            postgres,
        })
    }

    /// Starts the processes at new addresses and waits until the committee is up.
    ///
    /// # Errors
    /// If a process ends, or it takes too long.
    pub(super) async fn start(&mut self, last: Last) -> anyhow::Result<()> {
        let members = self.size.members();
        // Two more: the signer-api's, and one to stand before the last cosigner.
        let ports = Ports::choose(members.saturating_add(2))?;
        let address = |at: usize| ports.cosigners().get(at).copied().context("a port");
        self.host = address(members)?;
        let layout = Layout(&self.dir);
        configs::write_all(&layout, &self.plan, self.size, &ports, self.host)?;
        let deadline = self.deadline_ms.to_string();
        let mut environment = vec![("COUNTERSIGN__DEADLINE_MS".to_owned(), deadline)];
        if last == Last::Lies {
            let (front, number) = (
                address(members.saturating_add(1))?,
                members.saturating_sub(1),
            );
            let behind = address(number)?;
            self.liar = Some(Liar::start(members, front, behind, &layout.certificates()).await?);
            let name = format!("COUNTERSIGN_COSIGNERS__{number}__ADDRESS");
            environment.push((name, front.to_string()));
        }
        let began = Instant::now();
        self.processes = make::start(&layout, self.size, &environment)?;
        let signer = SignerApi::new(&format!("http://{}", self.host))?;
        make::await_up(&signer, &mut self.processes, &self.dir, UP_WAIT).await?;
        self.ready = began.elapsed();
        self.keys = signer.public_keys().await?;
        Ok(())
    }

    /// Has the ledgers' server do what it does over the years, where there is one.
    ///
    /// # Errors
    /// What it says.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        match &self.postgres {
            Some(server) => server.settle().await,
            None => Ok(()),
        }
    }

    /// Stops what runs, in order.
    pub(super) async fn stop(&mut self) {
        for process in std::mem::take(&mut self.processes).into_iter().rev() {
            process.stop().await;
        }
        self.liar = None;
    }

    /// How many wrong partial signatures were given since the last start.
    pub(super) fn lies(&self) -> u64 {
        self.liar.as_ref().map_or(0, Liar::told)
    }

    /// The configuration file of each cosigner.
    pub(super) fn configurations(&self) -> Vec<PathBuf> {
        let layout = Layout(&self.dir);
        configs::numbers(self.size)
            .map(|number| layout.cosigner(number).join("cosigner.toml"))
            .collect()
    }

    /// The process ids of the cosigners, then of the signer-api, of those that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(Running::id).collect()
    }

    /// Kills the last cosigner.
    ///
    /// # Errors
    /// If it does not run.
    pub(super) async fn kill_last(&mut self) -> anyhow::Result<()> {
        let at = self.size.members().saturating_sub(1);
        let last = self.processes.get_mut(at).context("no cosigner runs")?;
        last.kill().await
    }

    /// Has the last cosigner stand still, or go on: its connections stay, and nothing answers.
    ///
    /// # Errors
    /// If it does not run.
    pub(super) fn signal_last(&self, signal: Signal) -> anyhow::Result<()> {
        let at = self.size.members().saturating_sub(1);
        let id = self.processes.get(at).and_then(Running::id);
        let pid = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(pid.context("no cosigner runs")?, signal)?;
        Ok(())
    }
}
