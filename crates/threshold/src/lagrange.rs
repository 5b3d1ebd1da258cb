//! Where the members' shares lie, and the weights with which partials make a signature.
//!
//! The value at 0 of a polynomial of degree t − 1 is Σ λ_i·f(x_i) over any t indices, where
//! λ_i = Π_{j≠i} x_j / (x_j − x_i). These are fractions with small denominators if the indices are
//! small. If every share is divided by their common denominator L once, when it is loaded, then the
//! partials' weights are the integers L·λ_i of a few bits, not 255-bit residues mod r.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{ShareIndex, bls::Scalar};

/// The largest committee that has a scale: of more members there are too many subsets.
const SCALED_MEMBERS_MAX: usize = 10;

/// The largest L and |L·λ|, so that a weighted sum stays cheaper than with residues mod r.
const WEIGHT_MAX: i32 = i32::MAX;

/// How many index sets are remembered for the committees to come. Families of keys share one set;
/// with arbitrary indices for each key, those beyond keep their own.
const REMEMBERED_MAX: usize = 256;

/// What the shares of a committee of `members` are divided by, where t = `threshold`: the least
/// common denominator L of all Lagrange coefficients at 0 of all t-subsets.
///
/// It is 1 where nothing is gained: L, or the integer L·λ of some coefficient, beyond 2^31 − 1;
/// more than 10 members; or no such subset. The same for everybody, everywhere: cosigners and
/// coordinators compute it apart.
#[must_use]
pub fn scale(threshold: usize, members: &BTreeSet<ShareIndex>) -> NonZeroU64 {
    IndexSet::of(threshold, members.clone()).scale()
}

/// t and the indices: what committees of different keys have in common.
#[derive(Debug)]
pub(crate) struct IndexSet {
    threshold: usize,
    members: BTreeSet<ShareIndex>,
    /// L, computed at the first need; none if it has no use.
    denominator: OnceLock<Option<NonZeroU64>>,
}

impl IndexSet {
    /// The set of these, the same one for all who ask: a process has 100,000 committees and a few
    /// sets. What is remembered is never anything but what would be computed again.
    pub(crate) fn of(threshold: usize, members: BTreeSet<ShareIndex>) -> Arc<Self> {
        type Known = BTreeMap<(usize, BTreeSet<ShareIndex>), Arc<IndexSet>>;
        static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());

        let asked = (threshold, members);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = known.get(&asked) {
            return Arc::clone(set);
        }
        let set = Arc::new(Self {
            threshold,
            members: asked.1.clone(),
            denominator: OnceLock::new(),
        });
        if known.len() < REMEMBERED_MAX {
            known.insert(asked, Arc::clone(&set));
        }
        set
    }

    pub(crate) const fn members(&self) -> &BTreeSet<ShareIndex> {
        &self.members
    }

    /// See [`scale`].
    pub(crate) fn scale(&self) -> NonZeroU64 {
        self.denominator().unwrap_or(NonZeroU64::MIN)
    }

    /// The integers L·λ for `indices`, t of the members, in their order; `None` if partials of this
    /// `scale` have no such weights.
    pub(crate) fn short_weights(
        &self,
        indices: &[ShareIndex],
        scale: NonZeroU64,
    ) -> Option<Vec<i32>> {
        if self.denominator()? != scale {
            return None;
        }
        indices
            .iter()
            .map(|&index| coefficient(index, indices)?.times(scale))
            .collect()
    }

    fn denominator(&self) -> Option<NonZeroU64> {
        let members = || self.members.iter().copied().collect::<Vec<_>>();
        *self
            .denominator
            .get_or_init(|| common_denominator(self.threshold, &members()))
    }
}

impl PartialEq for IndexSet {
    fn eq(&self, other: &Self) -> bool {
        self.threshold == other.threshold && self.members == other.members
    }
}

