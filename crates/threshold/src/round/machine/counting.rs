//! Counting: how many can still sign, how many never will, and what to say about it.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use super::{Member, Phase, Round, Stage, Standing};
use crate::{
    ShareIndex,
    round::{Effect, Failure, FailureReason, Mode, Refusal, RefusalReason, SIGN_WINDOW, Verdict},
};

fn distinct<'a>(members: impl Iterator<Item = &'a Member>) -> BTreeSet<ShareIndex> {
    members.map(|member| member.index).collect()
}

impl Round {
    pub(super) fn overdue(&self, at: Duration, now: Duration) -> bool {
        now >= at.saturating_add(self.terms.hedge)
    }

    pub(super) fn sign_window_open(&self, now: Duration) -> bool {
        self.terms.mode == Mode::Direct || now < self.began.saturating_add(SIGN_WINDOW)
    }

    pub(super) fn holding(&self) -> BTreeSet<ShareIndex> {
        distinct(
            self.members
                .iter()
                .filter(|member| member.partial.is_some()),
        )
    }

    /// Members that signed this root, or promised it and have signed nothing. A partial that is
    /// here already needs no promise: its member's vote cannot change any more.
    fn free(&self, counts: impl Fn(&Member) -> bool) -> usize {
        let mut free = self.holding();
        let promised = self.members.iter().filter(|member| {
            matches!(
                member.stage,
                Stage::Promised { .. } | Stage::SignAsked { .. }
            ) && member.can_sign()
                && counts(member)
        });
        free.extend(distinct(promised));
        free.len()
    }

    /// Whether a threshold has promised. While others may still do so promptly, promises of those
    /// that are doubted do not count: what is signed with them may have to be signed again.
    pub(super) fn enough_promised(&self, now: Duration) -> bool {
        let others_may = self.members.iter().any(|member| {
            let at = member.stage.asked_at();
            !member.doubted && member.can_sign() && at.is_some_and(|at| !self.overdue(at, now))
        });
        self.free(|member| !others_may || !member.doubted) >= self.terms.threshold
    }

    /// Whether this ballot cannot, or most likely will not, bring a threshold of partials.
    pub(super) fn is_hopeless(&self, now: Duration) -> bool {
        if self.too_few_able() {
            // The verdict will say so; no ballot helps.
            return false;
        }
        let (mut possible, mut prompt) = (self.holding(), self.holding());
        let mut another_ballot_may_help = false;
        let open = self.sign_window_open(now);
        for member in self.members.iter().filter(|member| member.can_sign()) {
            let asked = match member.stage {
                Stage::PromiseAsked { at } if open => Some(at),
                Stage::SignAsked { at } => Some(at),
                Stage::Promised { .. } | Stage::Idle if open => None,
                Stage::Outbid
                | Stage::Failed(_)
                | Stage::PromiseAsked { .. }
                | Stage::Promised { .. }
                | Stage::Idle => {
                    another_ballot_may_help = true;
                    continue;
                }
            };
            possible.insert(member.index);
            if asked.is_none_or(|at| !self.overdue(at, now)) {
                prompt.insert(member.index);
            }
        }
        let threshold = self.terms.threshold;
        possible.len() < threshold || another_ballot_may_help && prompt.len() < threshold
    }

    /// Whether enough members have answered for good that it will never be signed.
    pub(super) fn verdict(&self, now: Duration) -> Option<Verdict> {
        let spare = self.terms.size.saturating_sub(self.terms.threshold);
        if self.count_against(is_refusal) > spare {
            return Some(Verdict::Refused(self.main_refusal()));
        }
        let lasting = |member: &Member| {
            let reason = member.stage.failure().map(|failure| failure.reason);
            reason.filter(|reason| reason.lasts())
        };
        if self.count_against(|m| is_refusal(m) || lasting(m).is_some()) > spare {
            // With refusals alone there was a verdict above: somebody has one of these reasons.
            let reason = self.members.iter().filter_map(lasting).min()?;
            return Some(unavailable(reason, self.trouble()));
        }
        self.too_few_able()
            .then(|| self.without_enough(now))
            .flatten()
    }

    /// Whether fewer than the threshold can ever sign.
    fn too_few_able(&self) -> bool {
        let able = self
            .members
            .iter()
            .filter(|member| member.standing == Standing::Able);
        distinct(able).len() < self.terms.threshold
    }

