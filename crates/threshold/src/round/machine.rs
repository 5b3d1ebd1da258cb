//! The state machine: what happens when. What is counted, and why it fails, is in `counting`.

mod counting;
mod led;
mod member;
mod seats;
mod waiting;

use std::time::Duration;

use self::{
    member::{Member, Stage, Standing},
    seats::{Seat, Seating, Seats},
};
use super::{
    Ballot, Effect, Event, Failure, FailureReason, Mode, Peer, Refusal, SIGN_WINDOW, Terms,
};
use crate::{PartialSignature, ShareIndex};

/// Honest rounds rise one by one. A member that tells of one further ahead lies, or was lied to by
/// another caller: it is not followed there, where the numbers end.
const ROUNDS_AHEAD_MAX: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Promising,
    Signing,
    Waiting,
    /// There is no time for another ballot, but for what was asked in this one.
    Listening,
    Combining,
    Done,
}

/// One coordinator's work on one message. See the module for what it promises.
#[derive(Debug, Clone)]
pub struct Round {
    terms: Terms,
    members: Vec<Member>,
    phase: Phase,
    /// Where combining began, to go back to when a partial was bad.
    before_combining: Phase,
    /// Whose partials are being combined, or were last; more may have come since.
    combining: Vec<(Peer, ShareIndex, PartialSignature)>,
    round: u64,
    /// The highest round that anyone holds.
    highest: u64,
    began: Duration,
    /// How long the slowest answer to the present ballot took.
    measured: Duration,
    promises: usize,
    attempts: u32,
    wake: Option<Duration>,
}

impl Round {
    /// Opens a round at `now`: what to do first.
    #[must_use]
    pub fn open(terms: Terms, now: Duration) -> (Self, Vec<Effect>) {
        let mut seating = Seating::default();
        let members = terms.members.iter().filter_map(|invited| {
            let seat = seating.seat(invited.index)?;
            Some(Member::new(invited, seat))
        });
        let members = members.collect();
        let mut round = Self {
            terms,
            members,
            phase: Phase::Waiting,
            before_combining: Phase::Waiting,
            combining: Vec::new(),
            round: 0,
            highest: 0,
            began: now,
            measured: Duration::ZERO,
            promises: 0,
            attempts: 0,
            wake: None,
        };
        let mut effects = Vec::new();
        if !round.has_time_for_spares(now) {
            round.need_spares();
        }
        if round.terms.mode == Mode::Led && !round.leads_enough() {
            round.terms.mode = Mode::Promised;
        }
        round.begin(now, &mut effects);
        round.advance(now, &mut effects);
        (round, effects)
    }

