//! When requests are due in an open loop: at even distances or as a Poisson process, with a rate
//! that rises during the ramp; and the random numbers behind this and behind think times, the same
//! for the same seed.

use std::time::Duration;

use serde::Serialize;

/// How arrivals lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// At even distances.
    Fixed,
    /// Independent of each other, as many unrelated callers come.
    Poisson,
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same numbers for a seed for ever, which
/// crates of random numbers do not promise between versions.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers of their own for each `stream` of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed);
        Self(mixed.next() ^ Self(stream).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to, not with, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // The 53 bits that a double holds exactly.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// One worker's share of the arrivals, as times from the start; endless. All workers' together are
/// the arrivals of the whole rate.
#[derive(Clone, Debug)]
pub struct Arrivals {
    arrival: Arrival,
    rate: f64,
    ramp_seconds: f64,
    workers: f64,
    /// Where the next arrival lies, counted in arrivals of all workers.
    position: f64,
    random: Random,
}

impl Arrivals {
    /// The share of worker `index` of `workers`, of arrivals whose rate rises evenly from 0 to
    /// `rate` a second during `ramp` and stays there.
    #[must_use]
    pub fn new(
        arrival: Arrival,
        rate: f64,
        ramp: Duration,
        (index, workers): (u32, u32),
        seed: u64,
    ) -> Self {
        let mut arrivals = Self {
            arrival,
            rate,
            ramp_seconds: ramp.as_secs_f64(),
            workers: f64::from(workers),
            position: f64::from(index),
            random: Random::new(seed, u64::from(index)),
        };
        if arrival == Arrival::Poisson {
            // A sum of independent Poisson processes is one of the sum of their rates.
            arrivals.position = arrivals.workers * arrivals.random.exponential();
        }
        arrivals
    }

    /// The time by which `position` arrivals are due: the inverse of the rate's integral, which
    /// turns a process of even rate into one of this rate.
    fn time(&self, position: f64) -> f64 {
        let in_ramp = self.rate * self.ramp_seconds / 2.0;
        if position < in_ramp {
            (2.0 * self.ramp_seconds * position / self.rate).sqrt()
        } else {
            self.ramp_seconds / 2.0 + position / self.rate
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.time(self.position);
        self.position += match self.arrival {
            Arrival::Fixed => self.workers,
            Arrival::Poisson => self.workers * self.random.exponential(),
        };
        // Beyond what a duration holds (a rate near 0) nothing is due any more.
        Duration::try_from_secs_f64(due).ok()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn all(arrival: Arrival, rate: f64, ramp: u64, workers: u32, seed: u64) -> Vec<f64> {
        let until = Duration::from_secs(40);
        let mut due: Vec<f64> = (0..workers)
            .flat_map(|index| {
                let share = (index, workers);
                Arrivals::new(arrival, rate, Duration::from_secs(ramp), share, seed)
                    .take_while(|due| *due < until)
            })
            .map(|due| due.as_secs_f64())
            .collect();
        due.sort_by(f64::total_cmp);
        due
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals_and_another_others() {
        let [first, again, other] = [1, 1, 2].map(|seed| all(Arrival::Poisson, 20.0, 5, 3, seed));
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn random_numbers_are_those_of_the_paper() {
        // The reference implementation's first outputs for the seed 1234567.
        let mut random = Random(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn poisson_arrivals_come_at_the_rate_with_gaps_that_are_exponential() {
        let due = all(Arrival::Poisson, 500.0, 0, 4, 7);
        let rate = due.len() as f64 / 40.0;
        assert!((rate - 500.0).abs() < 15.0, "{rate}");
        // Of exponential gaps e^-1 are longer than their mean, and their deviation is their mean.
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let long = gaps.iter().filter(|gap| **gap > 1.0 / 500.0).count();
        let share = long as f64 / gaps.len() as f64;
        assert!((share - (-1f64).exp()).abs() < 0.02, "{share}");
    }

    proptest! {
        #[test]
        fn fixed_arrivals_of_all_workers_are_even_and_none_is_missing(
            rate in 1.0..200.0f64, ramp in 0u64..20, workers in 1u32..9,
        ) {
            let due = all(Arrival::Fixed, rate, ramp, workers, 0);
            let whole = rate * (40.0 - ramp as f64 / 2.0);
            prop_assert!((due.len() as f64 - whole).abs() <= 1.0, "{} of {whole}", due.len());
            for pair in due.windows(2).filter(|pair| pair[0] > ramp as f64) {
                prop_assert!((pair[1] - pair[0] - 1.0 / rate).abs() < 1e-6);
            }
        }
    }
}
