//! A comb's products, and those of points in step, against `blst`'s own multiplication, scalar by scalar.

use std::num::NonZeroU64;

use bls12_381_plus::Scalar;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::bls::{SecretScalar, comb::Comb, digits::Digits, joint::multiply_each};

const MESSAGE: [u8; 32] = [0x5a; 32];

fn secret(scalar: Scalar) -> SecretScalar {
    SecretScalar::from_be_bytes(&scalar.to_be_bytes()).unwrap()
}

fn random(count: usize, seed: u64) -> Vec<SecretScalar> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut wide = [0; 48];
    (0..count)
        .map(|_| {
            random.fill_bytes(&mut wide);
            SecretScalar::from_wide(&wide).unwrap()
        })
        .collect()
}

fn check(width: usize, scalars: &[SecretScalar]) {
    let digits: Vec<Digits> = scalars.iter().map(Digits::of).collect();
    let products = Comb::of_hash(&MESSAGE, width).multiply(&digits.iter().collect::<Vec<_>>());
    assert_eq!(products.len(), scalars.len());
    for (position, (product, scalar)) in products.iter().zip(scalars).enumerate() {
        let expected = scalar.sign_uncompressed(&MESSAGE);
        assert_eq!(*product, expected, "{width} bits, scalar {position}");
    }
}

/// |z|^power.
fn radix(power: u64) -> Scalar {
    Scalar::from(0xd201_0000_0001_0000_u64).pow_vartime(&[power, 0, 0, 0])
}

/// The scalar that has these digits: 2·Σ b_j·|z|^j − (2^64 − 1)·Σ |z|^j.
fn of_digits(digits: [u64; 4]) -> Scalar {
    let ones = Scalar::from(u64::MAX);
    (0..).zip(digits).fold(Scalar::ZERO, |sum, (power, digit)| {
        sum + (Scalar::from(digit).double() - ones) * radix(power)
    })
}

/// Each with a message of its own, in step with so many others.
fn check_each(in_step: usize, scalars: &[SecretScalar]) {
    let digits: Vec<Digits> = scalars.iter().map(Digits::of).collect();
    let messages: Vec<[u8; 32]> = (0..scalars.len()).map(message).collect();
    let items: Vec<_> = messages.iter().zip(&digits).collect();
    let products = items.chunks(in_step).flat_map(multiply_each);
    let products: Vec<[u8; 192]> = products.collect();
    assert_eq!(products.len(), scalars.len());
    for (position, (product, scalar)) in products.iter().zip(scalars).enumerate() {
        let expected = scalar.sign_uncompressed(&message(position));
        assert_eq!(*product, expected, "{in_step} in step, scalar {position}");
    }
}

fn message(number: usize) -> [u8; 32] {
    let mut message = MESSAGE;
    message[..8].copy_from_slice(&number.to_be_bytes());
    message
}

fn extreme() -> Vec<SecretScalar> {
    let one = Scalar::ONE;
    let mut extreme = vec![one, one.double(), one.double() + one, one.double().double()];
    for power in 1..4 {
        let radix = radix(power);
        extreme.extend([radix, radix - one, radix + one, radix.double()]);
        // Where the last of a scalar's additions is a doubling: 2, and 2·(z² ± 1).
        extreme.extend([(radix - one).double(), (radix + one).double()]);
    }
    extreme.extend([u64::MAX, 1 << 63, (1 << 63) - 1].map(Scalar::from));
    extreme.push(Scalar::from_raw_unchecked([0x5555_5555_5555_5555; 4]));
    extreme.extend(extreme.clone().into_iter().map(|scalar| -scalar));
    let greatest = 0xd201_0000_0000_ffff;
    for digit in [
        0,
        1,
        1 << 63,
        (1 << 63) - 1,
        0x5555_5555_5555_5555,
        greatest,
    ] {
        for others in [0, 1, 1 << 63, greatest - 1] {
            for column in 0..4 {
                let mut digits = [others; 4];
                digits[column] = digit;
                if column == 3 || others != greatest - 1 {
                    extreme.push(of_digits(digits));
                }
            }
        }
    }
    // The sums that joint tables hold, and twice these: a prefix of their digits gives H·0 or H·sum.
    for signs in 0..16_u64 {
        let signed = (0..4).map(|power| {
            let radix = radix(power);
            if signs >> power & 1 == 1 {
                radix
            } else {
                -radix
            }
        });
        let sum: Scalar = signed.sum();
        extreme.extend([sum, sum.double(), sum.double() + sum]);
    }
    extreme.retain(|scalar| *scalar != Scalar::ZERO);
    extreme.into_iter().map(secret).collect()
}

#[test]
fn extreme_scalars_have_their_products() {
    let extreme = extreme();
    for width in 1..=7 {
        check(width, &extreme);
    }
}

#[test]
fn extreme_scalars_have_their_products_with_points_of_their_own() {
    let extreme = extreme();
    check_each(1, &extreme);
    check_each(extreme.len(), &extreme);
}

#[test]
fn any_number_of_points_has_its_products() {
    let scalars = random(300, 14);
    for count in [0, 1, 2, 15, 16, 17, 127, 128, 129, 143, 144, 145, 300] {
        check_each(count.max(1), &scalars[..count]);
    }
}

#[test]
fn every_width_of_window_gives_the_same_products() {
    let scalars = random(9, 11);
    for width in 1..=9 {
        check(width, &scalars);
    }
}

#[test]
fn any_number_of_scalars_has_its_products() {
    let scalars = random(131, 12);
    for count in [0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 131] {
        check(4, &scalars[..count]);
    }
}

#[test]
fn one_scalar_many_times_has_one_product() {
    let scalars: Vec<SecretScalar> = (0..70).map(|_| secret(Scalar::from(2_u64))).collect();
    check(5, &scalars);
}

#[test]
fn division_undoes_multiplication() {
    for scalar in random(20, 13) {
        for factor in
            [1, 2, 6, 0x7fff_ffff, u64::MAX].map(|factor| NonZeroU64::new(factor).unwrap())
        {
            let there_and_back = scalar.divided_by(factor).times(factor);
            assert_eq!(there_and_back.to_be_bytes(), scalar.to_be_bytes());
            let quotient = Scalar::from_be_bytes(&scalar.to_be_bytes()).unwrap()
                * Scalar::from(factor.get()).invert().unwrap();
            assert_eq!(
                *scalar.divided_by(factor).to_be_bytes(),
                quotient.to_be_bytes()
            );
        }
    }
}
