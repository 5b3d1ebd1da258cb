//! What is true of the ledger as a whole, and whether it can be the one that this cosigner knew.
//!
//! Pure: the row `standing` and the anchor in, a doubt out.

use std::{fmt, time::Duration};

use duty::{Claim, Epoch};

use crate::{
    administration::Stop,
    anchor::{Anchor, Found, Holder, LedgerId, ServerMark, TOUCH_GAP_S, UNCLEAN_GAP_S},
};

impl Stop {
    /// Whether a claim is at or above.
    #[must_use]
    pub fn forbids(&self, claim: &Claim) -> bool {
        match *claim {
            Claim::Attest { target, .. } => self.epoch.is_some_and(|stop| target >= stop),
            Claim::Propose { slot } => self.slot.is_some_and(|stop| slot >= stop),
        }
    }
}

/// What an operator has decided about the whole ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orders {
    pub(super) stop: Stop,
    /// Nothing is signed for any validator.
    pub(super) frozen_all: bool,
    /// Rises with each order.
    pub(super) number: u64,
}

/// The row `standing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) ledger_id: LedgerId,
    pub(super) holder: Option<Holder>,
    /// For people: host and process.
    pub(super) holder_name: String,
    /// How long ago the holder last wrote it, by the database's clock.
    pub(super) renewed_ago: Option<Duration>,
    pub(super) commits: u64,
    pub(super) quarantined_until: Option<Epoch>,
    pub(super) orders: Orders,
    pub(super) server: Option<ServerMark>,
    /// When an SQLite file was last changed before it was opened, if there was a log beside it, in
    /// seconds since 1970.
    pub(super) logged_since_s: Option<i64>,
    /// The row's own time, whatever its unit: it changes while a holder lives.
    pub(super) renewed: Option<i64>,
}

/// Why a ledger may have forgotten something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The ledger has decided, and there is no anchor.
    NoAnchor,
    /// The anchor can not be read.
    Damaged,
    /// The anchor is about another ledger.
    AnotherLedger,
    /// The anchor is a copy of the one that was written.
    Copied,
    /// The ledger counts fewer commits than the anchor.
    Behind {
        /// What the ledger counts.
        ledger: u64,
        /// What the anchor counts.
        anchor: u64,
    },
    /// The server's log stands before the anchor's position, on the same timeline.
    LogBehind,
    /// Another cosigner has held the ledger since: what it decided is not in this anchor.
    AnotherHolder(String),
    /// The cosigner went down without an orderly end, so long ago that it may have been restored.
    Away(Duration),
    /// The anchor's file, or the database's under its log, was written after the process last lived.
    Touched,
    /// The machine's clock jumped ahead while the process stood still: a resumed snapshot.
    ClockJumped(Duration),
    /// The operator says that it was restored.
    Told,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnchor => {
                f.write_str("the ledger has decided before, and there is no anchor beside it")
            }
            Self::Damaged => f.write_str("the anchor can not be read"),
            Self::AnotherLedger => f.write_str("the anchor is about another ledger"),
            Self::Copied => f.write_str("the anchor is a copy of the file that was written"),
            Self::Behind { ledger, anchor } => write!(
                f,
                "the ledger counts {ledger} commits and the anchor {anchor}: it is an older state"
            ),
            Self::LogBehind => {
                f.write_str("the server's log stands before the position that the anchor knows")
            }
            Self::AnotherHolder(name) => write!(
                f,
                "another cosigner ({name}) has held the ledger since, and its anchor is not here"
            ),
            Self::Away(gap) => write!(
                f,
                "the cosigner went down without an orderly end {} s ago: it may have been restored",
                gap.as_secs()
            ),
            Self::Touched => f.write_str(
                "the anchor's file or the database's was written after the cosigner last lived",
            ),
            Self::ClockJumped(jump) => write!(
                f,
                "the clock jumped ahead by {} s while the process stood still: it may be a resumed \
                 snapshot",
                jump.as_secs()
            ),
            Self::Told => f.write_str("it was started with --restored"),
        }
    }
}

impl Standing {
    /// Whether somebody other than the writer of this anchor may be at work.
    pub(super) fn is_anothers(&self, anchor: &Anchor) -> bool {
        let Some(holder) = self.holder else {
            return false;
        };
        match anchor.found() {
            Found::Mark(mark) => !anchor.is_of_this_file(mark) || !mark.is_of(holder),
            Found::Nothing | Found::Damaged => true,
        }
    }

    /// Why this may not be all that the writer of the anchor knew. `now_s` is in seconds since
    /// 1970.
    pub(super) fn doubt(&self, anchor: &Anchor, now_s: u64) -> Option<Doubt> {
        let mark = match anchor.found() {
            Found::Nothing if self.holder.is_none() && self.commits == 0 => return None,
            Found::Nothing => return Some(Doubt::NoAnchor),
            Found::Damaged => return Some(Doubt::Damaged),
            Found::Mark(mark) => mark,
        };
        if mark.ledger_id != self.ledger_id {
            return Some(Doubt::AnotherLedger);
        }
        if !anchor.is_of_this_file(mark) {
            return Some(Doubt::Copied);
        }
        if self.commits < mark.commits {
            return Some(Doubt::Behind {
                ledger: self.commits,
                anchor: mark.commits,
            });
        }
        match self.holder {
            // Nobody has held it: it was opened for the first time, or a tool has imported into it.
            None if mark.commits == 0 || mark.holder == Holder::NOBODY => {}
            Some(holder) if mark.is_of(holder) => {}
            Some(_) | None => return Some(Doubt::AnotherHolder(self.holder_name.clone())),
        }
        if let (Some(then), Some(now)) = (&mark.server, &self.server)
            && (then.system_identifier, then.timeline) == (now.system_identifier, now.timeline)
            && now.lsn < then.lsn
        {
            return Some(Doubt::LogBehind);
        }
        let gap_s = now_s.saturating_sub(mark.alive_at_s);
        if !mark.ended && gap_s > UNCLEAN_GAP_S {
            return Some(Doubt::Away(Duration::from_secs(gap_s)));
        }
        let latest = mark.alive_at_s.saturating_add(TOUCH_GAP_S);
        let latest = i64::try_from(latest).unwrap_or(i64::MAX);
        let changed = [Some(anchor.changed_s()), self.logged_since_s];
        let touched = changed.into_iter().flatten().any(|at| at > latest);
        touched.then_some(Doubt::Touched)
    }
}
