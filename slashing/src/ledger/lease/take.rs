//! Taking the lease: at a start, and again when the ledger of a running process was put back.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep};

use super::{
    Lease, Opening, Origin, Quarantine, State,
    quarantine::{Raising, Unraisable, raising},
    steadiness::Steadiness,
};
use crate::{
    anchor::{Anchor, AnchorError, Found, Highest, Holder},
    database::{Database, DatabaseError},
    ledger::{
        columns::{Corrupt, to_column},
        session::Session,
        standing::{Doubt, Standing},
    },
    machine::Machine,
    rules,
};

/// By how much the count of commits leaps when a ledger is taken: beyond all that the holder before
/// can have tried since it last knew of one.
pub(super) const STEP: u64 = 1 << 32;
/// How far the clock may have gone on since the anchor was written, for ratchets to be raised by it.
pub(in crate::ledger) const AWAY_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// The pause between two looks for a database that is no older state.
const STALE_PAUSE: Duration = Duration::from_millis(500);
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
    /// The clock that ratchets would be raised by may be wrong.
    #[error(
        "the ledger may have forgotten something, and this machine's clock is {} days ahead of when \
         it last lived: check the clock, and if it is right, start once with --restored",
        .0.as_secs() / 86_400
    )]
    Implausible(Duration),
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

/// The source epoch, target epoch and slot that every ratchet rises to, as columns.
pub(in crate::ledger) fn floor(taking: &Taking) -> Result<[Option<i64>; 3], Corrupt> {
    let Some(raising) = &taking.raising else {
        return Ok([None; 3]);
    };
    let (source, target, slot) = raising.watermark.heights();
    Ok([
        Some(to_column(source.0)?),
        Some(to_column(target.0)?),
        Some(to_column(slot.0)?),
    ])
}

