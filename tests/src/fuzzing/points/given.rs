//! Partials as cosigners give them: in either form, good and bad, over the wire.

use std::num::NonZeroU64;

use bls12_381_plus::{G2Affine, G2Projective};
use prost::Message;
use threshold::{PartialSignature, ShareIndex};
use wire::proto::{ScaledPartial, SignOutcome, sign_outcome::Outcome};

use super::known::{Known, ROOTS, Share};
use crate::{
    fuzzing::Choices,
    liar::partials::{outside_subgroup, plus_modulus},
};

/// What a partial may be, as the lower half of a byte chooses.
pub(in crate::fuzzing) const CONTENTS: u8 = 16;
/// In which form, as the upper half chooses.
pub(in crate::fuzzing) const FORMS: u8 = 6;

/// Whose it is said to be, and the partial.
pub(super) type Given = (ShareIndex, PartialSignature);

/// The scale of a form; none for the plain one.
pub(super) fn scale(known: &Known, form: u8, choices: &mut Choices<'_>) -> Option<NonZeroU64> {
    let scale = match form % FORMS {
        0 => return None,
        1 => known.committee.scale().get(),
        2 => 1,
        3 => u64::MAX,
        4 => 2,
        _ => u64::from_le_bytes(choices.array()).max(1),
    };
    NonZeroU64::new(scale)
}

/// The next partial over a root, honest or not; `None` if the wire does not take it.
pub(super) fn next(
    known: &Known,
    root: usize,
    before: Option<Given>,
    choices: &mut Choices<'_>,
) -> (ShareIndex, Option<PartialSignature>) {
    let at = usize::from(choices.byte());
    let index = known.indices.get(at).copied();
    // Beyond the members: one that is none.
    let index = index.unwrap_or(ShareIndex::new(1_000).unwrap());
    let at = at % known.indices.len();
    let kind = choices.byte();
    let scale = scale(known, kind / CONTENTS, choices);
    let like = |share: &Share| known.dishonest(at, share, root, scale);
    let whole = match kind % CONTENTS {
        1 => known.honest((at + 1) % known.indices.len(), root, scale),
        2 => known.honest(at, (root + 1) % ROOTS, scale),
        7 => before.map_or(known.honest(at, root, scale), |(_, partial)| partial),
        8 => like(&Share::Whole),
        11 => like(&Share::Negated),
        12 => like(&Share::Above),
        13 => like(&Share::Below),
        _ => known.honest(at, root, scale),
    };
    let (mut point, mut stated) = match whole {
        PartialSignature::Plain(point) => (point.to_vec(), None),
        PartialSignature::Scaled { point, scale } => (point.to_vec(), Some(scale.get())),
    };
    match kind % CONTENTS {
        3 => point = choices.array::<192>()[..point.len()].to_vec(),
        4 => {
            let place = usize::from(choices.byte()) % point.len();
            point[place] ^= choices.byte();
        }
        // The sign of the compressed form.
        5 => point[0] ^= 0x20,
        6 => {
            point.fill(0);
            point[0] = if stated.is_some() { 0x40 } else { 0xc0 };
        }
        9 => stated = stated.map(|_| u64::from_le_bytes(choices.array())),
        // The other form's bytes in this one's place.
        10 => point = in_the_others_place(known, at, root, point.len()),
        14 => point = beside_the_subgroup(&point),
        15 => {
            let other = plus_modulus(point[..96].try_into().unwrap());
            point[..96].copy_from_slice(&other);
        }
        _ => {}
    }
    (index, through_the_wire(point, stated))
}

fn in_the_others_place(known: &Known, at: usize, root: usize, length: usize) -> Vec<u8> {
    let other = (length == 96).then_some(NonZeroU64::MIN);
    let mut point = match known.honest(at, root, other) {
        PartialSignature::Plain(point) => point.to_vec(),
        PartialSignature::Scaled { point, .. } => point.to_vec(),
    };
    point.resize(length, 0);
    point
}

/// The same and a point that is not in the subgroup.
fn beside_the_subgroup(point: &[u8]) -> Vec<u8> {
    let read = match point.len() {
        96 => G2Affine::from_compressed_unchecked(point.try_into().unwrap()),
        _ => G2Affine::from_uncompressed_unchecked(point.try_into().unwrap()),
    };
    let good: G2Affine = Option::from(read).unwrap();
    let other: G2Affine =
        Option::from(G2Affine::from_compressed_unchecked(&outside_subgroup())).unwrap();
    let sum = G2Affine::from(G2Projective::from(good) + G2Projective::from(other));
    match point.len() {
        96 => sum.to_compressed().to_vec(),
        _ => sum.to_uncompressed().to_vec(),
    }
}

/// What a partial is behind the wire: the same, and only a scale of 0 is none.
fn through_the_wire(point: Vec<u8>, stated: Option<u64>) -> Option<PartialSignature> {
    let outcome = match stated {
        None => Outcome::Partial(point),
        Some(scale) => Outcome::Scaled(ScaledPartial { point, scale }),
    };
    let sent = SignOutcome {
        outcome: Some(outcome),
    };
    let arrived = SignOutcome::decode(sent.encode_to_vec().as_slice()).unwrap();
    assert_eq!(arrived, sent);
    let partial = match arrived.outcome.as_ref().unwrap() {
        Outcome::Partial(point) => wire::plain_partial_from_proto(point),
        Outcome::Scaled(scaled) => wire::scaled_partial_from_proto(scaled),
        other => panic!("{other:?} is another outcome"),
    };
    assert_eq!(partial.is_err(), stated == Some(0), "{partial:?}");
    let partial = partial.ok()?;
    assert_eq!(Some(wire::partial_to_proto(&partial)), sent.outcome);
    Some(partial)
}
