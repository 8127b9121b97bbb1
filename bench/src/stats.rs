//! Medians and percentiles.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Durations of requests, in nanoseconds; beyond four seconds they count as four.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<u32>);

/// The middle of the samples and what 99 of 100 stay below, in microseconds. Of differences
/// and ratios, the difference or ratio of the two sides' figures.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

impl Samples {
    pub(crate) fn with_capacity(capacity: usize) -> Samples {
        Samples(Vec::with_capacity(capacity))
    }

    pub(crate) fn push(&mut self, took: Duration) {
        self.0
            .push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    }

    pub(crate) fn extend(&mut self, other: &Samples) {
        self.0.extend_from_slice(&other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// In microseconds; zeros without samples.
    pub(crate) fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
            f64::from(sorted.get(index).copied().unwrap_or(0)) / 1e3
        };
        Summary {
            median: at(0.5),
            p99: at(0.99),
        }
    }
}

impl Summary {
    pub(crate) fn minus(self, other: Summary) -> Summary {
        Summary {
            median: self.median - other.median,
            p99: self.p99 - other.p99,
        }
    }

    /// The medians of several rounds' figures.
    pub(crate) fn median_of(rounds: &[Summary]) -> Summary {
        Summary {
            median: median(rounds.iter().map(|round| round.median)),
            p99: median(rounds.iter().map(|round| round.p99)),
        }
    }
}

/// The middle value, or the mean of the two in the middle; zero of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = middle.checked_sub(1).and_then(|index| sorted.get(index));
    (lower.copied().unwrap_or(upper) + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_p99_nearly_the_end() {
        let mut samples = Samples::default();
        for us in (1..=101).rev() {
            samples.push(Duration::from_micros(us));
        }
        assert_eq!(
            samples.summary(),
            Summary {
                median: 51.0,
                p99: 100.0
            }
        );
        assert_eq!(Samples::default().summary(), Summary::default());
    }

    #[test]
    fn an_even_number_of_rounds_has_the_mean_of_two_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([]), 0.0);
    }
}
