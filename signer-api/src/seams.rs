//! The conductor for the simulation of crate `tests`: everything from a parsed order to a verified
//! signature as it is, between networks, arithmetic and chance that are given.

use std::{collections::HashMap, sync::Arc, time::Duration};

use daemon::{bulk::Bulk, metrics::Registry};
use duty::{PublicKey, SigningOrder};
use threshold::{
    Committee, ShareIndex, Signature,
    round::{Peer, Verdict},
};
use tokio::time::Instant;

use crate::{
    admission::Admission,
    cosigners::{Cosigners, Link},
    cpu::Cpu,
    metrics::Metrics,
    signing::{Signing, Task},
    validators::Validator,
};
pub use crate::{
    cosigners::{Call, SendBy, Transport},
    signing::Arithmetic,
};

/// One signer-api without its HTTP.
pub struct Conductor {
    cosigners: Arc<Cosigners>,
    validators: HashMap<PublicKey, Arc<Validator>>,
    admission: Admission,
    signing: Signing,
}

impl Conductor {
    /// Must be called within a runtime. `committees` say which cosigner, by its place among
    /// `networks`, claims which index.
    #[must_use]
    pub fn new(
        networks: Vec<(String, Arc<dyn Transport>)>,
        committees: Vec<(Committee, Vec<(Peer, ShareIndex)>)>,
        arithmetic: Arc<dyn Arithmetic>,
        chance: Box<dyn Fn() -> f64 + Send + Sync>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(&mut Registry::default()));
        let cosigners = Arc::new(Cosigners::over(networks, &metrics));
        let validators = committees.into_iter().map(|(committee, members)| {
            let key = committee.group_key();
            (key, Arc::new(Validator { committee, members }))
        });
        let validators: HashMap<PublicKey, Arc<Validator>> = validators.collect();
        let thresholds = validators.values().map(|it| it.committee.threshold());
        let leads = thresholds.min();
        let shared = Arc::clone(&cosigners);
        Self {
            cosigners,
            validators,
            admission: Admission::new(1_024, 1024 * 1024),
            signing: Signing::with(shared, Cpu::inline(), metrics, arithmetic, chance, leads),
        }
    }

    /// Gets an order signed within a time, or says why not; `None` if there is no such validator,
    /// or no place.
    pub async fn sign(
        &self,
        order: SigningOrder,
        within: Duration,
    ) -> Option<Result<Signature, Verdict>> {
        let validator = Arc::clone(self.validators.get(&order.validator)?);
        let task = Task {
            root: order.signing_root(),
            order,
            validator,
            deadline: Instant::now() + within,
            place: self.admission.enter().ok()?,
            among: Bulk::inline(),
        };
        Some(self.signing.sign(task).await)
    }

    /// Begins to lead, as if it had signed before.
    pub fn lead(&self) {
        self.signing.lead();
    }

    /// Who was blamed for an answer lately.
    #[must_use]
    pub fn doubted(&self) -> Vec<Peer> {
        self.those(|link| link.is_doubted())
    }

    /// Who was ever blamed.
    #[must_use]
    pub fn blamed(&self) -> Vec<Peer> {
        self.those(|link| !link.blamed().is_empty())
    }

    fn those(&self, are: impl Fn(&Link) -> bool) -> Vec<Peer> {
        let links = self.cosigners.links().iter();
        let links = links.filter(|link| are(link));
        links.map(|link| link.peer()).collect()
    }
}
