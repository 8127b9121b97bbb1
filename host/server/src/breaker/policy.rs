//! When a breaker opens and for how long: a manifest's `[breaker]` with the defaults filled in.

use std::time::Duration;

use aegis_registry::manifest;

use super::Cause;
use super::window::Slice;

const WINDOW: Duration = Duration::from_secs(10);
/// With fewer, one failure is a large share.
const MIN_REQUESTS: u32 = 20;
const ERROR_RATE: f64 = 0.5;
const CONSECUTIVE_FAILURES: u32 = 10;
const LATENCY_QUANTILE: f64 = 0.95;
const FIRST_OPEN: Duration = Duration::from_secs(1);
const LONGEST_OPEN: Duration = Duration::from_secs(60);
/// A failure may be the input's doing, and every request has an instance of its own: were all callers refused for it, one
/// that repeats a poisonous request would take the model from everyone, probes included, as most of them would be its own.
/// With another version in line nobody loses an answer; without one, answering badly is better than not at all.
const REFUSES_ALONE: bool = false;

/// A breaker's rules.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    window: Duration,
    min_requests: u32,
    error_rate: f64,
    /// 0: no number of failures is too many.
    consecutive_failures: u32,
    latency: Option<Latency>,
    first_open: Duration,
    longest_open: Duration,
    refuses_alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Latency {
    threshold: Duration,
    /// The share of requests that must keep the threshold.
    quantile: f64,
}

/// Why there is no such policy.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("a breaker cannot look back over no time; give a window of at least a second")]
    NoWindow,
    #[error("{0} is no error rate to open at; give a share above 0, at most 1")]
    ErrorRate(f64),
    #[error("{0} is no share of requests that must be quick; give one above 0 and below 1")]
    Quantile(f64),
    #[error(
        "a breaker cannot stay open for {first:?} at first and {longest:?} at most; give a first time above 0 \
         and a longest that is not less"
    )]
    Open { first: Duration, longest: Duration },
}

impl Policy {
    /// What the manifest says, with the defaults for what it does not say.
    pub(crate) fn new(wishes: &manifest::Breaker) -> Result<Policy, PolicyError> {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        let (first_open, longest_open) = match (wishes.open_ms, wishes.max_open_ms) {
            (Some(first), Some(longest)) => (millis(first), millis(longest)),
            (Some(first), None) => (millis(first), LONGEST_OPEN.max(millis(first))),
            (None, Some(longest)) => (FIRST_OPEN.min(millis(longest)), millis(longest)),
            (None, None) => (FIRST_OPEN, LONGEST_OPEN),
        };
        let policy = Policy {
            window: wishes.window_ms.map_or(WINDOW, millis),
            min_requests: wishes.min_requests.unwrap_or(MIN_REQUESTS),
            error_rate: wishes.error_rate.unwrap_or(ERROR_RATE),
            consecutive_failures: wishes.consecutive_failures.unwrap_or(CONSECUTIVE_FAILURES),
            latency: wishes.latency_ms.map(|threshold| Latency {
                threshold: millis(threshold),
                quantile: wishes.latency_quantile.unwrap_or(LATENCY_QUANTILE),
            }),
            first_open,
            longest_open,
            refuses_alone: wishes.refuse_alone.unwrap_or(REFUSES_ALONE),
        };
        policy.checked()
    }

    fn checked(self) -> Result<Policy, PolicyError> {
        if self.window.is_zero() {
            return Err(PolicyError::NoWindow);
        }
        if !(self.error_rate > 0.0 && self.error_rate <= 1.0) {
            return Err(PolicyError::ErrorRate(self.error_rate));
        }
        if let Some(Latency { quantile, .. }) = self.latency
            && !(quantile > 0.0 && quantile < 1.0)
        {
            return Err(PolicyError::Quantile(quantile));
        }
        let (first, longest) = (self.first_open, self.longest_open);
        if first.is_zero() || longest < first {
            return Err(PolicyError::Open { first, longest });
        }
        Ok(self)
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    pub(super) fn first_open(&self) -> Duration {
        self.first_open
    }

    /// Whether callers are refused while it is open and nobody else can answer them.
    pub(super) fn refuses_alone(&self) -> bool {
        self.refuses_alone
    }

    /// Whether a request that took so long was too slow.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        self.latency.is_some_and(|latency| took > latency.threshold)
    }

    /// What is too much about a window, and failures in a row.
    pub(super) fn judge(&self, seen: Slice, in_a_row: u32) -> Option<Cause> {
        let Slice {
            requests,
            failures,
            slow,
        } = seen;
        if self.consecutive_failures > 0 && in_a_row >= self.consecutive_failures {
            return Some(Cause::InARow { failures: in_a_row });
        }
        if requests < self.min_requests {
            return None;
        }
        let share = |part: u32| f64::from(part) / f64::from(requests);
        if failures > 0 && share(failures) >= self.error_rate {
            return Some(Cause::ErrorRate {
                failures,
                requests,
                window: self.window,
            });
        }
        // A quantile is over the threshold exactly if fewer than its share keep it, so counting
        // the slow ones is enough.
        match self.latency {
            Some(latency) if share(requests.saturating_sub(slow)) < latency.quantile => {
                Some(Cause::Slow {
                    slow,
                    requests,
                    window: self.window,
                    threshold: latency.threshold,
                    quantile: latency.quantile,
                })
            }
            _ => None,
        }
    }

    /// How long to stay open after so many failed probes.
    pub(super) fn wait(&self, failed_probes: u32) -> Duration {
        self.wait_by(failed_probes, chance())
    }

    /// The time doubles with each failed probe, up to the longest. Half of it is fixed and half
    /// left to `chance` (0 to 1): "equal jitter" of Marc Brooker, "Exponential Backoff And
    /// Jitter", AWS Architecture Blog, 2015. Replicas whose breakers opened together then do not
    /// probe together, and unlike with "full jitter" a version in trouble always gets a rest.
    pub(super) fn wait_by(&self, failed_probes: u32, chance: f64) -> Duration {
        let factor = 1u32.checked_shl(failed_probes).unwrap_or(u32::MAX);
        let full = self
            .first_open
            .checked_mul(factor)
            .unwrap_or(self.longest_open)
            .min(self.longest_open);
        full / 2 + (full / 2).mul_f64(chance)
    }
}

/// A number from 0 to 1. Without entropy it is 1: jitter is not worth failing for.
fn chance() -> f64 {
    getrandom::u64().map_or(1.0, |bits| bits as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn the_defaults_are_those_that_the_documentation_has() {
        let Policy {
            window,
            min_requests,
            error_rate,
            consecutive_failures,
            latency,
            first_open,
            longest_open,
            refuses_alone,
        } = Policy::new(&manifest::Breaker::default()).unwrap();
        assert_eq!(latency, None);
        let documentation = include_str!("../../../../docs/model.md");
        for (key, default) in [
            ("window_ms", window.as_millis().to_string()),
            ("min_requests", min_requests.to_string()),
            ("error_rate", error_rate.to_string()),
            ("consecutive_failures", consecutive_failures.to_string()),
            ("latency_ms", "none".to_owned()),
            ("latency_quantile", LATENCY_QUANTILE.to_string()),
            ("open_ms", first_open.as_millis().to_string()),
            ("max_open_ms", longest_open.as_millis().to_string()),
            ("refuse_alone", format!("`{refuses_alone}`")),
        ] {
            let row = format!("| `{key}` | {default} |");
            assert!(documentation.contains(&row), "docs/model.md lacks {row}");
        }
    }
}
