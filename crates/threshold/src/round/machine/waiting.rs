//! What a round waits for: another ballot, what was asked already, a member's turn.

use std::time::Duration;

use super::{
    Phase, Round,
    member::{Member, Stage},
};
use crate::round::{Effect, Mode, Peer, SIGN_WINDOW};

/// After being outbid, wait at least between these two.
const OUTBID_WAIT_MIN: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(50));
/// After failures, wait at least this before the first retry; twice as long before each further.
const FAILURE_WAIT: Duration = Duration::from_millis(50);
/// Waits grow at most by this power of two.
const WAIT_DOUBLINGS_MAX: u32 = 2;

/// Nobody's turn is waited for longer than this part of the time that there is: who lets a queue grow
/// must not keep others from being asked.
const TURN_PART: u32 = 3;

impl Round {
    /// What was asked of a member last was sent only `until` then, or waits until then for its turn,
    /// behind others' that are answered: so long it was not late. To be told before the event at
    /// whose moment it would be late.
    pub fn delayed(&mut self, peer: Peer, until: Duration) {
        let until = until.min(self.turns_end());
        if let Some(member) = self.able(peer)
            && let Stage::PromiseAsked { .. } | Stage::SignAsked { .. } = member.stage
        {
            member.await_turn(until);
        }
    }

    /// Until when turns are waited for: as many members as can be spared may be late after that, one
    /// behind the other, and who replaces the last of them is still in time.
    fn turns_end(&self) -> Duration {
        let slowest = |within: fn(&Member) -> Duration| {
            let all = self.members.iter().map(within);
            all.max().unwrap_or_default()
        };
        let to_sign = slowest(|member| member.sign_within);
        let deadline = self.terms.deadline;
        let end = match self.terms.mode {
            Mode::Direct => {
                let spare = self.terms.size.saturating_sub(self.terms.threshold);
                let asked = u32::try_from(spare).unwrap_or(u32::MAX).saturating_add(1);
                deadline.saturating_sub(to_sign.saturating_mul(asked))
            }
            // All spares are asked at once when the first is late: in this ballot's time, or in another's.
            Mode::Promised | Mode::Led => {
                let to_promise = slowest(|member| member.promise_within);
                let promised = to_promise.saturating_mul(2).saturating_add(to_sign);
                let signed = promised.saturating_add(to_sign);
                let this = self.window_end().saturating_sub(promised);
                let another = signed.saturating_mul(2).saturating_add(SIGN_WINDOW);
                this.min(deadline.saturating_sub(signed))
                    .max(deadline.saturating_sub(another))
            }
        };
        let part = deadline.checked_div(TURN_PART).unwrap_or_default();
        end.min(part)
    }

    /// Takes note of how long an answer to the present ballot took, to what is asked first.
    pub(super) fn measure(&mut self, now: Duration, peer: Peer) {
        let is_led = self.terms.mode == Mode::Led;
        let asked_at = self.able(peer).and_then(|member| match member.stage {
            Stage::PromiseAsked { at } => Some(at),
            Stage::SignAsked { at } if is_led => Some(at),
            Stage::SignAsked { .. }
            | Stage::Idle
            | Stage::Promised { .. }
            | Stage::Outbid
            | Stage::Failed(_) => None,
        });
        if let Some(at) = asked_at {
            self.measured = self.measured.max(now.saturating_sub(at));
        }
    }

    /// Gives this ballot up, and sets the moment for the next.
    pub(super) fn wait(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let doublings = self.attempts.min(WAIT_DOUBLINGS_MAX);
        let factor = 2_u32.saturating_pow(doublings);
        let outbid = self
            .members
            .iter()
            .any(|m| m.can_sign() && m.stage == Stage::Outbid);
        let (least, most) = if outbid {
            let doubled = self.measured.saturating_mul(2);
            (
                self.measured.max(OUTBID_WAIT_MIN.0),
                doubled.max(OUTBID_WAIT_MIN.1),
            )
        } else {
            let least = FAILURE_WAIT.saturating_mul(factor);
            (least, least.saturating_mul(2))
        };
        self.attempts = self.attempts.saturating_add(1);
        let earliest = now.saturating_add(least);
        if earliest >= self.terms.deadline {
            self.phase = Phase::Listening;
            return self.listen(effects);
        }
        self.phase = Phase::Waiting;
        let latest = now.saturating_add(most).min(self.terms.deadline);
        effects.push(Effect::RetryBetween { earliest, latest });
    }

    /// Begins another ballot than the first, in which everybody is asked, for promises where the duty
    /// can be slashed.
    pub(super) fn begin_another(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.need_spares();
        if self.terms.mode == Mode::Led {
            self.terms.mode = Mode::Promised;
        }
        self.round = self.highest.saturating_add(1);
        self.begin(now, effects);
    }

    /// Ends when nothing that is still to be heard can make a difference.
    pub(super) fn listen(&mut self, effects: &mut Vec<Effect>) {
        if !self.answers_matter() {
            self.finish_unavailable(self.main_trouble(), self.trouble(), effects);
        }
    }

    pub(super) fn set_wake(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let late = self.members.iter().filter_map(Member::late_at);
        let moments = late.chain([self.window_end(), self.terms.deadline]);
        let next = moments
            .filter(|at| *at > now)
            .min()
            .unwrap_or(self.terms.deadline);
        if self.wake != Some(next) {
            self.wake = Some(next);
            effects.push(Effect::WakeAt(next));
        }
    }
}
