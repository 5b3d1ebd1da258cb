//! One coordinator's part of the agreement, as a pure state machine: events in, effects out.
//!
//! [`Round`] promises that it asks nobody to sign a slashable duty before a threshold of members
//! has promised it under the ballot it signs under, all of them to this round, or all when the caller
//! began to lead them, nor later than [`SIGN_WINDOW`] after that ballot began; that it calls a request refused only if so many members refuse that it can never
//! be signed; that as many members as can be spared end no round, nor name its reason, by abstaining,
//! in whichever order the answers come; and that it is done by its deadline. It never decides what is safe to sign: ledgers
//! do. Time is a [`Duration`] since a start that the caller chose; chance is the caller's.

mod leading;
mod machine;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use duty::SigningRoot;

use crate::{PartialSignature, ShareIndex};

pub use leading::{Horizon, Lead};
pub use machine::Round;

/// No sign request is sent later than this after its ballot began, so that a promise forgotten by
/// a restart cannot let an old coordinator in.
pub const SIGN_WINDOW: Duration = Duration::from_secs(1);

/// All whom a caller leads began within this, by its clock: who restarts in between begins nothing, because
/// of its start pause, which is longer than this and [`SIGN_WINDOW`] together.
pub const LEAD_WINDOW: Duration = Duration::from_millis(500);

/// A coordinator's bid for one duty: ordered by round, then by root. Callers that want the same
/// message in the same round share one ballot; different messages never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ballot {
    /// The round, counted from 0 by each coordinator.
    pub round: u64,
    /// The root the coordinator wants signed.
    pub root: SigningRoot,
}

/// A cosigner, as the caller numbers them. Not a share index: two cosigners may claim one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(pub usize);

/// How the members are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Promise, then sign: for duties that can be slashed.
    Promised,
    /// Sign at once: for duties that cannot be slashed.
    Direct,
    /// Have those sign at once who promised this, and all that nobody else was promised, when the
    /// caller began to lead them; where they are too few, promise, then sign. For a duty that can be
    /// slashed, of which the caller has asked no other message to be signed in this way.
    Led,
}

/// What a round is about.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The root to be signed.
    pub root: SigningRoot,
    /// How the members are asked.
    pub mode: Mode,
    /// The committee's threshold t.
    pub threshold: usize,
    /// The committee's size n; members that no cosigner answers for count as absent.
    pub size: usize,
    /// Who may be asked, the fastest first. Indices may be claimed twice: both may be asked, they count
    /// once, and whose partial verifies is believed.
    pub members: Vec<Invited>,
    /// When the answer must be there.
    pub deadline: Duration,
}

/// Who may be asked, and what is known of how it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invited {
    /// Who.
    pub peer: Peer,
    /// The share index that it claims.
    pub index: ShareIndex,
    /// Without a promise for longer than this after it was asked, it is late: others are not kept waiting for it.
    pub promise_within: Duration,
    /// Without a signature for longer than this after it was asked, it is late: another is asked as well.
    pub sign_within: Duration,
    /// Asked to sign only where the others are too few, or late.
    pub reserve: bool,
    /// Asked to sign beyond what is needed, and not counted on: to learn how long it takes now.
    pub sounded: bool,
    /// Asked for a promise only when the others are too few, or late, or in the second ballot, and at
    /// once if there is no time for that: it costs nothing while all is well.
    pub spare: bool,
    /// The caller leads it, and the duty is among what that is good for.
    pub led: bool,
}

/// What happened. `round` is that of the effect which is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member promised the duty to the ballot of `round`.
    Promised {
        /// Who.
        peer: Peer,
        /// The round asked for.
        round: u64,
        /// The root that it has signed for this duty already, if any.
        signed: Option<SigningRoot>,
    },
    /// A member holds a higher ballot than the one of `round`.
    Outbid {
        /// Who.
        peer: Peer,
        /// The round asked for.
        round: u64,
        /// What it holds.
        held: Ballot,
    },
    /// A member gave a partial signature, in whichever round: it stays valid.
    Signed {
        /// Who.
        peer: Peer,
        /// Not verified.
        partial: PartialSignature,
    },
    /// A member will never sign this.
    Refused {
        /// Who.
        peer: Peer,
        /// Why.
        refusal: Refusal,
    },
    /// A member could not answer, or answered what cannot be understood.
    Failed {
        /// Who.
        peer: Peer,
        /// The round asked for.
        round: u64,
        /// Why.
        failure: Failure,
    },
    /// The combination asked for last was verified: the round is done.
    Combined,
    /// The combination asked for last failed by the partials of these members.
    Blamed(Vec<ShareIndex>),
    /// The moment of the last [`Effect::WakeAt`] has come.
    Woken,
    /// The moment chosen for the last [`Effect::RetryBetween`] has come.
    Retry,
}

