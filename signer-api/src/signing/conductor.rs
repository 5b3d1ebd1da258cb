//! Drives one [`Round`] with the links: its effects are done, what happens is told to it.

use std::{
    collections::BTreeSet,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use daemon::bulk::Bulk;
use duty::{SigningOrder, SigningRoot};
use threshold::{
    Ballot, CombineError, PartialSignature, ShareIndex, Signature,
    round::{Effect, Event, FailureReason, Lead, Mode, Peer, Round, Terms, Verdict},
};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use wire::batches::Item;

use super::{Outcome, Shared, combiner::Expected};
use crate::{
    cosigners::{Ask, Events, Lane, Misdeed, Teller},
    cpu::Urgency,
    metrics::Stage,
    validators::Validator,
};

/// What waits for its turn is looked at again after this, beyond the time that it has.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What a cosigner is blamed for, for people.
const BAD_PARTIAL: &str = "gave a partial signature that does not verify";

/// Gets one order signed, or learns why not, by the deadline.
pub(super) async fn conduct(
    shared: &Arc<Shared>,
    order: SigningOrder,
    root: SigningRoot,
    validator: &Arc<Validator>,
    deadline: Instant,
    among: Bulk,
) -> Outcome {
    let start = Instant::now();
    let claim = order.claim();
    let mode = if claim.is_some() {
        Mode::Promised
    } else {
        Mode::Direct
    };
    let led = claim
        .zip(shared.leading.as_ref())
        .and_then(|(claim, leading)| leading.of(order.validator, &claim, root));
    let (lead, led) = led.map(|led| (led.lead, led.peers)).unzip();
    let threshold = validator.committee.threshold();
    let (members, cosigners) = (&validator.members, &shared.cosigners);
    let (mode, members) = cosigners.invite(members, threshold, mode, &led.unwrap_or_default());
    let terms = Terms {
        root,
        mode,
        threshold,
        size: validator.committee.size(),
        members,
        deadline: deadline.saturating_duration_since(start),
    };
    let mut happening = Events::new();
    let clock = pin!(sleep_until(deadline));
    let urgency = if order.duty.kind().is_for_proposal() {
        Urgency::Prompt
    } else {
        Urgency::Usual
    };
    let combiner = &shared.combiner;
    let mut conductor = Conductor {
        shared,
        expected: combiner.expect(urgency, Arc::clone(validator), root),
        order,
        root,
        validator,
        start,
        deadline,
        among,
        events: happening.teller(),
        item: None,
        lead,
        clock,
        wake: deadline,
        retry: None,
        asked: Vec::new(),
        asked_to_sign: None,
    };
    let (mut round, mut effects) = Round::open(terms, Duration::ZERO);
    loop {
        courtesy::offer();
        let mut told = None;
        for effect in effects {
            match conductor.obey(effect).await {
                Next::GoOn => {}
                Next::Tell(event) => told = Some(event),
                Next::Refused(verdict) => return Err(verdict),
                Next::Signed(signature) => {
                    for effect in round.handle(start.elapsed(), Event::Combined) {
                        conductor.obey(effect).await;
                    }
                    for (peer, dissent) in round.dissents() {
                        conductor.each(&[peer], |link| link.dissented(dissent));
                    }
                    return Ok(signature);
                }
            }
        }
        conductor.expected.anticipate();
        let event = match told {
            Some(event) => event,
            None => conductor.next(&mut happening).await,
        };
        conductor.learn(&event);
        let now = start.elapsed();
        if start + now >= conductor.wake {
            for (peer, until) in conductor.delays(&happening, now) {
                round.delayed(peer, until);
            }
        }
        effects = round.handle(now, event);
    }
}

enum Next {
    GoOn,
    Tell(Event),
    Refused(Verdict),
    Signed(Signature),
}

/// What something is to be promised or signed under: a ballot if it can be slashed, and the lead that
/// stands in for a promise.
type Under = (Option<Ballot>, Option<Lead>);

struct Conductor<'a> {
    shared: &'a Arc<Shared>,
    expected: Expected,
    order: SigningOrder,
    root: SigningRoot,
    validator: &'a Arc<Validator>,
    start: Instant,
    deadline: Instant,
    among: Bulk,
    events: Teller,
    /// What was asked for last, and under which ballot: mostly what is asked for next.
    item: Option<(Under, Item)>,
    /// The lead that stands in for promises of the first ballot.
    lead: Option<Lead>,
    /// The one clock of all waits.
    clock: Pin<&'a mut Sleep>,
    wake: Instant,
    retry: Option<Instant>,
    /// In which lane each was asked last.
    asked: Vec<(Peer, Lane)>,
    /// When the first was asked to sign.
    asked_to_sign: Option<Instant>,
}

