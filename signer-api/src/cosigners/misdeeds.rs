//! What a cosigner is blamed for: only what no honest one does, whatever the network, its load, or
//! another version of it makes of it.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::warn;

use super::{
    link::Link,
    tally::{Kind, Tally},
};

/// Who was blamed for an answer is asked to sign last for this long.
const DOUBT: Duration = Duration::from_secs(60);

/// What a cosigner is blamed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Misdeed {
    /// A partial signature that is not valid.
    Partial,
    /// A reply that cannot be understood.
    Reply,
    /// A report about a validator that others contradict.
    Report,
}

impl Kind for Misdeed {
    const WHAT: &'static str = "misdeed";

    fn name(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Reply => "reply",
            Self::Report => "report",
        }
    }
}

/// All misdeeds of one cosigner.
#[derive(Default)]
pub(super) struct Misdeeds {
    tally: Tally<Misdeed>,
    doubted_until: Mutex<Option<Instant>>,
}

impl Link {
    /// Blames the cosigner, in the log, in a metric, and for the health check.
    pub(crate) fn blame(&self, misdeed: Misdeed, what: &str) {
        let (reason, now) = (misdeed.name(), Instant::now());
        self.metrics().blamed(self.san(), reason);
        match misdeed {
            Misdeed::Partial | Misdeed::Reply => {
                *self.misdeeds().doubted_until.lock() = Some(now + DOUBT);
            }
            Misdeed::Report => {}
        }
        if self.misdeeds().tally.add(misdeed, now) {
            warn!(cosigner = %self.san(), reason, what, "a cosigner is to blame");
        }
    }

    /// Whether it was blamed for an answer lately.
    pub(crate) fn is_doubted(&self) -> bool {
        let doubted_until = *self.misdeeds().doubted_until.lock();
        doubted_until.is_some_and(|until| Instant::now() < until)
    }

    /// How often it was blamed, for what last, and how long ago; empty if never.
    pub(crate) fn blamed(&self) -> Map<String, Value> {
        self.misdeeds().tally.notable(Instant::now())
    }
}
