//! Chance that repeats.

use std::time::Duration;

use parking_lot::Mutex;

/// SplitMix64 (Steele, Lea, Flood, 2014): small, even, and the same for the same seed everywhere.
pub(super) struct Chance(Mutex<u64>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        let chance = Self(Mutex::new(seed));
        chance.next();
        chance
    }

    pub(super) fn next(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap())).unwrap()
    }

    pub(super) fn pick<T: Copy>(&self, among: &[T]) -> T {
        among[self.index(among.len())]
    }

    pub(super) fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Whole milliseconds, both included: the runtime's clock has no finer ones.
    pub(super) fn ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to.saturating_sub(from) + 1))
    }

    /// From 0 up to 1.
    pub(super) fn fraction(&self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / 4_294_967_296.0
    }
}
