//! Who leads, and from where on.

use duty::{Epoch, Slot};
use threshold::round::{Horizon, Lead};

use super::Service;

impl Service {
    /// Goes on with a lead, or begins it if that is asked of this process: where its horizon lies.
    /// `None` if another caller leads, or nobody may now; and if it replaces itself, by which it ends.
    pub(super) async fn lead(
        &self,
        lead: Lead,
        replaces: Option<Lead>,
        begins: bool,
    ) -> Option<Horizon> {
        if replaces == Some(lead) {
            self.promises.end_lead(replaces);
            return None;
        }
        if self.is_stopping() {
            return None;
        }
        if let Some(horizon) = self.promises.go_on(lead) {
            return Some(horizon);
        }
        if !begins || !self.promises.may_lead(replaces) {
            return None;
        }
        let signed = self.signed().await?;
        let led = self.promises.lead(lead, replaces, signed);
        if self.is_stopping() {
            self.promises.end_lead(None);
            return None;
        }
        led
    }

    /// How high anything signed lies at most, as the ledger says. A ratchet that an operator has put
    /// far ahead says nothing of what was signed: nothing is that the clock does not let pass.
    async fn signed(&self) -> Option<Horizon> {
        let highest = self.parts.ledger.highest().await.ok()?;
        let highest = Horizon {
            target: highest.target,
            slot: highest.slot,
        };
        let clock = self.parts.clock.position((self.parts.time)());
        let most = clock.map(|now| Horizon {
            target: Epoch(now.epoch.0.saturating_add(1)),
            slot: Slot(now.slot.0.saturating_add(1)),
        });
        Some(most.map_or(highest, |most| highest.min(most)))
    }
}
