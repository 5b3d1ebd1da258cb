//! Reloads that were asked for: all cosigners are asked again, whatever their generation.

use std::{sync::Arc, time::SystemTime};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::info;

use super::Validators;

/// A reload is under way already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AlreadyRunning;

/// What `GET /reload` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReloadReport {
    /// One of Web3Signer's words.
    pub(crate) status: &'static str,
    /// When the last one ended.
    pub(crate) last_operation: Option<SystemTime>,
    /// What went wrong with the last one.
    pub(crate) last_error: Option<String>,
}

/// The state of reloads.
pub(crate) struct Reload(Mutex<ReloadReport>);

impl Default for Reload {
    fn default() -> Self {
        let report = ReloadReport {
            status: "idle",
            last_operation: None,
            last_error: None,
        };
        Self(Mutex::new(report))
    }
}

const RUNNING: &str = "running";

impl Reload {
    /// What became of it.
    pub(crate) fn report(&self) -> ReloadReport {
        self.0.lock().clone()
    }

    /// Starts one in the background.
    ///
    /// # Errors
    /// When one is under way.
    pub(crate) fn start(&self, validators: &Arc<Validators>) -> Result<(), AlreadyRunning> {
        {
            let mut report = self.0.lock();
            if report.status == RUNNING {
                return Err(AlreadyRunning);
            }
            report.status = RUNNING;
        }
        let validators = Arc::clone(validators);
        tokio::spawn(async move {
            let links = validators.cosigners.links();
            let refreshed = join_all(links.iter().map(|link| validators.refresh(link))).await;
            let failed = refreshed.iter().filter(|result| result.is_err()).count();
            validators.reload.end(failed, links.len());
        });
        Ok(())
    }

    fn end(&self, failed: usize, all: usize) {
        let mut report = self.0.lock();
        report.status = match failed {
            0 => "completed",
            _ if failed == all => "failed",
            _ => "completed_with_errors",
        };
        report.last_operation = Some(SystemTime::now());
        report.last_error = (failed > 0)
            .then(|| format!("Reload completed with {failed} cosigner error(s) of {all}"));
        info!(failed, "validators were listed again as asked");
    }
}
