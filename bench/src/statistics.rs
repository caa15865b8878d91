//! Medians, and how reliable they are.

use serde::Serialize;

/// How many samples the bootstrap draws.
const RESAMPLES: usize = 2000;

/// The median; of an even number of values, the mean of the middle two. NaN if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(upper), 0) => (sorted[middle - 1] + upper) / 2.0,
        (Some(value), _) => *value,
    }
}

/// Half the distance between the quartiles.
pub fn half_quartile_distance(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len().max(1) - 1) as f64;
        let below = sorted.get(place as usize).copied().unwrap_or(f64::NAN);
        let above = sorted.get(place as usize + 1).copied().unwrap_or(below);
        below + (above - below) * place.fract()
    };
    (at(0.75) - at(0.25)) / 2.0
}

/// A ratio with its 95% confidence interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// 2.5% of the bootstrap's medians are below.
    pub low: f64,
    /// 2.5% of the bootstrap's medians are above.
    pub high: f64,
}

/// The ratio `numerators[i] / denominators[i]` of rounds: values that were measured one after the other are compared.
/// The interval is the percentile bootstrap of the median.
pub fn ratio(numerators: &[f64], denominators: &[f64]) -> Ratio {
    let ratios: Vec<f64> = numerators.iter().zip(denominators).map(|(a, b)| a / b).collect();
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| median(&ratios.iter().map(|_| ratios[random.below(ratios.len())]).collect::<Vec<_>>()))
        .collect();
    medians.sort_by(f64::total_cmp);
    Ratio { median: median(&ratios), low: medians[RESAMPLES / 40], high: medians[RESAMPLES - 1 - RESAMPLES / 40] }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} [{:.2}, {:.2}]", self.median, self.low, self.high)
    }
}

/// Marsaglia's xorshift64: a fixed seed, so that the same measurements give the same interval.
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

#[cfg(test)]
mod tests {
    use super::{half_quartile_distance, median, ratio};

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn quartiles() {
        assert_eq!(half_quartile_distance(&[1.0, 2.0, 3.0, 4.0, 5.0]), 1.0);
        assert_eq!(half_quartile_distance(&[1.0, 2.0]), 0.25);
        assert_eq!(half_quartile_distance(&[7.0]), 0.0);
    }

    #[test]
    fn the_interval_holds_the_median_and_shrinks_with_agreement() {
        let wide = ratio(&[1.0, 2.0, 3.0, 4.0, 9.0], &[1.0; 5]);
        assert!(wide.low < wide.median && wide.median < wide.high && wide.median == 3.0);
        let narrow = ratio(&[2.0; 5], &[1.0; 5]);
        assert_eq!((narrow.low, narrow.median, narrow.high), (2.0, 2.0, 2.0));
    }
}
