//! Batches: each job is answered as it would be alone, whatever the others are.

use super::{dealer::*, *};
use crate::bls::Scalar;

const SEED: [u8; 32] = [0x5e; 32];

/// Partials of many keys over `roots` different roots.
struct Batch {
    dealt: Vec<Dealt>,
    jobs: Vec<Job>,
}

/// Whose key of those dealt, over what, and the partials.
type Job = (usize, SigningRoot, Vec<(ShareIndex, PartialSignature)>);

/// As many keys as that are dealt; larger batches repeat them.
const KEYS: usize = 16;

fn root_of(number: usize) -> SigningRoot {
    SigningRoot([u8::try_from(number).unwrap(); 32])
}

fn batch(size: usize, roots: usize) -> Batch {
    let dealt: Vec<Dealt> = (0..KEYS.min(size))
        .map(|key| match key % 4 {
            0 => deal(key, 2, &[1, 2, 3]),
            1 => deal(key, 3, &[4, 3, 2, 1]),
            2 => deal(key, 3, &[1, 7, 1 << 32, u64::MAX]),
            _ => deal(key, 1, &[9]),
        })
        .collect();
    let mut signed = std::collections::BTreeMap::new();
    let jobs = (0..size)
        .map(|job| {
            let (key, root) = (job % KEYS, root_of(job % roots));
            let partials = signed.entry((key, root)).or_insert_with(|| match key % 5 {
                0 => dealt[key].partials(root, None),
                _ => dealt[key].scaled(root),
            });
            (key, root, partials.clone())
        })
        .collect();
    Batch { dealt, jobs }
}

impl Batch {
    fn jobs(&self) -> Vec<Combination<'_>> {
        let jobs = self.jobs.iter().map(|(key, root, partials)| Combination {
            committee: &self.dealt[*key].committee,
            root: *root,
            partials,
            anticipated: None,
        });
        jobs.collect()
    }

    /// Every job has its signature but those named, which fail like this.
    fn check(&self, errors: &[(usize, CombineError)]) {
        let results = combine_all(&self.jobs(), &SEED);
        assert_eq!(results.len(), self.jobs.len());
        let mut expected = std::collections::BTreeMap::new();
        for (position, result) in results.into_iter().enumerate() {
            let (key, root, _) = &self.jobs[position];
            let good = expected
                .entry((*key, *root))
                .or_insert_with(|| self.dealt[*key].signature(*root));
            let error = errors.iter().find(|(bad, _)| *bad == position);
            let expected = error.map_or(Ok(*good), |(_, error)| Err(error.clone()));
            assert_eq!(result, expected, "job {position} of {}", self.jobs.len());
        }
    }

    /// One of the t partials of the job that are used, in another place for each, becomes one over another root; whom to blame
    /// for it.
    fn spoil(&mut self, position: usize) -> (usize, CombineError) {
        let (key, _, partials) = &mut self.jobs[position];
        let place = position % self.dealt[*key].committee.threshold();
        let (member, bad) = &mut partials[place];
        let other = self.dealt[*key].scaled(SigningRoot([0xee; 32]));
        *bad = other.iter().find(|(of, _)| of == member).unwrap().1;
        (position, CombineError::Blame(vec![*member]))
    }
}

#[test]
fn of_every_size_and_number_of_roots_give_each_its_signature() {
    for size in [0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128] {
        for roots in [1, 2, size.max(1)] {
            batch(size, roots).check(&[]);
        }
    }
    for (size, roots) in [(500, 3), (1_000, 1), (2_000, 5)] {
        batch(size, roots).check(&[]);
    }
}

#[test]
fn one_bad_partial_is_found_and_blamed_at_every_position() {
    for (size, roots) in [(1, 1), (2, 1), (7, 1), (33, 1), (10, 10), (24, 3), (128, 1)] {
        let mut batch = batch(size, roots);
        for position in 0..size {
            let good = batch.jobs[position].2.clone();
            let error = batch.spoil(position);
            batch.check(&[error]);
            batch.jobs[position].2 = good;
        }
    }
}

#[test]
fn many_bad_partials_are_found_and_blamed() {
    for (size, roots) in [(40, 1), (20, 20)] {
        for (first, step) in [(0, 1), (0, 2), (1, 3), (size / 2, 1), (3, 7)] {
            let mut batch = batch(size, roots);
            let errors: Vec<_> = (first..size)
                .step_by(step)
                .map(|position| batch.spoil(position))
                .collect();
            batch.check(&errors);
        }
    }
}

