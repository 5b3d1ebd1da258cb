//! What a signer-api asks to lead, and is answered.

use std::num::NonZeroU64;

use duty::{Epoch, Slot};
use threshold::round::{Horizon, Lead};

use crate::proto;

/// A lead as it arrived; none for 0.
#[must_use]
pub fn lead_from_proto(lead: u64) -> Option<Lead> {
    NonZeroU64::new(lead).map(Lead)
}

/// A lead as it travels; 0 for none.
#[must_use]
pub fn lead_to_proto(lead: Option<Lead>) -> u64 {
    lead.map_or(0, |Lead(number)| number.get())
}

/// The horizon of a lead as it travels; none if the caller does not lead.
#[must_use]
pub fn horizon_to_proto(horizon: Option<Horizon>) -> proto::LeadReply {
    let led = horizon.is_some();
    let Horizon { target, slot } = horizon.unwrap_or_default();
    proto::LeadReply {
        led,
        epoch: target.0,
        slot: slot.0,
    }
}

/// The horizon of a lead as it arrived; none if the caller does not lead.
#[must_use]
pub fn horizon_from_proto(reply: &proto::LeadReply) -> Option<Horizon> {
    reply.led.then_some(Horizon {
        target: Epoch(reply.epoch),
        slot: Slot(reply.slot),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_and_horizons_survive_the_way_there_and_back() {
        for number in [0, 1, u64::MAX] {
            assert_eq!(lead_to_proto(lead_from_proto(number)), number);
        }
        let horizon = Horizon {
            target: Epoch(7),
            slot: Slot(u64::MAX),
        };
        for horizon in [None, Some(Horizon::default()), Some(horizon)] {
            assert_eq!(horizon_from_proto(&horizon_to_proto(horizon)), horizon);
        }
    }
}
