//! What a signature costs on this machine when many shares sign one root, in microseconds and as
//! a ratio to plain signing (hash and multiply), each the least mean of several short loops.
//!
//!     cargo run --release -p keyshare --example signing
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement run by hand"
)]

use std::{
    hint::black_box,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use duty::{Duty, ForkVersion, Permit, PublicKey, Root, SigningOrder};
use keyshare::{SecretShare, SigningShare, sign_all};

const SIZES: [usize; 12] = [1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 512, 2000];

/// Signatures in a loop that is timed, at least.
const LOOP_SIGNATURES: usize = 200;

/// Loops, of which the fastest counts: the others were disturbed.
const LOOPS: usize = 25;

fn share(number: usize) -> SecretShare {
    let mut bytes = [0x35; 32];
    let [.., last] = bytes.as_chunks_mut::<8>().0 else {
        unreachable!()
    };
    *last = u64::try_from(number)
        .unwrap()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_be_bytes();
    SecretShare::from_be_bytes(&bytes).unwrap()
}

fn permit() -> Permit {
    let order = SigningOrder {
        validator: PublicKey([0; 48]),
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root::ZERO,
        duty: Duty::AggregateAndProof(Root([1; 32])),
    };
    order.permit_without_claim().expect("no claim")
}

/// Microseconds for each of `count` things that `operation` does at once.
fn measure(count: usize, mut operation: impl FnMut()) -> f64 {
    let times = LOOP_SIGNATURES.div_ceil(count);
    let mut least = Duration::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for _ in 0..times {
            operation();
        }
        least = least.min(start.elapsed());
    }
    least.as_secs_f64() * 1e6 / f64::from(u32::try_from(times * count).unwrap())
}

fn main() {
    let plain = share(1);
    let plain = measure(1, || {
        black_box(plain.sign(permit()));
    });
    println!("plain, hash and multiply {plain:>10.1} µs");
    let scale = NonZeroU64::new(6).unwrap();
    let load = measure(1, || {
        black_box(share(1).into_signing(scale));
    });
    println!("loading a share          {load:>10.1} µs");
    let shares: Vec<SigningShare> = (0..2000).map(|i| share(i).into_signing(scale)).collect();
    println!("{:>24} {:>13} {:>10}", "signed at once", "each", "ratio");
    for size in SIZES {
        let each = measure(size, || {
            let items = shares.iter().take(size).map(|share| (share, permit()));
            black_box(sign_all(items.collect()));
        });
        println!("{size:>24} {each:>10.1} µs {:>10.3}", each / plain);
    }
}
