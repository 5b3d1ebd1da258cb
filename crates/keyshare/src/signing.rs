//! Shares that are loaded for signing, alone or many at once.

use std::{borrow::Borrow, collections::BTreeMap, num::NonZeroU64};

use duty::{Permit, PublicKey, SigningRoot};
use threshold::PartialSignature;
use zeroize::Zeroizing;

use crate::{
    SecretShare, Tables,
    bls::{SecretScalar, digits::Digits, joint::multiply_each},
};

/// A share that is loaded for signing: share/scale mod r, and the digits of that for a comb.
///
/// **Invariant:** it gives no partial out without a permit, which the ledger mints after its commit;
/// the types of its methods, of [`Tables::sign_all`] and of [`Withheld`] keep it.
pub struct SigningShare {
    scale: NonZeroU64,
    scaled: SecretScalar,
    digits: Digits,
}

impl SecretShare {
    /// Loads the share for signing. `scale` is the committee's; 1 is always right.
    #[must_use]
    pub fn into_signing(self, scale: NonZeroU64) -> SigningShare {
        let scaled = if scale == NonZeroU64::MIN {
            self.0
        } else {
            self.0.divided_by(scale)
        };
        SigningShare {
            scale,
            digits: Digits::of(&scaled),
            scaled,
        }
    }
}

impl SigningShare {
    /// Signs the permit's root in the scaled form. The caller has looked this share up by the
    /// permit's validator.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is evidence that is used up by signing"
    )]
    pub fn sign(&self, permit: Permit) -> PartialSignature {
        self.partial(self.scaled.sign_uncompressed(permit.root().as_bytes()))
    }

    /// Signs the permit's root in the plain form, for a caller that knows no other.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is evidence that is used up by signing"
    )]
    pub fn sign_plain(&self, permit: Permit) -> PartialSignature {
        let share = self.scaled.times(self.scale);
        PartialSignature::Plain(share.sign(permit.root().as_bytes()))
    }

    const fn partial(&self, point: [u8; 192]) -> PartialSignature {
        PartialSignature::Scaled {
            point,
            scale: self.scale,
        }
    }
}

/// A partial signature that was computed before there was a permit for it, while a ledger wrote
/// its decision. It is wiped when it is dropped.
///
/// **Invariant:** nothing reads it but [`Self::release`], for a permit of the same validator and
/// root; kept by `tests::a_withheld_partial_opens_for_its_own_permit_only`.
pub struct Withheld {
    validator: PublicKey,
    root: SigningRoot,
    point: Box<Zeroizing<[u8; 192]>>,
    scale: NonZeroU64,
}

impl Withheld {
    /// Withholds a partial in the scaled form that is known already.
    #[must_use]
    pub fn known(
        validator: PublicKey,
        root: SigningRoot,
        point: [u8; 192],
        scale: NonZeroU64,
    ) -> Self {
        Self {
            validator,
            root,
            point: Box::new(Zeroizing::new(point)),
            scale,
        }
    }

    /// Gives the partial out, in the scaled form.
    ///
    /// # Errors
    /// The permit, if it is for another validator or another root.
    pub fn release(self, permit: Permit) -> Result<PartialSignature, Permit> {
        if permit.validator() != self.validator || permit.root() != self.root {
            return Err(permit);
        }
        Ok(PartialSignature::Scaled {
            point: **self.point,
            scale: self.scale,
        })
    }
}

impl Tables {
    /// Computes the partials of many roots, each with the share beside its validator's key; the
    /// answers are in the order of the items. Of a hundred over one root, each costs about an
    /// eighth of one alone.
    #[must_use]
    pub fn withhold_all<S: Borrow<SigningShare>>(
        &self,
        items: Vec<(S, PublicKey, SigningRoot)>,
    ) -> Vec<Withheld> {
        let shares = items.iter().map(|(share, _, root)| (share.borrow(), *root));
        let points = Zeroizing::new(self.points_of_all(shares));
        let withheld = items.iter().zip(points.iter());
        withheld
            .map(|((share, validator, root), point)| {
                Withheld::known(*validator, *root, *point, share.borrow().scale)
            })
            .collect()
    }

    /// Signs many permits' roots in the scaled form, each with the share beside it, as
    /// [`Self::withhold_all`] does.
    #[must_use]
    pub fn sign_all<S: Borrow<SigningShare>>(
        &self,
        items: Vec<(S, Permit)>,
    ) -> Vec<PartialSignature> {
        let shares = items
            .iter()
            .map(|(share, permit)| (share.borrow(), permit.root()));
        let points = self.points_of_all(shares);
        let signed = items.iter().zip(points);
        signed
            .map(|((share, _), point)| share.borrow().partial(point))
            .collect()
    }

    /// One point for each share, in their order.
    fn points_of_all<'a>(
        &self,
        shares: impl Iterator<Item = (&'a SigningShare, SigningRoot)>,
    ) -> Vec<[u8; 192]> {
        let mut by_root: BTreeMap<SigningRoot, Vec<(usize, &SigningShare)>> = BTreeMap::new();
        for (position, (share, root)) in shares.enumerate() {
            by_root.entry(root).or_default().push((position, share));
        }
        let (mut placed, mut lone) = (Vec::new(), Vec::new());
        for (root, shares) in by_root {
            match self.comb(root, shares.len()) {
                None => lone.extend(shares.into_iter().map(|share| (root, share))),
                Some(comb) => {
                    let (positions, digits): (Vec<_>, Vec<_>) = shares
                        .into_iter()
                        .map(|(at, share)| (at, &share.digits))
                        .unzip();
                    placed.extend(positions.into_iter().zip(comb.multiply(&digits)));
                }
            }
        }
        let positions = lone.iter().map(|(_, (position, _))| *position);
        let items = lone
            .iter()
            .map(|(root, (_, share))| (root.as_bytes(), &share.digits));
        placed.extend(positions.zip(multiply_each(&items.collect::<Vec<_>>())));
        placed.sort_unstable_by_key(|(position, _)| *position);
        placed.into_iter().map(|(_, point)| point).collect()
    }
}
