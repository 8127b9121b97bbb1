//! The service model out of load-test results: how long a request takes, how many a pod answers at
//! once, and how long users think, such that the simulator gives the latencies and rates that were
//! measured. What the data cannot tell is refused, not guessed.

mod results;
mod search;

use serde::Serialize;

pub use results::{ResultRow, ResultsError, SIMULATED, read_results};

use crate::simulate::{Config, ConfigError, ServiceError, ServiceTime};

/// Rows with a larger share of failures, in percent, are left out: what failed has no latency.
pub const MOST_FAILURES: f64 = 1.0;
/// A worse fit than this, in percent, is no description of the service.
pub const WORST_FIT: f64 = 25.0;

/// Why no service model can be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// The file is no result of a load test.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Too few rows are left.
    #[error(
        "{usable} of {rows} rows can be used, and two with different load per replica are needed{}",
        list(.excluded)
    )]
    TooFewRows {
        /// Rows that can be used.
        usable: usize,
        /// Rows there are.
        rows: usize,
        /// Why the others cannot.
        excluded: Vec<String>,
    },
    /// Rows disagree about the think time.
    #[error(
        "users think {low:.2} s in one row and {high:.2} s in another (Users / RPS less the answer's \
         time): was this a closed loop? The rows of an open loop have no users; leave Users empty in them"
    )]
    ThinkTime {
        /// The shortest, in seconds.
        low: f64,
        /// The longest.
        high: f64,
    },
    /// Many concurrencies fit alike.
    #[error(
        "the data cannot tell how many requests a pod answers at once: {low} to {high} fit alike. \
         {}",
        if *.unsaturated {
            "Latency hardly rises between the rows: load it harder, until the P95 is half as long again"
        } else {
            "No row is without queueing: add one with few users"
        }
    )]
    Concurrency {
        /// The lowest that fits.
        low: u32,
        /// The highest that fits, of those tried.
        high: u32,
        /// Whether harder load would tell; else lighter load would.
        unsaturated: bool,
    },
    /// Nothing fits.
    #[error(
        "no service model fits: the best is off by {rms_percent:.0} % on average, and up to {WORST_FIT:.0} % \
         are taken. A pod whose latency is not that of a queue (a shared database, throttled CPU) \
         cannot be told by one; nor can an open loop beyond capacity, whose queue grows as long as it \
         lasts: leave such rows out"
    )]
    Misfit {
        /// The best fit's error, in percent.
        rms_percent: f64,
    },
    /// The simulator refuses the row.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The found figures are out of range.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

fn list(reasons: &[String]) -> String {
    if reasons.is_empty() {
        String::new()
    } else {
        format!("; {}", reasons.join("; "))
    }
}

/// A service model and how well it tells the measurements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Mean service time, in milliseconds.
    pub service_ms: f64,
    /// Its coefficient of variation.
    pub cv: f64,
    /// Places of a pod.
    pub concurrency: u32,
    /// How long users think, in seconds; none where no row has users.
    pub think_s: Option<f64>,
    /// Requests a second that a pod answers at most, by these figures.
    pub capacity: f64,
    /// Root mean square error over all rows' P50, P95 and RPS, in percent.
    pub rms_percent: f64,
    /// The concurrencies that fit nearly as well (within a tenth).
    pub concurrency_range: (u32, u32),
    /// Each row, measured and as the fitted model gives it.
    pub rows: Vec<FitRow>,
    /// Rows that were left out, and why.
    pub excluded: Vec<String>,
}

/// One row of the measurements beside the model's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FitRow {
    /// Users; none in an open loop.
    pub users: Option<f64>,
    /// Replicas.
    pub replicas: u32,
    /// Requests a second.
    pub rps: Pair,
    /// In milliseconds.
    pub p50_ms: Pair,
    /// In milliseconds.
    pub p95_ms: Pair,
    /// In milliseconds; not fitted, but told.
    pub p99_ms: Pair,
}

/// A figure as it was measured and as the model gives it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Measured.
    pub measured: f64,
    /// By the model.
    pub model: f64,
}

impl Fit {
    /// Puts the figures into a configuration. CPU, the bound of the queue, and after an open loop the
    /// think time stay as they were: these results do not tell.
    ///
    /// # Errors
    /// If they are out of the simulator's range.
    pub fn apply(&self, config: &mut Config) -> Result<(), ServiceError> {
        config.service.time = ServiceTime::log_normal(self.service_ms / 1e3, self.cv)?;
        config.service.concurrency = self.concurrency;
        config.service.max_batch = 1;
        if let Some(think) = self.think_s {
            config.think = think.max(0.01);
        }
        Ok(())
    }
}

/// Fits the model to the results of a load test. `replicas` says how many pods there were where the
/// rows do not.
///
/// # Errors
/// Where the rows do not identify service time and concurrency, and what would.
pub fn fit(rows: &[ResultRow], replicas: Option<u32>, base: &Config) -> Result<Fit, FitError> {
    let mut usable: Vec<search::Row> = Vec::new();
    let mut excluded = Vec::new();
    for row in rows {
        match search::Row::of(row, replicas) {
            Ok(row) => usable.push(row),
            Err(reason) => excluded.push(format!("line {}: {reason}", row.line)),
        }
    }
    // Users tell more than their rate, which a slow service holds back; but not beside an open loop's.
    let closed = usable.iter().all(search::Row::is_closed);
    usable.sort_by(|a, b| a.per_replica(closed).total_cmp(&b.per_replica(closed)));
    let spread = match (usable.first(), usable.last()) {
        (Some(low), Some(high)) => high.per_replica(closed) / low.per_replica(closed),
        _ => 1.0,
    };
    if usable.len() < 2 || spread < 1.01 {
        return Err(FitError::TooFewRows {
            usable: usable.len(),
            rows: rows.len(),
            excluded,
        });
    }
    search::best(&usable, excluded, base)
}

#[cfg(test)]
#[path = "fit/tests.rs"]
mod tests;
