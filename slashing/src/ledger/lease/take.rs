//! Taking the lease: at a start, and again when the ledger of a running process was put back.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    Lease, Opening, Origin, Quarantine, State,
    quarantine::{Raising, Unraisable, raising},
};
use crate::{
    anchor::{Anchor, AnchorError, Found, Highest, Holder, now_s},
    database::{Database, DatabaseError},
    ledger::{
        session::Session,
        standing::{Doubt, Standing},
    },
    rules,
};

/// How long a holder that says nothing counts as alive.
const HOLDER_WAIT: Duration = Duration::from_secs(10);
/// By how much the count of commits leaps when a ledger is taken: beyond all that the holder before
/// can have tried since it last knew of one.
const STEP: u64 = 1 << 32;
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often a database may fail before the start is given up.
const FAILURES_MAX: u32 = 5;

/// Why a ledger was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The anchor.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Somebody else lives on this ledger.
    #[error(
        "another cosigner ({0}) holds this ledger and is alive: two must never share one ledger; \
         stop it first, and this one goes on from where it stopped"
    )]
    Held(String),
    /// It may have forgotten something, and nothing says how much.
    #[error(transparent)]
    Unraisable(#[from] Unraisable),
    /// The system.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// What is written when a ledger is taken.
#[derive(Debug, Clone)]
pub(in crate::ledger) struct Taking {
    /// What was seen: if it is not so any more, nothing is written.
    pub(in crate::ledger) seen: Standing,
    pub(in crate::ledger) holder: Holder,
    pub(in crate::ledger) name: String,
    pub(in crate::ledger) commits: u64,
    /// All ratchets rise first, if the ledger may have forgotten something.
    pub(in crate::ledger) raising: Option<Raising>,
}

/// Takes the lease for a process that starts.
pub(in crate::ledger) async fn open(
    database: &Database,
    opening: &Opening,
) -> Result<(Arc<Lease>, Session), OpenError> {
    let path = opening.anchor.clone();
    let mut anchor = blocking(move || Anchor::open(&path)).await?;
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| OpenError::Randomness(error.to_string()))?;
    let holder = Holder(bytes);
    let began = Instant::now();
    let mut failures = 0;
    loop {
        let (mut session, seen) = match current(database, opening, &anchor, began).await {
            Ok(connected) => connected,
            Err(DatabaseError::Unavailable(_)) if failures < FAILURES_MAX => {
                failures += 1;
                sleep(LOOK_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let lives = seen.renewed_ago.is_some_and(|ago| ago < HOLDER_WAIT);
        if seen.is_anothers(&anchor) && lives {
            if began.elapsed() > HOLDER_WAIT + opening.limits.stale_wait {
                return Err(OpenError::Held(seen.holder_name));
            }
            sleep(LOOK_PAUSE).await;
            continue;
        }
        let doubt = match opening.origin {
            Origin::Restored => Some(Doubt::Told),
            Origin::AsLeft => seen.doubt(&anchor, now_s()),
        };
        let raising = doubt
            .map(|doubt| raising(&doubt, anchor.found(), (opening.time)()))
            .transpose()?;
        let taking = Taking {
            commits: counted(&anchor).max(seen.commits).saturating_add(STEP),
            seen,
            holder,
            name: name(),
            raising,
        };
        anchor = announce(anchor, &taking).await?;
        match session.take(&taking).await {
            Ok(true) => {
                let lease = established(opening, anchor, &taking).await?;
                return Ok((lease, session));
            }
            // Another was faster: look again.
            Ok(false) => {}
            Err(_) if failures < FAILURES_MAX => failures += 1,
            Err(failure) => return Err(DatabaseError::Unavailable(failure.to_string()).into()),
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// A session with a database that holds what the anchor knows; after a while, with any.
async fn current(
    database: &Database,
    opening: &Opening,
    anchor: &Anchor,
    began: Instant,
) -> Result<(Session, Standing), DatabaseError> {
    loop {
        let counted = counted(anchor);
        let patient = began.elapsed() < opening.limits.stale_wait;
        let is_stale = Mutex::new(false);
        let accept = |standing: &Standing| {
            if patient && standing.commits < counted {
                *is_stale.lock() = true;
                let ledger = standing.commits;
                let behind = Doubt::Behind {
                    ledger,
                    anchor: counted,
                };
                return Err(behind.to_string());
            }
            Ok(())
        };
        let wait = opening.limits.ledger_wait;
        match Session::connect(database, wait, &accept).await {
            Err(_) if is_stale.into_inner() => sleep(LOOK_PAUSE).await,
            connected => return connected,
        }
    }
}

/// Writes into the anchor who is about to hold, so that a crash in between is no doubt.
async fn announce(anchor: Anchor, taking: &Taking) -> Result<Anchor, OpenError> {
    let (ledger_id, holder, commits) = (taking.seen.ledger_id, taking.holder, taking.seen.commits);
    let in_doubt = taking.raising.is_some();
    let written = blocking(move || {
        let mut anchor = anchor;
        match anchor.found().clone() {
            Found::Mark(mut mark) => {
                mark.next = Some(holder);
                anchor.write(mark)?;
            }
            // The ledger's first holder.
            Found::Nothing if !in_doubt => {
                let mark = anchor.mark(ledger_id, holder, commits);
                anchor.write(mark)?;
            }
            Found::Nothing | Found::Damaged => {}
        }
        Ok(anchor)
    });
    Ok(written.await?)
}

/// The lease, once the database says that it is taken.
async fn established(
    opening: &Opening,
    anchor: Anchor,
    taking: &Taking,
) -> Result<Arc<Lease>, OpenError> {
    let highest = match anchor.found() {
        Found::Mark(mark) if mark.ledger_id == taking.seen.ledger_id => mark.highest,
        Found::Mark(_) | Found::Nothing | Found::Damaged => Highest::default(),
    };
    let mut mark = anchor.mark(taking.seen.ledger_id, taking.holder, taking.commits);
    mark.server = taking.seen.server;
    mark.highest = highest;
    let anchor = blocking(move || {
        let mut anchor = anchor;
        anchor.write(mark).map(|()| anchor)
    })
    .await?;
    let earlier = || {
        taking.seen.quarantined_until.map(|until| Quarantine {
            until,
            reason: "since before this start".to_owned(),
        })
    };
    let quarantine = match &taking.raising {
        Some(raising) => raising.quarantine.clone(),
        None => earlier(),
    };
    let state = State {
        ledger_id: taking.seen.ledger_id,
        commits: taking.commits,
        quarantine,
        stop: taking.seen.orders.stop,
        frozen: Arc::default(),
        taken_by: None,
        orders: 0,
    };
    Ok(Arc::new(Lease {
        holder: taking.holder,
        name: taking.name.clone(),
        time: Arc::clone(&opening.time),
        rule: rules::decide,
        anchor: Arc::new(Mutex::new(anchor)),
        state: RwLock::new(state),
        attempted: AtomicU64::new(taking.commits),
    }))
}

impl Lease {
    /// Takes the ledger again, as far as it goes, after raising its ratchets: for a process whose
    /// ledger was put back under it, or which itself was.
    pub(in crate::ledger) async fn retake(
        &self,
        database: &Database,
        wait: Duration,
        doubt: Doubt,
    ) -> Result<(), String> {
        let ledger_id = self.state.read().ledger_id;
        let accept = |standing: &Standing| match standing.ledger_id == ledger_id {
            true => Ok(()),
            false => Err(Doubt::AnotherLedger.to_string()),
        };
        let connected = Session::connect(database, wait, &accept).await;
        let (mut session, seen) = connected.map_err(|error| error.to_string())?;
        let found = self.anchor.lock().found().clone();
        let raising = raising(&doubt, &found, (self.time)()).map_err(|error| error.to_string())?;
        let taking = Taking {
            commits: self.leap(seen.commits),
            seen,
            holder: self.holder,
            name: self.name.clone(),
            raising: Some(raising.clone()),
        };
        match session.take(&taking).await {
            Ok(true) => {}
            Ok(false) => return Err("another has written the ledger meanwhile".to_owned()),
            Err(failure) => return Err(failure.to_string()),
        }
        tracing::error!(%doubt, "the ledger may have forgotten something: it is quarantined");
        {
            let mut state = self.state.write();
            state.quarantine = raising.quarantine;
        }
        let counted = self.count(taking.commits, None, Highest::default()).await;
        counted.map_err(|error| error.to_string())
    }
}

impl Lease {
    /// A number of commits beyond whatever was tried so far.
    fn leap(&self, seen: u64) -> u64 {
        let attempted = self.attempted.load(Ordering::Relaxed);
        let next = attempted.max(seen).saturating_add(STEP);
        self.attempted.fetch_max(next, Ordering::Relaxed);
        next
    }
}

fn counted(anchor: &Anchor) -> u64 {
    match anchor.found() {
        Found::Mark(mark) => mark.commits,
        Found::Nothing | Found::Damaged => 0,
    }
}

/// Host and process, for people.
fn name() -> String {
    let host = rustix::system::uname();
    format!(
        "{}:{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}

fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AnchorError> + Send + 'static,
) -> impl Future<Output = Result<T, AnchorError>> {
    let running = spawn_blocking(work);
    async { running.await.unwrap_or(Err(AnchorError::Stopping)) }
}
