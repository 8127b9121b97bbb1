//! A server that is a formula, for the tests of the search: what it serves under which setting and
//! load is known, so that what is proposed can be judged.

use std::time::Duration;

use crate::{
    measure::{Load, Measure, Run, Unmeasured},
    setting::{Batching, Setting},
};

/// Some setting.
pub(crate) const ONE: Setting = Setting {
    batching: Batching::On {
        max_batch_size: 4,
        max_latency_ms: 0,
    },
    sessions: 1,
    threads: 1,
};

/// A run that did so well.
pub(crate) fn run(rps: f64, p99_ms: f64) -> Run {
    Run {
        rps,
        p50_ms: Some(p99_ms / 2.0),
        p95_ms: Some(p99_ms * 0.9),
        p99_ms: Some(p99_ms),
        failure_percent: 0.0,
        requests: 1000,
        mean_batch: None,
        repeat: false,
        took: Duration::ZERO,
    }
}

/// The formula: runs of n rows take `first_ms + n · row_ms` divided over threads as far as `serial`
/// allows, and as many go side by side as there are sessions, on `cores`.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) cores: f64,
    /// What a run costs whatever its rows.
    pub(crate) first_ms: f64,
    /// What each row costs.
    pub(crate) row_ms: f64,
    /// The share of a run that several threads do not shorten.
    pub(crate) serial: f64,
    /// How far measurements lie around the truth, as a share.
    pub(crate) noise: f64,
    /// What each measurement takes, in turn.
    pub(crate) took: Vec<Duration>,
    /// Stopped at this measurement.
    pub(crate) stop_at: Option<usize>,
    /// Settings with more sessions are not served.
    pub(crate) most_sessions: u32,
    /// What was asked.
    pub(crate) asked: Vec<(Setting, Load)>,
    pub(crate) random: u64,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            cores: 4.0,
            first_ms: 4.0,
            row_ms: 1.0,
            serial: 0.5,
            noise: 0.0,
            took: vec![Duration::from_secs(4)],
            stop_at: None,
            most_sessions: 64,
            asked: Vec::new(),
            random: 0,
        }
    }

    /// With other noise for another seed.
    pub(crate) fn seeded(self, seed: u64) -> Self {
        Self {
            random: seed,
            ..self
        }
    }

    /// The truth: requests a second, P99 in milliseconds, mean rows of a run.
    pub(crate) fn truth(&self, setting: &Setting, users: f64) -> (f64, f64, f64) {
        let (most, wait) = match setting.batching {
            Batching::Off => (1.0, 0.0),
            Batching::Auto => (32.0, 0.0),
            Batching::On {
                max_batch_size,
                max_latency_ms,
            } => (f64::from(max_batch_size), f64::from(max_latency_ms)),
        };
        let (sessions, threads) = (f64::from(setting.sessions), f64::from(setting.threads));
        // Those who wait share the next runs.
        let rows = (users / sessions).clamp(1.0, most);
        let crowd = (sessions * threads / self.cores).max(1.0);
        let alone = self.first_ms + self.row_ms * rows;
        let run = alone * (self.serial + (1.0 - self.serial) / threads) * crowd + wait;
        let busy = (users / rows).min(sessions);
        let rps = busy * rows / run * 1000.0;
        (rps, users / rps * 1000.0 * 1.5, rows)
    }

    fn unit(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn took_at(&self, index: usize) -> Duration {
        let count = self.took.len().max(1);
        self.took.get(index % count).copied().unwrap_or_default()
    }
}

impl Measure for Fake {
    async fn measure(&mut self, setting: &Setting, load: Load) -> Result<Run, Unmeasured> {
        let index = self.asked.len();
        if self.stop_at == Some(index) {
            return Err(Unmeasured::Stopped);
        }
        self.asked.push((*setting, load));
        let took = self.took_at(index);
        if setting.sessions > self.most_sessions {
            let why = "too many sessions".to_owned();
            return Err(Unmeasured::Refused { why, took });
        }
        let (rps, p99, rows) = self.truth(setting, load.size());
        let mut around = |value: f64| value * (1.0 + self.noise * (self.unit() * 2.0 - 1.0));
        let (rps, p99) = (around(rps), around(p99));
        Ok(Run {
            mean_batch: Some(rows),
            took,
            ..run(rps, p99)
        })
    }
}
