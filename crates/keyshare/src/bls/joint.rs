//! Many points, each times a secret scalar of its own: one chain of doublings and additions for each,
//! all in step, so that what is done in one step shares an inversion.
//!
//! With digits as in [`super::digits`], z < 0 and the endomorphism psi, which multiplies a point of G2
//! by z,
//!
//! ```text
//! s·H = Σ_i 2^i·(±H ± |z|·H ± z²·H ± |z|³·H),   i < 64, |z|·H = −psi(H)
//! ```
//!
//! with the signs that bit i of the four digits give: eight sums and their opposites, of which every
//! step adds one (A. Faz-Hernández, P. Longa, A. H. Sánchez, "Efficient and secure algorithms for
//! GLV-based scalar multiplication", 2013).
//!
//! **No addition meets P ± P or infinity, but for a doubling in the last two.** What is added up before
//! bit i is Σ_j v_j·|z|^j·H with every v_j odd and at most 2^(63 − i) − 1 in size; the doubled sum has even
//! ones, the addend ±1. Were they equal or opposite, w with w_j = 2·v_j ∓ 1 ≠ 0 and |w_j| < 2^(64 − i)
//! would give 0 mod r. As an element of Z\[X\]/(X⁴ − X² + 1) it would then be in the ideal of X − z, whose norm is r,
//! and its own norm, at most (Σ w_j² + w_0·w_2 + w_1·w_3)² ≤ 36·max|w_j|⁴, at least r, about |z|⁴: so
//! some |w_j| ≥ |z|/√6 > 2^62.4. Therefore i < 2. There, opposite points would make the scalar 0, or make it one
//! of the 16 sums ±1 ± z ± z² ± z³ after 0, whose digits are others; equal ones are taken for what they are.
//!
//! Secrets choose no branch and no address: every selection reads all eight entries. The heap that
//! held what depends on secrets is wiped, but for the products, which are signatures; the stack is not, as
//! `blst`'s is not.

use zeroize::Zeroizing;

use super::{
    additions::{Chord, ChordOrTangent, Tangent, add_each},
    digits::{DIGIT_BITS, Digits},
    field::{Affine, Jacobian, Mask},
};

/// In so many additions, the last ones, equal points are thought of.
const CAREFUL: usize = 2;

/// Scalars that share their inversions, of which each of the 130 costs what 3 additions do.
const GROUP: usize = 128;

/// From so many scalars on sharing inversions pays (`benches/signing`).
const SHARED_MIN: usize = 16;

/// H ± |z|·H ± z²·H ± |z|³·H, public: the place says which signs differ from the first, the lowest bit
/// that of the second.
struct Sums([Affine; 8]);

/// The uncompressed points H(message)·scalar, in the order of the items. No scalar is 0.
pub(crate) fn multiply_each(items: &[(&[u8; 32], &Digits)]) -> Vec<[u8; 192]> {
    items.chunks(GROUP).flat_map(multiply_group).collect()
}

fn multiply_group(items: &[(&[u8; 32], &Digits)]) -> Vec<[u8; 192]> {
    let tables = Sums::of_hashes(items.iter().map(|(message, _)| *message));
    let digits: Vec<&Digits> = items.iter().map(|(_, digits)| *digits).collect();
    if items.len() < SHARED_MIN {
        let each = tables.iter().zip(digits);
        each.map(|(table, digits)| {
            courtesy::offer();
            multiply(table, digits)
        })
        .collect()
    } else {
        multiply_in_step(&tables, &digits)
    }
}

/// In affine coordinates.
fn multiply_in_step(tables: &[Sums], digits: &[&Digits]) -> Vec<[u8; 192]> {
    let mut sums = Zeroizing::new(vec![Affine::default(); digits.len()]);
    let mut addends = Zeroizing::new(vec![Affine::default(); digits.len()]);
    select_each(tables, digits, DIGIT_BITS - 1, &mut sums);
    for bit in (0..DIGIT_BITS - 1).rev() {
        courtesy::offer();
        addends.copy_from_slice(&sums);
        // No point of G2 but infinity is its own opposite.
        add_each::<Tangent>(&mut sums, &addends);
        select_each(tables, digits, bit, &mut addends);
        if bit < CAREFUL {
            add_each::<ChordOrTangent>(&mut sums, &addends);
        } else {
            add_each::<Chord>(&mut sums, &addends);
        }
    }
    sums.iter().map(Affine::serialize).collect()
}

/// In Jacobian coordinates, without inversions.
fn multiply(table: &Sums, digits: &Digits) -> [u8; 192] {
    let mut sum = Zeroizing::new(Jacobian::of(&table.select(digits, DIGIT_BITS - 1)));
    for bit in (0..DIGIT_BITS - 1).rev() {
        sum.double();
        let addend = Zeroizing::new(table.select(digits, bit));
        if bit < CAREFUL {
            sum.add_or_double(&addend);
        } else {
            sum.add(&addend);
        }
    }
    sum.serialize()
}

fn select_each(tables: &[Sums], digits: &[&Digits], bit: usize, into: &mut [Affine]) {
    for ((place, table), digits) in into.iter_mut().zip(tables).zip(digits) {
        *place = table.select(digits, bit);
    }
}

impl Sums {
    /// For every message's hash. The additions are of small multiples of H, none of which are equal or
    /// opposite.
    fn of_hashes<'a>(messages: impl Iterator<Item = &'a [u8; 32]>) -> Vec<Self> {
        let hashes = Affine::hashes(messages);
        // H and H, plus and minus |z|·H.
        let mut low: Vec<Affine> = hashes.iter().flat_map(|hash| [*hash; 2]).collect();
        let signed = hashes.iter().flat_map(|hash| {
            let image = hash.times_z();
            [image.negated(), image]
        });
        add_each::<Chord>(&mut low, &signed.collect::<Vec<_>>());
        // ±z²·H ± |z|³·H is z²·(±H ± |z|·H).
        let (mut sums, mut addends) = (Vec::new(), Vec::new());
        for [plus, minus] in low.as_chunks::<2>().0 {
            let (high_plus, high_minus) = (plus.times_z_squared(), minus.times_z_squared());
            for place in 0_usize..8 {
                sums.push(if place & 1 == 0 { *plus } else { *minus });
                let [third, fourth] = [place & 2, place & 4].map(|bit| bit != 0);
                let high = if third == fourth {
                    high_plus
                } else {
                    high_minus
                };
                addends.push(if third { high.negated() } else { high });
            }
        }
        add_each::<Chord>(&mut sums, &addends);
        sums.as_chunks::<8>()
            .0
            .iter()
            .map(|sums| Self(*sums))
            .collect()
    }

    /// The sum with the signs that the digits have at this bit. All eight are read.
    fn select(&self, digits: &Digits, bit: usize) -> Affine {
        let [first, others @ ..] = digits.columns().map(|digit| (digit >> bit) & 1);
        let [second, third, fourth] = others.map(|other| other ^ first);
        let chosen = Affine::gather(&self.0, second | (third << 1) | (fourth << 2));
        chosen.negated_if(Mask::of_bit(first ^ 1))
    }
}
