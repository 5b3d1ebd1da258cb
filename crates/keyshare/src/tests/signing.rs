//! Shares loaded for signing, alone and many at once, against plain signing and known signatures.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc};

use bls12_381_plus::{G2Affine, G2Projective, Scalar};
use duty::{Duty, ForkVersion, Permit, PublicKey, Root, SigningOrder, SigningRoot};
use rand::{Rng, SeedableRng, rngs::StdRng};
use threshold::PartialSignature;

use super::{EXAMPLES, KEY, bytes};
use crate::{SecretShare, SigningShare, Tables};

const SCALES: [u64; 5] = [1, 2, 12, 0x7fff_ffff, u64::MAX];

fn scale(position: usize) -> NonZeroU64 {
    NonZeroU64::new(SCALES[position % SCALES.len()]).unwrap()
}

/// A permit for one of many roots.
fn permit(root: u8) -> Permit {
    let order = SigningOrder {
        validator: PublicKey([0; 48]),
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root::ZERO,
        duty: Duty::AggregateAndProof(Root([root; 32])),
    };
    order.permit_without_claim().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the known signatures are over roots whose orders are not known"
)]
fn permit_for(root: SigningRoot) -> Permit {
    Permit::after_commit(PublicKey([0; 48]), root)
}

fn shares(count: usize, seed: u64) -> Vec<[u8; 32]> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut share = || {
        let mut bytes = [0; 32];
        random.fill_bytes(&mut bytes);
        bytes[0] &= 0x3f;
        bytes
    };
    (0..count).map(|_| share()).collect()
}

fn share(bytes: &[u8; 32]) -> SecretShare {
    SecretShare::from_be_bytes(bytes).unwrap()
}

/// What plain signing with the share, divided by the scale in other arithmetic, gives.
fn expected(bytes: &[u8; 32], scale: NonZeroU64, root: SigningRoot) -> PartialSignature {
    let quotient =
        Scalar::from_be_bytes(bytes).unwrap() * Scalar::from(scale.get()).invert().unwrap();
    let scaled = share(&quotient.to_be_bytes()).0.sign(root.as_bytes());
    let point = G2Affine::from_compressed_unchecked(&scaled).unwrap();
    PartialSignature::Scaled {
        point: point.to_uncompressed(),
        scale,
    }
}

fn check(
    items: &[([u8; 32], NonZeroU64, u8)],
    known: &mut BTreeMap<(usize, u8), PartialSignature>,
) {
    let loaded = items
        .iter()
        .map(|(bytes, scale, root)| (Arc::new(share(bytes).into_signing(*scale)), permit(*root)));
    let partials = Tables::default().sign_all(loaded.collect());
    assert_eq!(partials.len(), items.len());
    for (position, (partial, (bytes, scale, root))) in partials.iter().zip(items).enumerate() {
        let expected = known
            .entry((position, *root))
            .or_insert_with(|| expected(bytes, *scale, permit(*root).root()));
        assert_eq!(partial, expected, "item {position} of {}", items.len());
    }
}

#[test]
fn a_batch_of_any_size_signs_as_plain_signing_does() {
    let shares = shares(2000, 21);
    let items: Vec<_> = (0..)
        .zip(&shares)
        .map(|(i, share)| (*share, scale(i), 1))
        .collect();
    let mut known = BTreeMap::new();
    for size in [
        0, 1, 2, 3, 7, 8, 9, 16, 32, 39, 40, 41, 63, 64, 65, 128, 511, 512, 2000,
    ] {
        check(&items[..size], &mut known);
    }
}

#[test]
fn a_batch_of_mixed_roots_answers_in_its_items_order() {
    let shares = shares(120, 22);
    // Roots alone, in pairs, and in groups on both sides of a window's border.
    let root = |i: usize| match i {
        0..3 => u8::try_from(i).unwrap(),
        3..7 => u8::try_from(3 + i % 2).unwrap(),
        _ if i.is_multiple_of(3) => 9,
        _ => 8,
    };
    let items: Vec<_> = (0..)
        .zip(&shares)
        .map(|(i, share)| (*share, scale(i / 2), root(i)))
        .collect();
    check(&items, &mut BTreeMap::new());
}

