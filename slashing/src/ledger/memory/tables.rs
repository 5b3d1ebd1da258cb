//! The tables and their statements, as the databases have them. Pure: time is an argument, counted
//! since the store was first used.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use duty::{Claim, Epoch, PublicKey, SigningRoot};

use crate::{
    anchor::{Highest, Holder, LedgerId},
    ledger::{
        InitialHistory, Prospect, Question, Refused, RegisterError,
        batch::{self, Once, Past, Plan, Row, Rule, Terms},
        lease::{Frozen, take::Taking},
        session::{Authority, Failure, Ordered, Renewal, Renewed},
        standing::{Orders, Standing},
    },
    rules::{self, Ratchet, Watermark},
    simulation::Outcome,
};
use raising::{higher, only_rises, raised_by};

mod raising;

/// By how much each of an import's two transactions raises the count of commits.
const ORDER_STEP: u64 = 1 << 20;

/// What a batch holds the ledger with.
pub(in crate::ledger) struct Held {
    pub(in crate::ledger) commits: u64,
    pub(in crate::ledger) orders: Orders,
}

/// What is in the database.
#[derive(Clone)]
pub(crate) struct Tables {
    ledger_id: LedgerId,
    holder: Option<Holder>,
    holder_name: String,
    renewed: Option<Duration>,
    commits: u64,
    quarantined_until: Option<Epoch>,
    floor: Option<Watermark>,
    orders: Orders,
    ratchets: BTreeMap<PublicKey, Row>,
    /// What this ledger decided.
    history: BTreeMap<(PublicKey, Once), (Claim, SigningRoot)>,
    /// Transactions whose client knows nothing of their end.
    in_doubt: Vec<Transaction>,
    /// Decisions, repeats included, in the order of their commits; for whoever watches.
    receipts: Vec<(PublicKey, SigningRoot)>,
}

/// A transaction that has done everything but its end.
#[derive(Clone)]
struct Transaction {
    ends: Duration,
    /// Whether it is committed then, or rolled back.
    happens: bool,
    ratchets: BTreeMap<PublicKey, Ratchet>,
    appends: Vec<Question>,
    decided: Vec<(PublicKey, SigningRoot)>,
    commits: u64,
    /// What waits for its rows: imports.
    then: Vec<(PublicKey, Claim)>,
}

impl Tables {
    /// An empty ledger that nobody has held.
    pub(crate) fn new() -> Self {
        Self {
            ledger_id: LedgerId([1; 16]),
            holder: None,
            holder_name: String::new(),
            renewed: None,
            commits: 0,
            quarantined_until: None,
            floor: None,
            orders: Orders::default(),
            ratchets: BTreeMap::new(),
            history: BTreeMap::new(),
            in_doubt: Vec::new(),
            receipts: Vec::new(),
        }
    }

    /// What was committed since this was asked last.
    pub(crate) fn take_receipts(&mut self) -> Vec<(PublicKey, SigningRoot)> {
        std::mem::take(&mut self.receipts)
    }

    /// Registers a validator, or raises it if it is registered.
    pub(crate) fn register(
        &mut self,
        validator: PublicKey,
        history: &InitialHistory,
    ) -> Result<(), RegisterError> {
        let existing = self.ratchet(&validator).unwrap_or_default();
        let ratchet = history.ratchet(existing)?;
        self.put(validator, ratchet);
        Ok(())
    }

    /// Writes a ratchet. A new one starts at the floor.
    fn put(&mut self, validator: PublicKey, ratchet: Ratchet) {
        let floor = self.floor;
        let row = self.ratchets.entry(validator).or_insert_with(|| Row {
            validator,
            ratchet: Ratchet::default(),
            disabled: false,
        });
        row.ratchet = match floor {
            Some(floor) => ratchet.raised_to(&floor),
            None => ratchet,
        };
    }

    pub(crate) fn has(&self, validator: &PublicKey, claim: &Claim, root: SigningRoot) -> bool {
        let key = (*validator, Once::from(claim));
        self.history.get(&key) == Some(&(*claim, root))
    }

    pub(crate) fn decided(&self, validator: &PublicKey) -> Vec<(Claim, SigningRoot)> {
        let of = self.history.iter().filter(|(key, _)| key.0 == *validator);
        of.map(|(_, decided)| *decided).collect()
    }

    pub(crate) fn ratchet(&self, validator: &PublicKey) -> Option<Ratchet> {
        self.ratchets.get(validator).map(|row| row.ratchet)
    }

    pub(crate) fn would_permit(&self, question: &Question) -> bool {
        !self
            .plan(std::slice::from_ref(question), rules::decide)
            .writes()
            .is_empty()
    }

    /// What is committed, without what is in doubt.
    pub(crate) fn committed(&self) -> Self {
        Self {
            in_doubt: Vec::new(),
            receipts: Vec::new(),
            ..self.clone()
        }
    }

