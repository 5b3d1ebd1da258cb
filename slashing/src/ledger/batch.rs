//! One batch, pure: from the rows that were locked to what is written, and from what was committed
//! to permits. Both databases run the same steps between their BEGIN and their COMMIT.

use std::collections::{BTreeMap, BTreeSet};

use duty::{Claim, Epoch, Permit, PublicKey, SigningRoot, Slot};

use super::{Prospect, Question, Refused, standing::Orders};
use crate::rules::{self, Conflict, Ratchet, Verdict};

/// [`rules::decide`]; in a test build, another one that shows what the schema refuses by itself.
pub(super) type Rule = fn(&Ratchet, &Claim, SigningRoot) -> Verdict;

/// What a batch is decided by, besides the rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) rule: Rule,
    pub(super) orders: Orders,
}

/// A validator's row, as it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) validator: PublicKey,
    pub(super) ratchet: Ratchet,
    pub(super) disabled: bool,
}

/// What of a validator can be signed only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Once {
    Target(Epoch),
    Slot(Slot),
}

impl From<&Claim> for Once {
    fn from(claim: &Claim) -> Self {
        match *claim {
            Claim::Attest { target, .. } => Self::Target(target),
            Claim::Propose { slot } => Self::Slot(slot),
        }
    }
}

/// Messages that this ledger decided, out of its history.
#[derive(Debug, Default)]
pub(super) struct Past(BTreeMap<(PublicKey, Once), (Claim, SigningRoot)>);

impl Past {
    pub(super) fn add(&mut self, validator: PublicKey, claim: Claim, root: SigningRoot) {
        self.0
            .insert((validator, Once::from(&claim)), (claim, root));
    }

    fn signed(&self, question: &Question) -> Option<(Claim, SigningRoot)> {
        let key = (question.validator, Once::from(&question.claim));
        self.0.get(&key).copied()
    }

    /// Whether this ledger decided exactly this message.
    fn holds(&self, question: &Question) -> bool {
        self.signed(question) == Some((question.claim, question.root))
    }
}

/// What came of a claim.
#[derive(Debug)]
pub(super) enum Decision {
    Permitted(Permit),
    Refused(Refused),
    /// Another transaction holds the row. Nothing was decided.
    Locked,
}

/// What is to be done about each claim of a batch.
pub(super) struct Plan<'a>(Vec<(&'a Question, Step)>);

enum Step {
    Write {
        ratchet: Ratchet,
        append: bool,
    },
    Refuse(Refused),
    /// Refused by a height that was signed, unless the history has this very message.
    Conflicts(Ratchet, Conflict),
    /// The row was not returned: it is locked, or there is none.
    Absent,
    Locked,
}

/// A row to be written.
pub(super) struct Write {
    pub(super) validator: PublicKey,
    pub(super) ratchet: Ratchet,
}

impl<'a> Plan<'a> {
    /// Applies the rule. `rows` are those that this transaction has locked.
    pub(super) fn new(questions: &'a [Question], rows: &[Row], terms: Terms) -> Self {
        let rows: BTreeMap<PublicKey, &Row> = rows.iter().map(|row| (row.validator, row)).collect();
        let step = |question: &Question| {
            let Some(row) = rows.get(&question.validator) else {
                return Step::Absent;
            };
            if row.disabled || terms.orders.frozen_all {
                return Step::Refuse(Refused::Disabled);
            }
            if terms.orders.stop.forbids(&question.claim) {
                return Step::Refuse(Refused::Stopped);
            }
            match (terms.rule)(&row.ratchet, &question.claim, question.root) {
                Verdict::Advance(ratchet) => Step::Write {
                    ratchet,
                    append: true,
                },
                Verdict::Repeat => Step::Write {
                    ratchet: row.ratchet,
                    append: false,
                },
                Verdict::Conflict(conflict) if is_malformed(&conflict) => {
                    Step::Refuse(conflict.into())
                }
                Verdict::Conflict(conflict) => Step::Conflicts(row.ratchet, conflict),
            }
        };
        Self(
            questions
                .iter()
                .map(|question| (question, step(question)))
                .collect(),
        )
    }

    /// Validators without a row: locked by another, or not there at all.
    pub(super) fn absent(&self) -> Vec<PublicKey> {
        self.filter(|step| matches!(step, Step::Absent))
            .map(|question| question.validator)
            .collect()
    }

    /// Takes up which absent validators there are: they are locked, the others not registered.
    pub(super) fn know(&mut self, registered: &BTreeSet<PublicKey>) {
        for (question, step) in &mut self.0 {
            if matches!(step, Step::Absent) {
                *step = match registered.contains(&question.validator) {
                    true => Step::Locked,
                    false => Step::Refuse(Refused::NotRegistered),
                };
            }
        }
    }

    /// What the history is to be asked about.
    pub(super) fn conflicting(&self) -> Vec<Question> {
        self.filter(|step| matches!(step, Step::Conflicts(..)))
            .copied()
            .collect()
    }

