//! Plain signing, measured again and again between what is compared with it: this machine's speed
//! may change by a third within seconds.

use std::time::Duration;

use super::figures::Spread;
use crate::bench::plain_signing_rate;

/// Rates of plain signing on one core: before each measurement, and after the last.
#[derive(Debug, Clone)]
pub(super) struct Yardstick {
    time: Duration,
    rates: Vec<f64>,
}

impl Yardstick {
    /// Nothing yet; each measurement takes so long.
    pub(super) const fn new(time: Duration) -> Self {
        Self {
            time,
            rates: Vec::new(),
        }
    }

    /// Measures.
    ///
    /// # Errors
    /// If a signature cannot be made.
    pub(super) fn measure(&mut self) -> anyhow::Result<()> {
        self.rates.push(plain_signing_rate(self.time)?);
        Ok(())
    }

    /// The least and the highest signatures per second.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        let least = self.rates.iter().copied().reduce(f64::min)?;
        Some((least, self.rates.iter().copied().reduce(f64::max)?))
    }

    /// The median of what was found each time, by the rate then: between the one before and the one after.
    pub(super) fn compared(&self, found: &[f64], by: impl Fn(f64, f64) -> f64) -> f64 {
        let then = self.rates.iter().zip(self.rates.iter().skip(1));
        let then = then.map(|(before, after)| f64::midpoint(*before, *after));
        let compared = found.iter().zip(then).map(|(found, rate)| by(*found, rate));
        Spread::of(compared.collect()).median
    }

    /// Milliseconds as multiples of one plain signature: the median.
    pub(super) fn times(&self, found: &[f64]) -> f64 {
        self.compared(found, |ms, rate| ms * rate / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_compared_with_the_rate_of_its_own_time() {
        let yardstick = Yardstick {
            time: Duration::ZERO,
            rates: vec![1_000.0, 3_000.0, 1_000.0, 1_000.0],
        };
        assert_eq!(yardstick.range(), Some((1_000.0, 3_000.0)));
        let ratio = yardstick.compared(&[500.0, 1_000.0, 1_000.0], |found, rate| found / rate);
        assert!((ratio - 0.5).abs() < 1e-9, "{ratio}");
        let times = yardstick.times(&[2.0, 3.0, 1.0]);
        assert!((times - 4.0).abs() < 1e-9, "{times}");
    }
}