    /// Becomes what was committed once. What was told of since stays told.
    pub(crate) fn put_back(&mut self, committed: &Self) {
        let receipts = self.take_receipts();
        *self = Self {
            receipts,
            ..committed.clone()
        };
    }

    pub(in crate::ledger) fn standing(&self, now: Duration) -> Standing {
        Standing {
            ledger_id: self.ledger_id,
            holder: self.holder,
            holder_name: self.holder_name.clone(),
            renewed_ago: self.renewed.map(|renewed| now.saturating_sub(renewed)),
            commits: self.commits,
            quarantined_until: self.quarantined_until,
            orders: self.orders,
            server: None,
            logged_since_s: None,
            renewed: self
                .renewed
                .and_then(|renewed| i64::try_from(renewed.as_millis()).ok()),
        }
    }

    /// Holds the ledger for one batch. `None` if another holds it, or it was put back.
    pub(in crate::ledger) fn hold(&self, authority: &Authority) -> Option<Held> {
        let holds = self.holder == Some(authority.holder) && self.commits >= authority.known;
        holds.then(|| Held {
            commits: self.commits.saturating_add(1).max(authority.number),
            orders: self.orders,
        })
    }

    pub(in crate::ledger) fn renew(&mut self, renewal: &Renewal, now: Duration) -> Option<Renewed> {
        if self.holder != Some(renewal.holder) || self.commits < renewal.known {
            return None;
        }
        self.renewed = Some(now);
        if renewal.quarantine_is_over {
            self.quarantined_until = None;
        }
        Some(Renewed {
            commits: self.commits,
            orders: self.orders,
        })
    }

    /// Whether the ledger was still as it was seen.
    pub(in crate::ledger) fn take(&mut self, taking: &Taking, now: Duration) -> bool {
        let seen = &taking.seen;
        let as_seen = (seen.ledger_id, seen.holder, seen.commits);
        if (self.ledger_id, self.holder, self.commits) != as_seen {
            return false;
        }
        self.holder = Some(taking.holder);
        self.holder_name.clone_from(&taking.name);
        self.commits = taking.commits;
        self.renewed = Some(now);
        let Some(raising) = &taking.raising else {
            return true;
        };
        if let Some(quarantine) = &raising.quarantine {
            self.quarantined_until = Some(quarantine.until);
        }
        // A watermark of the higher of each is one.
        let floor = self
            .floor
            .map_or(raising.watermark, |floor| higher(floor, raising.watermark));
        self.floor = Some(floor);
        for row in self.ratchets.values_mut() {
            row.ratchet = row.ratchet.raised_to(&raising.watermark);
        }
        true
    }

