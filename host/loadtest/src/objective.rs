//! What a cell of the load test is judged by: the objective for P95 latency, the band above it that
//! is a warning, and the failures that availability allows.

use serde::Serialize;
use thiserror::Error;

/// The objective. It has no defaults: its figures are the SLO file's, which this crate does not read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Objective {
    p95_ms: f64,
    p95_warn_ms: f64,
    max_failure_percent: f64,
}

/// An objective that cannot be judged by.
#[derive(Debug, Error, PartialEq)]
pub enum ObjectiveError {
    /// A latency that is none.
    #[error("the P95 objective is {0} ms; it is a number of milliseconds above 0")]
    Latency(f64),
    /// The band of warning ends before it begins.
    #[error(
        "P95 warns up to {warn} ms, which is below the objective of {objective} ms; \
         the warning ends at the objective or above it"
    )]
    Warning {
        /// Where the warning was to end.
        warn: f64,
        /// Where it begins.
        objective: f64,
    },
    /// Not a share.
    #[error("failures are allowed up to {0} %; it is a percent, from 0 to 100")]
    Failures(f64),
}

/// How a cell did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Within the objective.
    Pass,
    /// P95 is over the objective, within the band of warning.
    Warn,
    /// Over the band, or more failures than availability allows, or nothing to judge by.
    Fail,
}

impl Verdict {
    /// `PASS`, `WARN` or `FAIL`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// A verdict and, where it is not a pass, each reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The worst that any reason asks for.
    pub verdict: Verdict,
    /// What was over, by how much.
    pub reasons: Vec<String>,
}

impl Judgement {
    const fn pass() -> Self {
        Self {
            verdict: Verdict::Pass,
            reasons: Vec::new(),
        }
    }

    /// Adds a reason for a verdict at least this bad.
    pub fn add(&mut self, verdict: Verdict, reason: String) {
        self.verdict = self.verdict.max(verdict);
        self.reasons.push(reason);
    }
}

impl Objective {
    /// An objective of P95 below `p95_ms`, with a warning up to and with `p95_warn_ms`, and at most
    /// `max_failure_percent` of the requests failing.
    ///
    /// # Errors
    /// Figures that make no objective.
    pub fn new(
        p95_ms: f64,
        p95_warn_ms: f64,
        max_failure_percent: f64,
    ) -> Result<Self, ObjectiveError> {
        if !(p95_ms.is_finite() && p95_ms > 0.0) {
            return Err(ObjectiveError::Latency(p95_ms));
        }
        if !(p95_warn_ms.is_finite() && p95_warn_ms >= p95_ms) {
            return Err(ObjectiveError::Warning {
                warn: p95_warn_ms,
                objective: p95_ms,
            });
        }
        if !(0.0..=100.0).contains(&max_failure_percent) {
            return Err(ObjectiveError::Failures(max_failure_percent));
        }
        Ok(Self {
            p95_ms,
            p95_warn_ms,
            max_failure_percent,
        })
    }

    /// P95 is to be below this, in milliseconds.
    #[must_use]
    pub const fn p95_ms(&self) -> f64 {
        self.p95_ms
    }

    /// Up to and with this P95, in milliseconds, it is a warning.
    #[must_use]
    pub const fn p95_warn_ms(&self) -> f64 {
        self.p95_warn_ms
    }

    /// The share of requests that may fail, in percent.
    #[must_use]
    pub const fn max_failure_percent(&self) -> f64 {
        self.max_failure_percent
    }

    /// Judges a cell by its P95 (none: no request was answered) and its failures.
    #[must_use]
    pub fn judge(&self, p95_ms: Option<f64>, failure_percent: f64) -> Judgement {
        let mut judged = Judgement::pass();
        let Self {
            p95_ms: objective,
            p95_warn_ms: warn,
            max_failure_percent: allowed,
        } = *self;
        match p95_ms {
            None => judged.add(Verdict::Fail, "no request was answered".to_owned()),
            Some(p95) if p95 > warn => judged.add(
                Verdict::Fail,
                format!("P95 {p95:.1} ms is over {warn} ms, where the warning ends"),
            ),
            Some(p95) if p95 >= objective => judged.add(
                Verdict::Warn,
                format!("P95 {p95:.1} ms is not below the objective of {objective} ms"),
            ),
            Some(_) => {}
        }
        if failure_percent > allowed {
            judged.add(
                Verdict::Fail,
                format!("{failure_percent:.2} % of the requests failed; {allowed} % may"),
            );
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::objective;

    #[test]
    fn the_seeds_bands_hold_at_their_edges() {
        let objective = objective();
        for (p95, verdict) in [
            (349.9, Verdict::Pass),
            (350.0, Verdict::Warn),
            (400.0, Verdict::Warn),
            (400.1, Verdict::Fail),
        ] {
            assert_eq!(objective.judge(Some(p95), 0.0).verdict, verdict, "{p95}");
        }
    }

    #[test]
    fn fast_answers_do_not_make_up_for_failures() {
        let objective = objective();
        assert_eq!(objective.judge(Some(10.0), 0.5).verdict, Verdict::Pass);
        let judged = objective.judge(Some(10.0), 0.51);
        assert_eq!(judged.verdict, Verdict::Fail);
        assert_eq!(judged.reasons, ["0.51 % of the requests failed; 0.5 % may"]);
    }

    #[test]
    fn a_cell_without_an_answer_fails() {
        assert_eq!(objective().judge(None, 0.0).verdict, Verdict::Fail);
    }

    #[test]
    fn figures_that_make_no_objective_are_refused_with_the_figure() {
        for (p95, warn, failures, word) in [
            (0.0, 1.0, 0.5, "is 0 ms"),
            (f64::NAN, 1.0, 0.5, "NaN"),
            (350.0, 300.0, 0.5, "300"),
            (350.0, f64::INFINITY, 0.5, "inf"),
            (350.0, 400.0, 101.0, "101"),
            (350.0, 400.0, -1.0, "-1"),
            (350.0, 400.0, f64::NAN, "NaN"),
        ] {
            let told = Objective::new(p95, warn, failures)
                .map_err(|error| error.to_string())
                .err()
                .unwrap_or_default();
            assert!(told.contains(word), "{told}");
        }
    }
}
