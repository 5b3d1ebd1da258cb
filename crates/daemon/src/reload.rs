//! Reading configuration and certificates again while the process runs.
//!
//! On SIGHUP, and when the content of a file changes, everything is read and checked as at a start.
//! What is wrong changes nothing, is logged, and is tried again until it is right; what is right is
//! taken over as a whole. Content is compared, not times, so that it does not matter how a file is
//! replaced: written, renamed over, or behind a link that is switched, as cert-manager and certbot do.
//!
//! **Invariant:** nothing is applied that was read while it changed: a change must have stood still
//! for one [`POLL`], and is read twice (`tests::a_pair_that_is_being_replaced_is_never_applied_half`).

mod certificates;
mod numbers;
mod prints;
mod settings;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::config::ConfigError;
use crate::tls::{Expiry, Role};
pub use certificates::CertificateFiles;
use certificates::Warnings;
pub use numbers::ReloadNumbers;
pub use prints::Prints;
pub use settings::differing;

/// How often files are looked at. A change is applied after one to two of these.
pub const POLL: Duration = Duration::from_millis(750);

/// What is read again.
pub trait Reload: Send + Sync + 'static {
    /// All that was read, checked, and not applied yet.
    type Read: Send;

    /// Reads and checks everything, and changes nothing. May block.
    ///
    /// # Errors
    ///
    /// One sentence that says what to change.
    fn read(&self) -> Result<(Self::Read, Files), ConfigError>;

    /// Takes over what can be taken over while the process runs, and names the other settings which
    /// differ from those that the process was started with.
    fn apply(&self, read: Self::Read) -> BTreeSet<String>;
}

/// The files that were read.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Everything but certificates: the configuration, and keys.
    pub others: Vec<PathBuf>,
    /// Certificates, whose end is watched.
    pub certificates: CertificateFiles,
}

impl Files {
    /// What they hold now.
    pub fn prints(&self) -> Prints {
        Prints::of(self.others.iter().chain(self.certificates.paths()))
    }
}

/// SIGHUP, listened to from this call on; before it, SIGHUP ends a process.
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// Must be called within a runtime.
    pub fn listen() -> Self {
        let listening = signal(SignalKind::hangup());
        if let Err(error) = &listening {
            error!(%error, "SIGHUP cannot be listened to, so it ends the process");
        }
        Hangups(listening.ok())
    }

    async fn next(&mut self) {
        let heard = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending().await
        }
    }
}

/// Watches until it is dropped. `files` and `prints` are of what the process was started with; the
/// prints are to be taken before the files are read, so that no change is missed.
pub async fn watch<R: Reload>(
    reload: Arc<R>,
    mut hangups: Hangups,
    files: Files,
    prints: Prints,
    numbers: ReloadNumbers,
) {
    let mut watch = Watch::begin(reload, files, prints, numbers);
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            () = hangups.next() => Asked::ByHangup,
            _ = ticks.tick() => Asked::ByClock,
        };
        watch.look(asked).await;
    }
}

/// Why files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// An operator says that they have changed, and so are as they shall be.
    ByHangup,
    /// Nobody says anything.
    ByClock,
}

/// What is wrong with the files.
struct Problem {
    sentence: String,
    told: bool,
}

struct Watch<R: Reload> {
    reload: Arc<R>,
    warnings: Warnings,
    numbers: ReloadNumbers,
    /// Those of what is applied.
    files: Files,
    expiries: Vec<Expiry>,
    applied: Prints,
    /// A change that was seen and not applied yet: it may still be going on.
    seen: Option<Prints>,
    problem: Option<Problem>,
}

/// What two readings agree on.
struct Settled<T> {
    read: T,
    files: Files,
    prints: Prints,
}

impl<R: Reload> Watch<R> {
    fn begin(reload: Arc<R>, files: Files, prints: Prints, numbers: ReloadNumbers) -> Self {
        let mut watch = Self {
            reload,
            warnings: Warnings::default(),
            numbers,
            expiries: Vec::new(),
            files,
            applied: prints,
            seen: None,
            problem: None,
        };
        watch.in_use(watch.files.certificates.expiries());
        watch.numbers.started();
        watch
    }

