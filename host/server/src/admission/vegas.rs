//! How many requests may run at once, found from how long they take: TCP Vegas, by which a sender keeps a few packets of
//! its own waiting in the network and no more (Brakmo and Peterson, "TCP Vegas: End to End Congestion Avoidance on a
//! Global Internet", 1995), with the steps of Netflix's `VegasLimit` (github.com/Netflix/concurrency-limits).
//!
//! What requests take when nothing waits inside is the base. Of `limit` requests that take longer than that,
//! `limit × (1 − base / took)` must be waiting for one another. With fewer of them than α the limit rises, with more
//! than β it falls. It has no clock: a step is taken after as many answers as a round has, and all it is told of time
//! is how long requests took.

use std::time::Duration;

/// Where it begins: low, so that the base is seen before anything waits.
const FIRST: f64 = 4.0;

/// The fewest answers that a step is taken on; a round has as many as the limit, if that is more.
const FEWEST: u32 = 32;

/// The answers that the base is measured by: few, as little is let in meanwhile.
const MEASURED: u32 = 16;

/// Waiting requests between these many strides are as they should be, as `VegasLimit` has them.
const ALPHA: f64 = 3.0;
const BETA: f64 = 6.0;

/// After so many rounds the base is measured anew, as requests may have become slower for good. Vegas has no answer to
/// that, and `VegasLimit` takes a time with its waiting for the base. This is BBR's (Cardwell et al., 2016): let fewer
/// in for a moment and look.
const PROBE_AFTER: u32 = 50;

/// How far the base goes towards a round that was quicker: one that was so by chance must not count for all.
const BASE_SMOOTHING: f64 = 0.2;

/// The limit, and what it is made of.
#[derive(Debug)]
pub(super) struct Vegas {
    limit: f64,
    ceiling: f64,
    /// What requests take when nothing waits, in seconds.
    base: Option<f64>,
    round: Round,
    rounds_since_probe: u32,
    probe: Probe,
}

/// The answers since the last step.
#[derive(Debug, Default)]
struct Round {
    answers: u32,
    /// Seconds of all.
    took: f64,
    /// The most requests that were inside at once.
    inside: usize,
}

/// Whether the base is being measured anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Not,
    /// Those that came in under the full limit are still to end.
    Draining,
    /// The answers are of those that came in under the low one.
    Measuring,
}

impl Vegas {
    /// With at most `ceiling` at once.
    pub(super) fn new(ceiling: usize) -> Vegas {
        let ceiling = (ceiling as f64).max(1.0);
        Vegas {
            limit: FIRST.min(ceiling),
            ceiling,
            base: None,
            round: Round::default(),
            rounds_since_probe: 0,
            probe: Probe::Not,
        }
    }

    /// How many may be inside now.
    pub(super) fn limit(&self) -> usize {
        let limit = match self.probe {
            Probe::Not => self.limit,
            // Half of what is left without those that Vegas has waiting, so that none does.
            Probe::Draining | Probe::Measuring => (self.limit - BETA * self.stride()) / 2.0,
        };
        (limit as usize).max(1)
    }

    /// What the limit changes by, and what α and β are counted in: slowly more for larger limits.
    fn stride(&self) -> f64 {
        self.limit.log10().max(1.0)
    }

    /// How many answers the round has that is under way.
    fn answers(&self) -> u32 {
        match self.probe {
            Probe::Not => FEWEST.max(self.limit as u32),
            // As many as were inside.
            Probe::Draining => self.limit as u32,
            Probe::Measuring => MEASURED,
        }
    }

    /// A request was answered after so long, and left so many inside, itself among them.
    pub(super) fn answered(&mut self, took: Duration, inside: usize) {
        self.round.answers += 1;
        self.round.took += took.as_secs_f64();
        self.round.inside = self.round.inside.max(inside);
        if self.round.answers >= self.answers() {
            let round = std::mem::take(&mut self.round);
            self.step(round.took / f64::from(round.answers), round.inside);
        }
    }

