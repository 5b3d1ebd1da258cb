//! Counting: how many can still sign, how many never will, and what to say about it.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use super::{Member, Phase, Round, Stage, Standing, seats::Seats};
use crate::round::{
    Dissent, Effect, Failure, FailureReason, Mode, Peer, Refusal, RefusalReason, Verdict,
};

pub(super) fn distinct<'a>(members: impl Iterator<Item = &'a Member>) -> Seats {
    members.map(|member| member.seat).collect()
}

impl Round {
    pub(super) fn sign_window_open(&self, now: Duration) -> bool {
        self.terms.mode == Mode::Direct || now < self.window_end()
    }

    pub(super) fn holding(&self) -> Seats {
        distinct(
            self.members
                .iter()
                .filter(|member| member.partial.is_some()),
        )
    }

    /// Members that have signed, or will in time as they stand: not who is late, nor who is only sounded.
    pub(super) fn coming(&self, now: Duration, stands: impl Fn(&Stage) -> bool) -> Seats {
        let coming = self.members.iter().filter(|member| {
            let is_asked = stands(&member.stage);
            member.can_sign() && is_asked && !member.sounded && !member.is_late(now)
        });
        self.holding().and(distinct(coming))
    }

    /// Whether one may be late twice, and be replaced by one that takes as long, before the deadline.
    pub(super) fn has_time_for_spares(&self, now: Duration) -> bool {
        let slowest = self.members.iter().map(Member::may_take).max();
        let needed = slowest.unwrap_or_default().saturating_mul(2);
        needed < self.terms.deadline.saturating_sub(now)
    }

    /// Whether those that were asked to promise are too few, or too few of them will sign in time.
    pub(super) fn is_a_spare_needed(&self, now: Duration) -> bool {
        let coming = self.coming(now, |stage| match stage {
            Stage::PromiseAsked { .. } | Stage::Promised { .. } | Stage::SignAsked { .. } => true,
            Stage::Idle | Stage::Outbid | Stage::Failed(_) => false,
        });
        coming.count() < self.terms.threshold
    }

    /// Members that signed this root, or promised it and have signed nothing. A partial that is
    /// here already needs no promise: its member's vote cannot change any more.
    fn free(&self, counts: impl Fn(&Member) -> bool) -> usize {
        let promised = self.members.iter().filter(|member| {
            matches!(
                member.stage,
                Stage::Promised { .. } | Stage::SignAsked { .. }
            ) && member.can_sign()
                && counts(member)
        });
        self.holding().and(distinct(promised)).count()
    }

