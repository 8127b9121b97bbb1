//! Where a worker writes how its requests ended, and where the cell reads it once a second: counts
//! and HDR histograms, whose size depends on the longest latency and not on the number of requests.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::failure::{FailureKind, Failures};

/// Digits that a latency keeps: P95 is right to one part in a thousand.
const DIGITS: u8 = 3;

/// Latencies in microseconds, with the largest kept exactly.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    max: u64,
}

impl Latencies {
    /// Room for latencies up to `longest`; longer ones count as that long in percentiles.
    ///
    /// # Panics
    /// Never: the bounds given to the histogram are within what it takes.
    #[must_use]
    pub fn up_to(longest: Duration) -> Self {
        let longest = micros(longest).clamp(1_000, u64::MAX / 4);
        let histogram = Histogram::new_with_bounds(1, longest, DIGITS).unwrap_or_else(|_| {
            unreachable!("1 to {longest} with {DIGITS} digits is within bounds")
        });
        Self { histogram, max: 0 }
    }

    /// One more.
    pub fn add(&mut self, latency: Duration) {
        let latency = micros(latency);
        self.max = self.max.max(latency);
        self.histogram.saturating_record(latency.max(1));
    }

    /// All of another's as well.
    pub fn merge(&mut self, other: &Self) {
        self.max = self.max.max(other.max);
        // Both were made for the same longest latency, so it cannot fail.
        let _ = self.histogram.add(&other.histogram);
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.histogram.reset();
        self.max = 0;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency in milliseconds that `percent` of them do not exceed (nearest rank); none of none.
    #[must_use]
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let value = self
            .histogram
            .value_at_quantile(percent / 100.0)
            .min(self.max);
        (self.count() > 0).then(|| value as f64 / 1000.0)
    }

    /// The longest, exactly, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.max as f64 / 1000.0)
    }

    /// The distribution as points (milliseconds, share of the requests at or below), rising in both;
    /// at most `points` and the last.
    #[must_use]
    pub fn distribution(&self, points: u32) -> Vec<(f64, f64)> {
        if self.count() == 0 {
            return Vec::new();
        }
        // Even steps up to P99, then finer ones for the tail, where the interest is.
        let even = (1..=points).map(|step| 99.0 * f64::from(step) / f64::from(points));
        let tail = [99.5, 99.8, 99.9, 99.95, 99.99, 100.0];
        even.chain(tail)
            .filter_map(|percent| Some((self.percentile_ms(percent)?, percent / 100.0)))
            .collect()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How requests ended during some time.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests that count and ended, failed ones included.
    pub requests: u64,
    /// Requests that succeeded, counted or not: a sign of life.
    pub alive: u64,
    /// Requests that failed, counted or not.
    pub dead: u64,
    /// Requests of ramp and warm-up, which do not count.
    pub uncounted: u64,
    /// Of those that count, how many failed, by kind.
    pub failures: Failures,
    /// Latencies of those that count and were answered or timed out. Failures that come quickly are
    /// left out, as their haste would hide an overload.
    pub latencies: Latencies,
    /// How late the client itself was in sending: its own clock and processor.
    pub lateness: Latencies,
    /// Requests that were due and found as many under way as may be.
    pub held_back: u64,
}

/// The lateness of a client that is beyond use.
const LATEST: Duration = Duration::from_secs(10);

impl Tally {
    /// Nothing yet, of requests that take up to `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            requests: 0,
            alive: 0,
            dead: 0,
            uncounted: 0,
            failures: Failures::default(),
            // A timed-out request is seen as such a little later.
            latencies: Latencies::up_to(timeout + timeout / 2 + Duration::from_secs(1)),
            lateness: Latencies::up_to(LATEST),
            held_back: 0,
        }
    }

    /// Adds another tally of the same timeout.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.alive += other.alive;
        self.dead += other.dead;
        self.uncounted += other.uncounted;
        self.failures.merge(&other.failures);
        self.latencies.merge(&other.latencies);
        self.lateness.merge(&other.lateness);
        self.held_back += other.held_back;
    }

    /// Back to nothing, in the same memory.
    pub fn clear(&mut self) {
        self.requests = 0;
        self.alive = 0;
        self.dead = 0;
        self.uncounted = 0;
        self.failures = Failures::default();
        self.latencies.clear();
        self.lateness.clear();
        self.held_back = 0;
    }
}

