//! One sync's decision as one JSON line, in Kubernetes' words where it has words.

use serde::Serialize;

use crate::hpa::{
    Decision, LimitReason, MetricSpec, Outcome, Quantity, ResourceTarget, Stabilization, Time,
    ValueTarget,
};

/// What is printed of one sync.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The tick's time, in seconds.
    pub time: Time,
    /// Replicas before.
    pub current: i32,
    /// What each metric proposed, in the manifest's order.
    pub proposals: Vec<ProposalLine>,
    /// The highest proposal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub want: Option<i32>,
    /// After the stabilisation windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stabilized: Option<i32>,
    /// Replicas after.
    pub desired: i32,
    /// The conditions' reasons.
    pub reasons: Reasons,
    /// The reason in the event `SuccessfulRescale`; there only when the scale is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescale: Option<String>,
    /// Why nothing could be decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Reasons of the HPA's three conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reasons {
    /// `ScalingActive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_active: Option<&'static str>,
    /// `AbleToScale`, before the scale is written (then it becomes `SucceededRescale`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub able_to_scale: Option<Stabilization>,
    /// `ScalingLimited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_limited: Option<LimitReason>,
}

/// One metric's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProposalLine {
    /// The metric as Kubernetes' messages name it.
    pub metric: String,
    /// What the manifest aims at.
    pub target: String,
    /// What it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The replicas it proposes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<i32>,
    /// Why it proposes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Line {
    /// Of what was decided at `time`.
    pub fn new(time: Time, decision: &Decision) -> Self {
        let steps = match &decision.outcome {
            Outcome::Decided(steps) => Some(steps),
            _ => None,
        };
        let scaling_active = match &decision.outcome {
            Outcome::Disabled => Some("ScalingDisabled"),
            Outcome::Failed { reason, .. } => Some(*reason),
            Outcome::Decided(_) => Some("ValidMetricFound"),
            // The metrics are not asked, and the condition stays as it was.
            Outcome::AboveMax | Outcome::BelowMin => None,
        };
        Self {
            time,
            current: decision.current,
            proposals: decision
                .proposals
                .iter()
                .map(|(metric, proposal)| ProposalLine {
                    metric: metric.description(),
                    target: target(metric),
                    value: proposal.as_ref().ok().map(|p| value(metric, p.value)),
                    proposal: proposal.as_ref().ok().map(|p| p.replicas),
                    error: proposal.as_ref().err().map(ToString::to_string),
                })
                .collect(),
            want: steps.map(|steps| steps.want),
            stabilized: steps.map(|steps| steps.stabilized),
            desired: decision.desired,
            reasons: Reasons {
                scaling_active,
                able_to_scale: steps.map(|steps| steps.stabilization),
                scaling_limited: steps.map(|steps| steps.limit),
            },
            rescale: decision.rescale_reason(),
            message: match &decision.outcome {
                Outcome::Failed { message, .. } => Some(message.clone()),
                _ => None,
            },
        }
    }
}

fn target(metric: &MetricSpec) -> String {
    match metric {
        MetricSpec::Pods { average_value, .. } => average_value.to_string(),
        MetricSpec::Resource { target, .. } => match target {
            ResourceTarget::AverageUtilization(percent) => format!("{percent}%"),
            ResourceTarget::AverageValue(value) => value.to_string(),
        },
        MetricSpec::Object { target, .. } | MetricSpec::External { target, .. } => match target {
            ValueTarget::Value(value) => value.to_string(),
            ValueTarget::AverageValue(value) => format!("{value} (avg)"),
        },
    }
}

fn value(metric: &MetricSpec, value: i64) -> String {
    match metric {
        MetricSpec::Resource {
            target: ResourceTarget::AverageUtilization(_),
            ..
        } => format!("{value}%"),
        MetricSpec::Object {
            target: ValueTarget::AverageValue(_),
            ..
        }
        | MetricSpec::External {
            target: ValueTarget::AverageValue(_),
            ..
        } => format!("{} (avg)", Quantity::from_milli(value)),
        _ => Quantity::from_milli(value).to_string(),
    }
}