#[test]
fn jobs_that_cannot_be_combined_fail_alone() {
    let mut batch = batch(12, 2);
    let too_few = CombineError::TooFew {
        got: 1,
        threshold: 2,
    };
    batch.jobs[4].2.truncate(1);
    let stranger = index(77);
    batch.jobs[5].2[0].0 = stranger;
    let twice = batch.jobs[6].2[0];
    batch.jobs[6].2.push(twice);
    let (key, root, _) = batch.jobs[1];
    let members = batch.dealt[key].committee.members().clone();
    batch.jobs[1].2 = members
        .iter()
        .map(|member| (*member, PartialSignature::Plain([0; 96])))
        .collect();
    // A combination that is infinity: all partials 0 would be, were infinity taken for a point.
    let (seventh, ..) = batch.jobs[9];
    let culprit = batch.jobs[9].2[1].0;
    batch.jobs[9].2[1].1 = PartialSignature::Plain(infinity());
    assert_ne!((key, root), (seventh, root));
    batch.check(&[
        (1, CombineError::Blame(members.into_iter().collect())),
        (4, too_few),
        (5, CombineError::NotAMember(stranger)),
        (6, CombineError::Duplicate(twice.0)),
        (9, CombineError::Blame(vec![culprit])),
    ]);
}

#[test]
fn liars_whose_errors_cancel_in_the_sum_of_the_batch_are_caught() {
    let root = root_of(1);
    let error = Scalar::from_u64(5);
    let dealt = [deal(1, 3, &[1, 2, 3, 4]), deal(2, 3, &[1, 2, 3, 4])];
    let mut partials = dealt.each_ref().map(|dealt| dealt.scaled(root));
    partials[0][0].1 = dealt[0].off_by(0, error, root);
    partials[1][0].1 = dealt[1].off_by(0, negated(error), root);
    let jobs = [0, 1].map(|i| Combination {
        committee: &dealt[i].committee,
        root,
        partials: &partials[i],
        anticipated: None,
    });
    for seed in [[0; 32], SEED, [0xff; 32]] {
        let blamed = Err(CombineError::Blame(vec![index(1)]));
        assert_eq!(combine_all(&jobs, &seed), [blamed.clone(), blamed]);
    }
}

#[test]
fn errors_outside_the_subgroup_which_no_pairing_sees_are_caught() {
    let good = committee();
    let mut partials = [partial(0), partial(1), partial(2)];
    let whole = partials;
    partials[0].1 = plain(GOOD_PLUS_ORDER_13);
    let jobs = [&whole, &partials, &whole].map(|partials| Combination {
        committee: &good,
        root: root(),
        partials,
        anticipated: None,
    });
    let signature = Ok(SIGNATURE.parse().unwrap());
    let blamed = Err(CombineError::Blame(vec![index(1)]));
    assert_eq!(
        combine_all(&jobs, &SEED),
        [signature.clone(), blamed, signature]
    );
}

#[test]
fn each_job_is_answered_once_and_the_signatures_before_the_blames() {
    let mut batch = batch(9, 2);
    let bad = [0, 3, 4].map(|position| batch.spoil(position).0);
    let mut answered = Vec::new();
    combine_each(&batch.jobs(), &SEED, |position, result| {
        answered.push((position, result.is_ok()));
    });
    let (good, blamed) = answered.split_at(6);
    assert!(good.iter().all(|(_, is_good)| *is_good));
    assert_eq!(blamed, bad.map(|position| (position, false)));
    let positions: BTreeSet<usize> = answered.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (0..9).collect());
}

#[test]
fn who_combines_many_comes_by_offers_of_the_processor_all_along() {
    let passed = |roots: usize, spoiled: bool| {
        let combining = std::thread::spawn(move || {
            let mut batch = batch(32, roots);
            if spoiled {
                batch.spoil(7);
            }
            courtesy::always();
            let combined = combine_all(&batch.jobs(), &SEED);
            (combined.len(), courtesy::passed())
        });
        let (combined, passed) = combining.join().unwrap();
        assert_eq!(combined, 32);
        passed
    };
    // For each its sum, and whether that is in the subgroup; each hash.
    assert!(passed(1, false) >= 64, "{}", passed(1, false));
    assert!(passed(32, false) >= 96, "{}", passed(32, false));
    assert!(passed(1, true) > passed(1, false) + 4);
}
