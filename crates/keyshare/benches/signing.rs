//! What a signature costs a cosigner, alone and when many shares sign one root at once:
//!
//!     cargo bench -p keyshare --bench signing
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that fails has failed"
)]

use std::{num::NonZeroU64, sync::LazyLock};

use divan::{Bencher, counter::ItemsCount};
use duty::{
    AttestationData, Checkpoint, Duty, Epoch, ForkVersion, Permit, PublicKey, Root, SigningOrder,
    Slot,
};
use keyshare::{SecretShare, SigningShare, Tables};

/// L of a 3-of-4.
const SCALE: NonZeroU64 = NonZeroU64::new(6).unwrap();

/// Shares that sign at once at most.
const SHARES_MAX: u16 = 512;

static SHARES: LazyLock<Vec<SigningShare>> = LazyLock::new(|| {
    let shares = (0..SHARES_MAX).map(|number| share(number).into_signing(SCALE));
    shares.collect()
});

fn main() {
    divan::main();
}

/// A number below the group's order, of full length.
fn share(number: u16) -> SecretShare {
    let mut bytes = [0x35; 32];
    let [.., last] = bytes.as_chunks_mut::<2>().0 else {
        unreachable!("32 bytes have chunks of 2")
    };
    *last = number.to_be_bytes();
    SecretShare::from_be_bytes(&bytes).unwrap()
}

fn order(duty: Duty) -> SigningOrder {
    SigningOrder {
        validator: PublicKey([0; 48]),
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root::ZERO,
        duty,
    }
}

/// For messages of different numbers, different roots.
fn permit(message: u8) -> Permit {
    let order = order(Duty::AggregateAndProof(Root([message; 32])));
    order.permit_without_claim().expect("no claim")
}

/// What a cosigner computes of each order before anything else.
#[divan::bench]
fn root_of_an_attestation(bencher: Bencher) {
    let checkpoint = |epoch| Checkpoint {
        epoch: Epoch(epoch),
        root: Root([2; 32]),
    };
    let order = order(Duty::Attestation(AttestationData {
        slot: Slot(13_500_000),
        index: 0,
        beacon_block_root: Root([1; 32]),
        source: checkpoint(421_874),
        target: checkpoint(421_875),
    }));
    bencher.bench(|| divan::black_box(&order).signing_root());
}

/// What all else is compared with: hash and multiply, compressed.
#[divan::bench]
fn plain(bencher: Bencher) {
    let share = share(1);
    bencher
        .with_inputs(|| permit(1))
        .bench_values(|permit| share.sign(permit));
}

/// The scaled form, which is not compressed.
#[divan::bench]
fn scaled_alone(bencher: Bencher) {
    let share = share(1).into_signing(SCALE);
    bencher
        .with_inputs(|| permit(1))
        .bench_values(|permit| share.sign(permit));
}

#[divan::bench(args = [1, 8, 32, 64, 128, 512])]
fn same_root(bencher: Bencher, shares: usize) {
    bencher
        .counter(ItemsCount::new(shares))
        .with_inputs(|| {
            let items = SHARES.iter().take(shares);
            items.map(|share| (share, permit(1))).collect::<Vec<_>>()
        })
        .bench_values(|items| Tables::default().sign_all(items));
}

/// With the table of earlier batches, as those of one slot are.
#[divan::bench(args = [1, 2, 8, 32, 64, 128])]
fn same_root_again(bencher: Bencher, shares: usize) {
    let tables = Tables::default();
    let items = || {
        let items = SHARES.iter().take(shares);
        items.map(|share| (share, permit(1))).collect::<Vec<_>>()
    };
    for _ in 0..64 {
        let _partials = tables.sign_all(items());
    }
    bencher
        .counter(ItemsCount::new(shares))
        .with_inputs(items)
        .bench_values(|items| tables.sign_all(items));
}

#[divan::bench(args = [1, 8, 32, 128])]
fn distinct_roots(bencher: Bencher, shares: u8) {
    bencher
        .counter(ItemsCount::new(shares))
        .with_inputs(|| {
            let items = SHARES.iter().zip(0..shares);
            let items = items.map(|(share, message)| (share, permit(message)));
            items.collect::<Vec<_>>()
        })
        .bench_values(|items| Tables::default().sign_all(items));
}

/// Once for each validator, when a cosigner starts.
#[divan::bench]
fn load_a_share(bencher: Bencher) {
    bencher
        .with_inputs(|| share(1))
        .bench_values(|share| share.into_signing(SCALE));
}
