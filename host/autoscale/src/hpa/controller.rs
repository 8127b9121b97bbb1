//! One HPA's controller: what `reconcileAutoscaler` does every 15 s, in its order, with what it
//! remembers between two times.

use serde::Serialize;

use super::{
    history::{Recommendations, ScaleEvents},
    limit::{self, Changes, LimitReason},
    manifest::DOWNSCALE_STABILIZATION_SECONDS,
    proposal::{Input, MetricError, Proposal, propose},
    spec::{Behavior, Hpa, MetricSpec},
    time::Time,
};

/// How often the controller looks (`--horizontal-pod-autoscaler-sync-period`).
pub const SYNC_PERIOD: Time = Time::seconds(15);

/// An HPA and what its controller remembers of it.
#[derive(Clone, Debug)]
pub struct Controller {
    hpa: Hpa,
    recommendations: Recommendations,
    up: ScaleEvents,
    down: ScaleEvents,
}

/// What one sync came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What each metric proposed, in the manifest's order; empty where none was asked.
    pub proposals: Vec<(MetricSpec, Result<Proposal, MetricError>)>,
    /// How it went on.
    pub outcome: Outcome,
    /// The replicas there were.
    pub current: i32,
    /// The replicas there will be.
    pub desired: i32,
}

/// How a sync went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// There are no replicas: an HPA does not scale from zero.
    Disabled,
    /// There were more than `maxReplicas`: the metrics are not asked.
    AboveMax,
    /// There were fewer than `minReplicas`: the metrics are not asked.
    BelowMin,
    /// No metric answered, or one failed while the others would go down: nothing changes.
    Failed {
        /// `FailedGetPodsMetric` and the like, of the first metric that failed.
        reason: &'static str,
        /// Kubernetes' words for it.
        message: String,
    },
    /// The metrics decided.
    Decided(Steps),
}

/// From the metrics' highest proposal to what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The highest proposal.
    pub want: i32,
    /// The metric that made it.
    pub metric: String,
    /// After the stabilisation windows.
    pub stabilized: i32,
    /// Whether a window changed it.
    pub stabilization: Stabilization,
    /// Whether policies or the range changed it, and which.
    pub limit: LimitReason,
}

/// The reason of the condition `AbleToScale`, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Stabilization {
    /// Nothing held it.
    ReadyForNewScale,
    /// A lower recommendation is still within the window.
    ScaleUpStabilized,
    /// A higher recommendation is still within the window.
    ScaleDownStabilized,
}

impl Decision {
    /// Whether the scale is written.
    pub fn rescaled(&self) -> bool {
        self.desired != self.current
    }

    /// The reason Kubernetes gives in the event `SuccessfulRescale`.
    pub fn rescale_reason(&self) -> Option<String> {
        if !self.rescaled() {
            return None;
        }
        Some(match &self.outcome {
            Outcome::AboveMax => "Current number of replicas above Spec.MaxReplicas".to_owned(),
            Outcome::BelowMin => "Current number of replicas below Spec.MinReplicas".to_owned(),
            Outcome::Decided(steps) if steps.want > self.current => {
                format!("{} above target", steps.metric)
            }
            Outcome::Decided(steps) if steps.want < self.current => {
                "All metrics below target".to_owned()
            }
            // An older recommendation moved it, not today's: Kubernetes leaves it empty.
            _ => String::new(),
        })
    }
}

impl Controller {
    /// A controller that starts now and remembers nothing.
    pub fn new(hpa: Hpa) -> Self {
        Self {
            hpa,
            recommendations: Recommendations::default(),
            up: ScaleEvents::default(),
            down: ScaleEvents::default(),
        }
    }

    /// What it scales by.
    pub fn hpa(&self) -> &Hpa {
        &self.hpa
    }

