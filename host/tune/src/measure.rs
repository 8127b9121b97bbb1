//! What the search asks for: one setting under one load, measured once.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::setting::Setting;

/// How much is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// So many callers, each of whom asks again when answered.
    Users(u32),
    /// So many arrivals a second, whoever still waits.
    Rate(f64),
}

impl Load {
    /// As a number to compare loads by; all loads of a search are of one kind.
    #[must_use]
    pub fn size(self) -> f64 {
        match self {
            Self::Users(users) => f64::from(users),
            Self::Rate(rate) => rate,
        }
    }

    /// A load about midway between this and a higher one, if there is one.
    #[must_use]
    pub fn midway(self, higher: Self) -> Option<Self> {
        let middle = (self.size() * higher.size()).sqrt();
        let between = match self {
            Self::Users(_) => Self::Users(middle.round() as u32),
            // Closer rates than this are not told apart in a few seconds.
            Self::Rate(rate) if higher.size() < rate * 1.1 => return None,
            Self::Rate(_) => Self::Rate(middle.round()),
        };
        (between.size() > self.size() && between.size() < higher.size()).then_some(between)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users(1) => to.write_str("1 user"),
            Self::Users(users) => write!(to, "{users} users"),
            Self::Rate(rate) => write!(to, "{}/s", (rate * 100.0).round() / 100.0),
        }
    }
}

/// What one measurement found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Requests answered well, a second.
    pub rps: f64,
    /// The median latency in milliseconds; none if nothing was answered.
    pub p50_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// The share of requests that failed, in percent.
    pub failure_percent: f64,
    /// How many requests were measured.
    pub requests: u64,
    /// Requests in one run of the graph, on average; none where that is not known.
    pub mean_batch: Option<f64>,
    /// Whether it was one of the repeated measurements at the end, which decide.
    pub repeat: bool,
    /// How long all of it took, the start of a server and the warm-up included.
    #[serde(skip)]
    pub took: Duration,
}

/// Why there are no figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmeasured {
    /// The model is not served with this setting, or does not bear it.
    Refused {
        /// In words.
        why: String,
        /// How long it took to learn that.
        took: Duration,
    },
    /// Somebody stopped it.
    Stopped,
}

/// Serves the model with a setting and drives it.
pub trait Measure {
    /// Measures `setting` under `load` once, warm-up left out.
    ///
    /// Called for one setting after the other, often with rising loads for the same one: a server may
    /// be kept from one call to the next with the same setting.
    fn measure(
        &mut self,
        setting: &Setting,
        load: Load,
    ) -> impl Future<Output = Result<Run, Unmeasured>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midway_is_between_or_nowhere() {
        assert_eq!(
            Load::Users(16).midway(Load::Users(32)),
            Some(Load::Users(23))
        );
        assert_eq!(Load::Users(1).midway(Load::Users(2)), None);
        assert_eq!(
            Load::Rate(100.0).midway(Load::Rate(400.0)),
            Some(Load::Rate(200.0))
        );
        assert_eq!(Load::Rate(100.0).midway(Load::Rate(105.0)), None);
    }
}
