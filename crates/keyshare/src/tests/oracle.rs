//! The same sharing by `vsss-rs`, over the curve of `bls12_381_plus`.

use bls12_381_plus::{G1Affine, G1Projective, Scalar};
use rand::{SeedableRng, rngs::StdRng};
use threshold::{Commitments, Committee, ShareIndex};
use vsss_rs::{
    DefaultShare, FeldmanVerifierSet, IdentifierPrimeField, PrimeFieldShare, ReadableShareSet,
    Share, ShareVerifierGroup, ValueGroup, feldman,
};

use super::{EXAMPLES, KEY, PUBLIC_KEY, bytes, indices, partial, split_seeded, subsets};
use crate::{SecretShare, check_share};

type OracleShare = PrimeFieldShare<Scalar>;
type OracleVerifier = ShareVerifierGroup<G1Projective>;

fn oracle_share(index: ShareIndex, share: &SecretShare) -> OracleShare {
    DefaultShare {
        identifier: IdentifierPrimeField(Scalar::from(index.value())),
        value: IdentifierPrimeField(Scalar::from_be_bytes(&share.to_be_bytes()).unwrap()),
    }
}

#[test]
fn the_oracle_takes_our_shares_and_commitments() {
    for (threshold, members) in [
        (2, indices(1..=3)),
        (3, indices(1..=4)),
        (5, indices(1..=7)),
        (3, indices([2, 1 << 40, u64::MAX - 7, u64::MAX])),
    ] {
        let split = split_seeded(threshold, &members, 77).unwrap();
        let verifiers: Vec<OracleVerifier> = split
            .committee
            .commitments()
            .as_slice()
            .iter()
            .map(|point| ValueGroup(G1Affine::from_compressed(point).unwrap().into()))
            .collect();
        let mut set = vec![ValueGroup(G1Projective::GENERATOR)];
        set.extend(verifiers);
        for (&index, share) in &split.shares {
            let share = oracle_share(index, share);
            FeldmanVerifierSet::<OracleShare, OracleVerifier>::verify_share(&set, &share).unwrap();
        }
        for subset in subsets(&members, threshold) {
            let shares: Vec<OracleShare> = subset
                .iter()
                .map(|&index| oracle_share(index, &split.shares[&index]))
                .collect();
            let recovered = shares.combine().unwrap();
            assert_eq!(recovered.0.to_be_bytes(), bytes(KEY), "{subset:?}");
        }
    }
}

#[test]
fn we_take_the_oracles_shares_and_commitments() {
    let secret = IdentifierPrimeField(Scalar::from_be_bytes(&bytes(KEY)).unwrap());
    for (threshold, size) in [(2, 3), (3, 4), (5, 7)] {
        let (shares, set) = feldman::split_secret::<OracleShare, OracleVerifier>(
            threshold,
            size,
            &secret,
            None,
            StdRng::seed_from_u64(78),
        )
        .unwrap();
        let verifiers = FeldmanVerifierSet::<OracleShare, OracleVerifier>::verifiers(&set);
        let commitments = verifiers
            .iter()
            .map(|verifier| G1Affine::from(verifier.0).to_compressed());
        let committee = Committee::new(
            Commitments::new(commitments.collect()).unwrap(),
            indices((1..).take(size)),
        )
        .unwrap();
        assert_eq!(committee.threshold(), threshold);
        assert_eq!(committee.group_key().to_string(), PUBLIC_KEY);
        for (root, expected) in EXAMPLES {
            let root = root.parse().unwrap();
            let partials: Vec<_> = committee
                .members()
                .iter()
                .zip(&shares)
                .map(|(&index, share)| {
                    let share = SecretShare::from_be_bytes(&share.value().0.to_be_bytes()).unwrap();
                    check_share(&share, index, &committee).unwrap();
                    (index, partial(&share, root))
                })
                .collect();
            let signature = committee.combine(root, &partials).unwrap();
            assert_eq!(signature.to_string(), expected, "{threshold}-of-{size}");
        }
    }
}
