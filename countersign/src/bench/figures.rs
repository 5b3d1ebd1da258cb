//! Numbers out of many measurements.

use std::time::Duration;

use serde::Serialize;

/// Repetitions of one measurement: the median, and the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            median: quantile(&values, 500),
            least: quantile(&values, 0),
            most: quantile(&values, 1000),
        }
    }
}

/// The value below which so many thousandths of `sorted` lie, one of them (nearest rank); 0 of none.
pub(super) fn quantile(sorted: &[f64], per_mille: usize) -> f64 {
    let rank = sorted.len().saturating_mul(per_mille).div_ceil(1000);
    let at = rank.saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// Milliseconds, sorted.
pub(super) fn sorted_ms(times: impl IntoIterator<Item = Duration>) -> Vec<f64> {
    let mut times: Vec<f64> = times.into_iter().map(ms).collect();
    times.sort_by(f64::total_cmp);
    times
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A count as a number to divide by; what is beyond 2^32 is as good as infinite here.
pub(super) fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::{Spread, quantile};

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100_u32).map(f64::from).collect();
        for (per_mille, expected) in [(0, 1.0), (10, 1.0), (500, 50.0), (990, 99.0), (1000, 100.0)]
        {
            assert!(
                (quantile(&hundred, per_mille) - expected).abs() < 0.5,
                "{per_mille}"
            );
        }
        assert!(quantile(&[], 500).abs() < f64::EPSILON);
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(
            spread,
            Spread {
                median: 2.0,
                least: 1.0,
                most: 3.0
            }
        );
    }
}
