//! Samples, and what is said of them.

use serde::Serialize;

/// How samples are spread. All in the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// A tenth of the samples are below: the figure that is compared.
    pub p10: f64,
    /// Half of the samples are below.
    pub median: f64,
    /// A tenth of the samples are above.
    pub p90: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of samples; `None` without any.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Self {
            min,
            p10: quantile(&sorted, 0.1),
            median: quantile(&sorted, 0.5),
            p90: quantile(&sorted, 0.9),
            max,
        })
    }

    /// The same in another unit.
    pub fn scaled(self, by: f64) -> Self {
        Self {
            min: self.min * by,
            p10: self.p10 * by,
            median: self.median * by,
            p90: self.p90 * by,
            max: self.max * by,
        }
    }

    /// Half the distance between the tenths, in percent of the median.
    pub fn percent(&self) -> f64 {
        match self.median > 0.0 {
            true => (self.p90 - self.p10) / self.median * 50.0,
            false => 0.0,
        }
    }
}

/// A quantile of sorted samples, between the two nearest.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = at * last as f64;
    let below = place.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (high - low) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_nearest_samples() {
        let samples: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        let spread = Spread::of(&samples).unwrap();
        let found = (
            spread.min,
            spread.p10,
            spread.median,
            spread.p90,
            spread.max,
        );
        assert_eq!(found, (0.0, 1.0, 5.0, 9.0, 10.0));
        assert_eq!(spread.percent(), 80.0);
        let spread = Spread::of(&[4.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.p10), (3.0, 2.2));
    }

    #[test]
    fn one_sample_has_no_spread_and_none_has_nothing() {
        let spread = Spread::of(&[7.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (7.0, 7.0, 7.0));
        assert_eq!(spread.percent(), 0.0);
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::default().percent(), 0.0);
    }

    #[test]
    fn another_unit_scales_every_part() {
        let spread = Spread::of(&[1.0, 2.0, 3.0]).unwrap().scaled(2.0);
        assert_eq!((spread.min, spread.median, spread.max), (2.0, 4.0, 6.0));
    }
}