/// λ_i = Π_{j≠i} x_j / (x_j − x_i) mod r, in the order of the indices, which are distinct: the
/// weights with which values at the indices give the value at zero.
pub(crate) fn lagrange_at_zero(indices: &[ShareIndex]) -> Vec<Scalar> {
    let points: Vec<Scalar> = indices
        .iter()
        .map(|index| Scalar::from_u64(index.value()))
        .collect();
    points
        .iter()
        .map(|&x| {
            let mut numerator = Scalar::from_u64(1);
            let mut denominator = Scalar::from_u64(1);
            for &other in points.iter().filter(|&&other| other != x) {
                numerator = numerator.times(other);
                denominator = denominator.times(other.minus(x));
            }
            numerator.times(denominator.inverse())
        })
        .collect()
}

/// L for the sorted `members`; `None` if it, or any L·λ, is too large.
fn common_denominator(threshold: usize, members: &[ShareIndex]) -> Option<NonZeroU64> {
    if members.len() > SCALED_MEMBERS_MAX || !(1..=members.len()).contains(&threshold) {
        return None;
    }
    let mut common = 1;
    let mut coefficients = Vec::new();
    for chosen in 0..1_u32 << members.len() {
        if usize::try_from(chosen.count_ones()) != Ok(threshold) {
            continue;
        }
        let is_chosen = |position: &usize| chosen >> position & 1 == 1;
        let positioned = members.iter().enumerate();
        let subset: Vec<ShareIndex> = positioned
            .filter_map(|(position, index)| is_chosen(&position).then_some(*index))
            .collect();
        for &index in &subset {
            let coefficient = coefficient(index, &subset)?;
            let gained = coefficient.denominator / gcd(common, coefficient.denominator);
            common = short(common.checked_mul(gained)?)?.unsigned_abs().into();
            coefficients.push(coefficient);
        }
    }
    let common = NonZeroU64::new(u64::try_from(common).ok()?)?;
    let all_short = coefficients.iter().all(|c| c.times(common).is_some());
    all_short.then_some(common)
}

/// A fraction in lowest terms; the denominator is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// self·factor, if that is a short integer.
    fn times(self, factor: NonZeroU64) -> Option<i32> {
        let factor = i128::from(factor.get());
        if factor % self.denominator != 0 {
            return None;
        }
        short(self.numerator.checked_mul(factor / self.denominator)?)
    }
}

/// λ of `index` among `subset`; `None` if it is too large for the integers it is computed in.
fn coefficient(index: ShareIndex, subset: &[ShareIndex]) -> Option<Fraction> {
    let mut product = Fraction {
        numerator: 1,
        denominator: 1,
    };
    for other in subset.iter().filter(|&&other| other != index) {
        let numerator = i128::from(other.value());
        let difference = numerator - i128::from(index.value());
        // Lowest terms before each multiplication, so that nothing grows without need.
        let within = gcd(numerator, difference) * difference.signum();
        let (numerator, denominator) = (numerator / within, difference / within);
        let across = gcd(product.numerator, denominator);
        let over = gcd(numerator, product.denominator);
        product = Fraction {
            numerator: times(product.numerator / across, numerator / over)?,
            denominator: times(product.denominator / over, denominator / across)?,
        };
    }
    Some(product)
}

/// a·b, if that and its negative are integers of this width.
fn times(a: i128, b: i128) -> Option<i128> {
    a.checked_mul(b).filter(|product| *product != i128::MIN)
}

fn short(value: i128) -> Option<i32> {
    let value = i32::try_from(value).ok()?;
    (value.unsigned_abs() <= WEIGHT_MAX.unsigned_abs()).then_some(value)
}

/// The greatest common divisor, positive, of numbers that are not both 0.
fn gcd(a: i128, b: i128) -> i128 {
    // Most are small, and twice the width takes several times as long to divide.
    if let (Ok(mut a), Ok(mut b)) = (u64::try_from(a.abs()), u64::try_from(b.abs())) {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        return a.into();
    }
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
