//! Partial signatures on the wire. Their points are not looked at here: combining does.

use std::num::NonZeroU64;

use threshold::PartialSignature;

use crate::{
    Malformed, Problem, bytes,
    proto::{ScaledPartial, sign_outcome::Outcome},
};

/// A partial in the form that it has.
#[must_use]
pub fn partial_to_proto(partial: &PartialSignature) -> Outcome {
    match partial {
        PartialSignature::Plain(point) => Outcome::Partial(point.to_vec()),
        PartialSignature::Scaled { point, scale } => Outcome::Scaled(ScaledPartial {
            point: point.to_vec(),
            scale: scale.get(),
        }),
    }
}

/// A partial of the plain form.
///
/// # Errors
/// [`Malformed`] unless it has 96 bytes.
pub fn plain_partial_from_proto(point: &[u8]) -> Result<PartialSignature, Malformed> {
    bytes("partial", point).map(PartialSignature::Plain)
}

/// A partial of the scaled form.
///
/// # Errors
/// [`Malformed`] unless it has 192 bytes, and a scale.
pub fn scaled_partial_from_proto(partial: &ScaledPartial) -> Result<PartialSignature, Malformed> {
    Ok(PartialSignature::Scaled {
        point: bytes("scaled.point", &partial.point)?,
        scale: NonZeroU64::new(partial.scale).ok_or(Malformed {
            member: "scaled.scale",
            problem: Problem::Range,
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partials_survive_the_way_and_other_lengths_and_no_scale_are_malformed() {
        let scale = NonZeroU64::new(3).unwrap();
        let (plain, scaled) = ([7; 96], [9; 192]);
        let partial = PartialSignature::Plain(plain);
        assert_eq!(partial_to_proto(&partial), Outcome::Partial(plain.to_vec()));
        assert_eq!(plain_partial_from_proto(&plain), Ok(partial));
        let partial = PartialSignature::Scaled {
            point: scaled,
            scale,
        };
        let Outcome::Scaled(message) = partial_to_proto(&partial) else {
            panic!("another form");
        };
        assert_eq!(scaled_partial_from_proto(&message), Ok(partial));

        for length in [0, 95, 97, 192] {
            assert!(plain_partial_from_proto(&vec![1; length]).is_err());
        }
        for (length, scale) in [(0, 3), (96, 3), (191, 3), (193, 3), (192, 0)] {
            let point = vec![1; length];
            assert!(scaled_partial_from_proto(&ScaledPartial { point, scale }).is_err());
        }
    }
}
