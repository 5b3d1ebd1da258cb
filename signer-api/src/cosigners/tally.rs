//! What is held against a cosigner: how often, what last and when. All is counted, little is logged.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::time::Instant;

/// One thing of each kind is logged in this time: kinds are few, and none hides another.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A kind of what is counted.
pub(super) trait Kind: Copy + Ord {
    /// What each of them is, in the singular.
    const WHAT: &'static str;

    /// Its name for metrics and replies.
    fn name(self) -> &'static str;
}

/// All of one sort since this process started.
pub(super) struct Tally<K>(Mutex<Record<K>>);

struct Record<K> {
    count: u64,
    last: Option<(K, Instant)>,
    logged: BTreeMap<K, Instant>,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Mutex::new(Record {
            count: 0,
            last: None,
            logged: BTreeMap::new(),
        }))
    }
}

impl<K: Kind> Tally<K> {
    /// Adds one; whether it is worth a line in the log.
    pub(super) fn add(&self, kind: K, now: Instant) -> bool {
        let mut record = self.0.lock();
        record.count = record.count.saturating_add(1);
        record.last = Some((kind, now));
        let logged = record.logged.get(&kind);
        let is_due = logged.is_none_or(|at| now.duration_since(*at) >= LOG_INTERVAL);
        if is_due {
            record.logged.insert(kind, now);
        }
        is_due
    }

    /// How many, what the last was, and how long ago; empty if there is none.
    pub(super) fn notable(&self, now: Instant) -> Map<String, Value> {
        let record = self.0.lock();
        let Some((last, at)) = record.last else {
            return Map::new();
        };
        let age = now.duration_since(at).as_secs();
        let what = K::WHAT;
        Map::from_iter([
            (format!("{what}s"), Value::from(record.count)),
            (format!("last-{what}"), Value::from(last.name())),
            (format!("last-{what}-seconds-ago"), Value::from(age)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Misdeed, *};

    #[test]
    fn all_are_counted_the_last_is_named_and_of_each_kind_few_are_logged() {
        let tally = Tally::default();
        let now = Instant::now();
        assert!(tally.notable(now).is_empty());
        for (misdeed, after, is_logged) in [
            (Misdeed::Partial, 0, true),
            (Misdeed::Reply, 1, true),
            (Misdeed::Partial, 9, false),
            (Misdeed::Reply, 10, false),
            (Misdeed::Partial, 10, true),
            (Misdeed::Report, 10, true),
            (Misdeed::Reply, 11, true),
        ] {
            let at = now + Duration::from_secs(after);
            assert_eq!(tally.add(misdeed, at), is_logged, "after {after} s");
        }
        let shown = Value::Object(tally.notable(now + Duration::from_secs(17)));
        assert_eq!(
            shown.to_string(),
            r#"{"last-misdeed":"reply","last-misdeed-seconds-ago":6,"misdeeds":7}"#
        );
    }
}