/// Takes the lease for a process that starts.
pub(in crate::ledger) async fn open(
    database: &Database,
    opening: &Opening,
) -> Result<(Arc<Lease>, Session), OpenError> {
    let machine = database.machine();
    // Before anything is looked at: a snapshot may be resumed in the middle of a start as well.
    let steadiness = Steadiness::of(machine.clone(), Arc::clone(&opening.time));
    let steadiness = Arc::new(steadiness);
    let mut anchor = machine.open_anchor(opening.anchor.clone()).await?;
    let fresh = machine.fresh();
    let holder = Holder(fresh.map_err(|error| OpenError::Randomness(error.to_string()))?);
    let began = Instant::now();
    let mut watch = Watch {
        since: began,
        holder_wait: opening.limits.holder_wait,
        renewed: None,
        told: false,
    };
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
        if seen.is_anothers(&anchor) && !watch.is_dead(&seen) {
            watch.tell(&seen);
            if watch.since.elapsed() > watch.holder_wait + opening.limits.stale_wait {
                return Err(OpenError::Held(seen.holder_name));
            }
            sleep(LOOK_PAUSE).await;
            continue;
        }
        let doubt = match opening.origin {
            Origin::Restored => Some(Doubt::Told),
            Origin::AsLeft => seen.doubt(&anchor, anchor.now_s()),
        };
        // Read before it is held against the anchor: it is no later than what was found plausible.
        let now = (opening.time)();
        if opening.origin == Origin::AsLeft && doubt.is_some() {
            plausible(&anchor)?;
        }
        let raising = doubt
            .map(|doubt| raising(&doubt, anchor.found(), now))
            .transpose()?;
        let taking = Taking {
            commits: counted(&anchor).max(seen.commits).saturating_add(STEP),
            seen,
            holder,
            name: machine.name(),
            raising,
        };
        anchor = announce(&machine, anchor, &taking, &steadiness).await?;
        match session.take(&taking).await {
            Ok(true) => {
                let lease = established(database, opening, anchor, &taking, steadiness).await?;
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

/// Looks whether a holder lives, whatever its database's clock says.
struct Watch {
    since: Instant,
    holder_wait: Duration,
    /// What the holder last wrote, and when that was first seen.
    renewed: Option<(Option<i64>, Instant)>,
    told: bool,
}

impl Watch {
    /// Says once that there is another.
    fn tell(&mut self, seen: &Standing) {
        if !self.told {
            self.told = true;
            let holder = seen.holder_name.as_str();
            tracing::warn!(
                holder,
                "another cosigner holds the ledger: waiting whether it lives"
            );
        }
    }

    fn is_dead(&mut self, seen: &Standing) -> bool {
        let now = Instant::now();
        let unchanged = match self.renewed {
            Some((renewed, first)) if renewed == seen.renewed => now.duration_since(first),
            Some(_) | None => {
                self.renewed = Some((seen.renewed, now));
                Duration::ZERO
            }
        };
        let wait = self.holder_wait;
        unchanged >= wait || seen.renewed_ago.is_none_or(|ago| ago >= wait)
    }
}

/// Ratchets that are raised by a clock that is wrong stay there: a clock that has run far ahead of
/// the anchor needs an operator's word.
fn plausible(anchor: &Anchor) -> Result<(), OpenError> {
    let Found::Mark(mark) = anchor.found() else {
        return Ok(());
    };
    let away = Duration::from_secs(anchor.now_s().saturating_sub(mark.alive_at_s));
    match away > AWAY_MAX {
        true => Err(OpenError::Implausible(away)),
        false => Ok(()),
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
        // Of files there is one: no other is worth waiting for.
        let several = matches!(database, Database::Postgres(_));
        let patient = several && began.elapsed() < opening.limits.stale_wait;
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
            Err(error) if is_stale.into_inner() => {
                tracing::warn!(%error, "looking for a database that holds the whole ledger");
                sleep(STALE_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// Writes into the anchor who is about to hold, so that a crash in between is no doubt.
async fn announce(
    machine: &Machine,
    anchor: Anchor,
    taking: &Taking,
    steadiness: &Arc<Steadiness>,
) -> Result<Anchor, OpenError> {
    let steadiness = Arc::clone(steadiness);
    let (ledger_id, holder, commits) = (taking.seen.ledger_id, taking.holder, taking.seen.commits);
    let (in_doubt, before) = (taking.raising.is_some(), taking.seen.holder);
    let written = machine.write(move || {
        let mut anchor = anchor;
        match anchor.found().clone() {
            Found::Mark(mut mark) => {
                if let Some(before) = before.filter(|before| mark.next == Some(*before)) {
                    // A start that took the ledger and ended before it could say so here.
                    mark.holder = before;
                }
                mark.next = Some(holder);
                if !in_doubt {
                    // What made a doubt must make it again, should this start end here.
                    mark.alive_at_s = steadiness.now_s();
                }
                anchor.write(mark)?;
            }
            // The ledger's first holder.
            Found::Nothing if !in_doubt => {
                let mut mark = anchor.mark(ledger_id, holder, commits);
                mark.alive_at_s = steadiness.now_s();
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
    database: &Database,
    opening: &Opening,
    anchor: Anchor,
    taking: &Taking,
    steadiness: Arc<Steadiness>,
) -> Result<Arc<Lease>, OpenError> {
    let highest = match anchor.found() {
        Found::Mark(mark) if mark.ledger_id == taking.seen.ledger_id => mark.highest,
        Found::Mark(_) | Found::Nothing | Found::Damaged => Highest::default(),
    };
    let mut mark = anchor.mark(taking.seen.ledger_id, taking.holder, taking.commits);
    mark.server = taking.seen.server;
    mark.highest = highest;
    mark.alive_at_s = steadiness.now_s();
    let machine = database.machine();
    let written = machine.write(move || {
        let mut anchor = anchor;
        anchor.write(mark).map(|()| anchor)
    });
    let anchor = written.await?;
    database.known().at_least(taking.commits);
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
        owed: None,
    };
    Ok(Arc::new(Lease {
        holder: taking.holder,
        name: taking.name.clone(),
        time: Arc::clone(&opening.time),
        rule: rules::decide,
        machine,
        anchor: Arc::new(Mutex::new(anchor)),
        steadiness,
        state: RwLock::new(state),
        known: database.known().clone(),
        attempted: AtomicU64::new(taking.commits),
    }))
}

fn counted(anchor: &Anchor) -> u64 {
    match anchor.found() {
        Found::Mark(mark) => mark.commits,
        Found::Nothing | Found::Damaged => 0,
    }
}
