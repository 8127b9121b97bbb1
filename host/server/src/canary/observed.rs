//! What a version's requests were like: counts that every request adds to without waiting for
//! another, and what they were at a moment. A step's figures are the difference of two moments,
//! so nothing is ever set back under the requests that count.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Times are kept to one part in so many: each power of two of microseconds has this many buckets
/// of one width, as in HdrHistogram, which has no histogram that threads share without a lock.
const PARTS: u32 = 32;

/// Up to 2³² µs, 71 minutes; longer counts as that.
const BUCKETS: usize = bucket(u32::MAX) + 1;

/// Counts of one version's requests, since it began to be observed.
pub(crate) struct Observed {
    failures: AtomicU64,
    took: Box<[AtomicU64]>,
}

/// Counts at a moment, or between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Sparse", try_from = "Sparse")]
pub(crate) struct Counts {
    requests: u64,
    failures: u64,
    /// How many took as long as each bucket says, the quickest first.
    took: Vec<u64>,
}

impl Default for Observed {
    fn default() -> Observed {
        Observed {
            failures: AtomicU64::new(0),
            took: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Observed {
    /// Counts one request. What the caller got wrong should not be counted.
    pub(crate) fn record(&self, failed: bool, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if let Some(count) = self.took.get(bucket(micros)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if failed {
            self.failures.fetch_add(1, Ordering::Release);
        }
    }

    /// What has been counted so far. Requests that end meanwhile may be in it or not.
    pub(crate) fn counts(&self) -> Counts {
        // Failures first: whoever failed by then has had its time counted too.
        let failures = self.failures.load(Ordering::Acquire);
        let took: Vec<u64> = self
            .took
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        Counts {
            requests: took.iter().sum(),
            failures,
            took,
        }
    }
}

/// Counts as replicas tell them to one another: most buckets are empty.
#[derive(Serialize, Deserialize)]
struct Sparse {
    failures: u64,
    /// The [`PARTS`] of the buckets: others would mean other times.
    parts: u32,
    /// Buckets and what is in them.
    took: Vec<(usize, u64)>,
}

impl From<Counts> for Sparse {
    fn from(counts: Counts) -> Sparse {
        let filled = counts.took.into_iter().enumerate();
        Sparse {
            failures: counts.failures,
            parts: PARTS,
            took: filled.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl TryFrom<Sparse> for Counts {
    type Error = String;

    fn try_from(sparse: Sparse) -> Result<Counts, String> {
        if sparse.parts != PARTS {
            return Err(format!("{} buckets where {PARTS} are", sparse.parts));
        }
        let mut took = vec![0_u64; BUCKETS];
        for (bucket, count) in sparse.took {
            let place = took.get_mut(bucket);
            let place = place.ok_or_else(|| format!("there is no bucket {bucket}"))?;
            *place = place.saturating_add(count);
        }
        let requests = took
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(*count));
        Ok(Counts {
            requests,
            failures: sparse.failures.min(requests),
            took,
        })
    }
}

impl Counts {
    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.took.resize(BUCKETS, 0);
        for (sum, count) in self.took.iter_mut().zip(&other.took) {
            *sum = sum.saturating_add(*count);
        }
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
    }

    /// What has been counted since `earlier`.
    pub(crate) fn since(&self, earlier: &Counts) -> Counts {
        let earlier_took = earlier.took.iter().copied().chain(std::iter::repeat(0));
        let took: Vec<u64> = self
            .took
            .iter()
            .zip(earlier_took)
            .map(|(now, then)| now.saturating_sub(then))
            .collect();
        let requests = took.iter().sum();
        Counts {
            requests,
            // One that was counted as a request before and as a failure after is neither's alone.
            failures: self.failures.saturating_sub(earlier.failures).min(requests),
            took,
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// The time that this share of the requests kept, too long by a thirty-second at most; zero
    /// without requests.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let enough = (share * self.requests as f64).ceil().max(1.0);
        let mut kept = 0;
        for (index, count) in self.took.iter().enumerate() {
            kept += count;
            if *count > 0 && kept as f64 >= enough {
                return longest(index);
            }
        }
        Duration::ZERO
    }

    /// From which bucket on the slowest of this and of `other` are, where those are at least `share` of all: as few as the
    /// buckets tell apart. It depends only on both together, so it favours neither.
    pub(super) fn slowest_from(&self, other: &Counts, share: f64) -> usize {
        let enough = (share * (self.requests + other.requests) as f64).max(1.0);
        let mut slowest = 0;
        for index in (0..BUCKETS).rev() {
            let at = |counts: &Counts| counts.took.get(index).copied().unwrap_or(0);
            slowest += at(self) + at(other);
            if slowest as f64 >= enough {
                return index;
            }
        }
        0
    }

    /// How many are in this bucket and in those of longer times.
    pub(super) fn from(&self, bucket: usize) -> u64 {
        self.took.iter().skip(bucket).sum()
    }
}

/// The bucket of a time: its power of two, and the [`PARTS`]th of that it lies in. Below [`PARTS`]
/// microseconds there are no parts, and each has its own.
const fn bucket(micros: u32) -> usize {
    let shift = (micros | PARTS).ilog2() - PARTS.ilog2();
    (shift * PARTS + (micros >> shift)) as usize
}

/// The longest time of a bucket.
fn longest(index: usize) -> Duration {
    let (index, parts) = (index as u64, u64::from(PARTS));
    let micros = if index < 2 * parts {
        index
    } else {
        let shift = index / parts - 1;
        ((index % parts + parts + 1) << shift) - 1
    };
    Duration::from_micros(micros)
}

#[cfg(test)]
impl Counts {
    /// The same, dealt out to ten.
    pub(super) fn in_ten(&self) -> Vec<Counts> {
        let mut all = vec![vec![0_u64; BUCKETS]; 10];
        let buckets = self.took.iter().enumerate();
        let each = buckets.flat_map(|(bucket, count)| (0..*count).map(move |_| bucket));
        for (n, bucket) in each.enumerate() {
            if let Some(count) = all.get_mut(n % 10).and_then(|took| took.get_mut(bucket)) {
                *count += 1;
            }
        }
        let mut failures = self.failures;
        let counts = |took: Vec<u64>| {
            let requests = took.iter().sum();
            let failed = failures.min(requests);
            failures -= failed;
            Counts {
                requests,
                failures: failed,
                took,
            }
        };
        all.into_iter().map(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn observed(requests: &[(bool, u64)]) -> Observed {
        let observed = Observed::default();
        for (failed, micros) in requests {
            observed.record(*failed, Duration::from_micros(*micros));
        }
        observed
    }

    #[test]
    fn every_time_has_a_bucket() {
        let observed = observed(&[(false, 0), (true, u64::MAX)]);
        observed.record(false, Duration::MAX);
        let counts = observed.counts();
        assert_eq!((counts.requests(), counts.failures()), (3, 1));
        assert_eq!(counts.quantile(0.01), Duration::ZERO);
        assert_eq!(counts.quantile(1.0), Duration::from_micros(u32::MAX.into()));
        assert_eq!(Counts::default().quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn what_another_replica_tells_is_not_trusted_to_make_sense() {
        let read = |told| serde_json::from_value::<Counts>(told);
        let huge = json!({"failures": u64::MAX, "parts": PARTS, "took": [[3, u64::MAX], [3, 1]]});
        let huge = read(huge).unwrap();
        assert_eq!((huge.requests(), huge.failures()), (u64::MAX, u64::MAX));
        let mut twice = huge.clone();
        twice.add(&huge);
        assert_eq!(twice.requests(), u64::MAX);
        let more = json!({"failures": 9, "parts": PARTS, "took": [[3, 2]]});
        assert_eq!(read(more).unwrap().failures(), 2);
        assert!(read(json!({"failures": 0, "parts": PARTS, "took": [[BUCKETS, 1]]})).is_err());
        assert!(read(json!({"failures": 0, "parts": 64, "took": []})).is_err());
    }

    #[test]
    fn threads_lose_no_count() {
        let observed = Observed::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        observed.record(n % 4 == 0, Duration::from_micros(n));
                        if n % 1_000 == 0 {
                            let counts = observed.counts();
                            assert!(counts.failures() <= counts.requests());
                        }
                    }
                });
            }
        });
        let counts = observed.counts();
        assert_eq!((counts.requests(), counts.failures()), (40_000, 10_000));
    }

    proptest! {
        #[test]
        fn buckets_keep_order_and_are_right_to_a_thirty_second(micros in any::<u32>(), shift in 0u32..32) {
            let micros = micros >> shift;
            let upper = longest(bucket(micros)).as_micros() as u64;
            prop_assert!(upper >= u64::from(micros));
            prop_assert!(upper - u64::from(micros) <= u64::from(micros / PARTS));
            prop_assert!(bucket(micros) < BUCKETS);
            if let Some(next) = micros.checked_add(1) {
                prop_assert!((0..=1).contains(&(bucket(next) - bucket(micros))));
            }
        }

        #[test]
        fn a_step_s_counts_are_those_of_its_own_requests(
            before in proptest::collection::vec((any::<bool>(), 0u64..100_000), 0..50),
            after in proptest::collection::vec((any::<bool>(), 0u64..100_000), 0..50),
        ) {
            let observed_both = observed(&before);
            let began = observed_both.counts();
            for (failed, micros) in &after {
                observed_both.record(*failed, Duration::from_micros(*micros));
            }
            prop_assert_eq!(observed_both.counts().since(&began), observed(&after).counts());
            prop_assert_eq!(began.since(&Counts::default()), began);
        }

        #[test]
        fn what_replicas_tell_adds_up_to_what_all_of_them_saw(
            here in proptest::collection::vec((any::<bool>(), 0u64..100_000), 0..50),
            there in proptest::collection::vec((any::<bool>(), 0u64..100_000), 0..50),
        ) {
            let told = serde_json::to_value(observed(&there).counts()).unwrap();
            let mut sum = observed(&here).counts();
            sum.add(&serde_json::from_value(told).unwrap());
            let all = [here, there].concat();
            prop_assert_eq!(sum, observed(&all).counts());
        }

        #[test]
        fn a_quantile_is_that_of_the_sorted_times(
            mut times in proptest::collection::vec(0u64..10_000_000, 1..300),
            share in 0.01f64..=1.0,
        ) {
            let requests: Vec<_> = times.iter().map(|time| (false, *time)).collect();
            let found = observed(&requests).counts().quantile(share).as_micros() as u64;
            times.sort_unstable();
            let rank = (share * times.len() as f64).ceil() as usize;
            let right = *times.get(rank.max(1) - 1).unwrap_or(&0);
            prop_assert!((right..=right + right / 32).contains(&found), "{found} for {right}");
        }

        #[test]
        fn the_slowest_are_the_last_of_all_sorted_together(
            ours in proptest::collection::vec(0u64..1_000_000, 0..200),
            theirs in proptest::collection::vec(0u64..1_000_000, 0..200),
        ) {
            let counts = |times: &[u64]| {
                observed(&times.iter().map(|time| (false, *time)).collect::<Vec<_>>()).counts()
            };
            let from = counts(&ours).slowest_from(&counts(&theirs), 0.05);
            let (a, b) = (counts(&ours).from(from), counts(&theirs).from(from));
            let mut all: Vec<_> = ours.iter().map(|time| (*time, true))
                .chain(theirs.iter().map(|time| (*time, false)))
                .collect();
            all.sort_unstable();
            prop_assert!((a + b) as f64 >= 0.05 * all.len() as f64);
            prop_assert!(all.is_empty() || a + b > 0);
            // No one left out is slower than one that is in, but for what a bucket cannot tell.
            let last: Vec<_> = all.iter().rev().take((a + b) as usize).collect();
            prop_assert_eq!(last.len() as u64, a + b);
            if let (Some((border, _)), Some((outside, _))) = (last.last(), all.iter().rev().nth((a + b) as usize)) {
                prop_assert!(bucket(*border as u32) > bucket(*outside as u32));
                prop_assert_eq!(last.iter().filter(|(_, ours)| *ours).count() as u64, a);
            }
        }
    }
}
