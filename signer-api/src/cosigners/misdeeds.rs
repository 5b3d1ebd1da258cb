//! What a cosigner is blamed for: only what no honest one does, whatever the network, its load, or
//! another version of it makes of it.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::warn;

use super::link::Link;

/// Who was blamed for an answer is asked to sign last for this long.
const DOUBT: Duration = Duration::from_secs(60);
/// One misdeed of a cosigner is logged in this time; all are counted.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What a cosigner is blamed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misdeed {
    /// A partial signature that is not valid.
    Partial,
    /// A reply that cannot be understood.
    Reply,
    /// A report about a validator that others contradict.
    Report,
}

impl Misdeed {
    const fn name(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Reply => "reply",
            Self::Report => "report",
        }
    }
}

/// All misdeeds of one cosigner since this process started.
#[derive(Default)]
pub(super) struct Misdeeds(Mutex<Record>);

#[derive(Default)]
struct Record {
    count: u64,
    last: Option<(Misdeed, Instant)>,
    doubted_until: Option<Instant>,
    logged: Option<Instant>,
}

impl Misdeeds {
    /// Adds one; whether it is worth a line in the log.
    fn add(&self, misdeed: Misdeed, now: Instant) -> bool {
        let mut record = self.0.lock();
        record.count = record.count.saturating_add(1);
        record.last = Some((misdeed, now));
        match misdeed {
            Misdeed::Partial | Misdeed::Reply => record.doubted_until = Some(now + DOUBT),
            Misdeed::Report => {}
        }
        let is_due = |last| now.duration_since(last) >= LOG_INTERVAL;
        let is_worth_a_line = record.logged.is_none_or(is_due);
        if is_worth_a_line {
            record.logged = Some(now);
        }
        is_worth_a_line
    }

    fn notable(&self, now: Instant) -> Map<String, Value> {
        let record = self.0.lock();
        let Some((last, at)) = record.last else {
            return Map::new();
        };
        let age = now.duration_since(at).as_secs();
        let members = [
            ("misdeeds", Value::from(record.count)),
            ("last-misdeed", Value::from(last.name())),
            ("last-misdeed-seconds-ago", Value::from(age)),
        ];
        let members = members.into_iter();
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

impl Link {
    /// Blames the cosigner, in the log, in a metric, and for the health check.
    pub(crate) fn blame(&self, misdeed: Misdeed, what: &str) {
        let reason = misdeed.name();
        self.metrics().blamed(self.san(), reason);
        if self.misdeeds().add(misdeed, Instant::now()) {
            warn!(cosigner = %self.san(), reason, what, "a cosigner is to blame");
        }
    }

    /// Whether it was blamed for an answer lately.
    pub(crate) fn is_doubted(&self) -> bool {
        let doubted_until = self.misdeeds().0.lock().doubted_until;
        doubted_until.is_some_and(|until| Instant::now() < until)
    }

    /// How often it was blamed, for what last, and how long ago; empty if never.
    pub(crate) fn blamed(&self) -> Map<String, Value> {
        self.misdeeds().notable(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_the_last_is_named_and_few_are_logged() {
        let misdeeds = Misdeeds::default();
        let now = Instant::now();
        assert!(misdeeds.notable(now).is_empty());
        for (misdeed, after, is_logged) in [
            (Misdeed::Partial, 0, true),
            (Misdeed::Reply, 1, false),
            (Misdeed::Report, 9, false),
            (Misdeed::Reply, 10, true),
        ] {
            let at = now + Duration::from_secs(after);
            assert_eq!(misdeeds.add(misdeed, at), is_logged, "after {after} s");
        }
        let shown = Value::Object(misdeeds.notable(now + Duration::from_secs(17)));
        assert_eq!(
            shown.to_string(),
            r#"{"last-misdeed":"reply","last-misdeed-seconds-ago":7,"misdeeds":4}"#
        );
    }
}
