//! The SLO file: what callers are promised and what it may cost, read from TOML into checked types.
//! What is made of it is [`crate::render`].

mod check;
mod error;
mod places;
mod sections;
mod values;

use serde::Deserialize;

use self::places::Places;
pub use self::{
    error::{Problem, SloError},
    sections::{
        Alerts, Behavior, Canary, Gpu, Metrics, Network, Objectives, Pod, Policy, Safety, Scaling,
        Select, Service,
    },
    values::{Millis, Name, Percent, Positive, Quantity},
};

/// A checked SLO. There is none that was not checked: outside this crate it is only had from
/// [`Slo::parse`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Slo {
    /// What the service is called and where it runs.
    pub service: Service,
    /// What callers are promised.
    pub objectives: Objectives,
    /// Between which bounds, and by which signals, it scales.
    pub scaling: Scaling,
    /// When safety flags are more than usual.
    pub safety: Safety,
    /// When a symptom is told.
    pub alerts: Alerts,
    /// What one pod has, and how it starts and stops.
    pub pod: Pod,
    /// How metrics are collected.
    pub metrics: Metrics,
    /// Who may reach the pods.
    pub network: Network,
    /// The GPU overlay.
    pub gpu: Gpu,
    /// The canary overlays.
    pub canary: Canary,
}

/// What stands in the file.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Document {
    service: Service,
    objectives: Objectives,
    scaling: Scaling,
    safety: Safety,
    alerts: Alerts,
    pod: Pod,
    metrics: Metrics,
    network: Network,
    gpu: Gpu,
    canary: Canary,
}

/// One objective of latency: this share of requests is answered within this time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyObjective {
    /// `p50`, `p95`, `p99`.
    pub name: &'static str,
    /// The share, 0 to 1.
    pub quantile: f64,
    /// The time, in seconds; a bucket boundary.
    pub seconds: f64,
}

impl LatencyObjective {
    /// The share of requests that may be slower: the budget, 0 to 1.
    pub fn budget(&self) -> f64 {
        ((1.0 - self.quantile) * 1e12).round() / 1e12
    }
}

impl Slo {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// With every mistake that could be seen, each with line and key: of form (not TOML, an unknown
    /// key, a value that its key does not take) the first, of what does not go together all.
    pub fn parse(text: &str) -> Result<Self, SloError> {
        let places = Places::of(text);
        let document: Document = toml::from_str(text).map_err(|error| {
            let offset = error.span().map(|span| span.start);
            let key = offset.and_then(|offset| places.key_at(offset));
            SloError {
                problems: vec![Problem {
                    line: offset.map(|offset| places.line_at(offset)),
                    key: key.unwrap_or_default().to_owned(),
                    message: error.message().trim().replace('\n', "; "),
                }],
            }
        })?;
        let slo = Self {
            service: document.service,
            objectives: document.objectives,
            scaling: document.scaling,
            safety: document.safety,
            alerts: document.alerts,
            pod: document.pod,
            metrics: document.metrics,
            network: document.network,
            gpu: document.gpu,
            canary: document.canary,
        };
        let mut problems = check::problems(&slo);
        for problem in &mut problems {
            problem.line = places.line(&problem.key);
        }
        if problems.is_empty() {
            Ok(slo)
        } else {
            problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
            Err(SloError { problems })
        }
    }

    /// The objectives of latency, by rising quantile.
    pub fn latency(&self) -> [LatencyObjective; 3] {
        let objective = |name, quantile, time: Millis| LatencyObjective {
            name,
            quantile,
            seconds: time.seconds(),
        };
        [
            objective("p50", 0.5, self.objectives.p50_ms),
            objective("p95", 0.95, self.objectives.p95_ms),
            objective("p99", 0.99, self.objectives.p99_ms),
        ]
    }
}

#[cfg(test)]
mod tests;