#[test]
fn all_ways_of_signing_make_the_known_signatures() {
    for (root, signature) in EXAMPLES {
        let root: SigningRoot = root.parse().unwrap();
        let signature: [u8; 96] = const_hex::decode_to_array(signature).unwrap();
        let whole = G2Projective::from(G2Affine::from_compressed(&signature).unwrap());
        for scale in SCALES.map(|scale| NonZeroU64::new(scale).unwrap()) {
            let loaded: SigningShare = share(&bytes(KEY)).into_signing(scale);
            let plain = loaded.sign_plain(permit_for(root));
            assert_eq!(plain, PartialSignature::Plain(signature));
            let many = (0..20).map(|_| (&loaded, permit_for(root)));
            let mut partials = Tables::default().sign_all(many.collect());
            partials.push(loaded.sign(permit_for(root)));
            for partial in partials {
                let PartialSignature::Scaled { point, scale: its } = partial else {
                    panic!("the plain form")
                };
                assert_eq!(its, scale);
                let point = G2Projective::from(G2Affine::from_uncompressed(&point).unwrap());
                assert_eq!(point * Scalar::from(scale.get()), whole);
            }
        }
    }
}

#[test]
fn a_loaded_share_is_small() {
    // What the process holds 100,000 times, the heap's two blocks included.
    assert!(size_of::<SigningShare>() <= 24);
}

#[test]
fn a_withheld_partial_opens_for_its_own_permit_only() {
    let (mine, other) = (PublicKey([0; 48]), PublicKey([1; 48]));
    let share = share(&shares(1, 9)[0]).into_signing(scale(2));
    let withheld = |validator, root: u8| {
        let items = vec![(&share, validator, permit(root).root())];
        Tables::default().withhold_all(items).pop().unwrap()
    };
    assert_eq!(withheld(other, 1).release(permit(1)), Err(permit(1)));
    assert_eq!(withheld(mine, 2).release(permit(1)), Err(permit(1)));
    let released = withheld(mine, 1).release(permit(1));
    assert_eq!(released, Ok(share.sign(permit(1))));
}

#[test]
fn withheld_partials_are_those_that_are_signed() {
    let shares: Vec<SigningShare> = (0..)
        .zip(shares(9, 10))
        .map(|(position, bytes)| self::share(&bytes).into_signing(scale(position)))
        .collect();
    let roots = [1, 2, 1, 1, 3, 2, 1, 1, 1];
    let items = shares.iter().zip(roots);
    // The second time with a table that is there.
    let tables = Tables::default();
    let withheld = tables.withhold_all(
        items
            .clone()
            .map(|(share, root)| (share, permit(root).validator(), permit(root).root()))
            .collect(),
    );
    let released = withheld.into_iter().zip(roots);
    let released: Vec<_> = released
        .map(|(withheld, root)| withheld.release(permit(root)).unwrap())
        .collect();
    let signed = tables.sign_all(items.map(|(share, root)| (share, permit(root))).collect());
    assert_eq!(released, signed);
}

#[test]
fn who_signs_many_comes_by_offers_of_the_processor_all_along() {
    let passed = |roots: u8| {
        let signing = std::thread::spawn(move || {
            courtesy::always();
            let loaded = shares(64, 11).into_iter().zip(0..);
            let items = loaded.map(|(bytes, number): (_, u8)| {
                let share = Arc::new(share(&bytes).into_signing(scale(0)));
                (share, permit(number % roots))
            });
            let signed = Tables::default().sign_all(items.collect());
            (signed.len(), courtesy::passed())
        });
        let (signed, passed) = signing.join().unwrap();
        assert_eq!(signed, 64);
        passed
    };
    // A row of the table at a time; each hash, and each bit.
    assert!(passed(1) >= 10, "{}", passed(1));
    assert!(passed(64) >= 64 + 63, "{}", passed(64));
}
