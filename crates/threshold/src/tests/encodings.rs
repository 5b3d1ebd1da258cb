//! The 192 bytes of a scaled partial, taken to the letter.

use std::num::NonZeroU64;

use super::{dealer::*, *};

const ROOT: SigningRoot = SigningRoot([7; 32]);

/// The field's modulus p.
const MODULUS: &str = "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";

fn decompressed(hex: &str) -> [u8; 192] {
    let bytes: [u8; 96] = bytes(hex);
    blst::min_pk::Signature::from_bytes(&bytes)
        .unwrap()
        .serialize()
}

#[test]
fn everything_but_the_one_encoding_of_a_point_of_the_subgroup_is_blamed() {
    let dealt = deal(1, 3, &[1, 2, 3, 4]);
    let scale = dealt.committee.scale();
    let honest = dealt.scaled(ROOT);
    let PartialSignature::Scaled { point: own, .. } = honest[0].1 else {
        panic!("{}", honest[0].1);
    };
    let with = |change: fn(&mut [u8; 192])| {
        let mut changed = own;
        change(&mut changed);
        changed
    };
    let compressed = blst::min_pk::Signature::deserialize(&own)
        .unwrap()
        .to_bytes();
    let mut compressed_and_rest = own;
    compressed_and_rest[..96].copy_from_slice(&compressed);
    let mut compressed_and_zeros = [0; 192];
    compressed_and_zeros[..96].copy_from_slice(&compressed);
    let mut infinity = [0; 192];
    infinity[0] = 0x40;
    let mut crooked_infinity = infinity;
    crooked_infinity[191] = 1;
    let mut compressed_infinity = [0; 192];
    compressed_infinity[0] = 0xc0;
    let modulus: [u8; 48] = bytes(MODULUS);
    let mut off_curve = decompressed(OUTSIDE_SUBGROUP);
    off_curve[191] ^= 1;

    let not_on_curve = BadPartial::Point(InvalidPoint::NotOnCurve);
    let outside = BadPartial::Point(InvalidPoint::OutsideSubgroup);
    let at_infinity = BadPartial::Point(InvalidPoint::Infinity);
    let mut cases = vec![
        ([0; 192], not_on_curve),
        ([0xff; 192], not_on_curve),
        ([0x15; 192], not_on_curve),
        (with(|point| point[191] ^= 1), not_on_curve),
        (with(|point| point[0] |= 0x20), not_on_curve),
        (with(|point| point[0] |= 0x40), not_on_curve),
        (with(|point| point[0] |= 0x80), not_on_curve),
        (with(|point| point.rotate_left(96)), not_on_curve),
        (compressed_and_rest, not_on_curve),
        (compressed_and_zeros, not_on_curve),
        (infinity, at_infinity),
        (crooked_infinity, not_on_curve),
        (compressed_infinity, not_on_curve),
        (off_curve, not_on_curve),
        (decompressed(OUTSIDE_SUBGROUP), outside),
        (decompressed(ORDER_13), outside),
        (decompressed(GOOD_PLUS_ORDER_13), outside),
        (decompressed(SIGNATURE), BadPartial::Mismatch),
    ];
    // Each coordinate plus p, where that still has 48 bytes, and p itself.
    for coordinate in 0..4 {
        let place = coordinate * 48..coordinate * 48 + 48;
        let mut raised = own;
        raised[place.clone()].copy_from_slice(&modulus);
        cases.push((raised, not_on_curve));
        let mut raised = own;
        let mut carry = 0;
        for (byte, more) in raised[place].iter_mut().zip(modulus).rev() {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            let [high, low] = sum.to_be_bytes();
            (*byte, carry) = (low, u16::from(high));
        }
        if carry == 0 {
            cases.push((raised, not_on_curve));
        }
    }
    for (point, reason) in cases {
        check(
            &dealt,
            &honest,
            PartialSignature::Scaled { point, scale },
            reason,
        );
        // Another scale takes the long way.
        let scale = NonZeroU64::new(97).unwrap();
        check(
            &dealt,
            &honest,
            PartialSignature::Scaled { point, scale },
            reason,
        );
    }
}

fn check(
    dealt: &Dealt,
    honest: &[(ShareIndex, PartialSignature)],
    bad: PartialSignature,
    reason: BadPartial,
) {
    let committee = &dealt.committee;
    let culprit = honest[0].0;
    assert_eq!(
        committee.verify_partial(culprit, ROOT, &bad),
        Err(reason),
        "{bad}"
    );
    let partials = [(culprit, bad), honest[1], honest[2], honest[3]];
    let blamed = Err(CombineError::Blame(vec![culprit]));
    assert_eq!(committee.combine(ROOT, &partials), blamed, "{bad}");
    let job = |partials| Combination {
        committee,
        root: ROOT,
        partials,
        anticipated: None,
    };
    let jobs = [job(honest), job(&partials), job(&partials[1..])];
    let good = Ok(dealt.signature(ROOT));
    assert_eq!(
        combine_all(&jobs, &[3; 32]),
        [good.clone(), blamed, good],
        "{bad}"
    );
}

#[test]
fn a_partial_says_its_form() {
    let scale = NonZeroU64::new(3).unwrap();
    let scaled = PartialSignature::Scaled {
        point: [1; 192],
        scale,
    };
    assert_eq!(scaled.scale(), scale);
    assert_eq!(scaled.to_string(), format!("3 × 0x{}", "01".repeat(192)));
    let plain = PartialSignature::Plain([1; 96]);
    assert_eq!(plain.scale().get(), 1);
    assert_eq!(format!("{plain:?}"), format!("0x{}", "01".repeat(96)));
}
