//! Taking the ledger again, under a process that runs: it was put back, or the process itself was.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Lease, Owed, Rejection,
    quarantine::raising,
    take::{STEP, Taking},
};
use crate::{
    administration::{self, AdministrationError, Freezing, Whom},
    anchor::Highest,
    database::Database,
    ledger::{
        session::Session,
        standing::{Doubt, Standing},
    },
};

impl Lease {
    /// Takes the ledger again, as far as it goes, after raising its ratchets: for a process whose
    /// ledger was put back under it, or which itself was. What was ordered stays ordered.
    pub(in crate::ledger) async fn retake(
        &self,
        database: &Database,
        wait: Duration,
        doubt: Doubt,
    ) -> Result<(), String> {
        self.retake_as_it_is(database, wait, doubt).await?;
        self.repeat_orders(database).await
    }

    /// Commits again what the ledger that was put back may lack. Until all of it is, it is owed: the
    /// next attempt begins with it, whatever was read from the ledger meanwhile.
    async fn repeat_orders(&self, database: &Database) -> Result<(), String> {
        let owed = self.state.read().owed.clone();
        let Some(Owed { stop, frozen }) = owed else {
            return Ok(());
        };
        if frozen.all {
            let all = administration::freeze(database, Whom::Everyone, Freezing::Freeze).await;
            all.map_err(|error| error.to_string())?;
        }
        let mut these: BTreeSet<_> = frozen.validators.iter().copied().collect();
        while !these.is_empty() {
            let whom = Whom::These(these.clone());
            match administration::freeze(database, whom, Freezing::Freeze).await {
                Ok(_) => break,
                // Those that came after the backup: they can not sign here at all.
                Err(AdministrationError::Unknown(gone)) if !gone.is_empty() => {
                    these.retain(|validator| !gone.contains(validator));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        let standing = administration::state(database).await;
        let standing = standing.map_err(|error| error.to_string())?;
        // What is in the ledger may be of before, or ordered since it was put back: the lower holds.
        let stop = stop.lower(standing.stop);
        if stop != standing.stop {
            let stopped = administration::stop_at(database, stop).await;
            stopped.map_err(|error| error.to_string())?;
        }
        let mut state = self.state.write();
        (state.owed, state.orders) = (None, 0);
        Ok(())
    }

    async fn retake_as_it_is(
        &self,
        database: &Database,
        wait: Duration,
        doubt: Doubt,
    ) -> Result<(), String> {
        let (mut session, seen) = self.connect_to_any(database, wait).await?;
        let found = self.anchor.lock().found().clone();
        let now = (self.time)();
        if let Some(jump) = self.jump().filter(|jump| !jump.is_plausible()) {
            // By now: what the clock said may be wrong.
            return Err(Doubt::ClockJumped(jump.by).to_string());
        }
        let raising = raising(&doubt, &found, now).map_err(|error| error.to_string())?;
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
        // It counts beyond all that was known of. Until then, an order or an import must find that
        // the ledger is older: counted in it, it would hide that from the next start.
        self.known.at_least(taking.commits);
        tracing::error!(%doubt, "the ledger may have forgotten something: it is quarantined");
        {
            let mut state = self.state.write();
            state.quarantine = raising.quarantine;
            // Its orders may have lower numbers.
            state.orders = 0;
            state.owed = Some(Owed {
                stop: state.stop,
                frozen: Arc::clone(&state.frozen),
            });
        }
        let counted = self.count(taking.commits, None, Highest::default()).await;
        counted.map_err(|error| error.to_string())
    }

    /// Connects to the ledger, however old its state is, unless another has taken it since.
    async fn connect_to_any(
        &self,
        database: &Database,
        wait: Duration,
    ) -> Result<(Session, Standing), String> {
        let taken = Mutex::new(None);
        let accept = |standing: &Standing| match self.accept(standing) {
            Err(why @ Rejection::Stale(Doubt::AnotherLedger)) => Err(why.to_string()),
            Err(Rejection::Taken(name)) => {
                let text = Rejection::Taken(name.clone()).to_string();
                *taken.lock() = Some(name);
                Err(text)
            }
            Ok(()) | Err(Rejection::Stale(_)) => Ok(()),
        };
        let connected = Session::connect(database, wait, &accept).await;
        connected.map_err(|error| {
            if let Some(name) = taken.into_inner() {
                self.lose(name);
            }
            error.to_string()
        })
    }

    /// A number of commits beyond whatever was tried so far.
    fn leap(&self, seen: u64) -> u64 {
        let attempted = self
            .attempted
            .load(Ordering::Relaxed)
            .max(self.known.tried());
        let next = attempted.max(seen).saturating_add(STEP);
        self.attempted.fetch_max(next, Ordering::Relaxed);
        next
    }
}
