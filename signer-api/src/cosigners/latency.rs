//! How long a cosigner takes: a moving average.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// An exponentially weighted moving average in microseconds; an observation weighs an eighth.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    /// Adds what one call took.
    pub(super) fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two calls that end at once may lose one observation: it is only an average.
        let before = self.0.load(Ordering::Relaxed);
        let after = if before == 0 {
            took
        } else {
            before.saturating_sub(before / 8).saturating_add(took / 8)
        };
        self.0.store(after.max(1), Ordering::Relaxed);
    }

    /// Begins anew with what one call took.
    pub(super) fn reset(&self, took: Duration) {
        self.0.store(0, Ordering::Relaxed);
        self.observe(took);
    }

    /// The average; 0 before the first observation.
    pub(crate) fn micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The average; zero before the first observation.
    pub(crate) fn average(&self) -> Duration {
        Duration::from_micros(self.micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_and_can_begin_anew() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(8));
        assert_eq!(latency.average(), Duration::from_millis(8));
        for _ in 0..100 {
            latency.observe(Duration::from_millis(80));
        }
        assert!(latency.average() > Duration::from_millis(70));
        latency.reset(Duration::from_millis(1));
        assert_eq!(latency.average(), Duration::from_millis(1));
    }
}
