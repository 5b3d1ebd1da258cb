//! Whether a cosigner answers, and whether it could sign.

use std::{sync::Weak, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use wire::proto;

use super::{link::Link, standing::Standing};

/// How often a cosigner is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long questions are waited for, at most a handful at a time; then it begins anew.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked whether anything was heard of it meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// After so many looks in vain it is absent: 1.75 s after its last answer at the latest. Looks are
/// counted, not time: when this process gets no processor, no look is taken either.
const VAIN_LOOKS_MAX: u32 = 5;

/// What was heard last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing yet.
    Unknown,
    /// It answered.
    Answering {
        /// It can promise and sign slashable duties.
        ready: bool,
        /// Why not, if not.
        message: String,
        /// Changes with its set of validators.
        generation: u64,
        /// What it says of its ledger; nothing if that does not answer it.
        standing: Option<Standing>,
        /// Another number after each of its starts.
        process: u64,
    },
    /// It did not answer; why.
    Absent(String),
}

impl Health {
    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self, Self::Answering { ready: true, .. })
    }

    pub(crate) const fn generation(&self) -> Option<u64> {
        match self {
            Self::Answering { generation, .. } => Some(*generation),
            Self::Unknown | Self::Absent(_) => None,
        }
    }

    pub(crate) const fn process(&self) -> Option<u64> {
        match self {
            Self::Answering { process, .. } => Some(*process),
            Self::Unknown | Self::Absent(_) => None,
        }
    }

    pub(crate) const fn standing(&self) -> Option<&Standing> {
        match self {
            Self::Answering { standing, .. } => standing.as_ref(),
            Self::Unknown | Self::Absent(_) => None,
        }
    }
}

impl From<proto::StatusReply> for Health {
    /// A cosigner that says it is ready while its ledger refuses everything is not.
    fn from(reply: proto::StatusReply) -> Self {
        let standing = reply.ledger.map(Standing::from);
        let obstacle = standing.as_ref().and_then(Standing::obstacle);
        let message = super::replies::clipped(&reply.message);
        Self::Answering {
            ready: reply.ready && obstacle.is_none(),
            message: match obstacle {
                Some(obstacle) if reply.ready || message.is_empty() => obstacle,
                Some(_) | None => message,
            },
            generation: reply.generation,
            standing,
            process: reply.process,
        }
    }
}

/// Asks again and again, until the link is dropped.
pub(super) async fn watch(link: Weak<Link>) {
    loop {
        let began = Instant::now();
        let Some(heard) = ask(&link).await else {
            return;
        };
        let Some(there) = link.upgrade() else { return };
        note(&there, heard);
        drop(there);
        tokio::time::sleep_until(began + POLL_INTERVAL).await;
    }
}

/// Asks until something is heard. Who is silent is absent at once, and asked again beside what it may
/// still answer.
async fn ask(link: &Weak<Link>) -> Option<Health> {
    let mut asked_at = Instant::now();
    let until = asked_at + POLL_TIMEOUT;
    let (mut calls, mut known) = {
        let link = link.upgrade()?;
        let call = link.transport().status();
        (FuturesUnordered::from_iter([call]), link.heard())
    };
    let mut vain_looks = 0_u32;
    loop {
        let looked = timeout(LOOK_INTERVAL, calls.next()).await;
        let link = link.upgrade()?;
        match looked {
            Ok(Some(Ok(reply))) => {
                link.note_heard();
                return Some(reply.into());
            }
            Ok(Some(Err(status))) => return Some(Health::Absent(link.judge(&status))),
            Ok(None) => return Some(absent()),
            Err(_) if Instant::now() >= until => return Some(absent()),
            Err(_) if link.heard() != known => (known, vain_looks) = (link.heard(), 0),
            Err(_) => vain_looks = vain_looks.saturating_add(1),
        }
        if vain_looks == VAIN_LOOKS_MAX {
            note(&link, absent());
        }
        let is_absent = matches!(link.health(), Health::Absent(_));
        if is_absent && asked_at.elapsed() >= POLL_INTERVAL {
            // What it has lost it will never answer, and this it may.
            asked_at = Instant::now();
            calls.push(link.transport().status());
        }
    }
}

fn absent() -> Health {
    Health::Absent("does not answer in time".to_owned())
}

fn note(link: &Link, heard: Health) {
    let before = link.health();
    let san = link.san();
    if heard.generation().is_some() {
        link.forget_failures();
    }
    match (&before, &heard) {
        (Health::Unknown | Health::Absent(_), Health::Answering { .. }) => {
            link.answered_again();
            info!(cosigner = %san, ready = heard.is_ready(), "a cosigner answers");
        }
        (Health::Unknown | Health::Answering { .. }, Health::Absent(why)) => {
            warn!(cosigner = %san, why, "a cosigner does not answer");
        }
        (
            Health::Answering { ready: true, .. },
            Health::Answering {
                ready: false,
                message,
                ..
            },
        ) => {
            warn!(cosigner = %san, why = message, "a cosigner cannot sign slashable duties");
        }
        (Health::Answering { ready: false, .. }, Health::Answering { ready: true, .. }) => {
            info!(cosigner = %san, "a cosigner can sign slashable duties");
        }
        (_, Health::Unknown)
        | (Health::Answering { .. }, Health::Answering { .. })
        | (Health::Absent(_), Health::Absent(_)) => {}
    }
    note_standing(link, before.standing(), heard.standing());
    link.set_health(heard);
    link.show_whether_asked();
}

/// Says what changed of a ledger; nothing while it says nothing, nor when it was as usual and is.
fn note_standing(link: &Link, before: Option<&Standing>, now: Option<&Standing>) {
    let usual = Standing::default();
    if let Some(now) = now.filter(|now| *now != before.unwrap_or(&usual)) {
        let state = serde_json::Value::Object(now.notable());
        info!(cosigner = %link.san(), %state, "a cosigner's ledger has another state");
    }
}
