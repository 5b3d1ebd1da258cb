//! What a signature costs a signer-api once its partials are there, alone and together with
//! others, and what committees cost:
//!
//!     cargo bench -p keyshare --bench combining
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that fails has failed"
)]

use std::{collections::BTreeSet, sync::LazyLock};

use divan::{Bencher, counter::ItemsCount};
use duty::{Duty, ForkVersion, Permit, Root, SigningOrder, SigningRoot};
use keyshare::{SecretKey, Split, split};
use threshold::{
    Anticipated, Combination, Commitments, Committee, PartialSignature, ShareIndex, combine_all,
    verify,
};

fn main() {
    divan::main();
}

/// One validator's partials over one root.
struct Job {
    committee: Committee,
    root: SigningRoot,
    partials: Vec<(ShareIndex, PartialSignature)>,
}

impl Job {
    fn combination(&self) -> Combination<'_> {
        Combination {
            committee: &self.committee,
            root: self.root,
            partials: &self.partials,
            anticipated: None,
        }
    }
}

static TWO_OF_THREE: LazyLock<Vec<Job>> = LazyLock::new(|| jobs(64, 2, &[1, 2, 3], |_| 1));
static THREE_OF_FOUR: LazyLock<Vec<Job>> = LazyLock::new(|| jobs(128, 3, &[1, 2, 3, 4], |_| 1));
static FIVE_OF_SEVEN: LazyLock<Vec<Job>> =
    LazyLock::new(|| jobs(64, 5, &[1, 2, 3, 4, 5, 6, 7], |_| 1));
/// Indices whose Lagrange coefficients have no short common denominator.
static ARBITRARY_INDICES: LazyLock<Vec<Job>> =
    LazyLock::new(|| jobs(64, 3, &[u64::MAX, 1 << 60, 1 << 50, 77], |_| 1));
static DISTINCT_ROOTS: LazyLock<Vec<Job>> =
    LazyLock::new(|| jobs(64, 3, &[1, 2, 3, 4], |number| number));
/// The partial of one member of one validator is another validator's.
static ONE_BAD: LazyLock<Vec<Job>> = LazyLock::new(|| {
    let mut jobs = jobs(64, 3, &[1, 2, 3, 4], |_| 1);
    jobs[37].partials[1].1 = jobs[38].partials[1].1;
    jobs
});

/// Jobs of so many validators whose keys are split alike; `message` says which root each signs.
fn jobs(validators: u8, threshold: usize, members: &[u64], message: fn(u8) -> u8) -> Vec<Job> {
    let job = |number| {
        let Split { committee, shares } = family(number, threshold, members);
        let scale = committee.scale();
        let partials = shares.into_iter().map(|(index, share)| {
            let permit = permit(&committee, message(number));
            (index, share.into_signing(scale).sign(permit))
        });
        Job {
            partials: partials.take(threshold).collect(),
            root: permit(&committee, message(number)).root(),
            committee,
        }
    };
    (0..validators).map(job).collect()
}

fn indices(members: &[u64]) -> BTreeSet<ShareIndex> {
    let members = members.iter().map(|&value| ShareIndex::new(value).unwrap());
    members.collect()
}

