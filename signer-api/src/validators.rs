//! Which validators there are: discovered from the cosigners, and believed when enough agree.
//!
//! It promises that a validator is served only on the word of at least t cosigners, t and the size
//! being at least what is configured; that a cosigner which cannot be reached takes no validator
//! away; and that a lying report is blamed and costs nothing else.

mod agreement;
mod discovery;
mod reload;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::body::Bytes;
use duty::PublicKey;
use threshold::{Committee, CommitteeSize, ShareIndex, round::Peer};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::{
    cosigners::{Cosigners, Link, Misdeed},
    metrics::Metrics,
};
use agreement::{Agreed, Listing};
pub(crate) use reload::Reload;

/// A validator that is served.
#[derive(Debug)]
pub(crate) struct Validator {
    /// Its committee.
    pub(crate) committee: Committee,
    /// Which cosigner claims which index; one index may be claimed twice.
    pub(crate) members: Vec<(Peer, ShareIndex)>,
}

/// What is known of a key.
pub(crate) enum Known {
    /// It is served.
    Served(Arc<Validator>),
    /// Not now: cosigners that were never heard of may know it.
    Undecided,
    /// Nobody knows it.
    Unknown,
}

/// Committees of one threshold and one set of cosigners: what health is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) threshold: usize,
    pub(crate) members: Vec<(Peer, ShareIndex)>,
}

/// Everything known at one moment.
pub(crate) struct Snapshot {
    validators: HashMap<PublicKey, Arc<Validator>>,
    undecided: HashSet<PublicKey>,
    /// Whether enough cosigners have listed their validators to know any.
    discovered: bool,
    public_keys: Bytes,
    shapes: BTreeSet<Shape>,
}

impl Snapshot {
    fn new(agreed: Agreed, discovered: bool) -> Self {
        let mut keys: Vec<&PublicKey> = agreed.validators.keys().collect();
        keys.sort_unstable();
        let keys: Vec<String> = keys.into_iter().map(|key| format!("\"{key}\"")).collect();
        let shapes = agreed.validators.values().map(|validator| Shape {
            threshold: validator.committee.threshold(),
            members: validator.members.clone(),
        });
        Self {
            shapes: shapes.collect(),
            public_keys: format!("[{}]", keys.join(",")).into(),
            validators: agreed.validators,
            undecided: agreed.undecided,
            discovered,
        }
    }

    fn empty() -> Self {
        Self::new(Agreed::default(), false)
    }

    pub(crate) fn find(&self, key: &PublicKey) -> Known {
        match self.validators.get(key) {
            Some(validator) => Known::Served(Arc::clone(validator)),
            None if !self.discovered || self.undecided.contains(key) => Known::Undecided,
            None => Known::Unknown,
        }
    }

    /// The keys as a JSON array, sorted.
    pub(crate) fn public_keys(&self) -> Bytes {
        self.public_keys.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.validators.len()
    }

    pub(crate) const fn is_discovered(&self) -> bool {
        self.discovered
    }

    pub(crate) const fn shapes(&self) -> &BTreeSet<Shape> {
        &self.shapes
    }

    /// What the weakest committee tolerates: faults, absences.
    fn tolerances(&self, configured: CommitteeSize) -> (usize, usize) {
        let committees = || {
            self.validators
                .values()
                .map(|validator| &validator.committee)
        };
        let faults = committees().map(Committee::tolerated_faults).min();
        let absences = committees().map(Committee::tolerated_absences).min();
        (
            faults.unwrap_or(configured.tolerated_faults()),
            absences.unwrap_or(configured.tolerated_absences()),
        )
    }
}

/// The validators, kept up to date by tasks of their own.
pub(crate) struct Validators {
    snapshot: ArcSwap<Snapshot>,
    /// The last complete listing of each cosigner.
    listings: Mutex<Vec<Option<Arc<Listing>>>>,
    cosigners: Arc<Cosigners>,
    committee: CommitteeSize,
    metrics: Arc<Metrics>,
    reload: Reload,
}

impl Validators {
    /// Begins to discover.
    pub(crate) fn discover(
        cosigners: Arc<Cosigners>,
        committee: CommitteeSize,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        metrics.served(
            0,
            committee.tolerated_faults(),
            committee.tolerated_absences(),
        );
        let validators = Arc::new(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::empty()),
            listings: Mutex::new(vec![None; cosigners.links().len()]),
            cosigners,
            committee,
            metrics,
            reload: Reload::default(),
        });
        for link in validators.cosigners.links() {
            tokio::spawn(discovery::follow(
                Arc::downgrade(&validators),
                Arc::clone(link),
            ));
        }
        validators
    }

    /// What is known now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reloads, and what became of it.
    pub(crate) const fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Asks one cosigner for its validators, and takes what is agreed on; or why its list could not
    /// be had: then its last list stays.
    async fn refresh(&self, link: &Link) -> Result<(), String> {
        let listing = discovery::fetch(link).await?;
        let mut listings = self.listings.lock().await;
        if let Some(mine) = listings.get_mut(link.peer().0) {
            *mine = Some(Arc::new(listing));
        }
        self.agree(&listings).await;
        Ok(())
    }

    /// Makes a new snapshot of what cosigners say. Committees take curve arithmetic, so that this
    /// runs on a thread where it may block. Callers come one by one: they hold the listings.
    async fn agree(&self, listings: &[Option<Arc<Listing>>]) {
        let (reports, committee, before) =
            (listings.to_vec(), self.committee, self.snapshot.load_full());
        let agreed = tokio::task::spawn_blocking(move || {
            agreement::agree(&reports, committee, &before.validators)
        });
        let mut agreed = match agreed.await {
            Ok(agreed) => agreed,
            Err(failure) => return error!(%failure, "validators could not be agreed on"),
        };
        for (peer, what) in agreed.lies.drain(..) {
            if let Some(link) = self.cosigners.link(peer) {
                link.blame(Misdeed::Report, &what);
            }
        }
        if let Some(unsuitable) = &agreed.unsuitable {
            warn!(
                validators = unsuitable.count,
                why = unsuitable.why,
                "validators are not served"
            );
        }
        if let Some(disputed) = &agreed.disputed {
            warn!(
                validators = disputed.count,
                why = disputed.why,
                "share indices are disputed: whose partials verify is believed"
            );
        }
        let heard = listings.iter().flatten().count();
        let snapshot = Snapshot::new(agreed, heard >= self.committee.threshold());
        let (faults, absences) = snapshot.tolerances(self.committee);
        self.metrics.served(snapshot.len(), faults, absences);
        if snapshot.len() != self.snapshot.load().len() {
            info!(
                validators = snapshot.len(),
                tolerated_faults = faults,
                tolerated_absences = absences,
                "validators are served"
            );
        }
        self.snapshot.store(Arc::new(snapshot));
    }
}
