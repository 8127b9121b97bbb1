//! What a setting must keep to be proposed, and how much better than the one in force it must be.

use serde::Serialize;
use thiserror::Error;

use crate::trial::Figures;

/// The objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    p99_ms: f64,
    max_failure_percent: f64,
    min_gain_percent: f64,
}

/// An objective that nothing can be judged by.
#[derive(Debug, Error, PartialEq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum GoalError {
    #[error("the objective for P99 is {0} ms; it is a number of milliseconds above 0")]
    Latency(f64),
    #[error("failures are allowed up to {0} %; it is a percent, from 0 to 100")]
    Failures(f64),
    #[error("a change must gain {0} %; it is a percent, from 0 to 100")]
    Gain(f64),
}

impl Goal {
    /// P99 of at most `p99_ms`, at most `max_failure_percent` of the requests failing, and a change
    /// only for `min_gain_percent` more requests a second.
    ///
    /// # Errors
    /// Figures that make no objective.
    pub fn new(
        p99_ms: f64,
        max_failure_percent: f64,
        min_gain_percent: f64,
    ) -> Result<Self, GoalError> {
        if !(p99_ms.is_finite() && p99_ms > 0.0) {
            return Err(GoalError::Latency(p99_ms));
        }
        if !(0.0..=100.0).contains(&max_failure_percent) {
            return Err(GoalError::Failures(max_failure_percent));
        }
        if !(0.0..=100.0).contains(&min_gain_percent) {
            return Err(GoalError::Gain(min_gain_percent));
        }
        Ok(Self {
            p99_ms,
            max_failure_percent,
            min_gain_percent,
        })
    }

    /// The most that P99 may be, in milliseconds.
    #[must_use]
    pub const fn p99_ms(&self) -> f64 {
        self.p99_ms
    }

    /// The share of requests that may fail, in percent.
    #[must_use]
    pub const fn max_failure_percent(&self) -> f64 {
        self.max_failure_percent
    }

    /// The gain below which a change is not worth one, in percent.
    #[must_use]
    pub const fn min_gain_percent(&self) -> f64 {
        self.min_gain_percent
    }

    /// Whether these figures keep the objective.
    #[must_use]
    pub fn meets(&self, figures: &Figures) -> bool {
        figures.p99_ms.is_some_and(|ms| ms <= self.p99_ms)
            && figures.failure_percent <= self.max_failure_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_that_nothing_can_meet_or_miss_is_refused() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Goal::new(wrong, 0.5, 3.0).is_err(), "{wrong}");
        }
        assert_eq!(Goal::new(10.0, 101.0, 3.0), Err(GoalError::Failures(101.0)));
        assert_eq!(Goal::new(10.0, 0.5, -3.0), Err(GoalError::Gain(-3.0)));
    }
}
