//! Who leads, and from where on.

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
            self.promises.end_lead(lead);
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
        self.promises.lead(lead, replaces, signed)
    }

    /// How high anything signed lies at most, as the ledger says. A ratchet that an operator has put far
    /// ahead lies there as well, whatever the clock says: the clock may be the one that is wrong.
    async fn signed(&self) -> Option<Horizon> {
        let highest = self.parts.ledger.highest().await.ok()?;
        Some(Horizon {
            target: highest.target,
            slot: highest.slot,
        })
    }
}