/// What a worker writes to.
#[derive(Debug)]
pub(crate) struct Recorder {
    tally: Mutex<Tally>,
    under_way: AtomicUsize,
}

/// A request under way, counted as such while this lives.
pub(crate) struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Recorder {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            tally: Mutex::new(Tally::new(timeout)),
            under_way: AtomicUsize::new(0),
        }
    }

    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// A request ended after `latency`; `counts` is false in ramp and warm-up.
    pub(crate) fn ended(&self, counts: bool, latency: Duration, ended: Result<(), FailureKind>) {
        let mut tally = self.tally.lock();
        match ended {
            Ok(()) => tally.alive += 1,
            Err(_) => tally.dead += 1,
        }
        if !counts {
            tally.uncounted += 1;
            return;
        }
        tally.requests += 1;
        if let Err(kind) = ended {
            tally.failures.add(kind);
        }
        if matches!(ended, Ok(()) | Err(FailureKind::Timeout)) {
            tally.latencies.add(latency);
        }
    }

    /// A request was sent this late.
    pub(crate) fn sent_late(&self, by: Duration) {
        self.tally.lock().lateness.add(by);
    }

    /// A request was due and had to wait for another to end.
    pub(crate) fn held_back(&self) {
        self.tally.lock().held_back += 1;
    }

    /// Adds what was written since the last time to `into`.
    pub(crate) fn drain(&self, into: &mut Tally) {
        let mut tally = self.tally.lock();
        into.merge(&tally);
        tally.clear();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_latencies_to_a_thousandth(
            mut micros in prop::collection::vec(1u64..15_000_000, 1..400),
            shares in 1usize..5,
        ) {
            // As the cell does it: several recorders, drained into one tally.
            let recorders: Vec<Recorder> = (0..shares).map(|_| Recorder::new(TIMEOUT)).collect();
            for (index, latency) in micros.iter().enumerate() {
                recorders[index % shares].ended(true, Duration::from_micros(*latency), Ok(()));
            }
            let mut tally = Tally::new(TIMEOUT);
            for recorder in &recorders {
                recorder.drain(&mut tally);
                recorder.drain(&mut tally);
            }
            micros.sort_unstable();
            prop_assert_eq!(tally.requests, micros.len() as u64);
            for percent in [50.0, 95.0, 99.0] {
                let rank = (percent / 100.0 * micros.len() as f64).ceil() as usize;
                let exact = micros[rank.max(1) - 1] as f64 / 1000.0;
                let told = tally.latencies.percentile_ms(percent).unwrap_or(f64::NAN);
                prop_assert!((told - exact).abs() <= exact * 0.001 + 0.001, "P{}: {} for {}", percent, told, exact);
            }
            let max = micros.last().map(|max| *max as f64 / 1000.0);
            prop_assert_eq!(tally.latencies.max_ms(), max);
        }

        #[test]
        fn a_distribution_rises_to_its_end(micros in prop::collection::vec(1u64..15_000_000, 1..200)) {
            let mut latencies = Latencies::up_to(TIMEOUT * 2);
            for latency in micros {
                latencies.add(Duration::from_micros(latency));
            }
            let points = latencies.distribution(50);
            prop_assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 < pair[1].1));
            prop_assert_eq!(points.last().copied(), latencies.max_ms().map(|max| (max, 1.0)));
        }
    }

    #[test]
    fn quick_failures_do_not_flatter_the_latencies_and_timeouts_are_not_left_out() {
        let recorder = Recorder::new(TIMEOUT);
        let quick = Duration::from_millis(1);
        recorder.ended(true, quick, Err(FailureKind::Status(503)));
        recorder.ended(true, TIMEOUT, Err(FailureKind::Timeout));
        recorder.ended(false, quick, Ok(()));
        let mut tally = Tally::new(TIMEOUT);
        recorder.drain(&mut tally);
        assert_eq!(
            (tally.requests, tally.failures.total(), tally.uncounted),
            (2, 2, 1)
        );
        assert_eq!(tally.latencies.percentile_ms(50.0), Some(10_000.0));
    }

    #[test]
    fn nothing_has_no_percentile() {
        let tally = Tally::new(TIMEOUT);
        assert_eq!(tally.latencies.percentile_ms(95.0), None);
        assert_eq!(tally.latencies.max_ms(), None);
        assert!(tally.latencies.distribution(10).is_empty());
    }
}