    /// What is to be done about a batch. Rows in another transaction are left out.
    pub(in crate::ledger) fn plan<'a>(&self, batch: &'a [Question], rule: Rule) -> Plan<'a> {
        let rows: Vec<Row> = self
            .rows(batch)
            .into_iter()
            .filter(|row| !self.is_locked(&row.validator))
            .collect();
        let terms = Terms {
            rule,
            orders: self.orders,
        };
        let mut plan = Plan::new(batch, &rows, terms);
        plan.recall(&self.past(&plan.conflicting()));
        let absent = plan.absent().into_iter();
        plan.know(
            &absent
                .filter(|key| self.ratchets.contains_key(key))
                .collect(),
        );
        plan
    }

    /// What keys and triggers refuse whatever the rule says.
    pub(in crate::ledger) fn refuse(&self, plan: &Plan<'_>) -> Result<(), Failure> {
        for appended in plan.appends() {
            let key = (appended.validator, Once::from(&appended.claim));
            if self.history.contains_key(&key) {
                return Err(Failure::Rejected("it is decided already".to_owned()));
            }
        }
        for write in plan.writes() {
            let old = self.ratchet(&write.validator).unwrap_or_default();
            if !only_rises(&old, &write.ratchet) {
                return Err(Failure::Rejected("a ratchet must not fall".to_owned()));
            }
        }
        Ok(())
    }

    /// Commits a batch.
    pub(in crate::ledger) fn write(&mut self, plan: &Plan<'_>, commits: u64, now: Duration) {
        self.renewed = Some(now);
        self.end(Transaction::new(
            plan,
            commits,
            Outcome::Happens(Duration::ZERO),
            now,
        ));
    }

    /// Leaves a batch's transaction behind, whose end its client does not hear of.
    pub(in crate::ledger) fn leave(
        &mut self,
        plan: &Plan<'_>,
        commits: u64,
        outcome: Outcome,
        now: Duration,
    ) {
        let left = Transaction::new(plan, commits, outcome, now);
        self.in_doubt.push(left);
        self.end_what_is_due(now);
    }

    /// Ends the transactions whose time has come, in order of their ends.
    pub(crate) fn end_what_is_due(&mut self, now: Duration) {
        let mut due: Vec<_> = self
            .in_doubt
            .extract_if(.., |left| left.ends <= now)
            .collect();
        due.sort_by_key(|left| left.ends);
        for transaction in due {
            self.end(transaction);
        }
    }

    /// `COMMIT`, or `ROLLBACK`.
    fn end(&mut self, transaction: Transaction) {
        if transaction.happens {
            self.commits = self.commits.max(transaction.commits);
            self.receipts.extend(transaction.decided);
            for (validator, ratchet) in transaction.ratchets {
                self.put(validator, ratchet);
            }
            for Question {
                validator,
                claim,
                root,
            } in transaction.appends
            {
                let key = (validator, Once::from(&claim));
                self.history.insert(key, (claim, root));
            }
        }
        for (validator, claim) in transaction.then {
            self.raise(validator, &claim);
        }
    }

    /// How long until the next transaction in doubt ends.
    pub(in crate::ledger) fn next_end(&self, now: Duration) -> Option<Duration> {
        let ends = self.in_doubt.iter().map(|left| left.ends);
        ends.min().map(|end| end.saturating_sub(now))
    }

    pub(crate) fn is_locked(&self, validator: &PublicKey) -> bool {
        let mut holders = self.in_doubt.iter();
        holders.any(|left| left.ratchets.contains_key(validator))
    }

    /// Those that are in no transaction.
    pub(in crate::ledger) fn unlocked(
        &self,
        validators: &BTreeSet<PublicKey>,
    ) -> BTreeSet<PublicKey> {
        let unlocked = validators.iter().filter(|key| !self.is_locked(key));
        unlocked.copied().collect()
    }

    fn rows(&self, questions: &[Question]) -> Vec<Row> {
        let rows = questions
            .iter()
            .filter_map(|asked| self.ratchets.get(&asked.validator));
        rows.copied().collect()
    }

    fn past(&self, questions: &[Question]) -> Past {
        let mut past = Past::default();
        for asked in questions {
            let key = (asked.validator, Once::from(&asked.claim));
            if let Some((claim, root)) = self.history.get(&key) {
                past.add(asked.validator, *claim, *root);
            }
        }
        past
    }

    pub(in crate::ledger) fn foresee(
        &self,
        questions: &[Question],
    ) -> Vec<Result<Prospect, Refused>> {
        let rows = self.rows(questions);
        let past = self.past(&batch::conflicting_now(questions, &rows));
        batch::foresee(questions, &rows, &past)
    }

    pub(in crate::ledger) fn ordered(&self) -> Ordered {
        let frozen = self.ratchets.values().filter(|row| row.disabled);
        Ordered {
            orders: self.orders,
            frozen: Frozen {
                all: self.orders.frozen_all,
                validators: frozen.map(|row| row.validator).collect(),
            },
            reach: self.reach(),
            commits: self.commits,
        }
    }

    fn reach(&self) -> Highest {
        let claims = self.ratchets.values().flat_map(|row| {
            let Ratchet { attested, proposed } = &row.ratchet;
            let attested = attested.as_ref().map(|vote| Claim::Attest {
                source: vote.source,
                target: vote.target,
            });
            let proposed = proposed
                .as_ref()
                .map(|block| Claim::Propose { slot: block.slot });
            [attested, proposed].into_iter().flatten()
        });
        Highest::of(claims)
    }

    /// Takes up a row of an interchange file. While a transaction in doubt holds the ratchet, it is
    /// raised now, and again when that has ended.
    pub(crate) fn import(&mut self, validator: PublicKey, claim: &Claim) {
        for left in &mut self.in_doubt {
            left.then.push((validator, *claim));
        }
        self.raise(validator, claim);
        // Its ratchets, and its history.
        for _ in 0..2 {
            self.orders.number = self.orders.number.saturating_add(1);
            self.commits = self.commits.saturating_add(ORDER_STEP);
        }
    }

    fn raise(&mut self, validator: PublicKey, claim: &Claim) {
        let old = self.ratchet(&validator).unwrap_or_default();
        self.put(validator, raised_by(&old, claim));
    }
}

impl Transaction {
    fn new(plan: &Plan<'_>, commits: u64, outcome: Outcome, now: Duration) -> Self {
        let (after, happens) = match outcome {
            Outcome::Never(after) => (after, false),
            Outcome::Happens(after) => (after, true),
        };
        let writes = plan.writes().into_iter();
        Self {
            ends: now.saturating_add(after),
            happens,
            ratchets: writes
                .map(|write| (write.validator, write.ratchet))
                .collect(),
            appends: plan.appends(),
            decided: plan.decided(),
            commits,
            then: Vec::new(),
        }
    }
}
