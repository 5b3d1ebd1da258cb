//! When spares must be asked for a promise: a second opinion on who is still to be expected.

use std::{collections::BTreeSet, time::Duration};

use threshold::{
    Ballot, ShareIndex,
    round::{Effect, Event, Invited, Mode, Peer, SIGN_WINDOW, Terms},
};

use super::{ROOT, leads};

/// What a member was last asked in the present ballot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    ToPromise(Duration),
    Promised,
    ToSign(Duration),
    /// It was outbid, or failed.
    Out,
}

/// A member as its coordinator knows it.
#[derive(Debug)]
struct Seen {
    invited: Invited,
    asked: Asked,
    /// Until when it was not its turn.
    turn: Duration,
    holds: bool,
    /// It will never sign this, or gave a bad partial: nothing that it says counts any more.
    is_out: bool,
}

impl Seen {
    const fn can_sign(&self) -> bool {
        !self.is_out && !self.holds
    }

    fn late_at(&self) -> Option<Duration> {
        match self.asked {
            Asked::ToPromise(at) => Some(at.max(self.turn) + self.invited.promise_within),
            Asked::ToSign(at) => Some(at.max(self.turn) + self.invited.sign_within),
            Asked::Nothing | Asked::Promised | Asked::Out => None,
        }
    }

    /// Whether its partial is there, or will be in time as it stands.
    fn is_coming(&self, now: Duration) -> bool {
        let is_asked = !matches!(self.asked, Asked::Nothing | Asked::Out);
        let is_late = self.late_at().is_some_and(|at| at <= now);
        let is_prompt = is_asked && !is_late && !self.invited.sounded;
        self.holds || !self.is_out && is_prompt
    }
}

/// Watches that spares are asked as soon as they are needed, and not before.
pub(super) struct Spares {
    terms: Terms,
    members: Vec<Seen>,
    /// The present ballot's round, and when it began.
    ballot: Option<(u64, Duration)>,
    /// From here on there are no spares: some were needed, or another ballot began.
    are_needed: bool,
    is_combining: bool,
    /// The first ballot needs no promises, and lasts.
    leads: bool,
    /// Somebody holds another caller's ballot: the other is left time.
    is_outbid: bool,
    /// The moment that was asked for last.
    wake: Option<Duration>,
    is_done: bool,
}

impl Spares {
    pub(super) fn new(terms: &Terms) -> Self {
        let leads = leads(terms);
        let members = terms.members.iter().map(|&invited| Seen {
            invited,
            asked: if leads && invited.led && !invited.spare {
                Asked::Promised
            } else {
                Asked::Nothing
            },
            turn: Duration::ZERO,
            holds: false,
            is_out: false,
        });
        let taken = terms.members.iter();
        let taken = taken.map(|it| it.promise_within + it.sign_within).max();
        Self {
            members: members.collect(),
            ballot: leads.then_some((0, Duration::ZERO)),
            // One that is late, and then its spare: is there time for both?
            are_needed: taken.unwrap_or_default() * 2 >= terms.deadline,
            is_combining: false,
            leads,
            is_outbid: false,
            wake: None,
            is_done: false,
            terms: terms.clone(),
        }
    }

    fn member(&mut self, peer: Peer) -> Option<&mut Seen> {
        let mut members = self.members.iter_mut();
        members.find(|member| member.invited.peer == peer && !member.is_out)
    }

    /// What this member was asked last was not sent before.
    pub(super) fn delayed(&mut self, peer: Peer, until: Duration) {
        let until = until.min(self.turns_end());
        if let Some(member) = self.member(peer)
            && let Asked::ToPromise(_) | Asked::ToSign(_) = member.asked
        {
            member.turn = until.max(member.turn);
        }
    }

    /// A third of the time, if all that can be spared may still be late after it.
    fn turns_end(&self) -> Duration {
        let of = |within: fn(&Invited) -> Duration| self.terms.members.iter().map(within).max();
        let (p, s) = (of(|it| it.promise_within), of(|it| it.sign_within));
        let (p, s) = (p.unwrap_or_default(), s.unwrap_or_default());
        let deadline = self.terms.deadline;
        let most = if self.terms.mode == Mode::Direct {
            let asked = self.terms.size + 1 - self.terms.threshold;
            deadline.saturating_sub(s * u32::try_from(asked).unwrap())
        } else {
            let began = self.ballot.map_or(Duration::ZERO, |(_, began)| began);
            let window = (began + SIGN_WINDOW).min(deadline);
            let in_window = window.saturating_sub(p * 2 + s);
            let another = deadline.saturating_sub(SIGN_WINDOW + (p + s) * 4);
            in_window
                .min(deadline.saturating_sub((p + s) * 2))
                .max(another)
        };
        most.min(deadline / 3)
    }

