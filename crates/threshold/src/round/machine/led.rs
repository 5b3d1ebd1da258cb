//! The first ballot of who leads: it was promised before, by all whom it leads.
//!
//! What they promised then is not counted together with promises of now: who promises now may have
//! forgotten, in a restart since then, what the others would tell of if they were asked.

use std::time::Duration;

use super::{Effect, Round, counting::distinct, member::Stage};

impl Round {
    /// Whether those whom the caller leads are a threshold.
    pub(super) fn leads_enough(&self) -> bool {
        let led = self.members.iter().filter(|member| member.led);
        distinct(led).count() >= self.terms.threshold
    }

    /// Those whom the caller leads have promised, but for the spares: the fastest first.
    pub(super) fn take_led(&mut self) {
        for member in &mut self.members {
            if member.led && member.can_sign() && member.stage == Stage::Idle && !member.spare {
                let order = self.promises;
                member.stage = Stage::Promised { order };
                self.promises = order.saturating_add(1);
            }
        }
    }

    /// Sees to it that a threshold of those whom the caller leads sign, or gives that up.
    pub(super) fn lead(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !self.is_a_spare_needed(now) {
            return;
        }
        self.need_spares();
        self.take_led();
        if !self.is_a_spare_needed(now) {
            return;
        }
        let mut able = self.members.iter().filter(|member| member.can_sign());
        if able.clone().any(|member| member.stage == Stage::Outbid) {
            return self.wait(now, effects);
        }
        // Who is merely slow would have no more time in another ballot.
        let may_promise = able.any(|member| match &member.stage {
            Stage::Idle => true,
            Stage::Failed(failure) => !failure.reason.lasts(),
            Stage::PromiseAsked { .. }
            | Stage::Promised { .. }
            | Stage::SignAsked { .. }
            | Stage::Outbid => false,
        });
        if may_promise {
            self.begin_another(now, effects);
        }
    }
}
