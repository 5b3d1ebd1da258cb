//! Leading: which cosigners have promised this signer-api what they promised nobody else, so that its
//! duties need one round trip instead of two (agreement, leading).
//!
//! What a caller owes for that:
//!
//! - of a duty it asks for one message in this way, whatever became of it;
//! - all whom it leads began within [`LEAD_WINDOW`]: who joined later, or again after a restart, may have
//!   forgotten what was promised in between, and the others would not be asked. Whom it has lost it
//!   leads again only when it begins with all anew.
//!
//! It leads while it has slashable duties; another may when it has been silent for a while.

mod asked;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
    sync::{Arc, Weak},
    time::Duration,
};

use duty::{Claim, PublicKey, SigningRoot};
use futures_util::future::join_all;
use parking_lot::Mutex;
use threshold::round::{Horizon, LEAD_WINDOW, Lead, Peer};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tracing::info;
use wire::proto::LeadRequest;

use self::asked::Asked;
use super::Chance;
use crate::{cosigners::Cosigners, metrics::Metrics};

/// How often those who are led hear that this goes on: several times in the silence after which
/// another may lead them.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// After the last slashable duty others may lead.
const LEADS_FOR: Duration = Duration::from_secs(15 * 60);
/// When too few could be led, those are let go, and it is tried again between these two: others may
/// want the same.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// When somebody is there who is not led, all begin anew after this, and after twice as long each
/// further time, unless nobody was missing for so long: duties that are touched by then need promises.
const COMPLETED_AFTER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// No process begins anything.
const GOES_ON: u64 = 0;

/// Who needs not promise a duty.
pub(super) struct Led {
    pub(super) lead: Lead,
    pub(super) peers: Vec<Peer>,
}

/// What is led.
pub(super) struct Leading {
    cosigners: Arc<Cosigners>,
    metrics: Arc<Metrics>,
    chance: Arc<Chance>,
    /// Fewer are of no use.
    enough: usize,
    state: Mutex<State>,
    /// There is a slashable duty after a long time, or somebody was lost.
    news: Arc<Notify>,
}

#[derive(Default)]
struct State {
    term: Option<Term>,
    /// When there was a slashable duty last.
    wanted_at: Option<Instant>,
    /// By validator, since this process started.
    asked: HashMap<PublicKey, Asked>,
}

/// All who were led from one moment on.
struct Term {
    lead: Lead,
    members: BTreeMap<Peer, Member>,
}

/// Who is led.
struct Member {
    /// The process that began.
    process: u64,
    /// The duties above are untouched.
    horizon: Horizon,
}

/// What the task remembers between two looks.
struct Pace {
    begin_at: Instant,
    /// The number that was begun with last, with whatever success.
    last: Option<Lead>,
    /// When somebody was found missing, or nobody any more.
    missing_since: Option<Instant>,
    complete_since: Option<Instant>,
    patience: Duration,
}

impl Leading {
    /// Leads when there is something to lead for, and at least the smallest threshold of a committee can
    /// be led. Must be called within a runtime; ends with the last handle.
    pub(super) fn start(
        cosigners: Arc<Cosigners>,
        metrics: Arc<Metrics>,
        chance: Arc<Chance>,
        threshold_min: usize,
    ) -> Arc<Self> {
        let most = cosigners.links().len().checked_div(2).unwrap_or_default();
        let leading = Arc::new(Self {
            cosigners,
            metrics,
            chance,
            enough: threshold_min.max(most.saturating_add(1)),
            state: Mutex::default(),
            news: Arc::new(Notify::new()),
        });
        let news = Arc::clone(&leading.news);
        tokio::spawn(keep(Arc::downgrade(&leading), news));
        leading
    }