    async fn look(&mut self, asked: Asked) {
        self.warnings.tell_daily(&self.expiries);
        if asked == Asked::ByClock && self.problem.is_none() && self.seen.is_none() {
            let files = self.files.clone();
            if blocking(move || files.prints()).await.as_ref() == Some(&self.applied) {
                return;
            }
        }
        let reload = Arc::clone(&self.reload);
        match blocking(move || settled(&*reload)).await {
            // The files are changing right now, or the process is ending.
            None | Some(Ok(None)) => self.seen = None,
            Some(Ok(Some(settled))) => self.found(asked, settled),
            Some(Err(error)) => self.failed(asked, &error),
        }
    }

    fn found(&mut self, asked: Asked, settled: Settled<R::Read>) {
        let stands = self.seen.as_ref() == Some(&settled.prints);
        if settled.prints == self.applied {
            // What was wrong was put back.
            let was_wrong = self.problem.take().is_some_and(|problem| problem.told);
            self.seen = None;
            if was_wrong || asked == Asked::ByHangup {
                self.numbers.unchanged();
                info!("configuration and certificates were read again: nothing has changed");
            }
            return;
        }
        let expiries = settled.files.certificates.expiries();
        if let Some(error) = ended(&expiries, &self.expiries) {
            return self.failed(asked, &error);
        }
        if asked == Asked::ByClock && !stands {
            self.seen = Some(settled.prints);
            return;
        }
        let restart = self.reload.apply(settled.read);
        self.files = settled.files;
        self.applied = settled.prints;
        (self.seen, self.problem) = (None, None);
        self.numbers.applied(restart.len());
        self.in_use(expiries);
        if restart.is_empty() {
            info!("configuration and certificates were read again, and are applied");
        } else {
            let settings = restart.into_iter().collect::<Vec<_>>().join(", ");
            warn!(
                settings,
                "configuration and certificates were read again, and are applied but for these \
                 settings, which need a restart"
            );
        }
    }

    /// A change that is wrong once may be half made. One that stays wrong is told, once.
    fn failed(&mut self, asked: Asked, error: &ConfigError) {
        let sentence = error.to_string();
        let known = self.problem.as_ref();
        let same = known.is_some_and(|problem| problem.sentence == sentence);
        let told = same && known.is_some_and(|problem| problem.told);
        let tell = asked == Asked::ByHangup || same && !told;
        if tell {
            self.numbers.refused();
            error!(
                problem = sentence,
                "configuration or certificates have changed and cannot be used: what was read \
                 before stays in use"
            );
        }
        self.seen = None;
        self.problem = Some(Problem {
            sentence,
            told: told || tell,
        });
    }

    fn in_use(&mut self, expiries: Vec<Expiry>) {
        self.numbers.expiries(&expiries);
        self.warnings.tell(&expiries);
        self.expiries = expiries;
    }
}

/// A certificate that has ended already, where none in use has: to go on with what is in use is better.
fn ended(new: &[Expiry], in_use: &[Expiry]) -> Option<ConfigError> {
    let ended = |expiry: &&Expiry| expiry.role == Role::Own && certificates::left_s(expiry) <= 0;
    if in_use.iter().any(|expiry| ended(&expiry)) {
        return None;
    }
    let file = new.iter().find(ended)?.file.display().to_string();
    Some(ConfigError::new(format!(
        "the certificate {file} has ended: replace it"
    )))
}

/// Reads until nothing changes meanwhile; `None` if it does all the time.
fn settled<R: Reload>(reload: &R) -> Result<Option<Settled<R::Read>>, ConfigError> {
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        // The first reading says which files there are, the second reads what they held in between.
        let (_, files) = reload.read()?;
        let prints = files.prints();
        let (read, files) = reload.read()?;
        if files.prints() == prints {
            return Ok(Some(Settled {
                read,
                files,
                prints,
            }));
        }
    }
    Ok(None)
}

/// Files may lie on a network that hangs. `None` if the process is ending.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests;
