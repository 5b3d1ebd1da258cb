//! Many combined together: each as it would be alone, and as it should be.

use threshold::{Anticipated, Combination, CombineError, Committee, Signature, combine_each};

use super::{
    given::{self, Given},
    judged::check,
    known::{COMMITTEES, Faith, KNOWN, Known, ROOTS, root},
};
use crate::fuzzing::{Choices, Reached};

/// Different jobs in one batch at most.
const JOBS_MAX: usize = 6;
/// How often each of them may be in it, so that many can be bad.
const TIMES_MAX: u8 = 3;

/// What shall be combined.
struct Job {
    known: &'static Known,
    faith: Faith,
    committee: Committee,
    root: usize,
    given: Vec<Given>,
    anticipated: Option<Anticipated>,
}

type Combined = Result<Signature, CombineError>;

impl Job {
    /// Of three bytes and the lies: whose committee, over what, checked when, anticipated how; how
    /// many lie, who signs first and how many do; in which forms.
    fn new(choices: &mut Choices<'_>) -> Self {
        let [what, who, forms] = choices.array();
        let known = &KNOWN[usize::from(what % COMMITTEES)];
        let root = usize::from(what >> 2 & 3) % ROOTS;
        let faith = match what >> 4 & 3 {
            0 | 1 => Faith::Checked,
            2 => Faith::Deferred,
            _ => Faith::Misplaced,
        };
        let committee = known.with(faith);
        let other = &KNOWN[(usize::from(what % COMMITTEES) + 2) % KNOWN.len()];
        let anticipated = match what >> 6 {
            0 => None,
            1 => Some(Anticipated::new(&committee, self::root(root))),
            2 => Some(Anticipated::new(&committee, self::root((root + 1) % ROOTS))),
            _ => Some(Anticipated::new(&other.committee, self::root(root))),
        };
        let size = known.indices.len();
        let signing = (known.committee.threshold() + usize::from(who >> 5)).min(size);
        let positions = (0..size).map(|place| (place + usize::from(who >> 2 & 7)) % size);
        let mut given: Vec<Given> = Vec::new();
        for (place, at) in positions.take(signing).enumerate() {
            let form = if place % 2 == 0 {
                forms & 15
            } else {
                forms >> 4
            };
            let scale = given::scale(known, form, choices);
            given.push((known.indices[at], known.honest(at, root, scale)));
        }
        for _ in 0..who & 3 {
            let before = given.last().copied();
            let (liar, lie) = given::next(known, root, before, choices);
            let place = given.iter().position(|(index, _)| *index == liar);
            match (place, lie) {
                (Some(place), Some(lie)) => given[place].1 = lie,
                // What cannot be understood was not given.
                (Some(place), None) => drop(given.remove(place)),
                (None, Some(lie)) => given.push((liar, lie)),
                (None, None) => {}
            }
        }
        Self {
            known,
            faith,
            committee,
            root,
            given,
            anticipated,
        }
    }

    fn combination(&self) -> Combination<'_> {
        Combination {
            committee: &self.committee,
            root: root(self.root),
            partials: &self.given,
            anticipated: self.anticipated.as_ref(),
        }
    }
}

/// Whatever the others in a batch are, and whatever was anticipated, each is answered once as it is
/// alone, with the group's one signature or the error that names exactly its own liars; and the
/// signatures come first.
pub(super) fn property(mut choices: Choices<'_>) -> Reached {
    let seed = [choices.byte(); 32];
    let times = usize::from(choices.below(TIMES_MAX)) + 1;
    let mut jobs = Vec::new();
    while !choices.is_empty() && jobs.len() < JOBS_MAX {
        jobs.push(Job::new(&mut choices));
    }
    let batch = jobs.iter().map(Job::combination);
    let batch: Vec<Combination<'_>> = batch.collect::<Vec<_>>().repeat(times);
    let together = combined(&batch, &seed);
    for (position, job) in jobs.iter().enumerate() {
        let outcome = &together[position];
        check(job.known, job.faith, job.root, &job.given, outcome);
        for again in together.iter().skip(position).step_by(jobs.len()) {
            assert_eq!(again, outcome, "job {position}");
        }
        // Its commitments are decoded anew where that was put off.
        let alone = Job {
            committee: job.known.with(job.faith),
            given: job.given.clone(),
            anticipated: job.anticipated.clone(),
            ..*job
        };
        let answer = combined(&[alone.combination()], &seed);
        assert_eq!(answer.first(), Some(outcome), "job {position}");
        let plain = alone.committee.combine(root(job.root), &job.given);
        assert_eq!(&plain, outcome, "job {position}");
    }
    let is_judged = |outcome: &Combined| matches!(outcome, Ok(_) | Err(CombineError::Blame(_)));
    if together.iter().any(is_judged) {
        Reached::Taken
    } else {
        Reached::Refused
    }
}

fn combined(batch: &[Combination<'_>], seed: &[u8; 32]) -> Vec<Combined> {
    let mut answers: Vec<Option<Combined>> = vec![None; batch.len()];
    let mut is_anyone_blamed = false;
    combine_each(batch, seed, |position, answer| {
        is_anyone_blamed |= matches!(
            answer,
            Err(CombineError::Blame(_) | CombineError::Commitments(_))
        );
        assert!(!is_anyone_blamed || answer.is_err(), "a signature waited");
        assert_eq!(answers[position].replace(answer), None, "answered twice");
    });
    answers.into_iter().map(Option::unwrap).collect()
}
