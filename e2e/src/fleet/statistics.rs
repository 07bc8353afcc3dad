//! What is said of many measured times. Pure.

/// Half of the values, 99 of a hundred and all values are at most so much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of these values; none of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let max = *sorted.last()?;
        // Nearest rank: the smallest value that so many of a hundred do not exceed.
        let rank = |hundredths: usize| (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
        Some(Self { p50: sorted[rank(50)], p99: sorted[rank(99)], max })
    }
}

/// `part` of `whole` in percent; 0 of nothing.
pub fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * number(part) / number(whole) }
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_values_that_were_measured() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0]), Some(Spread { p50: 3.0, p99: 3.0, max: 3.0 }));
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Spread::of(&hundred), Some(Spread { p50: 50.0, p99: 99.0, max: 100.0 }));
        assert_eq!(Spread::of(&[2.0, 1.0]), Some(Spread { p50: 1.0, p99: 2.0, max: 2.0 }));
    }

    #[test]
    fn nothing_of_nothing_is_nothing() {
        assert!(percent(0, 0).abs() < f64::EPSILON);
        assert!((percent(1, 50) - 2.0).abs() < f64::EPSILON);
    }
}
