//! One point times many secret scalars: a table of the point's multiples, made once, and then
//! for every scalar a sum of entries, without doublings.
//!
//! With digits as in [`super::digits`] and psi, which multiplies a point of G2 by z < 0,
//!
//! ```text
//! s·H = D_0 − psi(D_1) + psi²(D_2 − psi(D_3)),   D_j = d_j·H = Σ_windows ±entry
//! ```
//!
//! The additions of all scalars in one step share one inversion ([`super::additions`]); each says why
//! its points are neither equal nor opposite.
//!
//! Secrets choose no branch and no address: every selection reads every entry of its row. The
//! heap that held what depends on secrets is wiped; the stack is not, as `blst`'s is not.

use zeroize::Zeroizing;

use super::{
    additions::{Chord, ChordOrTangent, add_each},
    digits::{DIGIT_BITS, Digits, Window},
    field::{Affine, Mask},
};

/// Scalars that share their inversions, of which one costs what about 10 additions do.
const GROUP_SCALARS: usize = 64;

/// The odd multiples of a point, public.
pub(crate) struct Comb {
    rows: Vec<Row>,
}

/// The entries for one window of a digit's bits: H·2^offset times 1, 3, 5, …, 2^width − 1.
struct Row {
    offset: usize,
    width: usize,
    entries: Vec<Affine>,
}

impl Comb {
    /// The table for H(`message`), with windows of `width` bits.
    pub(crate) fn of_hash(message: &[u8; 32], width: usize) -> Self {
        let doublings = Affine::doublings_of_hash(message, DIGIT_BITS);
        let mut rows: Vec<Row> = (0..)
            .step_by(width)
            .zip(doublings.chunks(width))
            .map(|(offset, doublings)| Row {
                offset,
                width: doublings.len(),
                entries: doublings.iter().take(1).copied().collect(),
            })
            .collect();
        for bit in 1..width {
            courtesy::offer();
            let (mut sums, mut addends) = (Vec::new(), Vec::new());
            for (row, doublings) in rows.iter().zip(doublings.chunks(width)) {
                if let Some(doubling) = doublings.get(bit) {
                    sums.extend(&row.entries);
                    addends.resize(sums.len(), *doubling);
                }
            }
            // Odd multiples below 2^bit, and 2^bit.
            add_each::<Chord>(&mut sums, &addends);
            let mut sums = sums.into_iter();
            for row in rows.iter_mut().filter(|row| row.width > bit) {
                let length = row.entries.len();
                row.entries.extend(sums.by_ref().take(length));
            }
        }
        Self { rows }
    }

    /// The uncompressed points H·scalar, in the order of the scalars, none of which is 0.
    pub(crate) fn multiply(&self, scalars: &[&Digits]) -> Vec<[u8; 192]> {
        let groups = scalars.chunks(GROUP_SCALARS);
        groups
            .flat_map(|group| self.multiply_group(group))
            .collect()
    }

    fn multiply_group(&self, scalars: &[&Digits]) -> Vec<[u8; 192]> {
        let mut sums = Zeroizing::new(vec![Affine::default(); 4 * scalars.len()]);
        let mut addends = Zeroizing::new(vec![Affine::default(); 4 * scalars.len()]);
        let mut rows = self.rows.iter();
        if let Some(first) = rows.next() {
            first.select_each(scalars, &mut sums);
        }
        for row in rows {
            courtesy::offer();
            row.select_each(scalars, &mut addends);
            // H times a number below 2^offset, and an odd multiple of H·2^offset.
            add_each::<Chord>(&mut sums, &addends);
        }
        // D_0 and D_2 of each scalar, then D_1 and D_3.
        let (sums, odd) = sums.split_at_mut(2 * scalars.len());
        for point in odd.iter_mut() {
            *point = point.times_z().negated();
        }
        // d_0 and d_1·|z|: numbers below r/2, the one odd, the other even.
        add_each::<Chord>(sums, odd);
        let (sums, high) = sums.split_at_mut(scalars.len());
        for point in high.iter_mut() {
            *point = point.times_z_squared();
        }
        // These may be equal, as they are for the scalar 2; they are opposite only for 0.
        add_each::<ChordOrTangent>(sums, high);
        sums.iter().map(Affine::serialize).collect()
    }
}

impl Row {
    /// The entries that the digits' windows name: for digit 0 of each scalar, digit 2, 1, and 3.
    fn select_each(&self, scalars: &[&Digits], into: &mut [Affine]) {
        let [zeroth, first, second, third] = [0, 1, 2, 3];
        let columns = [zeroth, second, first, third].into_iter();
        let digits = columns.flat_map(|column| {
            scalars
                .iter()
                .filter_map(move |scalar| scalar.columns().get(column))
        });
        for (place, digit) in into.iter_mut().zip(digits) {
            *place = self.select(&Window::of(*digit, self.offset, self.width));
        }
    }

    fn select(&self, window: &Window) -> Affine {
        let chosen = Affine::gather(&self.entries, window.index);
        chosen.negated_if(Mask::of_bit(window.minus))
    }
}