    /// Takes an event that happened at `now`: what to do about it.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.phase == Phase::Done {
            return effects;
        }
        match event {
            Event::Promised {
                peer,
                round,
                signed,
            } => self.promised(now, peer, round, signed),
            Event::Outbid { peer, round, held } => self.outbid(now, peer, round, held),
            Event::Signed { peer, partial } => self.signed(peer, partial),
            Event::Refused { peer, refusal } => self.refused(peer, refusal),
            Event::Failed {
                peer,
                round,
                failure,
            } => self.failed(peer, round, failure),
            Event::Combined => self.combined(&mut effects),
            Event::Blamed(indices) => self.blamed(now, &indices, &mut effects),
            Event::Woken => self.wake = None,
            Event::Retry => {
                if self.phase == Phase::Waiting && now < self.terms.deadline {
                    self.begin_another(now, &mut effects);
                }
            }
        }
        self.advance(now, &mut effects);
        effects
    }

    /// Whether nothing follows any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    // Events.

    fn promised(
        &mut self,
        now: Duration,
        peer: Peer,
        round: u64,
        signed: Option<duty::SigningRoot>,
    ) {
        let current = round == self.round;
        if current {
            self.measure(now, peer);
        }
        let (order, root) = (self.promises, self.terms.root);
        let Some(member) = self.able(peer) else {
            return;
        };
        if signed.is_some_and(|signed| signed != root) {
            member.standing = Standing::SignedAnother;
        } else if current && matches!(member.stage, Stage::PromiseAsked { .. }) {
            member.stage = Stage::Promised { order };
            member.before = None;
            self.promises = order.saturating_add(1);
        }
    }

    fn outbid(&mut self, now: Duration, peer: Peer, round: u64, held: Ballot) {
        if held.round <= self.round.saturating_add(ROUNDS_AHEAD_MAX) {
            self.highest = self.highest.max(held.round);
        }
        if round != self.round {
            return;
        }
        self.measure(now, peer);
        if let Some(member) = self.able(peer) {
            member.stage = Stage::Outbid;
        }
    }

    fn signed(&mut self, peer: Peer, partial: PartialSignature) {
        // A member that has "signed another root" and gives a partial lies in one of the two. Of two
        // partials the first counts: the second must not take the place of what is being combined,
        // and may be the same in another form, if the member was upgraded in between.
        if let Some(member) = self.able(peer) {
            member.partial.get_or_insert(partial);
        }
    }

    fn refused(&mut self, peer: Peer, refusal: Refusal) {
        if let Some(member) = self.able(peer)
            && member.partial.is_none()
        {
            member.standing = Standing::Refused(refusal);
        }
    }

    fn failed(&mut self, peer: Peer, round: u64, failure: Failure) {
        // A member is asked directly only once at a time, so that any failure is the present one.
        let current = round == self.round || self.terms.mode == Mode::Direct;
        match self.able(peer) {
            Some(member) if current => {
                // Silence says less than what kept it from signing before.
                let is_silent = failure.reason == FailureReason::TimedOut;
                let before = member.before.filter(|_| is_silent);
                let reason = before.unwrap_or(failure.reason);
                member.stage = Stage::Failed(Failure { reason, ..failure });
            }
            Some(member) if matches!(member.stage, Stage::PromiseAsked { .. }) => {
                member.before = Some(failure.reason);
            }
            Some(_) | None => {}
        }
    }

    /// There is one valid partial for an index, in one form or another: who claimed the index and
    /// gave other bytes is suspect, and no more, because of two forms both may hold.
    fn combined(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Done;
        let suspects = self.members.iter().filter_map(|member| {
            let partial = member.partial?;
            let mut combined = self.combining.iter();
            let (_, _, valid) = combined.find(|(_, index, _)| *index == member.index)?;
            let differs = *valid != partial;
            differs.then_some((member.peer, member.index, partial))
        });
        let suspects: Vec<_> = suspects.collect();
        if !suspects.is_empty() {
            effects.push(Effect::Suspect(suspects));
        }
    }

    /// Those whose partials went into the failed combination lose them, and their part in this.
    fn blamed(&mut self, now: Duration, indices: &[ShareIndex], effects: &mut Vec<Effect>) {
        if self.phase != Phase::Combining {
            return;
        }
        self.phase = self.before_combining;
        let named = self.combining.iter();
        let named = named.filter(|(_, index, _)| indices.contains(index));
        let liars: Vec<Peer> = named.map(|(peer, _, _)| *peer).collect();
        for member in &mut self.members {
            if liars.contains(&member.peer) {
                member.partial = None;
                member.standing = Standing::Blamed;
            }
        }
        if liars.is_empty() {
            // A combination that fails with nobody to blame would fail again for ever.
            let message = "the partials verify one by one, but not their combination".to_owned();
            self.finish_unavailable(FailureReason::Faulty, message, effects);
            return;
        }
        effects.push(Effect::Blame(liars));
        if self.phase == Phase::Waiting {
            // The retry may have come, and been passed over, while this was being combined.
            self.wait(now, effects);
        }
    }

    fn able(&mut self, peer: Peer) -> Option<&mut Member> {
        self.members
            .iter_mut()
            .find(|member| member.peer == peer && member.standing == Standing::Able)
    }

    // Progress.

    fn advance(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Done {
            return;
        }
        if now >= self.terms.deadline {
            return self.finish_unavailable(self.main_trouble(), self.trouble(), effects);
        }
        if self.phase != Phase::Combining {
            self.step(now, effects);
        }
        if self.phase != Phase::Done {
            self.set_wake(now, effects);
        }
    }

    fn step(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.holding().count() >= self.terms.threshold {
            return self.combine(effects);
        }
        if let Some(verdict) = self.verdict(now) {
            self.phase = Phase::Done;
            return effects.push(Effect::Finish(verdict));
        }
        let open = self.sign_window_open(now);
        if matches!(
            self.phase,
            Phase::Promising | Phase::Waiting | Phase::Listening
        ) && open
            && self.terms.mode == Mode::Promised
            && self.enough_promised(now)
        {
            self.phase = Phase::Signing;
        }
        if self.phase == Phase::Signing && open && self.terms.mode == Mode::Led {
            self.lead(now, effects);
        }
        if self.phase == Phase::Signing && open {
            self.ask_to_sign(now, effects);
        }
        if matches!(self.phase, Phase::Promising | Phase::Signing)
            && open
            && self.terms.mode == Mode::Promised
            && self.is_a_spare_needed(now)
        {
            self.need_spares();
            self.ask_to_promise(now, effects);
        }
        match self.phase {
            Phase::Listening => self.listen(effects),
            Phase::Promising | Phase::Signing if self.is_hopeless(now) => self.wait(now, effects),
            Phase::Promising | Phase::Signing | Phase::Waiting | Phase::Combining | Phase::Done => {
            }
        }
    }

    /// Begins a ballot: everybody who can still sign is asked again, but for the spares.
    pub(super) fn begin(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.highest = self.highest.max(self.round);
        self.began = now;
        self.measured = Duration::ZERO;
        self.promises = 0;
        for member in self.members.iter_mut().filter(|m| m.can_sign()) {
            member.before = member.abstention();
            // A slow answer may still come; asking directly twice would not hasten it.
            let is_asked = matches!(member.stage, Stage::SignAsked { .. });
            if self.terms.mode != Mode::Direct || !is_asked {
                member.stage = Stage::Idle;
            }
        }
        match self.terms.mode {
            Mode::Promised => {
                self.phase = Phase::Promising;
                self.ask_to_promise(now, effects);
            }
            Mode::Led => {
                self.phase = Phase::Signing;
                self.take_led();
            }
            Mode::Direct => self.phase = Phase::Signing,
        }
    }

    /// Asks for promises who is idle and no spare.
    fn ask_to_promise(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let mut to = Vec::new();
        for member in &mut self.members {
            if member.can_sign() && member.stage == Stage::Idle && !member.spare {
                member.stage = Stage::PromiseAsked { at: now };
                to.push(member.peer);
            }
        }
        if !to.is_empty() {
            effects.push(Effect::Promise {
                ballot: self.ballot(),
                to,
                not_after: self.window_end(),
            });
        }
    }

    /// From now on nobody is a spare.
    pub(super) fn need_spares(&mut self) {
        for member in &mut self.members {
            member.spare = false;
        }
    }

    const fn ballot(&self) -> Ballot {
        Ballot {
            round: self.round,
            root: self.terms.root,
        }
    }

    /// When what belongs to the present ballot must not be sent any more.
    fn window_end(&self) -> Duration {
        let window_end = self.began.saturating_add(SIGN_WINDOW);
        self.terms.deadline.min(window_end)
    }

    /// Asks so many that a threshold of answers is on its way, counting none that is late.
    fn ask_to_sign(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let mut coming = self.coming(now, |stage| matches!(stage, Stage::SignAsked { .. }));
        let mut wanted = Seats::default();
        while coming.count() < self.terms.threshold
            && let Some(seat) = self.next_spare(coming)
        {
            coming.insert(seat);
            wanted.insert(seat);
        }
        let mut to = Vec::new();
        for member in &mut self.members {
            let is_ready = match self.terms.mode {
                Mode::Promised | Mode::Led => matches!(member.stage, Stage::Promised { .. }),
                Mode::Direct => member.stage == Stage::Idle,
            };
            let is_wanted = member.sounded || wanted.contains(member.seat);
            if member.can_sign() && is_ready && is_wanted {
                member.stage = Stage::SignAsked { at: now };
                to.push(member.peer);
            }
        }
        if !to.is_empty() {
            let (ballot, not_after) = match self.terms.mode {
                Mode::Promised | Mode::Led => (Some(self.ballot()), self.window_end()),
                Mode::Direct => (None, self.terms.deadline),
            };
            effects.push(Effect::Sign {
                round: self.round,
                ballot,
                led: self.terms.mode == Mode::Led,
                to,
                not_after,
            });
        }
    }

    /// The next member to ask: who promised first, or whom the caller called the fastest. Those in
    /// reserve come last.
    fn next_spare(&self, coming: Seats) -> Option<Seat> {
        let spares = self.members.iter().filter(|member| {
            member.standing == Standing::Able
                && member.partial.is_none()
                && !coming.contains(member.seat)
        });
        let ready = spares.filter_map(|member| match (&member.stage, self.terms.mode) {
            (Stage::Promised { order }, Mode::Promised | Mode::Led) => {
                Some((member.reserve, *order, member.seat))
            }
            (Stage::Idle, Mode::Direct) => Some((member.reserve, 0, member.seat)),
            (Stage::Idle, Mode::Promised | Mode::Led)
            | (Stage::Promised { .. }, Mode::Direct)
            | (Stage::PromiseAsked { .. } | Stage::SignAsked { .. }, _)
            | (Stage::Outbid | Stage::Failed(_), _) => None,
        });
        ready
            .min_by_key(|(reserve, order, _)| (*reserve, *order))
            .map(|(_, _, seat)| seat)
    }

    fn combine(&mut self, effects: &mut Vec<Effect>) {
        self.before_combining = self.phase;
        self.phase = Phase::Combining;
        let chosen = self.chosen().into_iter();
        let members = chosen.filter_map(|position| self.members.get(position));
        let partials = members.filter_map(|m| Some((m.peer, m.index, m.partial?)));
        self.combining = partials.collect();
        let partials = self.combining.iter();
        let partials = partials.map(|(_, index, partial)| (*index, *partial));
        effects.push(Effect::Combine(partials.collect()));
    }

    /// Positions of the first threshold of members with partials, each index once.
    fn chosen(&self) -> Vec<usize> {
        let mut seats = Seats::default();
        let holding = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, m)| m.partial.is_some());
        let distinct = holding.filter(|(_, member)| seats.insert(member.seat));
        distinct
            .map(|(position, _)| position)
            .take(self.terms.threshold)
            .collect()
    }
}