    /// What the round is about to be told.
    pub(super) fn tell(&mut self, event: &Event) {
        let present = self.ballot.map(|(round, _)| round);
        match event {
            Event::Promised {
                peer,
                round,
                signed,
            } => {
                let is_present = present == Some(*round);
                if let Some(member) = self.member(*peer) {
                    if signed.is_some_and(|signed| signed != ROOT) {
                        member.is_out = true;
                    } else if is_present && matches!(member.asked, Asked::ToPromise(_)) {
                        member.asked = Asked::Promised;
                    }
                }
            }
            Event::Outbid { peer, round, .. } | Event::Failed { peer, round, .. } => {
                let is_present = present == Some(*round);
                if let Some(member) = self.member(*peer).filter(|_| is_present) {
                    member.asked = Asked::Out;
                    self.is_outbid |= matches!(event, Event::Outbid { .. });
                }
            }
            Event::Signed { peer, .. } => {
                if let Some(member) = self.member(*peer) {
                    member.holds = true;
                }
            }
            Event::Refused { peer, .. } => {
                if let Some(member) = self.member(*peer).filter(|member| !member.holds) {
                    member.is_out = true;
                }
            }
            Event::Blamed(_) => self.is_combining = false,
            Event::Combined => self.is_done = true,
            Event::Woken => self.wake = None,
            Event::Retry => {}
        }
    }

    /// What the round asks for next: spares for a promise only once they are needed.
    pub(super) fn effect(&mut self, now: Duration, effect: &Effect) {
        match effect {
            Effect::Promise { ballot, to, .. } => self.promise(now, *ballot, to),
            Effect::Sign { led, to, .. } => {
                let are_needed = self.are_needed || self.coming(now) < self.terms.threshold;
                for peer in to {
                    let is_spare = self.member(*peer).unwrap().invited.spare;
                    assert!(!led || are_needed || !is_spare, "{peer:?} is a spare");
                    self.are_needed |= *led && is_spare;
                    self.member(*peer).unwrap().asked = Asked::ToSign(now);
                }
            }
            Effect::Combine(_) => self.is_combining = true,
            Effect::Blame(peers) => {
                // Also who voted for another root before: its partial counted all the same.
                let members = self.members.iter_mut();
                for member in members.filter(|member| peers.contains(&member.invited.peer)) {
                    (member.holds, member.is_out) = (false, true);
                }
            }
            Effect::WakeAt(at) => self.wake = Some(*at),
            Effect::Finish(_) => self.is_done = true,
            Effect::Suspect(_) | Effect::RetryBetween { .. } => {}
        }
    }

    fn promise(&mut self, now: Duration, ballot: Ballot, to: &[Peer]) {
        self.leads = false;
        if self.ballot.is_none_or(|(round, _)| round != ballot.round) {
            self.are_needed |= self.ballot.is_some();
            self.ballot = Some((ballot.round, now));
            for member in self.members.iter_mut().filter(|member| member.can_sign()) {
                member.asked = Asked::Nothing;
            }
        }
        let are_needed = self.are_needed || self.coming(now) < self.terms.threshold;
        for peer in to {
            let member = self.member(*peer).unwrap();
            member.asked = Asked::ToPromise(now);
            let is_spare = member.invited.spare;
            assert!(are_needed || !is_spare, "{peer:?} is a spare");
            self.are_needed |= is_spare;
        }
    }

    /// How many indices' partials are there, or will be in time.
    fn coming(&self, now: Duration) -> usize {
        let coming = self.members.iter().filter(|member| member.is_coming(now));
        let coming: BTreeSet<ShareIndex> = coming.map(|member| member.invited.index).collect();
        coming.len()
    }

    /// While a ballot is open: where a threshold is not to be expected, everybody has been asked; and
    /// it will be looked at again when the next one is late.
    pub(super) fn check(&self, now: Duration) {
        if self.terms.mode == Mode::Direct || self.is_done {
            return;
        }
        let can_sign = || self.members.iter().filter(|member| member.can_sign());
        for late_at in can_sign().filter_map(Seen::late_at).filter(|at| *at > now) {
            let is_woken = self.wake.is_some_and(|wake| now < wake && wake <= late_at);
            assert!(is_woken || late_at >= self.terms.deadline);
        }
        let is_open = |(_, began): (u64, Duration)| now < began + SIGN_WINDOW;
        if self.is_combining || !self.ballot.is_some_and(is_open) {
            return;
        }
        if self.coming(now) < self.terms.threshold && !(self.leads && self.is_outbid) {
            for member in can_sign() {
                assert_ne!(member.asked, Asked::Nothing, "{:?}", member.invited.peer);
            }
        }
    }
}