    /// Takes up the history: what this ledger decided itself may be repeated exactly.
    pub(super) fn recall(&mut self, past: &Past) {
        for (question, step) in &mut self.0 {
            if let Step::Conflicts(ratchet, conflict) = *step {
                *step = match past.holds(question) {
                    true => Step::Write {
                        ratchet,
                        append: false,
                    },
                    false => Step::Refuse(conflict.into()),
                };
            }
        }
    }

    /// The rows to write, in the batch's order.
    pub(super) fn writes(&self) -> Vec<Write> {
        let write = |(question, step): &(&Question, Step)| match step {
            Step::Write { ratchet, .. } => Some(Write {
                validator: question.validator,
                ratchet: *ratchet,
            }),
            Step::Refuse(_) | Step::Conflicts(..) | Step::Absent | Step::Locked => None,
        };
        self.0.iter().filter_map(write).collect()
    }

    /// The decisions to append to the history, in the batch's order.
    pub(super) fn appends(&self) -> Vec<Question> {
        self.filter(|step| matches!(step, Step::Write { append: true, .. }))
            .copied()
            .collect()
    }

    /// Whose permits the commit stands for, in the batch's order.
    #[cfg(feature = "test-seams")]
    pub(super) fn decided(&self) -> Vec<(PublicKey, SigningRoot)> {
        self.filter(|step| matches!(step, Step::Write { .. }))
            .map(|question| (question.validator, question.root))
            .collect()
    }

    /// The outcome of each claim, in the batch's order. Only what was committed is permitted.
    pub(super) fn conclude(self, committed: &Committed) -> Vec<Decision> {
        let conclude = |(question, step): (&Question, Step)| match step {
            Step::Write { .. } if committed.0.contains(&question.validator) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the one place: the row was returned by the write, and COMMIT returned"
                )]
                let permit = Permit::after_commit(question.validator, question.root);
                Decision::Permitted(permit)
            }
            Step::Refuse(refused) => Decision::Refused(refused),
            Step::Conflicts(_, conflict) => Decision::Refused(conflict.into()),
            Step::Write { .. } | Step::Absent | Step::Locked => Decision::Locked,
        };
        self.0.into_iter().map(conclude).collect()
    }

    fn filter(&self, keep: impl Fn(&Step) -> bool) -> impl Iterator<Item = &'a Question> {
        let kept = move |(question, step): &(&'a Question, Step)| keep(step).then_some(*question);
        self.0.iter().filter_map(kept)
    }
}

/// The rows that a write returned whose COMMIT has returned.
pub(super) struct Committed(BTreeSet<PublicKey>);

impl Committed {
    /// Nothing was written.
    pub(super) const NOTHING: Self = Self(BTreeSet::new());

    /// **Only** to be called where COMMIT has returned; there is one such place per database.
    pub(super) const fn after_commit(written: BTreeSet<PublicKey>) -> Self {
        Self(written)
    }
}

/// The answers to questions about duties. `past` holds what the history has about those that
/// [`conflicting_now`] named.
pub(super) fn foresee(
    questions: &[Question],
    rows: &[Row],
    past: &Past,
) -> Vec<Result<Prospect, Refused>> {
    let rows: BTreeMap<PublicKey, &Row> = rows.iter().map(|row| (row.validator, row)).collect();
    let answer = |question: &Question| {
        let row = rows
            .get(&question.validator)
            .ok_or(Refused::NotRegistered)?;
        if row.disabled {
            return Err(Refused::Disabled);
        }
        match rules::decide(&row.ratchet, &question.claim, question.root) {
            Verdict::Advance(_) => Ok(Prospect::Free),
            Verdict::Repeat => Ok(Prospect::Signed(question.root)),
            Verdict::Conflict(conflict) if is_malformed(&conflict) => Err(conflict.into()),
            Verdict::Conflict(conflict) => top(&row.ratchet, &question.claim)
                .or_else(|| past.signed(question).map(|(_, root)| root))
                .map(Prospect::Signed)
                .ok_or_else(|| conflict.into()),
        }
    };
    questions.iter().map(answer).collect()
}

/// Those of the questions whose answer depends on the history.
pub(super) fn conflicting_now(questions: &[Question], rows: &[Row]) -> Vec<Question> {
    let terms = Terms {
        rule: rules::decide,
        orders: Orders::default(),
    };
    Plan::new(questions, rows, terms).conflicting()
}

/// Whether the claim is one that nobody could ever have signed here.
const fn is_malformed(conflict: &Conflict) -> bool {
    match conflict {
        Conflict::OutOfRange(..) | Conflict::SourceAfterTarget { .. } => true,
        Conflict::SourceBelow { .. }
        | Conflict::TargetNotAbove { .. }
        | Conflict::SlotNotAbove { .. } => false,
    }
}

/// What the ratchet knows to be signed for the claim's target or slot.
fn top(ratchet: &Ratchet, claim: &Claim) -> Option<SigningRoot> {
    match *claim {
        Claim::Attest { target, .. } => ratchet
            .attested
            .filter(|attested| attested.target == target)
            .and_then(|attested| attested.root),
        Claim::Propose { slot } => ratchet
            .proposed
            .filter(|proposed| proposed.slot == slot)
            .and_then(|proposed| proposed.root),
    }
}
