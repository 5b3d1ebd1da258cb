//! Whether a cosigner answers, and whether it could sign.

use std::{sync::Weak, time::Duration};

use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use wire::proto;

use super::{link::Link, standing::Standing};

/// How often a cosigner is asked.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// So many answers that are merely late do not make it absent.
const LATE_ANSWERS_MAX: u32 = 1;

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
        }
    }
}

/// Asks again and again, until the link is dropped.
pub(super) async fn watch(link: Weak<Link>) {
    let mut late = 0_u32;
    loop {
        let began = Instant::now();
        let Some(link) = link.upgrade() else { return };
        let heard = match timeout(POLL_TIMEOUT, link.transport().status()).await {
            Ok(Ok(reply)) => {
                late = 0;
                Some(reply.into())
            }
            Ok(Err(status)) => Some(Health::Absent(link.describe(&status))),
            Err(_) if late < LATE_ANSWERS_MAX => {
                late = late.saturating_add(1);
                None
            }
            Err(_) => Some(Health::Absent("does not answer in time".to_owned())),
        };
        if let Some(heard) = heard {
            note(&link, heard, began.elapsed());
        }
        drop(link);
        tokio::time::sleep_until(began + POLL_INTERVAL).await;
    }
}

fn note(link: &Link, heard: Health, took: Duration) {
    let before = link.health();
    let san = link.san();
    match (&before, &heard) {
        (Health::Unknown | Health::Absent(_), Health::Answering { .. }) => {
            link.answered_again(took);
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
}

/// Says what changed of a ledger; nothing while it says nothing, nor when it was as usual and is.
fn note_standing(link: &Link, before: Option<&Standing>, now: Option<&Standing>) {
    let usual = Standing::default();
    if let Some(now) = now.filter(|now| *now != before.unwrap_or(&usual)) {
        let state = serde_json::Value::Object(now.notable());
        info!(cosigner = %link.san(), %state, "a cosigner's ledger has another state");
    }
}
