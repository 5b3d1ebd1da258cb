//! Takes history away that is older than the configuration keeps.

use std::time::Duration;

use duty::{Epoch, Slot};
use slashing::{
    Ledger,
    ledger::{Position, Pruning},
};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{clock::Clock, config::Settings, service::since_1970};

/// How often it is looked whether another epoch has passed.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    epochs: u64,
    slots_per_epoch: u64,
    clock: Clock,
}

impl Keep {
    pub(crate) const fn of(settings: &Settings) -> Self {
        Self {
            epochs: settings.config.history_epochs,
            slots_per_epoch: settings.slots_per_epoch,
            clock: settings.clock,
        }
    }

    /// What may go; nothing while the chain is young, or without a clock.
    fn before(&self, now: Option<Position>) -> Option<Pruning> {
        let epoch = now?.epoch.0.checked_sub(self.epochs)?;
        Some(Pruning {
            epoch: Epoch(epoch),
            slot: Slot(epoch.saturating_mul(self.slots_per_epoch)),
        })
    }
}

/// Prunes once in each epoch, for ever.
pub(crate) async fn keep_pruning(ledger: Ledger, keep: Keep) {
    let mut done = None;
    loop {
        let before = keep.before(keep.clock.position(since_1970()));
        if let Some(before) = before.filter(|before| done != Some(*before)) {
            match ledger.prune(before).await {
                Ok(entries) => {
                    done = Some(before);
                    if entries > 0 {
                        info!(entries, before_epoch = before.epoch.0, "history was pruned");
                    }
                }
                Err(error) => warn!(%error, "history was not pruned, and will be later"),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_kept_epochs_goes_and_nothing_without_a_clock() {
        let keep = Keep {
            epochs: 1000,
            slots_per_epoch: 32,
            clock: Clock::Unchecked,
        };
        let at = |epoch| {
            Some(Position {
                epoch: Epoch(epoch),
                slot: Slot(epoch * 32),
            })
        };
        let pruning = |epoch| Pruning {
            epoch: Epoch(epoch),
            slot: Slot(epoch * 32),
        };
        for (now, before) in [
            (None, None),
            (at(999), None),
            (at(1000), Some(pruning(0))),
            (at(4321), Some(pruning(3321))),
        ] {
            assert_eq!(keep.before(now), before, "{now:?}");
        }
    }
}
