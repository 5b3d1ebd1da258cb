//! Taking the ledger again, under a process that runs: it was put back, or the process itself was.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Lease,
    quarantine::raising,
    take::{STEP, Taking},
};
use crate::{
    administration::{self, AdministrationError, Freezing, Stop, Whom},
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
        // From here on an older one is what there is.
        self.known.forget();
        let retaken = self.retake_as_it_is(database, wait, doubt).await;
        let commits = self.state.read().commits;
        self.known.at_least(commits);
        retaken?;
        self.repeat_orders(database).await
    }

    /// The ledger that was put back may lack what was ordered since.
    async fn repeat_orders(&self, database: &Database) -> Result<(), String> {
        let (frozen, stop) = {
            let mut state = self.state.write();
            state.orders = 0;
            (Arc::clone(&state.frozen), state.stop)
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
        if stop != Stop::default() {
            let stopped = administration::stop_at(database, stop).await;
            stopped.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn retake_as_it_is(
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
