//! Percentiles of times, and medians with their extremes.

use std::time::Duration;

/// Times in order.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// Puts them in order.
    pub(super) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The time that `percent` of all do not exceed, in milliseconds.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(place).map_or(0.0, |time| ms(*time))
    }
}

/// The median of several rounds with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) rounds: usize,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
        let (rounds, half) = (values.len(), values.len() / 2);
        let median =
            if rounds.is_multiple_of(2) { f64::midpoint(at(half.saturating_sub(1)), at(half)) } else { at(half) };
        Self { median, min: at(0), max: at(rounds.saturating_sub(1)), rounds }
    }

    /// The ratio to another, at its widest: our highest to their lowest and the other way about.
    pub(super) fn over(self, other: Self) -> Self {
        Self {
            median: self.median / other.median,
            min: self.min / other.max,
            max: self.max / other.min,
            rounds: self.rounds.min(other.rounds),
        }
    }
}

/// Milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Milliseconds for each of so many.
pub(super) fn ms_each(time: Duration, count: usize) -> f64 {
    ms(time) / float(count.max(1))
}

/// A count as a figure for people.
#[expect(clippy::cast_precision_loss, reason = "figures are good to three digits, counts are far below 2^52")]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        assert!((times.percentile_ms(50) - 100.0).abs() < 1e-9);
        assert!((times.percentile_ms(99) - 198.0).abs() < 1e-9);
        assert!(Times::new(Vec::new()).percentile_ms(50).abs() < 1e-9);
    }

    #[test]
    fn a_median_stands_between_its_extremes() {
        let even = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!(even, Spread { median: 2.5, min: 1.0, max: 4.0, rounds: 4 });
        let ratio = even.over(Spread::of(vec![1.0, 2.0, 4.0]));
        assert_eq!(ratio, Spread { median: 1.25, min: 0.25, max: 4.0, rounds: 3 });
    }
}