/// What the caller shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask these for a promise of the duty to the ballot.
    Promise {
        /// The ballot.
        ballot: Ballot,
        /// Whom to ask.
        to: Vec<Peer>,
        /// When asking has become useless.
        not_after: Duration,
    },
    /// Ask these for partial signatures.
    Sign {
        /// The round to name in the events that answer this.
        round: u64,
        /// The promised ballot; none for duties that cannot be slashed.
        ballot: Option<Ballot>,
        /// No promise was asked for: the lead stands in for it.
        led: bool,
        /// Whom to ask.
        to: Vec<Peer>,
        /// When it must not be sent any more.
        not_after: Duration,
    },
    /// Combine these, exactly a threshold of distinct members, and verify the result.
    Combine(Vec<(ShareIndex, PartialSignature)>),
    /// These gave partials that are not valid.
    Blame(Vec<Peer>),
    /// These are not the partials that were combined for their indices. Verify them, and blame whose
    /// does not hold: one may be the same partial in another form, and of a combination that holds,
    /// the parts need not, if two liars make up for each other.
    Suspect(Vec<(Peer, ShareIndex, PartialSignature)>),
    /// Give [`Event::Woken`] at this moment; replaces the moment before.
    WakeAt(Duration),
    /// Give [`Event::Retry`] once, at a random moment between these two.
    RetryBetween {
        /// Not before.
        earliest: Duration,
        /// Not after.
        latest: Duration,
    },
    /// It will not be signed; nothing follows.
    Finish(Verdict),
}

/// Why something was not signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// More members than can be spared refuse: asking again is useless.
    Refused(Refusal),
    /// It may be asked again.
    Unavailable(Failure),
}

/// A member's final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub reason: RefusalReason,
    /// One clause for people.
    pub message: String,
}

/// Why a member will never sign. In the order in which they explain a refusal by several members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalReason {
    /// It conflicts with what was signed before.
    Slashable,
    /// It is at or above the height at which an operator stopped signing.
    Stopped,
    /// The validator is frozen or disabled.
    Disabled,
    /// It names another chain.
    WrongChain,
    /// This kind of duty is not allowed.
    NotAllowed,
    /// It was not understood.
    Invalid,
    /// No share of this validator is held.
    NotFound,
}

/// What kept a member from signing what others signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dissent {
    /// It refused for good, or says it has signed another message.
    Refused(RefusalReason),
    /// It held another ballot.
    Outbid,
}

/// Why there was no answer, or no signature, that may be there next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub reason: FailureReason,
    /// One clause for people.
    pub message: String,
}

/// Why there was no answer, or no signature. The more specific first: of reasons that keep equally
/// many members from signing, the first explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureReason {
    /// Another message for the same duty is being signed.
    Contended,
    /// The claim lies in the member's future.
    BeyondClock,
    /// The member's ledger may have forgotten something, and waits until that is harmless.
    Quarantined,
    /// The member's ledger could not be reached in time.
    Ledger,
    /// A bound was reached at the member or on the way to it.
    Busy,
    /// The member has just started.
    Starting,
    /// The request came too late after the promise.
    TooLate,
    /// The member is not led by the caller, or not in this duty: it has to promise first.
    NotLed,
    /// The answer could not be understood, or the partial was not valid.
    Faulty,
    /// There was no connection, or it broke.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// Too few members hold a share of this validator.
    TooFewShares,
    /// The deadline passed.
    Deadline,
}

impl RefusalReason {
    /// A name for metrics and machine-readable replies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slashable => "slashable",
            Self::Stopped => "stopped",
            Self::Disabled => "disabled",
            Self::WrongChain => "wrong_chain",
            Self::NotAllowed => "not_allowed",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
        }
    }
}

impl Dissent {
    /// A name for metrics and machine-readable replies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.name(),
            Self::Outbid => "outbid",
        }
    }
}

impl FailureReason {
    /// Whether asking the member again within the same request is useless: neither a clock nor a
    /// quarantine changes in the time that a request has.
    #[must_use]
    pub const fn lasts(self) -> bool {
        matches!(self, Self::BeyondClock | Self::Quarantined)
    }

    /// A name for metrics and machine-readable replies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contended => "contended",
            Self::BeyondClock => "beyond_clock",
            Self::Quarantined => "quarantined",
            Self::Ledger => "ledger",
            Self::Busy => "busy",
            Self::Starting => "starting",
            Self::TooLate => "too_late",
            Self::NotLed => "not_led",
            Self::Faulty => "faulty",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::TooFewShares => "too_few_shares",
            Self::Deadline => "deadline",
        }
    }
}