impl Conductor<'_> {
    async fn obey(&mut self, effect: Effect) -> Next {
        match effect {
            Effect::Promise {
                ballot,
                to,
                not_after,
            } => {
                let ask = self.ask(ballot.round, (Some(ballot), None), not_after);
                self.note(&to, Lane::to_promise(ask.kind));
                let passed_over = self.passed_over(&to);
                self.each(&to, |link| {
                    if passed_over.contains(&link.peer()) {
                        link.pass_over(Arc::clone(&ask));
                    } else {
                        link.promise(Arc::clone(&ask));
                    }
                });
                Next::GoOn
            }
            Effect::Sign {
                round,
                ballot,
                led,
                to,
                not_after,
            } => {
                if self.asked_to_sign.is_none() {
                    let now = Instant::now();
                    self.asked_to_sign = Some(now);
                    if ballot.is_some() && !led {
                        self.shared.metrics.stage(Stage::Promise, now - self.start);
                    }
                }
                let lead = self.lead.filter(|_| led);
                let ask = self.ask(round, (ballot, lead), not_after);
                self.note(&to, Lane::to_sign(ask.kind));
                self.each(&to, |link| link.sign(Arc::clone(&ask)));
                Next::GoOn
            }
            Effect::Combine(partials) => self.combine(partials).await,
            Effect::Blame(peers) => {
                self.each(&peers, |link| {
                    link.blame(Misdeed::Partial, BAD_PARTIAL);
                });
                Next::GoOn
            }
            Effect::Suspect(partials) => {
                self.judge(partials);
                Next::GoOn
            }
            Effect::WakeAt(at) => {
                self.wake = self.start + at;
                Next::GoOn
            }
            Effect::RetryBetween { earliest, latest } => {
                let spread = latest.saturating_sub(earliest);
                let pause = earliest + spread.mul_f64((self.shared.chance)());
                self.retry = Some(self.start + pause);
                Next::GoOn
            }
            Effect::Finish(verdict) => Next::Refused(verdict),
        }
    }

    fn ask(&mut self, round: u64, under: Under, not_after: Duration) -> Arc<Ask> {
        Arc::new(Ask {
            kind: self.order.duty.kind(),
            item: self.item(under),
            ballot: under.0,
            round,
            send_by: self.start + not_after,
            useful_until: self.deadline,
            among: self.among.clone(),
            events: self.events.clone(),
        })
    }

    fn note(&mut self, to: &[Peer], lane: Lane) {
        self.events.asks(to);
        self.asked.retain(|(peer, _)| !to.contains(peer));
        self.asked.extend(to.iter().map(|peer| (*peer, lane)));
    }

    /// Until when what was asked last was delayed on this side: in a burst it waits for its turn.
    fn delays(&self, happening: &Events, now: Duration) -> Vec<(Peer, Duration)> {
        let delay = |(peer, lane): &(Peer, Lane)| match happening.sent_at(*peer) {
            Some(at) => Some((*peer, at.saturating_duration_since(self.start))),
            None => {
                let link = self.shared.cosigners.link(*peer)?;
                let waits = link.takes_turns(*lane, self.start + now);
                waits.then_some((*peer, now.saturating_add(LOOK_AGAIN)))
            }
        };
        self.asked.iter().filter_map(delay).collect()
    }

    fn item(&mut self, under: Under) -> Item {
        let made = self.item.take().filter(|(before, _)| *before == under);
        let item = made.map(|(_, item)| item);
        let (ballot, lead) = under;
        let item = item.unwrap_or_else(|| Item::new(&self.order, ballot.as_ref(), lead));
        self.item = Some((under, item.clone()));
        item
    }

    /// Takes note of who says that it is not led.
    fn learn(&self, event: &Event) {
        if let Event::Failed { peer, failure, .. } = event
            && failure.reason == FailureReason::NotLed
            && let Some((leading, lead)) = self.shared.leading.as_ref().zip(self.lead)
        {
            leading.lost(*peer, lead);
        }
    }

    fn passed_over(&self, to: &[Peer]) -> BTreeSet<Peer> {
        let threshold = self.validator.committee.threshold();
        let members = &self.validator.members;
        self.shared.cosigners.passed_over(to, members, threshold)
    }

    fn each(&self, peers: &[Peer], act: impl Fn(&crate::cosigners::Link)) {
        for link in peers
            .iter()
            .filter_map(|peer| self.shared.cosigners.link(*peer))
        {
            act(link);
        }
    }

    /// Combines and verifies, away from the reactor.
    async fn combine(&self, partials: Vec<(ShareIndex, PartialSignature)>) -> Next {
        let began = Instant::now();
        if let Some(asked) = self.asked_to_sign {
            self.shared.metrics.stage(Stage::Sign, began - asked);
        }
        // What still waits for a thread by then is dropped, not done.
        let combined = timeout_at(self.deadline, self.expected.combine(partials)).await;
        self.shared.metrics.stage(Stage::Combine, began.elapsed());
        let Ok(combined): Result<Option<Result<Signature, CombineError>>, _> = combined else {
            return Next::Refused(super::out_of_time());
        };
        match combined {
            Some(Ok(signature)) => Next::Signed(signature),
            Some(Err(CombineError::Blame(indices))) => Next::Tell(Event::Blamed(indices)),
            Some(Err(error)) => {
                tracing::error!(%error, "partials could not be combined");
                Next::Tell(Event::Blamed(Vec::new()))
            }
            None => Next::Tell(Event::Blamed(Vec::new())),
        }
    }

    /// Verifies partials that are not needed, and blames whose does not hold. Nobody waits for it.
    fn judge(&self, partials: Vec<(Peer, ShareIndex, PartialSignature)>) {
        let (shared, root) = (Arc::clone(self.shared), self.root);
        let validator = Arc::clone(self.validator);
        let arithmetic = Arc::clone(&shared.arithmetic);
        tokio::spawn(async move {
            let job = move || {
                let committee = &validator.committee;
                let bad = partials.into_iter().filter(|(_, index, partial)| {
                    !arithmetic.holds(committee, *index, root, partial)
                });
                bad.map(|(peer, _, _)| peer).collect::<Vec<_>>()
            };
            let bad = shared.cpu.run(Urgency::Usual, job).await;
            for peer in bad.unwrap_or_default() {
                if let Some(link) = shared.cosigners.link(peer) {
                    link.blame(Misdeed::Partial, BAD_PARTIAL);
                }
            }
        });
    }

    /// The next thing that happens.
    async fn next(&mut self, happening: &mut Events) -> Event {
        if let Some(event) = happening.told() {
            return event;
        }
        let until = self.retry.map_or(self.wake, |retry| retry.min(self.wake));
        if self.clock.deadline() != until {
            self.clock.as_mut().reset(until);
        }
        tokio::select! {
            biased;
            event = happening.next() => event,
            () = self.clock.as_mut() => {
                let now = Instant::now();
                if self.retry.take_if(|retry| *retry <= now).is_some() {
                    Event::Retry
                } else {
                    Event::Woken
                }
            }
        }
    }
}
