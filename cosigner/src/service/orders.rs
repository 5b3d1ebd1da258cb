//! From what a peer sent to an order that this cosigner might sign.

use std::sync::atomic::Ordering;

use duty::{Claim, DutyKind, SigningOrder, SigningRoot, SigningRoots};
use slashing::{Denial, Refused, Unavailable};
use wire::proto::{self, refusal::Reason};

use super::Service;

/// Bytes of a refusal's message at most.
const MESSAGE_MAX: usize = 300;

/// An order that is understood, of a validator held here, on this chain, of an allowed kind, within
/// the clock.
pub(super) struct Accepted {
    pub(super) order: SigningOrder,
    pub(super) root: SigningRoot,
}

impl Accepted {
    pub(super) const fn claim(&self) -> Option<Claim> {
        self.order.claim()
    }
}

/// A refusal before it is put into an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The label of the metric.
    pub(super) const fn label(&self) -> &'static str {
        reason_label(self.reason)
    }
}

/// A reason as a label of metrics.
pub(super) const fn reason_label(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "unspecified",
        Reason::Invalid => "invalid",
        Reason::NotFound => "not_found",
        Reason::Slashable => "slashable",
        Reason::WrongChain => "wrong_chain",
        Reason::NotAllowed => "not_allowed",
        Reason::Disabled => "disabled",
        Reason::Stopped => "stopped",
        Reason::BeyondClock => "beyond_clock",
        Reason::Ledger => "ledger",
        Reason::Busy => "busy",
        Reason::Starting => "starting",
        Reason::TooLate => "too_late",
        Reason::NotLed => "not_led",
        Reason::Quarantined => "quarantined",
    }
}

impl From<Refusal> for proto::Refusal {
    fn from(refusal: Refusal) -> Self {
        let mut message = refusal.message;
        let cut = (0..=MESSAGE_MAX)
            .rev()
            .find(|at| message.is_char_boundary(*at));
        message.truncate(cut.unwrap_or_default());
        Self {
            reason: refusal.reason.into(),
            message,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let reason = match refused {
            Refused::Conflict(_) => Reason::Slashable,
            Refused::NotRegistered => Reason::NotFound,
            Refused::Disabled => Reason::Disabled,
            Refused::Stopped => Reason::Stopped,
        };
        Self::new(reason, refused.to_string())
    }
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        let reason = match unavailable {
            Unavailable::Busy => Reason::Busy,
            Unavailable::Quarantined(_) => Reason::Quarantined,
            Unavailable::Slow(_)
            | Unavailable::Unreachable(_)
            | Unavailable::Failed(_)
            | Unavailable::ClockJumped(_)
            | Unavailable::Taken(_)
            | Unavailable::Stopped => Reason::Ledger,
        };
        // What a database says may name hosts and users: that belongs into this cosigner's log.
        let message = match unavailable {
            Unavailable::Unreachable(_) => "the ledger's database cannot be reached".to_owned(),
            Unavailable::Failed(_) => "the ledger's database failed".to_owned(),
            Unavailable::Taken(_) => "another cosigner has taken the ledger".to_owned(),
            Unavailable::Busy
            | Unavailable::Slow(_)
            | Unavailable::Quarantined(_)
            | Unavailable::ClockJumped(_)
            | Unavailable::Stopped => unavailable.to_string(),
        };
        Self::new(reason, message)
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Refused(refused) => refused.into(),
            Denial::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl Service {
    /// Takes an order as it arrived, and recomputes what would be signed.
    pub(super) fn accept(
        &self,
        order: Option<proto::SigningOrder>,
        roots: &mut SigningRoots,
    ) -> Result<Accepted, Refusal> {
        let invalid = |message: String| Refusal::new(Reason::Invalid, message);
        let order = order.ok_or_else(|| invalid("order is missing".to_owned()))?;
        let order = wire::order_from_proto(order).map_err(|error| invalid(error.to_string()))?;
        if !self.parts.vault.holds(&order.validator) {
            return Err(Refusal::new(
                Reason::NotFound,
                "no share of this validator is held here",
            ));
        }
        // For every kind of duty: the ledger itself looks only at those that can be slashed.
        if self.parts.ledger.frozen().holds(&order.validator) {
            return Err(Refusal::new(
                Reason::Disabled,
                "an operator has frozen this validator here",
            ));
        }
        let kind = order.duty.kind();
        let forbidden = match kind {
            DutyKind::VoluntaryExit => !self.allow_voluntary_exits.load(Ordering::Relaxed),
            DutyKind::Deposit => !self.allow_deposits.load(Ordering::Relaxed),
            DutyKind::Attestation
            | DutyKind::Block
            | DutyKind::RandaoReveal
            | DutyKind::AggregationSlot
            | DutyKind::AggregateAndProof
            | DutyKind::SyncCommitteeMessage
            | DutyKind::SyncCommitteeSelectionProof
            | DutyKind::SyncCommitteeContributionAndProof
            | DutyKind::ExecutionPayload
            | DutyKind::PayloadAttestation
            | DutyKind::ProposerPreferences
            | DutyKind::BuilderRequestAuth
            | DutyKind::ValidatorRegistration => false,
        };
        if forbidden {
            let message = format!("this cosigner's configuration does not allow {kind:?}");
            return Err(Refusal::new(Reason::NotAllowed, message));
        }
        let chain = self.parts.genesis_validators_root;
        if order.duty.is_bound_to_chain() && order.genesis_validators_root != chain {
            let message = format!("this cosigner signs for genesis validators root {chain}");
            return Err(Refusal::new(Reason::WrongChain, message));
        }
        if let Some(claim) = order.claim() {
            self.parts
                .clock
                .check(&claim, (self.parts.time)())
                .map_err(|beyond| Refusal::new(Reason::BeyondClock, beyond.to_string()))?;
        }
        let root = roots.of(&order);
        Ok(Accepted { order, root })
    }
}
