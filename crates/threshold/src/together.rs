//! Combining many, and verifying what comes out together.

use std::collections::{BTreeMap, BTreeSet};

use duty::SigningRoot;

use crate::{
    Anticipated, BadPartial, CombineError, Committee, PartialSignature, ShareIndex, Signature,
    batch::{Statement, judge},
    bls::{CurvePoint, G2, G2Sum, HashedMessage, Multipliers},
};

/// Partials to be combined.
#[derive(Debug, Clone, Copy)]
pub struct Combination<'a> {
    /// Whose members gave them.
    pub committee: &'a Committee,
    /// What they sign.
    pub root: SigningRoot,
    /// At least t; the first t are combined.
    pub partials: &'a [(ShareIndex, PartialSignature)],
    /// What was computed of the verification before the partials were there: this job, verified by
    /// itself, costs so much less. No result depends on it.
    pub anticipated: Option<&'a Anticipated>,
}

impl Combination<'_> {
    fn anticipated(&self) -> Option<&Anticipated> {
        let given = self.anticipated;
        given.filter(|anticipated| anticipated.fits(self.committee, self.root))
    }
}

/// A job, and where it stood among all.
type Open<'a> = (usize, &'a Combination<'a>);

type Combined = Result<Signature, CombineError>;

/// Combines each of `jobs` as [`Committee::combine`] does, in their order, but verifies the results
/// together: that costs a fraction of verifying each, most of all where many have the same root.
/// Bad ones among them are found by bisection, and blamed; the others are answered all the same.
///
/// `seed` are 32 bytes from the operating system's randomness: secret, and new for each call. With
/// a seed that is known or repeated, members can give bad partials whose errors cancel in a batch.
#[must_use]
pub fn combine_all(jobs: &[Combination<'_>], seed: &[u8; 32]) -> Vec<Combined> {
    let mut results = vec![Err(CombineError::Unexplained); jobs.len()];
    combine_each(jobs, seed, |position, result| {
        if let Some(place) = results.get_mut(position) {
            *place = result;
        }
    });
    results
}

/// As [`combine_all`], but `answer` is given each job's position and result, once, as soon as it is
/// known: the signatures before it is found out who spoiled the others.
pub fn combine_each(
    jobs: &[Combination<'_>],
    seed: &[u8; 32],
    answer: impl FnMut(usize, Combined),
) {
    combine(jobs, Some(Multipliers::new(seed)), answer);
}

/// Without multipliers, every signature and every partial is verified by itself.
pub(crate) fn combine(
    jobs: &[Combination<'_>],
    mut multipliers: Option<Multipliers>,
    mut answer: impl FnMut(usize, Combined),
) {
    let mut open: Vec<Open<'_>> = Vec::with_capacity(jobs.len());
    for (position, job) in jobs.iter().enumerate() {
        match job.committee.check_indices(job.partials) {
            Ok(()) => open.push((position, job)),
            Err(error) => answer(position, Err(error)),
        }
    }
    let mut messages = Messages::default();
    let signed = signed(&open, &mut messages, multipliers.as_mut());
    let mut failed = Vec::new();
    for ((position, job), signature) in open.into_iter().zip(signed) {
        match signature {
            Some(signature) => answer(position, Ok(Signature(signature.compress()))),
            None => failed.push((position, job)),
        }
    }
    let blames = blame(&failed, &mut messages, multipliers.as_mut());
    for ((position, _), error) in failed.iter().zip(blames) {
        answer(*position, Err(error));
    }
}

/// Each job's signature, verified, if it has one.
fn signed(
    open: &[Open<'_>],
    messages: &mut Messages,
    multipliers: Option<&mut Multipliers>,
) -> Vec<Option<G2>> {
    let mut signed = vec![None; open.len()];
    let mut claims: Vec<(usize, Statement)> = Vec::with_capacity(open.len());
    for (place, ((_, job), signature)) in open.iter().zip(combined(open)).enumerate() {
        if let Some(signature) = signature {
            let key = *job.committee.group_point();
            let message = messages.position(job);
            let statement = Statement {
                key,
                message,
                signature,
            };
            claims.push((place, statement));
        }
    }
    claims.sort_by_key(|(_, statement)| statement.message);
    let statements: Vec<Statement> = claims.iter().map(|(_, statement)| *statement).collect();
    let verdicts = match (open, statements.as_slice()) {
        ([(_, job)], [statement]) if let Some(anticipated) = job.anticipated() => {
            vec![anticipated.is_signed_by(&statement.signature)]
        }
        _ => judge(&statements, &messages.hashed, multipliers),
    };
    for ((place, statement), holds) in claims.iter().zip(verdicts) {
        if holds && let Some(signature) = signed.get_mut(*place) {
            *signature = Some(statement.signature);
        }
    }
    signed
}

/// Each job's signature if it has one, not verified but for the subgroup.
fn combined(open: &[Open<'_>]) -> Vec<Option<G2>> {
    let sums = open.iter().map(|(_, job)| {
        courtesy::offer();
        let sum = job.committee.weighted_sum(job.partials);
        sum.unwrap_or(G2Sum::INFINITY)
    });
    let sums = G2Sum::normalise_all(&sums.collect::<Vec<_>>());
    let checked = sums.into_iter().map(|sum| {
        courtesy::offer();
        sum.map(CurvePoint::in_subgroup)?.ok()
    });
    checked.collect()
}

/// Whose partials are bad, for each of the failed jobs.
fn blame(
    failed: &[Open<'_>],
    messages: &mut Messages,
    mut multipliers: Option<&mut Multipliers>,
) -> Vec<CombineError> {
    let mut bad: BTreeSet<(usize, ShareIndex)> = BTreeSet::new();
    let mut unknown = BTreeMap::new();
    let mut claims: Vec<((usize, ShareIndex), Statement)> = Vec::new();
    for (position, job) in failed {
        courtesy::offer();
        let message = messages.position(job);
        for (index, partial) in job.partials {
            match job.committee.statement(*index, partial) {
                Ok((key, signature)) => {
                    let statement = Statement {
                        key,
                        message,
                        signature,
                    };
                    claims.push(((*position, *index), statement));
                }
                Err(BadPartial::Commitments(invalid)) => {
                    unknown.insert(*position, invalid);
                }
                Err(BadPartial::NotAMember(_) | BadPartial::Point(_) | BadPartial::Mismatch) => {
                    bad.insert((*position, *index));
                }
            }
        }
    }
    // A member that lies once lies often: each member's partials are verified together, so that
    // those of the others cost next to nothing.
    claims.sort_by_key(|((_, index), statement)| (*index, statement.message));
    let mut verdicts = Vec::with_capacity(claims.len());
    for own in claims.chunk_by(|((_, one), _), ((_, next), _)| one == next) {
        let statements: Vec<Statement> = own.iter().map(|(_, statement)| *statement).collect();
        verdicts.extend(judge(
            &statements,
            &messages.hashed,
            multipliers.as_deref_mut(),
        ));
    }
    let named = claims.iter().zip(verdicts).filter(|(_, holds)| !holds);
    bad.extend(named.map(|((whose, _), _)| *whose));
    let error = |(position, job): &Open<'_>| {
        let indices = job.partials.iter().map(|(index, _)| *index);
        let named: Vec<ShareIndex> = indices
            .filter(|index| bad.contains(&(*position, *index)))
            .collect();
        match unknown.get(position) {
            Some(invalid) => CombineError::Commitments(*invalid),
            None if named.is_empty() => CombineError::Unexplained,
            None => CombineError::Blame(named),
        }
    };
    failed.iter().map(error).collect()
}

/// Each root hashed once.
#[derive(Default)]
struct Messages {
    hashed: Vec<HashedMessage>,
    positions: BTreeMap<SigningRoot, usize>,
}

impl Messages {
    fn position(&mut self, job: &Combination<'_>) -> usize {
        *self.positions.entry(job.root).or_insert_with(|| {
            courtesy::offer();
            let anticipated = job.anticipated().map(Anticipated::message);
            let hashed = anticipated.unwrap_or_else(|| HashedMessage::new(job.root.as_bytes()));
            self.hashed.push(hashed);
            self.hashed.len() - 1
        })
    }
}
