//! Leading: one caller needs no promise for what nobody else was promised.
//!
//! That is a promise of all duties to a ballot below all others, whatever its number, given when the lead begins, so that it
//! has to be true of them that nothing of them was promised or signed before: such lie above the
//! lead's horizon. From then on any promise to anybody stands against it, and so does having
//! forgotten one: in a restart, which forgets the lead, too, or with time, which raises the horizon.
//! Whoever leads asks for one message per duty in this way, and does not count a lead together with a
//! promise; see docs/AGREEMENT.md for what comes of it otherwise.

use std::time::{Duration, Instant};

use threshold::{
    Ballot,
    round::{Horizon, Lead},
};

use super::{DutyId, Promises, SignAnswer};

/// Who leads and has not been heard of for so long may be replaced. Nothing is lost if it is still
/// there: its duties need promises again.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    lead: Lead,
    horizon: Horizon,
    heard_at: Instant,
}

impl Leader {
    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) >= SILENCE_MAX
    }
}

impl Promises {
    /// Goes on with a lead, and says where its horizon lies now; `None` if it is not the present one.
    pub fn go_on(&mut self, lead: Lead, now: Instant) -> Option<Horizon> {
        let leader = self.leader.as_mut().filter(|leader| leader.lead == lead)?;
        leader.heard_at = now;
        Some(leader.horizon)
    }

    /// Whether a lead may begin, instead of another of its caller's, if there is one.
    #[must_use]
    pub fn may_lead(&self, replaces: Option<Lead>, now: Instant) -> bool {
        let gives_way = |leader: &Leader| Some(leader.lead) == replaces || leader.is_silent(now);
        !self.is_starting(now) && self.leader.as_ref().is_none_or(gives_way)
    }

    /// Begins a lead, if it [may](Self::may_lead). `signed` is how high the ledger has come, read
    /// before this: what was signed since then is held here, or was.
    pub fn lead(
        &mut self,
        lead: Lead,
        replaces: Option<Lead>,
        signed: Horizon,
        now: Instant,
    ) -> Option<Horizon> {
        if !self.may_lead(replaces, now) {
            return None;
        }
        let horizon = signed.max(self.reach);
        self.leader = Some(Leader {
            lead,
            horizon,
            heard_at: now,
        });
        Some(horizon)
    }

    /// Ends a lead, if it is the present one.
    pub fn end_lead(&mut self, lead: Lead) {
        self.leader.take_if(|leader| leader.lead == lead);
    }

    /// Lets a duty be signed without a promise, if the caller leads in it: it is above the horizon,
    /// and nobody was promised another ballot.
    pub fn begin_sign_led(
        &mut self,
        duty: DutyId,
        ballot: Ballot,
        lead: Lead,
        now: Instant,
    ) -> SignAnswer {
        let leads = |leader: &Leader| leader.lead == lead && leader.horizon.is_below(&duty.claim());
        if !self.leader.as_ref().is_some_and(leads) {
            return SignAnswer::NotLed;
        }
        let floor = match self.floors.get_mut(&duty) {
            Some(floor) if floor.led && floor.ballot == ballot => Some(floor),
            Some(floor) if floor.ballot > ballot => return SignAnswer::Outbid(floor.ballot),
            Some(_) => None,
            None => self.hold(duty, ballot, now),
        };
        let Some(floor) = floor else {
            return SignAnswer::NotPromised;
        };
        floor.led = true;
        floor.under_way = floor.under_way.saturating_add(1);
        SignAnswer::Begun
    }

    /// Duties up to this were touched, and that is not held any more.
    pub(super) fn touched(&mut self, horizon: Horizon) {
        if let Some(leader) = &mut self.leader {
            leader.horizon = leader.horizon.max(horizon);
        }
    }
}