    /// One sync. The caller carries the decision out: the controller counts on it.
    pub fn sync(&mut self, now: Time, input: &Input) -> Decision {
        let current = input.spec_replicas;
        self.recommendations.begin(current, now);
        let mut proposals = Vec::new();
        let (outcome, desired) = if current == 0 {
            (Outcome::Disabled, 0)
        } else if current > self.hpa.max_replicas {
            (Outcome::AboveMax, self.hpa.max_replicas)
        } else if current < self.hpa.min_replicas {
            (Outcome::BelowMin, self.hpa.min_replicas)
        } else {
            proposals = self
                .hpa
                .metrics
                .iter()
                .map(|metric| {
                    let proposal = propose(metric, self.hpa.tolerances, input, now);
                    (metric.clone(), proposal)
                })
                .collect();
            match highest(&proposals, current) {
                Err((reason, message)) => (Outcome::Failed { reason, message }, current),
                Ok((want, metric)) => {
                    let (steps, desired) = self.decide(now, current, want, metric);
                    (Outcome::Decided(steps), desired)
                }
            }
        };
        if desired != current
            && let Some(behavior) = &self.hpa.behavior
        {
            let change = desired - current;
            if change > 0 {
                self.up.keep(change, &behavior.scale_up, now);
            } else {
                self.down.keep(-change, &behavior.scale_down, now);
            }
        }
        Decision {
            proposals,
            outcome,
            current,
            desired,
        }
    }

    fn decide(&mut self, now: Time, current: i32, want: i32, metric: String) -> (Steps, i32) {
        // Not below zero: the controller starts from 0 and takes what is higher.
        let want = want.max(0);
        let (stabilized, stabilization, (desired, limit)) = match &self.hpa.behavior {
            None => {
                let window = Time::seconds(i64::from(DOWNSCALE_STABILIZATION_SECONDS));
                let stabilized = self.recommendations.highest(want, window, now);
                (
                    stabilized,
                    Stabilization::ScaleDownStabilized,
                    limit::by_rules(&self.hpa, current, stabilized),
                )
            }
            Some(behavior) => {
                let Behavior {
                    scale_up,
                    scale_down,
                } = behavior;
                let window = |seconds| Time::seconds(i64::from(seconds));
                let stabilized = self.recommendations.stabilized(
                    want,
                    current,
                    window(scale_up.stabilization_window_seconds),
                    window(scale_down.stabilization_window_seconds),
                    now,
                );
                let stabilization = if want >= current {
                    Stabilization::ScaleUpStabilized
                } else {
                    Stabilization::ScaleDownStabilized
                };
                let changes = Changes {
                    up: &self.up,
                    down: &self.down,
                    now,
                };
                let limited =
                    limit::by_behavior(&self.hpa, behavior, current, stabilized, &changes);
                (stabilized, stabilization, limited)
            }
        };
        let steps = Steps {
            want,
            metric,
            stabilized,
            stabilization: if stabilized == want {
                Stabilization::ReadyForNewScale
            } else {
                stabilization
            },
            limit,
        };
        (steps, desired)
    }
}

/// The highest proposal and its metric (`computeReplicasForMetrics`). A metric that fails is
/// passed over, unless all do, or the rest would go down without it.
fn highest(
    proposals: &[(MetricSpec, Result<Proposal, MetricError>)],
    current: i32,
) -> Result<(i32, String), (&'static str, String)> {
    let mut highest: Option<(i32, &MetricSpec)> = None;
    let mut failed = proposals
        .iter()
        .filter_map(|(metric, proposal)| proposal.as_ref().err().map(|error| (metric, error)));
    for (metric, proposal) in proposals {
        if let Ok(Proposal { replicas, .. }) = proposal
            && highest.is_none_or(|(most, _)| most == 0 || *replicas > most)
        {
            highest = Some((*replicas, metric));
        }
    }
    match (highest, failed.next()) {
        (Some((want, metric)), None) => Ok((want, metric.description())),
        (Some((want, metric)), Some(_)) if want >= current => Ok((want, metric.description())),
        (_, Some((metric, error))) => Err((
            metric.failure_reason(),
            format!(
                "invalid metrics ({} invalid out of {}), first error is: {error}",
                1 + failed.count(),
                proposals.len()
            ),
        )),
        (None, None) => Err((
            "FailedGetMetrics",
            "the HPA has no metric to go by".to_owned(),
        )),
    }
}

#[cfg(test)]
#[path = "controller_tests/mod.rs"]
mod tests;