    /// Who needs not promise this duty. To ask for it in this way, or not at all: no other message
    /// for it may be from now on.
    pub(super) fn of(&self, validator: PublicKey, claim: &Claim, root: SigningRoot) -> Option<Led> {
        let mut state = self.state.lock();
        self.note_wanted(&mut state);
        let asked = state.asked.entry(validator).or_default();
        let may_ask = asked.may_ask(claim, root);
        let term = state.term.as_ref().filter(|_| may_ask)?;
        let led = term.members.iter();
        let led = led.filter(|(_, member)| member.horizon.is_below(claim));
        let peers: Vec<Peer> = led.map(|(peer, _)| *peer).collect();
        (!peers.is_empty()).then_some(Led {
            lead: term.lead,
            peers,
        })
    }

    /// There is something to lead for.
    #[cfg(feature = "test-seams")]
    pub(super) fn want(&self) {
        self.note_wanted(&mut self.state.lock());
    }

    fn note_wanted(&self, state: &mut State) {
        let now = Instant::now();
        let before = state.wanted_at.replace(now);
        if before.is_none_or(|at| now.saturating_duration_since(at) >= LEADS_FOR) {
            self.news.notify_one();
        }
    }

    /// Somebody says that this does not lead it, or not in a duty.
    pub(super) fn lost(&self, peer: Peer, lead: Lead) {
        let mut state = self.state.lock();
        let Some(term) = state.term.as_mut().filter(|term| term.lead == lead) else {
            return;
        };
        term.members.remove(&peer);
        if term.members.len() < self.enough {
            state.term = None;
            self.news.notify_one();
        }
        self.tell(&state);
    }

    fn tell(&self, state: &State) {
        let led = state.term.as_ref().map_or(0, |term| term.members.len());
        self.metrics.led(led);
    }

    /// Does what is due; when to look again.
    async fn attend(&self, pace: &mut Pace) -> Instant {
        let now = Instant::now();
        let (wanted, lead) = {
            let mut state = self.state.lock();
            let wanted = state.wanted_at;
            let wanted = wanted.filter(|at| now.saturating_duration_since(*at) < LEADS_FOR);
            if wanted.is_none() {
                state.term = None;
                self.tell(&state);
            }
            (wanted.is_some(), state.term.as_ref().map(|term| term.lead))
        };
        if !wanted {
            return now + LEADS_FOR;
        }
        match lead {
            Some(lead) => {
                self.renew(lead).await;
                self.complete(lead, pace).await;
            }
            None if now >= pace.begin_at => self.begin(pace).await,
            None => return pace.begin_at,
        }
        Instant::now() + RENEW_EVERY
    }

    /// Begins with all who answer.
    async fn begin(&self, pace: &mut Pace) {
        self.state.lock().term = None;
        (pace.missing_since, pace.complete_since) = (None, None);
        let lead = self.number();
        let replaces = pace.last.replace(lead);
        let links = self.cosigners.links().iter();
        let there = links.filter_map(|link| Some((link.peer(), link.health().process()?)));
        let there: BTreeMap<Peer, u64> = there.collect();
        let answers = self.ask(there.clone(), lead, replaces).await;
        let led = answers.into_iter().filter_map(|(peer, answer)| {
            let (process, horizon) = (*there.get(&peer)?, answer??);
            Some((peer, Member { process, horizon }))
        });
        let members: BTreeMap<Peer, Member> = led.collect();
        let (count, of) = (members.len(), self.cosigners.links().len());
        if count >= self.enough {
            info!(
                count,
                of, "leads cosigners: they sign for this signer-api in one round trip"
            );
            let mut state = self.state.lock();
            state.term = Some(Term { lead, members });
            self.tell(&state);
            return;
        }
        self.tell(&self.state.lock());
        // Who was too late to be counted may have begun.
        self.ask(there, lead, Some(lead)).await;
        let pause = RETRY.1.saturating_sub(RETRY.0).mul_f64((self.chance)());
        pace.begin_at = Instant::now() + RETRY.0 + pause;
    }

