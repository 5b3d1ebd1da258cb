//! One member as a round sees it.

use std::time::Duration;

use super::seats::Seat;
use crate::{
    PartialSignature, ShareIndex,
    round::{Failure, FailureReason, Invited, Peer, Refusal, RefusalReason},
};

/// What a member has become for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Able,
    SignedAnother,
    Refused(Refusal),
    Blamed,
}

/// Where a member stands in the present ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    PromiseAsked { at: Duration },
    Promised { order: usize },
    SignAsked { at: Duration },
    Outbid,
    Failed(Failure),
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) peer: Peer,
    pub(super) index: ShareIndex,
    pub(super) seat: Seat,
    pub(super) standing: Standing,
    pub(super) stage: Stage,
    pub(super) partial: Option<PartialSignature>,
    pub(super) reserve: bool,
    pub(super) sounded: bool,
    pub(super) spare: bool,
    pub(super) led: bool,
    pub(super) promise_within: Duration,
    pub(super) sign_within: Duration,
    /// Until then what it was asked last waited for its turn.
    turn: Duration,
    /// What kept it from signing in the ballots before, while it has not answered the present one.
    pub(super) before: Option<FailureReason>,
}

impl Member {
    pub(super) const fn new(invited: &Invited, seat: Seat) -> Self {
        Self {
            peer: invited.peer,
            index: invited.index,
            seat,
            standing: Standing::Able,
            stage: Stage::Idle,
            partial: None,
            reserve: invited.reserve,
            sounded: invited.sounded,
            spare: invited.spare,
            led: invited.led,
            promise_within: invited.promise_within,
            sign_within: invited.sign_within,
            turn: Duration::ZERO,
            before: None,
        }
    }

    /// What it may take to promise and to sign without being late.
    pub(super) const fn may_take(&self) -> Duration {
        self.promise_within.saturating_add(self.sign_within)
    }

    /// Before this it is not its turn.
    pub(super) fn await_turn(&mut self, until: Duration) {
        self.turn = until.max(self.turn);
    }

    /// From when on what is being waited for is late.
    pub(super) fn late_at(&self) -> Option<Duration> {
        match self.stage {
            Stage::PromiseAsked { at } => {
                Some(at.max(self.turn).saturating_add(self.promise_within))
            }
            Stage::SignAsked { at } => Some(at.max(self.turn).saturating_add(self.sign_within)),
            Stage::Idle | Stage::Promised { .. } | Stage::Outbid | Stage::Failed(_) => None,
        }
    }

    pub(super) fn is_late(&self, now: Duration) -> bool {
        self.late_at().is_some_and(|at| now >= at)
    }

    /// Whether an answer is being waited for that is not late.
    pub(super) fn is_prompt(&self, now: Duration) -> bool {
        self.late_at().is_some_and(|at| now < at)
    }

    /// Whether it was, or will be, asked in this ballot, and may still say anything.
    pub(super) fn is_awaited(&self) -> bool {
        self.can_sign() && (self.late_at().is_some() || self.stage == Stage::Idle)
    }

    /// What keeps it from signing in this ballot; who has not answered may be late.
    pub(super) fn abstention(&self) -> Option<FailureReason> {
        match (&self.standing, &self.stage) {
            (Standing::Blamed, _) => Some(FailureReason::Faulty),
            (Standing::Refused(refusal), _) => {
                let is_missing = refusal.reason == RefusalReason::NotFound;
                is_missing.then_some(FailureReason::TooFewShares)
            }
            (Standing::SignedAnother, _)
            | (Standing::Able, Stage::Idle | Stage::Promised { .. }) => None,
            (Standing::Able, Stage::Outbid) => Some(FailureReason::Contended),
            (Standing::Able, Stage::Failed(failure)) => Some(failure.reason),
            (Standing::Able, Stage::PromiseAsked { .. } | Stage::SignAsked { .. }) => {
                Some(self.before.unwrap_or(FailureReason::TimedOut))
            }
        }
    }

    /// Whether it may still give a partial.
    pub(super) fn can_sign(&self) -> bool {
        self.standing == Standing::Able && self.partial.is_none()
    }
}
