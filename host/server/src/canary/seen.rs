//! What was seen of a step: all of it together, and moment by moment.
//!
//! Requests that come together fare together: what holds up a machine for a tenth of a second holds up all that are there,
//! and as chance has it more of the one version's than of the other's. Fisher's test takes each for a witness of its own,
//! so a few such moments make it sure of what is not so. A *moment*, half a second or two, is one witness here: each gives
//! the share of its slow requests that were the canary's, less the share of its requests that were. Over versions that are
//! alike these differences are zero in the mean, and their sum, divided by the root of the sum of their squares, is about
//! normal whatever a single moment was like: the self-normalised sum (B. Efron, "Student's t-test under symmetry
//! conditions", J. Am. Stat. Assoc. 64, 1969), which is the score test with a variance that is robust to clusters.

use super::observed::Counts;

/// More moments than this are joined, two by two.
const MOST_MOMENTS: usize = 64;

/// How both versions did, while they were watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    whole: Moment,
    moments: Vec<Moment>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Moment {
    stable: Counts,
    canary: Counts,
}

impl Moment {
    fn add(&mut self, other: &Moment) {
        self.stable.add(&other.stable);
        self.canary.add(&other.canary);
    }
}

impl Seen {
    /// Adds what was seen in a moment.
    pub(crate) fn add(&mut self, stable: Counts, canary: Counts) {
        if stable.requests() + canary.requests() == 0 {
            return;
        }
        let moment = Moment { stable, canary };
        self.whole.add(&moment);
        self.moments.push(moment);
        if self.moments.len() > MOST_MOMENTS {
            let pairs = self.moments.chunks(2);
            self.moments = pairs
                .map(|pair| {
                    pair.iter().fold(Moment::default(), |mut sum, moment| {
                        sum.add(moment);
                        sum
                    })
                })
                .collect();
        }
    }

    pub(crate) fn stable(&self) -> &Counts {
        &self.whole.stable
    }

    pub(crate) fn canary(&self) -> &Counts {
        &self.whole.canary
    }

    /// How far the canary had more than its part of the requests from this bucket on, moment by moment, in standard
    /// deviations: one moment alone comes to 1 at most, and a few of which each says the same to the root of their number.
    pub(super) fn persistence(&self, bucket: usize) -> f64 {
        let excess = |moment: &Moment| {
            let slow = (moment.canary.from(bucket), moment.stable.from(bucket));
            let all = (moment.canary.requests(), moment.stable.requests());
            (slow.0 + slow.1 > 0).then(|| share(slow) - share(all))
        };
        let (sum, squares) = self
            .moments
            .iter()
            .filter_map(excess)
            .fold((0.0, 0.0), |(sum, squares), excess| {
                (sum + excess, squares + excess * excess)
            });
        if squares > 0.0 {
            sum / f64::sqrt(squares)
        } else {
            0.0
        }
    }
}

/// The first of both.
fn share((one, other): (u64, u64)) -> f64 {
    one as f64 / (one + other).max(1) as f64
}

#[cfg(test)]
impl Seen {
    /// These counts, spread over ten moments.
    pub(super) fn evenly(stable: &Counts, canary: &Counts) -> Seen {
        let mut seen = Seen::default();
        for (stable, canary) in stable.in_ten().into_iter().zip(canary.in_ten()) {
            seen.add(stable, canary);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::observed::Observed;
    use super::*;

    const SLOW: usize = 300;

    /// So many requests, of which so many were slow.
    fn counts(requests: u64, slow: u64) -> Counts {
        let observed = Observed::default();
        for n in 0..requests {
            let micros = if n < slow { 60_000 } else { 1_000 };
            observed.record(false, Duration::from_micros(micros));
        }
        let counts = observed.counts();
        assert_eq!(counts.from(SLOW), slow);
        counts
    }

    #[test]
    fn a_moment_is_one_witness_however_many_were_there() {
        let mut seen = Seen::default();
        for _ in 0..20 {
            seen.add(counts(100, 0), counts(100, 0));
        }
        seen.add(counts(100, 0), counts(100, 90));
        assert!((seen.persistence(SLOW) - 1.0).abs() < 1e-9);
        seen.add(counts(100, 80), counts(100, 0));
        assert!(seen.persistence(SLOW).abs() < 1e-9);
    }

    #[test]
    fn what_goes_on_adds_up() {
        let mut seen = Seen::default();
        for n in 1..=9 {
            seen.add(counts(1_000, 10), counts(100, 3));
            assert!((seen.persistence(SLOW) - f64::sqrt(f64::from(n))).abs() < 1e-9);
        }
        let mut better = Seen::default();
        better.add(counts(100, 30), counts(1_000, 10));
        assert!(better.persistence(SLOW) < 0.0);
        assert!(Seen::default().persistence(SLOW).abs() < 1e-9);
    }

    #[test]
    fn moments_are_joined_and_nothing_is_lost() {
        let mut seen = Seen::default();
        for _ in 0..1_000 {
            seen.add(counts(3, 1), counts(2, 0));
            assert!(seen.moments.len() <= MOST_MOMENTS);
        }
        let sum = seen.moments.iter().fold(Moment::default(), |mut sum, it| {
            sum.add(it);
            sum
        });
        assert_eq!(sum, seen.whole);
        assert_eq!(
            (seen.stable().requests(), seen.canary().requests()),
            (3_000, 2_000)
        );
    }
}