    /// Says that it goes on, and learns who is not led any more.
    async fn renew(&self, lead: Lead) {
        let peers = {
            let mut state = self.state.lock();
            let Some(term) = state.term.as_mut().filter(|term| term.lead == lead) else {
                return;
            };
            term.members.retain(|peer, member| {
                let heard = self.cosigners.link(*peer).map(|link| link.health());
                let process = heard.and_then(|health| health.process());
                process.is_none_or(|process| process == member.process)
            });
            term.members.keys().map(|peer| (*peer, GOES_ON)).collect()
        };
        let answers = self.ask(peers, lead, None).await;
        let mut state = self.state.lock();
        let Some(term) = state.term.as_mut().filter(|term| term.lead == lead) else {
            return;
        };
        for (peer, answer) in answers {
            match (answer, term.members.get_mut(&peer)) {
                (Some(Some(horizon)), Some(known)) => known.horizon = known.horizon.max(horizon),
                (Some(None), _) => {
                    term.members.remove(&peer);
                }
                // Silence says nothing: whoever has forgotten will say so when it is asked to sign.
                (None, _) | (_, None) => {}
            }
        }
        if term.members.len() < self.enough {
            info!("leads no more: duties need two round trips");
            state.term = None;
        }
        self.tell(&state);
    }

    /// Begins anew if somebody is there who is not led, once in a while.
    async fn complete(&self, lead: Lead, pace: &mut Pace) {
        let is_complete = {
            let state = self.state.lock();
            let Some(term) = state.term.as_ref().filter(|term| term.lead == lead) else {
                return;
            };
            let mut links = self.cosigners.links().iter();
            links.all(|link| {
                let health = link.health();
                // An older release knows nothing of it.
                let may_be_led = health.is_ready() && health.process() != Some(GOES_ON);
                !may_be_led || term.members.contains_key(&link.peer())
            })
        };
        let now = Instant::now();
        if is_complete {
            pace.missing_since = None;
            let since = *pace.complete_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= pace.patience {
                pace.patience = COMPLETED_AFTER.0;
            }
            return;
        }
        pace.complete_since = None;
        let since = *pace.missing_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= pace.patience {
            pace.patience = pace.patience.saturating_mul(2).min(COMPLETED_AFTER.1);
            self.begin(pace).await;
        }
    }

    /// What each process said: where its horizon lies, that it is not led, or nothing in time.
    async fn ask(
        &self,
        peers: BTreeMap<Peer, u64>,
        lead: Lead,
        replaces: Option<Lead>,
    ) -> Vec<(Peer, Option<Option<Horizon>>)> {
        let asked_at = Instant::now();
        let calls = peers.into_iter().filter_map(|(peer, process)| {
            let request = LeadRequest {
                lead: wire::lead_to_proto(Some(lead)),
                replaces: wire::lead_to_proto(replaces),
                process,
            };
            let call = self.cosigners.link(peer)?.transport().lead(request);
            Some(async move {
                let answered = timeout(LEAD_WINDOW, call).await;
                // An answer that is read late, because this process stood still, may be old.
                let answered = answered.ok().filter(|_| asked_at.elapsed() <= LEAD_WINDOW);
                let reply = answered.and_then(Result::ok);
                (peer, reply.map(|reply| wire::horizon_from_proto(&reply)))
            })
        });
        join_all(calls).await
    }

    /// A number that nobody else has.
    fn number(&self) -> Lead {
        let (high, low) = ((self.chance)().to_bits(), (self.chance)().to_bits());
        Lead(NonZeroU64::new(high.rotate_left(32) ^ low).unwrap_or(NonZeroU64::MIN))
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.news.notify_one();
    }
}

/// Attends to it until nobody needs it any more.
async fn keep(leading: Weak<Leading>, news: Arc<Notify>) {
    let mut pace = Pace {
        begin_at: Instant::now(),
        last: None,
        missing_since: None,
        complete_since: None,
        patience: COMPLETED_AFTER.0,
    };
    loop {
        let Some(there) = leading.upgrade() else {
            return;
        };
        let again = there.attend(&mut pace).await;
        drop(there);
        tokio::select! {
            biased;
            () = news.notified() => {}
            () = sleep_until(again) => {}
        }
    }
}

#[cfg(test)]
mod tests;
