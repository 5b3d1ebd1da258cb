//! What is watched while as many lie as may: who lies is held to account for it, by all that a
//! signer-api shows, and nobody else is for anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tests::liar::Liar;

use crate::{
    blame::{Counts, Line, Log, Seen, Word, risen},
    table::{Case, Proof},
};

/// What honest ones may be counted for where a machine has much to do, unless liars are for it. Those
/// that are a bit late need no other: they answer, long before a deadline.
const EXCUSES: [&str; 2] = ["busy", "starting"];

pub struct Watch<'a> {
    case: &'a Case,
    liars: BTreeSet<u64>,
    before: Seen,
    /// As it was looked last.
    now: Option<Seen>,
    /// Who did what it is held to account for last, not before when.
    noticed: BTreeMap<(Word, u64), Instant>,
    /// Who was down, and who was not asked, at any time.
    down: BTreeSet<u64>,
    unasked: BTreeSet<u64>,
}

impl<'a> Watch<'a> {
    /// `before` is what was shown before they lied.
    pub fn begin(case: &'a Case, liars: BTreeSet<u64>, before: Seen) -> Self {
        Self {
            case,
            liars,
            before,
            now: None,
            noticed: BTreeMap::new(),
            down: BTreeSet::new(),
            unasked: BTreeSet::new(),
        }
    }

    /// What is shown now, and was logged since it was last looked: all of it must be just.
    pub fn look(&mut self, now: Seen, lines: &[Line]) {
        for (number, reason) in risen(&self.before.counted.failures, &now.counted.failures) {
            let is_just = self.liars.contains(&number) || self.is_excused(reason);
            assert!(
                is_just,
                "{}: cosigner-{number} fails: {reason}",
                self.name()
            );
        }
        for number in now.down().union(now.unasked()) {
            let is_just = self.liars.contains(number);
            assert!(is_just, "{}: cosigner-{number} is out", self.name());
        }
        for word in [Word::Blame, Word::Dissent] {
            let last = self.now();
            let [before, after] = [last, &now].map(|seen| counts(seen, word));
            let since = last.at;
            let risen: Vec<_> = risen(before, after).collect();
            for (number, reason) in &risen {
                self.is_just(word, *number, reason);
            }
            let risen = risen.iter().map(|(number, _)| ((word, *number), since));
            let risen: Vec<_> = risen.collect();
            self.noticed.extend(risen);
        }
        for line in lines {
            self.is_just(line.word, line.number, &line.reason);
        }
        self.down.append(&mut now.down());
        self.unasked.extend(now.unasked());
        self.now = Some(now);
    }

    fn now(&self) -> &Seen {
        self.now.as_ref().unwrap_or(&self.before)
    }