fn family(number: u8, threshold: usize, members: &[u64]) -> Split {
    let mut state = u64::from(number);
    let mut entropy = |slice: &mut [u8]| {
        for byte in slice {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    };
    let key = SecretKey::from_entropy(&[number; 32]);
    split(key, threshold, &indices(members), &mut entropy).unwrap()
}

fn permit(committee: &Committee, message: u8) -> Permit {
    let order = SigningOrder {
        validator: committee.group_key(),
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root::ZERO,
        duty: Duty::AggregateAndProof(Root([message; 32])),
    };
    order.permit_without_claim().expect("no claim")
}

/// Combines `count` of `jobs` at once, under a new seed each time.
fn combine_together(bencher: Bencher, jobs: &[Job], count: usize) {
    let jobs = jobs.iter().take(count).map(Job::combination);
    let jobs: Vec<Combination<'_>> = jobs.collect();
    assert_eq!(jobs.len(), count);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(rand::random::<[u8; 32]>)
        .bench_refs(|seed| combine_all(&jobs, seed));
}

/// With its verification, as `combine_all` of one.
#[divan::bench]
fn combine_alone(bencher: Bencher) {
    let job = &THREE_OF_FOUR[0];
    bencher.bench(|| job.committee.combine(job.root, &job.partials).unwrap());
}

/// What can be done before there are partials.
#[divan::bench]
fn anticipate(bencher: Bencher) {
    let job = &THREE_OF_FOUR[0];
    bencher.bench(|| Anticipated::new(&job.committee, job.root));
}

/// What then is left to do.
#[divan::bench]
fn combine_alone_anticipated(bencher: Bencher) {
    let job = &THREE_OF_FOUR[0];
    let anticipated = Anticipated::new(&job.committee, job.root);
    let jobs = [Combination {
        anticipated: Some(&anticipated),
        ..job.combination()
    }];
    bencher
        .with_inputs(rand::random::<[u8; 32]>)
        .bench_refs(|seed| combine_all(&jobs, seed));
}

#[divan::bench(args = [1, 8, 32, 64, 128])]
fn same_root(bencher: Bencher, jobs: usize) {
    combine_together(bencher, &THREE_OF_FOUR, jobs);
}

#[divan::bench(args = [64])]
fn same_root_2_of_3(bencher: Bencher, jobs: usize) {
    combine_together(bencher, &TWO_OF_THREE, jobs);
}

#[divan::bench(args = [64])]
fn same_root_5_of_7(bencher: Bencher, jobs: usize) {
    combine_together(bencher, &FIVE_OF_SEVEN, jobs);
}

#[divan::bench(args = [64])]
fn same_root_at_arbitrary_indices(bencher: Bencher, jobs: usize) {
    combine_together(bencher, &ARBITRARY_INDICES, jobs);
}

#[divan::bench(args = [64])]
fn same_root_with_one_bad_partial(bencher: Bencher, jobs: usize) {
    combine_together(bencher, &ONE_BAD, jobs);
}

#[divan::bench(args = [64])]
fn distinct_roots(bencher: Bencher, jobs: usize) {
    combine_together(bencher, &DISTINCT_ROOTS, jobs);
}

#[divan::bench]
fn blame_one_alone(bencher: Bencher) {
    let job = &ONE_BAD[37];
    bencher.bench(|| {
        job.committee
            .combine(job.root, &job.partials)
            .expect_err("one partial is bad")
    });
}

#[divan::bench]
fn verify_a_partial(bencher: Bencher) {
    let job = &THREE_OF_FOUR[0];
    let (index, partial) = job.partials[0];
    bencher.bench(|| {
        job.committee
            .verify_partial(index, job.root, &partial)
            .unwrap()
    });
}

#[divan::bench]
fn verify_a_signature(bencher: Bencher) {
    let job = &THREE_OF_FOUR[0];
    let signature = job.committee.combine(job.root, &job.partials).unwrap();
    let key = job.committee.group_key();
    bencher.bench(|| verify(&key, job.root, &signature).unwrap());
}

fn points() -> Vec<[u8; 48]> {
    THREE_OF_FOUR[0].committee.commitments().as_slice().to_vec()
}

/// When a key package is taken: all points are checked.
#[divan::bench]
fn commitments_new(bencher: Bencher) {
    bencher
        .with_inputs(points)
        .bench_values(|points| Commitments::new(points).unwrap());
}

/// When a signer-api starts, once for each validator: only the group key is checked.
#[divan::bench]
fn commitments_deferred(bencher: Bencher) {
    bencher
        .with_inputs(points)
        .bench_values(|points| Commitments::deferred(points).unwrap());
}

/// Of commitments that are there, and a set of indices that is known.
#[divan::bench]
fn committee_new(bencher: Bencher) {
    let known = &THREE_OF_FOUR[0].committee;
    bencher
        .with_inputs(|| (known.commitments().clone(), known.members().clone()))
        .bench_values(|(commitments, members)| Committee::new(commitments, members).unwrap());
}

/// All members' are computed at the first need of one.
#[divan::bench]
fn first_public_share(bencher: Bencher) {
    let known = &THREE_OF_FOUR[0].committee;
    let first = ShareIndex::new(1).unwrap();
    bencher
        .with_inputs(|| {
            Committee::new(known.commitments().clone(), known.members().clone()).unwrap()
        })
        .bench_refs(|committee| committee.public_share(first));
}

/// A key in four pieces, with the checks of what is handed out.
#[divan::bench]
fn split_a_key(bencher: Bencher) {
    bencher.bench(|| family(1, 3, &[1, 2, 3, 4]));
}