    /// At the end of a round whose requests took so long on average.
    fn step(&mut self, took: f64, inside: usize) {
        let base = *self.base.get_or_insert(took);
        match self.probe {
            Probe::Draining => self.probe = Probe::Measuring,
            Probe::Measuring => {
                self.base = Some(took);
                self.rounds_since_probe = 0;
                self.probe = Probe::Not;
            }
            Probe::Not => {
                if took < base {
                    self.base = Some(base + BASE_SMOOTHING * (took - base));
                }
                self.rounds_since_probe += 1;
                let busy = inside as f64 * 2.0 >= self.limit;
                if self.rounds_since_probe >= PROBE_AFTER {
                    self.look_anew(busy, took);
                } else if busy {
                    self.adjust(1.0 - base / took.max(base));
                }
            }
        }
    }

    /// Where requests do not wait anyway, what they take is the base.
    fn look_anew(&mut self, busy: bool, took: f64) {
        if busy {
            self.probe = Probe::Draining;
        } else {
            self.base = Some(took);
            self.rounds_since_probe = 0;
        }
    }

    /// One step, with this share of the requests inside waiting for others.
    fn adjust(&mut self, waiting: f64) {
        let step = self.stride();
        let (few, alpha, beta) = (step, ALPHA * step, BETA * step);
        let waiting = waiting * self.limit;
        let change = if waiting <= few {
            beta
        } else if waiting < alpha {
            step
        } else if waiting > beta {
            -step
        } else {
            0.0
        };
        self.limit = (self.limit + change).clamp(1.0, self.ceiling);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A service that answers `capacity` requests at a time in `time` each: with more inside, all wait in turn.
    fn rounds(vegas: &mut Vegas, rounds: usize, capacity: f64, time: f64) {
        for _ in 0..rounds {
            let inside = vegas.limit();
            let took = time * (inside as f64 / capacity).max(1.0);
            for _ in 0..vegas.answers() {
                vegas.answered(Duration::from_secs_f64(took), inside);
            }
        }
    }

    /// No less than what keeps the service busy, and no more than β waiting, give or take a step.
    fn fits(vegas: &Vegas, capacity: f64) -> bool {
        let most = capacity + (BETA + 1.0) * vegas.stride();
        (capacity.min(vegas.ceiling)..=most).contains(&vegas.limit)
    }

    #[test]
    fn who_asks_seldom_says_nothing_about_the_limit() {
        let mut vegas = Vegas::new(64);
        rounds(&mut vegas, 20, 16.0, 0.01);
        let before = vegas.limit;
        for _ in 0..1000 {
            vegas.answered(Duration::from_secs(3), 1);
        }
        assert!((vegas.limit - before).abs() < f64::EPSILON);
    }

    proptest! {
        /// Whatever it is told, somebody gets in and nobody beyond the ceiling.
        #[test]
        fn the_limit_stays_between_one_and_the_ceiling(
            ceiling in 0_usize..500,
            answers in proptest::collection::vec((0_u64..5_000_000, 0_usize..600), 0..3000),
        ) {
            let mut vegas = Vegas::new(ceiling);
            for (micros, inside) in answers {
                vegas.answered(Duration::from_micros(micros), inside);
                prop_assert!((1..=ceiling.max(1)).contains(&vegas.limit()));
            }
        }

        /// It finds a service's capacity, and finds it again when that halves or doubles, or each request takes so much longer.
        #[test]
        fn it_finds_the_capacity_whatever_that_is_and_becomes(
            capacity in 2_u32..120,
            ms in 0.1_f64..2000.0,
            slower in 0.3_f64..4.0,
        ) {
            let (capacity, time) = (f64::from(capacity), ms / 1e3);
            let mut vegas = Vegas::new(400);
            for (capacity, time) in [
                (capacity, time),
                (capacity / 2.0, time),
                (capacity, time),
                (capacity, time * slower),
            ] {
                rounds(&mut vegas, 300, capacity, time);
                while vegas.probe != Probe::Not {
                    rounds(&mut vegas, 1, capacity, time);
                }
                prop_assert!(fits(&vegas, capacity), "{capacity} at {time}: {vegas:?}");
            }
        }
    }
}