    fn name(&self) -> &'static str {
        self.case.name
    }

    fn is_excused(&self, reason: &str) -> bool {
        EXCUSES.contains(&reason) && !self.case.fails.contains(&reason)
    }

    fn is_just(&self, word: Word, number: u64, reason: &str) {
        let is_due = match word {
            Word::Blame => self.case.blamed == Some(reason),
            Word::Dissent => self.case.dissents == Some(reason),
            Word::Fails | Word::Silent => true,
        };
        assert!(
            is_due && self.liars.contains(&number),
            "{}: {word:?} of cosigner-{number}: {reason}",
            self.name()
        );
    }

    /// Nothing is missing of what must be shown of all that lie.
    pub fn is_complete(&self, members: &[Liar], log: &Log) -> Result<(), String> {
        let mut liars = members.iter();
        liars.try_for_each(|liar| {
            if !self.liars.contains(&liar.number()) {
                return Ok(());
            }
            was_asked(self.case, liar)?;
            self.is_counted(liar.number())?;
            self.is_shown(liar.number())?;
            self.is_out(liar.number(), log)?;
            self.is_logged(liar.number(), log)
        })
    }

    /// What it is held to account for.
    fn due(&self) -> impl Iterator<Item = (Word, &'static str)> {
        let due = [
            (Word::Blame, self.case.blamed),
            (Word::Dissent, self.case.dissents),
        ];
        let is_noticed = self.case.is_noticed;
        let due = due.into_iter().filter(move |_| is_noticed);
        due.filter_map(|(word, reason)| Some((word, reason?)))
    }

    fn is_counted(&self, number: u64) -> Result<(), String> {
        let has_risen = |before: &Counts, now: &Counts, reasons: &[&str]| {
            risen(before, now).any(|(of, reason)| of == number && reasons.contains(&reason))
        };
        let fails = self.case.fails;
        let [before, now] = [&self.before, self.now()].map(|seen| &seen.counted.failures);
        if !fails.is_empty() && !has_risen(before, now, fails) {
            return Err(format!(
                "no failure of cosigner-{number} is counted: {fails:?}"
            ));
        }
        for (word, reason) in self.due() {
            let [before, now] = [&self.before, self.now()].map(|seen| counts(seen, word));
            if !has_risen(before, now, &[reason]) {
                return Err(format!("{reason} of cosigner-{number} is not counted"));
            }
        }
        Ok(())
    }

    fn is_shown(&self, number: u64) -> Result<(), String> {
        let [before, now] = [&self.before, self.now()].map(|seen| seen.health(number));
        let tells = |(word, reason)| {
            let (count, last) = match word {
                Word::Blame => ("misdeeds", "last-misdeed"),
                Word::Dissent => ("dissents", "last-dissent"),
                Word::Fails | Word::Silent => return true,
            };
            let [before, count] = [before, now].map(|check| check["data"][count].as_u64());
            now["data"][last] == reason && count > before
        };
        let is_shown = self.due().all(tells) && self.case.shows.is_none_or(|shows| shows(now));
        let missing = || format!("the health of cosigner-{number} does not tell of it: {now}");
        is_shown.then_some(()).ok_or_else(missing)
    }

    /// Who fails again and again is out: the health check, the metric and the log say so.
    fn is_out(&self, number: u64, log: &Log) -> Result<(), String> {
        let words = self.case.out;
        let shown = [
            ("health check", self.down.contains(&number)),
            ("metric", self.unasked.contains(&number)),
            ("log", log.says(words, number, self.before.at)),
        ];
        let missing = shown.iter().find(|(_, is_shown)| !is_shown);
        let missing = missing.filter(|_| !words.is_empty());
        missing.map_or(Ok(()), |(what, _)| {
            Err(format!("cosigner-{number} is not out by the {what}"))
        })
    }

    fn is_logged(&self, number: u64, log: &Log) -> Result<(), String> {
        for (word, reason) in self.due() {
            let noticed = self.noticed.get(&(word, number));
            if !noticed.is_some_and(|at| log.tells(word, number, reason, *at)) {
                let what = format!("{word:?} of cosigner-{number}: {reason}");
                return Err(format!("the log does not tell of {what}"));
            }
        }
        Ok(())
    }
}

fn counts(seen: &Seen, word: Word) -> &Counts {
    match word {
        Word::Blame => &seen.counted.misdeeds,
        Word::Dissent => &seen.counted.dissents,
        Word::Fails | Word::Silent => &seen.counted.failures,
    }
}

fn was_asked(case: &Case, liar: &Liar) -> Result<(), String> {
    let was_asked = match case.proof {
        Proof::Promises(least) => liar.promises() + liar.signatures() >= least,
        Proof::Signatures => liar.signatures() > 0,
        Proof::Listings => liar.listings() > 0,
        Proof::Connections => liar.connections() > 0,
        // By both signer-apis.
        Proof::Health => liar.listeners() >= 2,
    };
    let missing = || format!("cosigner-{} was not asked", liar.number());
    was_asked.then_some(()).ok_or_else(missing)
}
