//! Latency histograms: the one that Aegis exports, with Prometheus' own arithmetic over its
//! scrapes, and a fine one for what callers felt.

use aegis_telemetry::metric::HTTP_REQUEST_DURATION;

/// Upper bounds of the exported histogram, in seconds, without `+Inf`.
pub(super) const BOUNDS: &[f64] = HTTP_REQUEST_DURATION.buckets;
/// Its buckets, `+Inf` included.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// The exported histogram of one pod: requests by bucket, not cumulated.
#[derive(Clone, Debug, Default)]
pub(super) struct Exported([u64; BUCKETS]);

impl Exported {
    /// Counts `count` requests of so many seconds.
    pub(super) fn record(&mut self, seconds: f64, count: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(slot) = self.0.get_mut(bucket) {
            *slot += count;
        }
    }

    /// As `/metrics` shows it: each bucket with those below it.
    pub(super) fn cumulative(&self) -> [f64; BUCKETS] {
        let mut sum = 0;
        self.0.map(|count| {
            sum += count;
            sum as f64
        })
    }
}

/// `histogram_quantile(q, …)` over cumulated buckets, as Prometheus computes it: linear within a
/// bucket, the lowest beginning at 0, the highest finite bound beyond it; NaN without observations.
pub(super) fn quantile(q: f64, cumulative: &[f64; BUCKETS]) -> f64 {
    let total = cumulative.last().copied().unwrap_or(0.0);
    if total.is_nan() || total <= 0.0 {
        return f64::NAN;
    }
    let rank = q * total;
    let bucket = cumulative.partition_point(|count| *count < rank);
    let Some(upper) = BOUNDS.get(bucket) else {
        return BOUNDS.last().copied().unwrap_or(f64::NAN);
    };
    let before = bucket.checked_sub(1);
    let lower = before.and_then(|b| BOUNDS.get(b)).copied().unwrap_or(0.0);
    let below = before
        .and_then(|b| cumulative.get(b))
        .copied()
        .unwrap_or(0.0);
    let within = cumulative.get(bucket).copied().unwrap_or(below) - below;
    lower + (upper - lower) * (rank - below) / within
}

/// `rate(counter[window])` at `end`: the increase between the window's first and last sample,
/// extended to the window's ends by up to half a sample's distance, and not before the counter
/// was zero (Prometheus' `extrapolatedRate`; our counters do not reset). Samples are a time and a
/// value; of those between only their number, `samples` with both ends, matters. `None` with fewer
/// than two.
pub(super) fn rate(
    first: (f64, f64),
    last: (f64, f64),
    samples: usize,
    start: f64,
    end: f64,
) -> Option<f64> {
    if samples < 2 {
        return None;
    }
    let increase = last.1 - first.1;
    let sampled = last.0 - first.0;
    let average = sampled / (samples - 1) as f64;
    let threshold = average * 1.1;
    let extend = |distance: f64| {
        if distance >= threshold {
            average / 2.0
        } else {
            distance
        }
    };
    let mut to_start = extend(first.0 - start);
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * first.1 / increase);
    }
    let to_end = extend(end - last.0);
    let factor = (sampled + to_start + to_end) / sampled;
    Some(increase * factor / (end - start))
}

/// Latencies to a few percent, 16 buckets an octave: what callers felt, unbound by the exported
/// buckets.
#[derive(Clone, Debug)]
pub(super) struct Felt {
    counts: Box<[u64; FINE]>,
    total: u64,
    sum: f64,
}

const FINE: usize = 512;
/// The bits of 2^-20 s, about a microsecond, at a sixteenth of an octave each.
const BASE: u64 = (1023 - 20) << 4;

impl Default for Felt {
    fn default() -> Self {
        Self {
            counts: Box::new([0; FINE]),
            total: 0,
            sum: 0.0,
        }
    }
}

impl Felt {
    /// Counts `count` requests of so many seconds.
    pub(super) fn record(&mut self, seconds: f64, count: u64) {
        // A float's exponent and the first four bits after it are a logarithm, for free.
        let index = (seconds.to_bits() >> 48).saturating_sub(BASE) as usize;
        if let Some(slot) = self.counts.get_mut(index.min(FINE - 1)) {
            *slot += count;
        }
        self.total += count;
        self.sum += seconds * count as f64;
    }

    /// How many were counted.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// The mean, in seconds; NaN without requests.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.total as f64
    }

    /// In seconds; NaN without requests.
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let rank = q * self.total as f64;
        let mut below = 0.0;
        for (index, count) in self.counts.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let edge = |index: usize| f64::from_bits((BASE + index as u64) << 48);
                let (low, high) = (edge(index), edge(index + 1));
                return low + (high - low) * (rank - below) / count;
            }
            below += count;
        }
        f64::NAN
    }

    /// Empties it and gives what was in it.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Adds another's counts.
    pub(super) fn add(&mut self, other: &Self) {
        for (slot, count) in self.counts.iter_mut().zip(other.counts.iter()) {
            *slot += count;
        }
        self.total += other.total;
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn of(latencies: &[f64]) -> [f64; BUCKETS] {
        let mut exported = Exported::default();
        for latency in latencies {
            exported.record(*latency, 1);
        }
        exported.cumulative()
    }

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        // Ten between 0.2 and 0.35: rank 9.5 of 10.
        let p95 = quantile(0.95, &of(&[0.3; 10]));
        assert!((p95 - (0.2 + 0.15 * 0.95)).abs() < 1e-12);
        // In the lowest bucket, from zero.
        assert!((quantile(0.5, &of(&[0.000_01; 4])) - 0.000_05).abs() < 1e-12);
        // A value at a bound belongs to that bound's bucket (`le`).
        assert!(quantile(1.0, &of(&[0.35])) <= 0.35);
    }

    #[test]
    fn beyond_the_last_bound_is_the_last_bound_and_nothing_is_nan() {
        assert_eq!(quantile(0.95, &of(&[100.0])), 30.0);
        assert!(quantile(0.95, &of(&[])).is_nan());
    }

    #[test]
    fn a_rate_is_extended_to_the_ends_of_its_window() {
        // Samples every 15 s, 1 a second; 5 s and 10 s to the ends, both below 16.5 s.
        let old = rate((5.0, 105.0), (50.0, 150.0), 4, 0.0, 60.0).unwrap();
        assert!((old - 1.0).abs() < 1e-12);
        // A counter that was zero 2 s before its first sample is not extended beyond that.
        let young = rate((40.0, 2.0), (55.0, 17.0), 2, 0.0, 60.0).unwrap();
        assert!((young - 22.0 / 60.0).abs() < 1e-12);
        assert_eq!(rate((5.0, 105.0), (5.0, 105.0), 1, 0.0, 60.0), None);
    }

    #[test]
    fn what_is_felt_is_kept_to_a_few_percent() {
        let mut felt = Felt::default();
        for n in 1..=1000 {
            felt.record(f64::from(n) / 1000.0, 1);
        }
        assert!((felt.quantile(0.95) / 0.95 - 1.0).abs() < 0.03);
        assert!((felt.mean() - 0.5005).abs() < 1e-9);
        assert_eq!(felt.count(), 1000);
        let mut extremes = Felt::default();
        extremes.record(0.0, 1);
        extremes.record(1e12, 1);
        assert_eq!(extremes.count(), 2);
    }
}