    /// Whether a threshold has promised. While others may still do so promptly, promises of those
    /// in reserve do not count: what is signed with them may take longer, or have to be signed again.
    pub(super) fn enough_promised(&self, now: Duration) -> bool {
        let others_may = self
            .members
            .iter()
            .any(|member| !member.reserve && member.can_sign() && member.is_prompt(now));
        self.free(|member| !others_may || !member.reserve) >= self.terms.threshold
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
            match member.stage {
                Stage::SignAsked { .. } => {}
                Stage::PromiseAsked { .. } | Stage::Promised { .. } | Stage::Idle if open => {}
                // It would say the same again: no reason to give up those that are merely slow.
                Stage::Failed(ref failure) if failure.reason.lasts() => continue,
                Stage::Outbid
                | Stage::Failed(_)
                | Stage::PromiseAsked { .. }
                | Stage::Promised { .. }
                | Stage::Idle => {
                    another_ballot_may_help = true;
                    continue;
                }
            }
            possible.insert(member.seat);
            if !member.is_late(now) {
                prompt.insert(member.seat);
            }
        }
        let threshold = self.terms.threshold;
        possible.count() < threshold || another_ballot_may_help && prompt.count() < threshold
    }

    /// Who does not agree, as it stands, and why: of worth when others have signed all the same.
    #[must_use]
    pub fn dissents(&self) -> Vec<(Peer, Dissent)> {
        let dissents = self.members.iter().filter_map(|member| {
            let dissent = match (&member.standing, &member.stage) {
                (Standing::Refused(refusal), _) => Dissent::Refused(refusal.reason),
                (Standing::SignedAnother, _) => Dissent::Refused(RefusalReason::Slashable),
                (Standing::Able, Stage::Outbid) if member.partial.is_none() => Dissent::Outbid,
                (Standing::Able | Standing::Blamed, _) => return None,
            };
            Some((member.peer, dissent))
        });
        dissents.collect()
    }

    /// How many members may be absent.
    const fn spare(&self) -> usize {
        self.terms.size.saturating_sub(self.terms.threshold)
    }

    /// Whether enough members have answered for good that it will never be signed.
    pub(super) fn verdict(&self, now: Duration) -> Option<Verdict> {
        if self.count_against(is_refusal) > self.spare() {
            return Some(Verdict::Refused(self.main_refusal()));
        }
        let lasts = |member: &Member| {
            member.can_sign() && member.abstention().is_some_and(FailureReason::lasts)
        };
        // At once, but not before those are heard that may make it a refusal, or are prompt.
        let unheard = || self.may_be_refused() || self.is_any_prompt(now);
        if self.count_against(lasts) > self.spare() && !unheard() {
            let said = |member: &Member| !member.is_awaited() || member.before.is_some();
            let reason = self.most(said).unwrap_or(FailureReason::Deadline);
            return Some(unavailable(reason, self.trouble()));
        }
        self.too_few_able()
            .then(|| self.without_enough(now))
            .flatten()
    }

    /// Whether somebody has not answered, and was not late, nor kept from signing, before. Who was not
    /// asked is not any more when the window has closed.
    fn is_any_prompt(&self, now: Duration) -> bool {
        let open = self.sign_window_open(now);
        self.members.iter().any(|member| {
            let is_asked = open || member.stage != Stage::Idle;
            member.is_awaited() && is_asked && member.before.is_none() && !member.is_late(now)
        })
    }

    /// Whether those that have not answered may still make it a refusal.
    fn may_be_refused(&self) -> bool {
        self.count_against(|m| is_refusal(m) || m.is_awaited()) > self.spare()
    }

    /// Whether answers to this ballot are on their way that may still decide it. Nobody is asked any more.
    pub(super) fn answers_matter(&self) -> bool {
        let may_sign = |member: &&Member| {
            let is_out = matches!(member.stage, Stage::Outbid | Stage::Failed(_) | Stage::Idle);
            member.partial.is_some() || member.can_sign() && !is_out
        };
        let possible = distinct(self.members.iter().filter(may_sign)).count();
        let is_under_way = |member: &Member| member.can_sign() && member.late_at().is_some();
        self.members.iter().any(is_under_way)
            && (possible >= self.terms.threshold || self.may_be_refused())
    }

    /// Whether fewer than the threshold can ever sign.
    fn too_few_able(&self) -> bool {
        let able = self
            .members
            .iter()
            .filter(|member| member.standing == Standing::Able);
        distinct(able).count() < self.terms.threshold
    }

    /// Too few can sign: some for want of a share, some for a bad partial, some not even known.
    fn without_enough(&self, now: Duration) -> Option<Verdict> {
        // Prompt answers may still tell why: refused, or known to nobody.
        if self.is_any_prompt(now) {
            return None;
        }
        if !self.members.is_empty() && self.members.iter().all(is_missing) {
            return Some(Verdict::Refused(self.main_refusal()));
        }
        let reason = self.most(|member| member.standing != Standing::Able);
        let reason = reason.unwrap_or(FailureReason::TooFewShares);
        Some(unavailable(reason, self.trouble()))
    }

    /// How many indices all claimants of which are against it.
    fn count_against(&self, against: impl Fn(&Member) -> bool) -> usize {
        let is_open = |member: &&Member| member.partial.is_some() || !against(member);
        let open = distinct(self.members.iter().filter(is_open));
        distinct(self.members.iter()).without(open).count()
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

    /// What kept this from being signed: nothing that members have who could be spared, except that
    /// somebody else's message is always worth telling of.
    pub(super) fn main_trouble(&self) -> FailureReason {
        let abstentions = self.abstentions(|_| true);
        let kept = abstentions.values().copied();
        let kept = kept.fold(Seats::default(), Seats::and).count();
        let reason = if kept.saturating_add(self.absent()) > self.spare() {
            self.most(|_| true)
        } else {
            let contended = FailureReason::Contended;
            abstentions.contains_key(&contended).then_some(contended)
        };
        reason.unwrap_or(FailureReason::Deadline)
    }

    /// The reason that keeps most members, of those that `counts` tells; the more specific of two
    /// that keep equally many.
    fn most(&self, counts: impl Fn(&Member) -> bool) -> Option<FailureReason> {
        let abstentions = self.abstentions(counts).into_iter();
        let mut most: BTreeMap<FailureReason, usize> = abstentions
            .map(|(reason, seats)| (reason, seats.count()))
            .collect();
        if self.absent() > 0 {
            let missing = most.entry(FailureReason::TooFewShares).or_default();
            *missing = missing.saturating_add(self.absent());
        }
        let most = most.into_iter();
        most.min_by_key(|(reason, count)| (Reverse(*count), *reason))
            .map(|(reason, _)| reason)
    }

    /// Who is kept from signing by what, of those that `counts` tells. Who has another claimant that
    /// may sign is not.
    fn abstentions(&self, counts: impl Fn(&Member) -> bool) -> BTreeMap<FailureReason, Seats> {
        let is_ready = |member: &&Member| {
            member.partial.is_some() || member.can_sign() && member.abstention().is_none()
        };
        let ready = distinct(self.members.iter().filter(is_ready));
        let mut abstentions: BTreeMap<FailureReason, Seats> = BTreeMap::new();
        for member in self.members.iter().filter(|member| counts(member)) {
            if let Some(reason) = member.abstention()
                && !ready.contains(member.seat)
            {
                abstentions.entry(reason).or_default().insert(member.seat);
            }
        }
        abstentions
    }

    /// How many members no cosigner answers for.
    fn absent(&self) -> usize {
        let known = distinct(self.members.iter()).count();
        self.terms.size.saturating_sub(known)
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
