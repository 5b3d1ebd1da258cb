//! What a cosigner did not agree to, and enough others signed all the same.
//!
//! No misdeed: the ledger of an honest one may be ahead of the others', and it holds the ballot of
//! whichever caller made it promise, however high. But one that does so again and again lies, or its
//! ledger, its clock or its configuration is not what the others have.

use serde_json::{Map, Value};
use threshold::round::Dissent;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    link::Link,
    tally::{Kind, Tally},
};

/// All dissents of one cosigner.
pub(super) type Dissents = Tally<Dissent>;

impl Kind for Dissent {
    const WHAT: &'static str = "dissent";

    fn name(self) -> &'static str {
        Self::name(self)
    }
}

impl Link {
    /// Notes that the others signed without it, in the log, in a metric, and for the health check.
    pub(crate) fn dissented(&self, dissent: Dissent) {
        let reason = dissent.name();
        self.metrics().dissented(self.san(), reason);
        if !self.dissents().add(dissent, Instant::now()) {
            return;
        }
        let cosigner = self.san();
        match dissent {
            Dissent::Refused(_) => {
                warn!(%cosigner, reason, "a cosigner did not agree to what others signed");
            }
            // As happens when callers race, or one repeats what failed.
            Dissent::Outbid => {
                info!(%cosigner, reason, "a cosigner did not agree to what others signed");
            }
        }
    }

    /// How often it did not agree, why last, and how long ago; empty if never.
    pub(crate) fn dissent(&self) -> Map<String, Value> {
        self.dissents().notable(Instant::now())
    }
}
