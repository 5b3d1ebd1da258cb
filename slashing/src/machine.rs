//! What a process has of its machine besides the database: threads that may block, clocks, and
//! randomness. A simulation gives it others (feature `test-seams`).

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::spawn_blocking;

use crate::anchor::{Anchor, AnchorError};
#[cfg(feature = "test-seams")]
use crate::simulation::Process;

/// The machine that a process runs on.
#[derive(Clone)]
pub(crate) enum Machine {
    /// This one.
    Real,
    /// One whose time is tokio's, and whose disk is a value.
    #[cfg(feature = "test-seams")]
    Simulated(Process),
}

impl Machine {
    /// Opens the anchor, as [`Anchor::open`].
    pub(crate) async fn open_anchor(&self, path: PathBuf) -> Result<Anchor, AnchorError> {
        match self {
            Self::Real => on_a_thread(move || Anchor::open(&path)).await,
            #[cfg(feature = "test-seams")]
            Self::Simulated(process) => process.open_anchor().await,
        }
    }

    /// Runs what writes the anchor, where it may block.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, AnchorError> + Send + 'static,
    ) -> Result<T, AnchorError> {
        match self {
            Self::Real => on_a_thread(work).await,
            #[cfg(feature = "test-seams")]
            Self::Simulated(process) => process.write_anchor(work).await,
        }
    }

    /// When the machine started, by its wall clock: the same until that clock is set.
    pub(crate) fn started(&self) -> Duration {
        match self {
            Self::Real => {
                let up = self.up();
                wall_clock().saturating_sub(up)
            }
            #[cfg(feature = "test-seams")]
            Self::Simulated(process) => process.started(),
        }
    }

    /// The time since the machine started, sleep included, by a clock that nobody sets and that
    /// stands still with the machine.
    pub(crate) fn up(&self) -> Duration {
        match self {
            Self::Real => Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default(),
            #[cfg(feature = "test-seams")]
            Self::Simulated(process) => process.up(),
        }
    }

    /// Bytes that nobody has had before.
    pub(crate) fn fresh(&self) -> Result<[u8; 16], getrandom::Error> {
        let mut bytes = [0; 16];
        match self {
            Self::Real => getrandom::fill(&mut bytes)?,
            #[cfg(feature = "test-seams")]
            Self::Simulated(process) => bytes = process.fresh(),
        }
        Ok(bytes)
    }

    /// Host and process, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Real => {
                let host = rustix::system::uname();
                let host = host.nodename().to_string_lossy();
                format!("{host}:{}", std::process::id())
            }
            #[cfg(feature = "test-seams")]
            Self::Simulated(_) => "simulated".to_owned(),
        }
    }
}

/// The time since 1970 by this machine's clock; nothing for a clock before that.
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Works on files, on a thread that may be held.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AnchorError> + Send + 'static,
) -> Result<T, AnchorError> {
    spawn_blocking(work)
        .await
        .unwrap_or(Err(AnchorError::Stopping))
}
