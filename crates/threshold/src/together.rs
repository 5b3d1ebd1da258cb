//! Combining many, and verifying what comes out together.

use std::collections::{BTreeMap, BTreeSet};

use duty::SigningRoot;

use crate::{
    BadPartial, CombineError, Committee, PartialSignature, ShareIndex, Signature,
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
}

/// Combines each of `jobs` as [`Committee::combine`] does, in their order, but verifies the results
/// together: that costs a fraction of verifying each, most of all where many have the same root.
/// Bad ones among them are found by bisection, and blamed; the others are answered all the same.
///
/// `seed` are 32 bytes from the operating system's randomness: secret, and new for each call. With
/// a seed that is known or repeated, members can give bad partials whose errors cancel in a batch.
#[must_use]
pub fn combine_all(
    jobs: &[Combination<'_>],
    seed: &[u8; 32],
) -> Vec<Result<Signature, CombineError>> {
    combine_each(jobs, Some(Multipliers::new(seed)))
}

/// Without multipliers, every signature and every partial is verified by itself.
pub(crate) fn combine_each(
    jobs: &[Combination<'_>],
    mut multipliers: Option<Multipliers>,
) -> Vec<Result<Signature, CombineError>> {
    let checked = jobs
        .iter()
        .map(|job| job.committee.check_indices(job.partials));
    let mut results: Vec<Option<Result<Signature, CombineError>>> =
        checked.map(|checked| checked.err().map(Err)).collect();

    let mut messages = Messages::default();
    let mut claims: Vec<(usize, Statement)> = Vec::with_capacity(jobs.len());
    for (position, (job, signature)) in jobs.iter().zip(combined(jobs, &results)).enumerate() {
        if let Some(signature) = signature {
            let key = *job.committee.group_point();
            let message = messages.position(job.root);
            let statement = Statement {
                key,
                message,
                signature,
            };
            claims.push((position, statement));
        }
    }
    claims.sort_by_key(|(_, statement)| statement.message);
    let statements: Vec<Statement> = claims.iter().map(|(_, statement)| *statement).collect();
    let verdicts = judge(&statements, &messages.hashed, multipliers.as_mut());
    for ((position, statement), holds) in claims.iter().zip(verdicts) {
        if holds && let Some(result) = results.get_mut(*position) {
            *result = Some(Ok(Signature(statement.signature.compress())));
        }
    }

    let failed = jobs.iter().enumerate().zip(&results);
    let failed = failed.filter_map(|(job, result)| result.is_none().then_some(job));
    let failed: Vec<(usize, &Combination<'_>)> = failed.collect();
    let mut blames = blame(&failed, &mut messages, multipliers.as_mut()).into_iter();
    let answered = results.into_iter();
    let answered = answered.map(|result| result.or_else(|| blames.next().map(Err)));
    answered
        .map(|result| result.unwrap_or(Err(CombineError::Unexplained)))
        .collect()
}

/// Each job's signature if it has one, not verified but for the subgroup; none for those that have
/// their result.
fn combined(
    jobs: &[Combination<'_>],
    results: &[Option<Result<Signature, CombineError>>],
) -> Vec<Option<G2>> {
    let sums = jobs.iter().zip(results).map(|(job, result)| match result {
        None => job
            .committee
            .weighted_sum(job.partials)
            .unwrap_or(G2Sum::INFINITY),
        Some(_) => G2Sum::INFINITY,
    });
    G2Sum::normalise_all(&sums.collect::<Vec<_>>())
        .into_iter()
        .map(|sum| sum.map(CurvePoint::in_subgroup)?.ok())
        .collect()
}

/// Whose partials are bad, for each of the failed jobs.
fn blame(
    failed: &[(usize, &Combination<'_>)],
    messages: &mut Messages,
    mut multipliers: Option<&mut Multipliers>,
) -> Vec<CombineError> {
    let mut bad: BTreeSet<(usize, ShareIndex)> = BTreeSet::new();
    let mut unknown = BTreeMap::new();
    let mut claims: Vec<((usize, ShareIndex), Statement)> = Vec::new();
    for (position, job) in failed {
        let message = messages.position(job.root);
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
    let error = |(position, job): &(usize, &Combination<'_>)| {
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
    fn position(&mut self, root: SigningRoot) -> usize {
        *self.positions.entry(root).or_insert_with(|| {
            self.hashed.push(HashedMessage::new(root.as_bytes()));
            self.hashed.len() - 1
        })
    }
}
