//! Splitting and signing against the wire contract's signatures, which whole keys made, and
//! against other implementations of sharing and of the curve.

mod combs;
mod oracle;
mod signing;
mod splitting;

use std::collections::BTreeSet;

use duty::SigningRoot;
use rand::{Rng, SeedableRng, rngs::StdRng};
use threshold::{PartialSignature, ShareIndex};

use crate::{SecretKey, SecretShare, Split, SplitError, split};

/// The wire contract's example key, public key, and some of its examples: root and signature.
const KEY: &str = "2534367165c8fe40faaa0808e86c014e93f64ddde9d0bad339eee963c197f138";
const PUBLIC_KEY: &str = "0x82bb7a28d3331c06ad9e3743eef2c7d9a31f6483a898cc8a09c7dbff4616d424449449825957a470af2ff0008bfd7623";
const EXAMPLES: [(&str, &str); 3] = [
    (
        "0x5f5a1b184518b8011674b3f41e6a5b82b448a9feb5a3d35854b4059774e9a204",
        "0x9014bf815e9aa3ab8c369daa60999878a2c7a9394d9428c89b0b90354291cc79914ab6fdab911675a9190b71eb3374f2022c403db40cc9019a6fe6cf29152fdead07b3235d4c5111f57e9031216e67cc30ad7b81059352f8f2d373bd8b194a2e",
    ),
    (
        "0x436f9bfe6caee7ccd8034911e14600692a10eeab26b15500759692bfedaeb199",
        "0x88696bdde4f142bd59e6937095292dbe03508feffeeac5d41ef4b40762b697daafc6ce136c63b2a37da4221da258d0cb0badaab662990edcf3e3e434fc721cc65184cbe8969da7d5194934594f3c376bdd957d45aae08d4b25bb07067af2ff6a",
    ),
    (
        "0x17c3a07969f90312b97bb34d76b442a2a6d778a2f683cdbbb283b63a36a88f21",
        "0xac92e2837f2f2cd78549d378879d5ae1a50fb12840e467abd5dbcea9d162a644e5d66d904d744a8c0e981e50d35fcf910740e2abfa2b2559b3659974921515ee968bfac4978f7a63d932963da7f0db574f18cd71efec8587bededc7870aaecee",
    ),
];

fn bytes(hex: &str) -> [u8; 32] {
    const_hex::decode_to_array(hex).unwrap()
}

fn key() -> SecretKey {
    SecretKey::from_be_bytes(&bytes(KEY)).unwrap()
}

fn indices(values: impl IntoIterator<Item = u64>) -> BTreeSet<ShareIndex> {
    values
        .into_iter()
        .map(|value| ShareIndex::new(value).unwrap())
        .collect()
}

/// Splits the example key with the randomness of `seed`.
fn split_seeded(
    threshold: usize,
    members: &BTreeSet<ShareIndex>,
    seed: u64,
) -> Result<Split, SplitError> {
    let mut random = StdRng::seed_from_u64(seed);
    split(key(), threshold, members, &mut |slice| {
        random.fill_bytes(slice);
    })
}

/// A partial for any root, which outside of these tests takes a permit.
fn partial(share: &SecretShare, root: SigningRoot) -> PartialSignature {
    PartialSignature::Plain(share.0.sign(root.as_bytes()))
}

/// Every subset of `size` members.
fn subsets(members: &BTreeSet<ShareIndex>, size: usize) -> Vec<Vec<ShareIndex>> {
    let members: Vec<ShareIndex> = members.iter().copied().collect();
    (0_u32..1 << members.len())
        .filter(|mask| usize::try_from(mask.count_ones()) == Ok(size))
        .map(|mask| {
            let chosen = |&i: &usize| mask & (1 << i) != 0;
            (0..members.len())
                .filter(chosen)
                .map(|i| members[i])
                .collect()
        })
        .collect()
}

/// Fails to compile if the type implements one of the traits: then two impls would apply to the
/// method, and the compiler could not choose.
macro_rules! never_implemented {
    ($type:ty: $($forbidden:path),+) => {
        const _: fn() = || {
            trait AmbiguousIfImplemented<Marker> {
                fn choose() {}
            }
            impl<T> AmbiguousIfImplemented<()> for T {}
            $({
                struct Marker;
                impl<T: $forbidden> AmbiguousIfImplemented<Marker> for T {}
            })+
            let _ = <$type as AmbiguousIfImplemented<_>>::choose;
        };
    };
}

never_implemented!(SecretKey: Clone, std::fmt::Debug, std::fmt::Display, PartialEq);
never_implemented!(SecretShare: Clone, std::fmt::Debug, std::fmt::Display, PartialEq);
never_implemented!(crate::SigningShare: Clone, std::fmt::Debug, std::fmt::Display, PartialEq);
never_implemented!(crate::Withheld: Clone, std::fmt::Debug, std::fmt::Display, PartialEq);
never_implemented!(duty::Permit: Clone);
