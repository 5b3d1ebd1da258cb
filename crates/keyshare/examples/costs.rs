//! What the operations cost on this machine, in microseconds, each the mean of a short loop.
//!
//!     cargo run --release -p keyshare --example costs
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement run by hand"
)]

use std::{collections::BTreeSet, hint::black_box, time::Instant};

use duty::{Duty, ForkVersion, Root, SigningOrder};
use keyshare::{SecretKey, SecretShare, split};
use threshold::{Commitments, Committee, PartialSignature, ShareIndex, verify};

const ROUNDS: u32 = 200;

fn measure<T>(what: &str, mut operation: impl FnMut() -> T) {
    black_box(operation());
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(operation());
    }
    let mean = start.elapsed() / ROUNDS;
    println!("{what:<44}{:>10.1} µs", mean.as_secs_f64() * 1e6);
}

fn main() {
    for (threshold, members) in [
        (2, vec![1, 2, 3]),
        (3, vec![1, 2, 3, 4]),
        (3, vec![u64::MAX, 1 << 60, 1 << 50, 77]),
        (5, (1..=7).collect()),
    ] {
        costs_of(threshold, &members);
    }
}

fn costs_of(threshold: usize, members: &[u64]) {
    println!("\n{threshold}-of-{} at {members:?}", members.len());
    let members: BTreeSet<ShareIndex> = members
        .iter()
        .map(|&value| ShareIndex::new(value).unwrap())
        .collect();
    let mut state = 1_u64;
    let mut entropy = |slice: &mut [u8]| {
        for byte in slice {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    };
    let key = || SecretKey::from_entropy(&[7; 32]);
    measure("split, with its checks", || {
        split(key(), threshold, &members, &mut entropy).unwrap()
    });
    let split = split(key(), threshold, &members, &mut entropy).unwrap();
    let committee = split.committee;
    let order = SigningOrder {
        validator: committee.group_key(),
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root::ZERO,
        duty: Duty::AggregateAndProof(Root([1; 32])),
    };
    let root = order.signing_root();
    let sign = |share: &SecretShare| share.sign(order.permit_without_claim().expect("no claim"));
    let mut partials: Vec<(ShareIndex, PartialSignature)> = split
        .shares
        .iter()
        .map(|(&index, share)| (index, sign(share)))
        .collect();
    let (&first, share) = split.shares.first_key_value().unwrap();
    measure("sign", || sign(share));
    let points = committee.commitments().as_slice().to_vec();
    measure("Commitments::new", || {
        Commitments::new(points.clone()).unwrap()
    });
    let made = committee.commitments();
    measure("Committee::new from commitments", || {
        Committee::new(made.clone(), members.clone()).unwrap()
    });
    measure("the first public_share of a committee", || {
        Committee::new(made.clone(), members.clone())
            .unwrap()
            .public_share(first)
    });
    let signature = committee.combine(root, &partials).unwrap();
    measure("combine, with its verification", || {
        committee.combine(root, &partials).unwrap()
    });
    measure("verify", || {
        verify(&committee.group_key(), root, &signature).unwrap()
    });
    let (index, partial) = partials[0];
    measure("verify_partial", || {
        committee.verify_partial(index, root, &partial).unwrap()
    });
    partials[0].1 = PartialSignature::Plain(signature.0);
    measure("combine, fail, and blame one", || {
        committee.combine(root, &partials).unwrap_err()
    });
}
