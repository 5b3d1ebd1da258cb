//! What a cosigner says of its ledger as a whole: quarantine, stops, freezes.

use duty::{Epoch, Slot};
use serde_json::{Map, Value};
use threshold::round::FailureReason;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use wire::proto;

use super::link::Link;

/// The lane under which asking for it is counted.
const LANE: &str = "status";

/// One ledger's state. A cosigner says it in every status, from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// Slashable duties are refused until the clock is in this epoch.
    pub(crate) quarantined_until: Option<Epoch>,
    /// No attestation with this target or above is signed.
    pub(crate) stop_epoch: Option<Epoch>,
    /// No block of this slot or above is signed.
    pub(crate) stop_slot: Option<Slot>,
    /// Nothing is signed for any validator.
    pub(crate) all_frozen: bool,
    /// Validators that are frozen one by one.
    pub(crate) frozen: u64,
}

impl From<proto::LedgerState> for Standing {
    fn from(state: proto::LedgerState) -> Self {
        Self {
            quarantined_until: state.quarantined_until_epoch.map(Epoch),
            stop_epoch: state.stop_epoch.map(Epoch),
            stop_slot: state.stop_slot.map(Slot),
            all_frozen: state.all_frozen,
            frozen: state.frozen,
        }
    }
}

impl Standing {
    /// Why nothing slashable is signed at all, if that is so.
    pub(super) fn obstacle(&self) -> Option<String> {
        if self.all_frozen {
            return Some("every validator is frozen".to_owned());
        }
        let until = self.quarantined_until?;
        Some(format!("its ledger is in quarantine until epoch {until}"))
    }

    /// What is not as usual, by name; numbers of the chain are decimal strings, as everywhere.
    pub(crate) fn notable(&self) -> Map<String, Value> {
        let heights = [
            (
                "quarantined-until-epoch",
                self.quarantined_until.map(|epoch| epoch.0),
            ),
            ("stop-epoch", self.stop_epoch.map(|epoch| epoch.0)),
            ("stop-slot", self.stop_slot.map(|slot| slot.0)),
        ];
        let heights = heights
            .into_iter()
            .filter_map(|(name, height)| Some((name, Value::from(height?.to_string()))));
        let frozen = [
            ("all-frozen", self.all_frozen.then_some(Value::from(true))),
            (
                "frozen",
                (self.frozen > 0).then_some(Value::from(self.frozen)),
            ),
        ];
        let frozen = frozen
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        heights
            .chain(frozen)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

impl Link {
    /// Asks for it now; `None` if no answer says it by `until`.
    pub(crate) async fn standing(&self, until: Instant) -> Option<Standing> {
        let began = Instant::now();
        let asking = async {
            // It is never closed.
            let _place = self.standings().acquire().await;
            if Instant::now() >= until {
                // Places come free when those who asked before give up, at the same moment.
                return None;
            }
            Some(self.transport().status().await)
        };
        let asked = timeout_at(until, asking).await.ok().flatten();
        self.asked(LANE, began.elapsed());
        let (reason, why) = match asked {
            Some(Ok(reply)) => match reply.ledger {
                Some(state) => return Some(state.into()),
                None => (
                    FailureReason::Ledger,
                    "its ledger does not answer".to_owned(),
                ),
            },
            Some(Err(status)) => (FailureReason::Unreachable, self.judge(&status)),
            None => (
                FailureReason::TimedOut,
                "does not answer in time".to_owned(),
            ),
        };
        debug!(cosigner = %self.san(), why, "a cosigner does not say what state its ledger is in");
        self.failed(reason);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_as_usual_is_notable() {
        let usual = Standing::default();
        let stopped = Standing {
            stop_epoch: Some(Epoch(7)),
            stop_slot: Some(Slot(225)),
            ..usual
        };
        let quarantined = Standing {
            quarantined_until: Some(Epoch(9)),
            frozen: 2,
            ..usual
        };
        let frozen = Standing {
            all_frozen: true,
            ..quarantined
        };
        for (standing, obstacle, notable) in [
            (usual, None, "{}"),
            (stopped, None, r#"{"stop-epoch":"7","stop-slot":"225"}"#),
            (
                quarantined,
                Some("its ledger is in quarantine until epoch 9"),
                r#"{"frozen":2,"quarantined-until-epoch":"9"}"#,
            ),
            (
                frozen,
                Some("every validator is frozen"),
                r#"{"all-frozen":true,"frozen":2,"quarantined-until-epoch":"9"}"#,
            ),
        ] {
            assert_eq!(standing.obstacle().as_deref(), obstacle);
            assert_eq!(Value::Object(standing.notable()).to_string(), notable);
        }
    }
}
