//! Everything a simulation is told, checked once.

use std::collections::BTreeMap;

use super::{
    profile::{LoadKind, Profile},
    service::{ServiceError, ServiceModel},
    signal::Signal,
};
use crate::{
    hpa::{Hpa, MetricSpec},
    slo::Slo,
};

/// Which of the two queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Single requests up to [`EXACT_REQUESTS`] of them, else aggregated.
    #[default]
    Auto,
    /// Single requests.
    Exact,
    /// Steady state and fluid, a quarter of a second at a time.
    Aggregate,
}

/// Requests up to which [`Engine::Auto`] follows each by itself: what a release build does in well
/// under a second.
pub const EXACT_REQUESTS: f64 = 4e6;

/// The service, the cluster around it, and the load.
#[derive(Clone, Debug)]
pub struct Config {
    /// One pod.
    pub service: ServiceModel,
    /// How long a user thinks between an answer and the next request, in seconds.
    pub think: f64,
    /// From a pod's creation until its containers run, in seconds.
    pub schedule: f64,
    /// From there until it is ready, in seconds; each pod's own differs by up to a fifth.
    pub startup: f64,
    /// Between two scrapes, in seconds; metrics-server's resolution as well.
    pub scrape: f64,
    /// The window of rates in queries, in seconds.
    pub rate_window: f64,
    /// The window gauges are averaged over, in seconds.
    pub gauge_window: f64,
    /// How old what a query answers is (recording rules, the adapter), in seconds.
    pub adapter_lag: f64,
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// Which queue.
    pub engine: Engine,
    /// Time before the profile begins at its first load, in seconds; not reported.
    pub warm_up: f64,
    /// Replicas at first; `minReplicas` if not told.
    pub initial_replicas: Option<i32>,
    /// What names of metrics mean beyond our own.
    pub signals: BTreeMap<String, Signal>,
    /// The objective for the p95, in seconds: what counts as a breach.
    pub objective: f64,
    /// What a pod costs an hour, in dollars.
    pub pod_hour: f64,
}

/// Why a simulation cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The service model makes no sense.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A figure is out of its range.
    #[error("{what} is {value}, and must be {range}")]
    Range {
        /// Which, with its unit.
        what: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// The manifest scales on something that is not simulated.
    #[error(
        "the manifest's {0} is nothing the simulator knows: say what it measures, as \
         --metric {1}=in_flight (p50, p90, p95, p99, in_flight, queue_depth, rps)"
    )]
    Metric(String, String),
    /// Of resources only CPU is modelled.
    #[error("the manifest's {0} cannot be simulated: of resources the service model has cpu only")]
    Resource(String),
    /// More than a simulation should hold.
    #[error("the load comes to {0:.0} users or requests a second; up to 10000000 can be simulated")]
    Load(f64),
}

impl Config {
    /// A service like the seeds' with what an SLO file says of its pods, its metrics and its
    /// objective.
    ///
    /// # Errors
    /// None; the signature is that of its parts.
    pub fn of(slo: &Slo) -> Result<Self, ConfigError> {
        Ok(Self {
            service: ServiceModel {
                max_queue: slo.pod.max_queue,
                cpu_request_milli: (slo.pod.cpu_request.amount() * 1e3).round() as i64,
                ..ServiceModel::example()?
            },
            think: 2.2,
            schedule: 2.0,
            startup: 30.0,
            scrape: f64::from(slo.metrics.scrape_seconds),
            rate_window: f64::from(slo.metrics.rate_window_seconds),
            gauge_window: f64::from(slo.metrics.gauge_window_seconds),
            adapter_lag: 0.0,
            seed: 1,
            engine: Engine::Auto,
            warm_up: 600.0,
            initial_replicas: None,
            signals: BTreeMap::new(),
            objective: slo.objectives.p95_ms.seconds(),
            pod_hour: 0.10,
        })
    }

    /// Refuses what cannot be simulated.
    ///
    /// # Errors
    /// With the figure, or the metric that has no meaning here.
    pub fn check(&self, hpa: &Hpa, profile: &Profile) -> Result<(), ConfigError> {
        self.service.check()?;
        for (what, value, low, high, range) in [
            (
                "the think time, in seconds,",
                self.think,
                0.01,
                3600.0,
                "0.01 to 3600",
            ),
            (
                "the time to schedule, in seconds,",
                self.schedule,
                0.0,
                3600.0,
                "0 to 3600",
            ),
            (
                "the start-up time, in seconds,",
                self.startup,
                0.0,
                3600.0,
                "0 to 3600",
            ),
            (
                "the scrape interval, in seconds,",
                self.scrape,
                1.0,
                300.0,
                "1 to 300",
            ),
            (
                "the gauge window, in seconds,",
                self.gauge_window,
                1.0,
                3600.0,
                "1 to 3600",
            ),
            (
                "the adapter's lag, in seconds,",
                self.adapter_lag,
                0.0,
                300.0,
                "0 to 300",
            ),
            (
                "the objective, in seconds,",
                self.objective,
                1e-4,
                30.0,
                "0.0001 to 30",
            ),
            (
                "the price of a pod hour, in dollars,",
                self.pod_hour,
                0.0,
                1e4,
                "0 to 10000",
            ),
        ] {
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Range { what, value, range });
            }
        }
        // With less a window holds one sample at times, and no rate.
        if !(2.0 * self.scrape..=3600.0).contains(&self.rate_window) {
            return Err(ConfigError::Range {
                what: "the rate window, in seconds,",
                value: self.rate_window,
                range: "at least twice the scrape interval, and 3600 at most",
            });
        }
        let most = (0..=1000)
            .map(|n| profile.at(profile.duration() * f64::from(n) / 1000.0))
            .fold(0.0, f64::max);
        if most > 1e7 {
            return Err(ConfigError::Load(most));
        }
        for metric in hpa.metrics() {
            match metric {
                MetricSpec::Resource { name, .. } if name == "cpu" => {}
                MetricSpec::Resource { .. } => {
                    return Err(ConfigError::Resource(metric.description()));
                }
                _ if self.signal(metric.name()).is_some() => {}
                _ => {
                    let name = metric.name().to_owned();
                    return Err(ConfigError::Metric(metric.description(), name));
                }
            }
        }
        Ok(())
    }

    /// What a metric's name means.
    pub(super) fn signal(&self, name: &str) -> Option<Signal> {
        self.signals
            .get(name)
            .copied()
            .or_else(|| Signal::of_metric(name))
    }

    /// Whether single requests are followed.
    pub(super) fn is_exact(&self, profile: &Profile) -> bool {
        let requests = match profile.kind() {
            LoadKind::Users => profile.integral() / (self.think + self.service.time.mean()),
            LoadKind::RequestsPerSecond => profile.integral(),
        };
        match self.engine {
            Engine::Exact => true,
            Engine::Aggregate => false,
            Engine::Auto => requests <= EXACT_REQUESTS,
        }
    }
}