    /// Too few can sign: some for want of a share, some for a bad partial, some not even known.
    fn without_enough(&self, now: Duration) -> Option<Verdict> {
        // Prompt answers may still tell why: refused, or known to nobody.
        let prompt = |member: &Member| {
            let at = member.stage.asked_at();
            member.can_sign() && at.map_or(member.stage == Stage::Idle, |at| !self.overdue(at, now))
        };
        if self.members.iter().any(prompt) {
            return None;
        }
        if !self.members.is_empty() && self.members.iter().all(is_missing) {
            return Some(Verdict::Refused(self.main_refusal()));
        }
        let blamed = self.members.iter().any(|m| m.standing == Standing::Blamed);
        let reason = if blamed {
            FailureReason::Faulty
        } else {
            FailureReason::TooFewShares
        };
        Some(unavailable(reason, self.trouble()))
    }

    /// How many indices all claimants of which are against it.
    fn count_against(&self, against: impl Fn(&Member) -> bool) -> usize {
        let is_open = |member: &&Member| member.partial.is_some() || !against(member);
        let open = distinct(self.members.iter().filter(is_open));
        distinct(self.members.iter()).difference(&open).count()
    }

    fn main_refusal(&self) -> Refusal {
        let refusals = self
            .members
            .iter()
            .filter_map(|member| match &member.standing {
                Standing::Refused(refusal) => Some(refusal.clone()),
                Standing::SignedAnother => Some(Refusal {
                    reason: RefusalReason::Slashable,
                    message: "another message for this duty has been signed".to_owned(),
                }),
                Standing::Able | Standing::Blamed => None,
            });
        refusals
            .min_by_key(|refusal| refusal.reason)
            .unwrap_or(Refusal {
                reason: RefusalReason::NotFound,
                message: "no cosigner holds a share of this validator".to_owned(),
            })
    }

    /// What kept this from being signed.
    pub(super) fn main_trouble(&self) -> FailureReason {
        let able = || self.members.iter().filter(|member| member.can_sign());
        if able().any(|member| member.stage == Stage::Outbid) {
            return FailureReason::Contended;
        }
        let reasons = able()
            .filter_map(|member| member.stage.failure())
            .map(|f| f.reason);
        reasons.min().unwrap_or(FailureReason::Deadline)
    }

    /// What keeps members from signing, for people: each thing once, with how many it keeps.
    pub(super) fn trouble(&self) -> String {
        let mut causes: Vec<(usize, String)> = Vec::new();
        for member in self
            .members
            .iter()
            .filter(|member| member.partial.is_none())
        {
            let cause = match (&member.standing, &member.stage) {
                (Standing::SignedAnother, _) => "signed another message for this duty".to_owned(),
                (Standing::Refused(refusal), _) => refusal.message.clone(),
                (Standing::Blamed, _) => "gave a partial signature that is not valid".to_owned(),
                (Standing::Able, Stage::Failed(failure)) => failure.message.clone(),
                (Standing::Able, Stage::Outbid) => "holds another caller's ballot".to_owned(),
                (Standing::Able, Stage::PromiseAsked { .. } | Stage::SignAsked { .. }) => {
                    "has not answered".to_owned()
                }
                (Standing::Able, Stage::Idle | Stage::Promised { .. }) => continue,
            };
            match causes.iter_mut().find(|(_, known)| *known == cause) {
                Some((count, _)) => *count = count.saturating_add(1),
                None => causes.push((1, cause)),
            }
        }
        causes.sort_by_key(|(count, _)| Reverse(*count));
        let causes: Vec<String> = causes
            .into_iter()
            .map(|(count, cause)| format!("{count}: {cause}"))
            .collect();
        let (t, known) = (self.terms.threshold, self.members.len());
        format!(
            "{t} of {known} cosigners are needed ({})",
            causes.join("; ")
        )
    }

    pub(super) fn finish_unavailable(
        &mut self,
        reason: FailureReason,
        message: String,
        effects: &mut Vec<Effect>,
    ) {
        self.phase = Phase::Done;
        effects.push(Effect::Finish(unavailable(reason, message)));
    }
}

fn unavailable(reason: FailureReason, message: String) -> Verdict {
    Verdict::Unavailable(Failure { reason, message })
}

const fn is_refusal(member: &Member) -> bool {
    match &member.standing {
        Standing::SignedAnother => true,
        Standing::Refused(refusal) => !matches!(refusal.reason, RefusalReason::NotFound),
        Standing::Able | Standing::Blamed => false,
    }
}

const fn is_missing(member: &Member) -> bool {
    match &member.standing {
        Standing::Refused(refusal) => matches!(refusal.reason, RefusalReason::NotFound),
        Standing::Able | Standing::SignedAnother | Standing::Blamed => false,
    }
}
