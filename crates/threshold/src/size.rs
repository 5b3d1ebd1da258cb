//! How many members a committee has, and how many of them sign.

use std::{fmt, str::FromStr};

/// t of n: safe, because 1 ≤ t ≤ n < 2t.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitteeSize {
    threshold: usize,
    members: usize,
}

/// t and n that make no safe committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeCommittee {
    /// More partials would be needed than there are members.
    #[error("a threshold of {threshold} with only {members} members")]
    TooFewMembers {
        /// t
        threshold: usize,
        /// n
        members: usize,
    },
    /// Two disjoint sets of members could sign two conflicting messages.
    #[error(
        "a threshold of {threshold} of {members} members lets two conflicting messages be signed; \
         it must be more than half"
    )]
    NoMajority {
        /// t
        threshold: usize,
        /// n
        members: usize,
    },
    /// More members than are supported.
    #[error("{members} members, more than {}", CommitteeSize::MEMBERS_MAX)]
    TooManyMembers {
        /// n
        members: usize,
    },
}

impl CommitteeSize {
    /// The most members a committee has.
    pub const MEMBERS_MAX: usize = 64;

    /// A committee of `members` of which `threshold` sign.
    ///
    /// # Errors
    /// [`UnsafeCommittee`] unless 1 ≤ t ≤ n < 2t and n ≤ [`Self::MEMBERS_MAX`].
    pub const fn new(threshold: usize, members: usize) -> Result<Self, UnsafeCommittee> {
        if members > Self::MEMBERS_MAX {
            Err(UnsafeCommittee::TooManyMembers { members })
        } else if threshold > members {
            Err(UnsafeCommittee::TooFewMembers { threshold, members })
        } else if threshold <= members / 2 {
            Err(UnsafeCommittee::NoMajority { threshold, members })
        } else {
            Ok(Self { threshold, members })
        }
    }

    /// t: how many partials make a signature.
    #[must_use]
    pub const fn threshold(self) -> usize {
        self.threshold
    }

    /// n: how many members there are.
    #[must_use]
    pub const fn members(self) -> usize {
        self.members
    }

    /// 2t − n − 1: how many members may be faulty while no two conflicting messages can both be
    /// signed.
    #[must_use]
    pub const fn tolerated_faults(self) -> usize {
        // t − (n − t) − 1, in an order that never goes below zero, because n < 2t.
        self.threshold
            .saturating_sub(self.members.saturating_sub(self.threshold))
            .saturating_sub(1)
    }

    /// n − t: how many members may be absent while signatures are still made.
    #[must_use]
    pub const fn tolerated_absences(self) -> usize {
        self.members.saturating_sub(self.threshold)
    }
}

impl fmt::Display for CommitteeSize {
    /// `3-of-4`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.threshold, self.members)
    }
}

/// Text that is no safe committee size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommitteeSize {
    /// Not of the form `3-of-4`.
    #[error("expected something like 3-of-4, got {0:?}")]
    Form(String),
    /// The numbers are unsafe.
    #[error(transparent)]
    Unsafe(#[from] UnsafeCommittee),
}

impl FromStr for CommitteeSize {
    type Err = InvalidCommitteeSize;

    /// Takes `3-of-4`.
    fn from_str(text: &str) -> Result<Self, InvalidCommitteeSize> {
        let numbers = text
            .split_once("-of-")
            .and_then(|(t, n)| Some((t.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((threshold, members)) => Ok(Self::new(threshold, members)?),
            None => Err(InvalidCommitteeSize::Form(text.to_owned())),
        }
    }
}
