//! One member as a round sees it.

use std::time::Duration;

use crate::{
    PartialSignature, ShareIndex,
    round::{Failure, Peer, Refusal},
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

impl Stage {
    /// Since when a promise or a signature is being waited for.
    pub(super) const fn asked_at(&self) -> Option<Duration> {
        match self {
            Self::PromiseAsked { at } | Self::SignAsked { at } => Some(*at),
            Self::Idle | Self::Promised { .. } | Self::Outbid | Self::Failed(_) => None,
        }
    }

    pub(super) const fn sign_asked_at(&self) -> Option<Duration> {
        if let Self::SignAsked { at } = self {
            Some(*at)
        } else {
            None
        }
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        if let Self::Failed(failure) = self {
            Some(failure)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) peer: Peer,
    pub(super) index: ShareIndex,
    pub(super) standing: Standing,
    pub(super) stage: Stage,
    pub(super) partial: Option<PartialSignature>,
    pub(super) doubted: bool,
}

impl Member {
    pub(super) const fn new(peer: Peer, index: ShareIndex, doubted: bool) -> Self {
        Self {
            peer,
            index,
            standing: Standing::Able,
            stage: Stage::Idle,
            partial: None,
            doubted,
        }
    }

    /// Whether it may still give a partial.
    pub(super) fn can_sign(&self) -> bool {
        self.standing == Standing::Able && self.partial.is_none()
    }
}
