//! An HPA as the controller sees it: checked, with every default filled in. It is made from a
//! manifest by [`Hpa::from_yaml`](super::Hpa::from_yaml), and from nothing else.

use super::quantity::Quantity;

/// A checked `autoscaling/v2` HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq)]
pub struct Hpa {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) min_replicas: i32,
    pub(super) max_replicas: i32,
    pub(super) metrics: Vec<MetricSpec>,
    pub(super) behavior: Option<Behavior>,
    pub(super) tolerances: Tolerances,
}

impl Hpa {
    /// `metadata.name`, or empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is scaled, as `Deployment/inference`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `minReplicas`, 1 where the manifest has none.
    pub fn min_replicas(&self) -> i32 {
        self.min_replicas
    }

    /// `maxReplicas`.
    pub fn max_replicas(&self) -> i32 {
        self.max_replicas
    }

    /// The metrics, in the manifest's order; CPU at 80 % where it has none, as the API server fills in.
    pub fn metrics(&self) -> &[MetricSpec] {
        &self.metrics
    }

    /// Both directions' rules, defaults filled in; `None` where the manifest sets neither.
    pub fn behavior(&self) -> Option<&Behavior> {
        self.behavior.as_ref()
    }

    /// How far a ratio may be from 1 without a change.
    pub fn tolerances(&self) -> Tolerances {
        self.tolerances
    }
}

/// One entry of `spec.metrics`.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricSpec {
    /// A custom metric of each pod, averaged over the pods.
    Pods {
        /// The metric's name.
        name: String,
        /// `target.averageValue`.
        average_value: Quantity,
    },
    /// `cpu` or another resource of the pods.
    Resource {
        /// The resource's name.
        name: String,
        /// What is aimed at.
        target: ResourceTarget,
    },
    /// A metric of one other object.
    Object {
        /// The metric's name.
        name: String,
        /// The object's kind, for messages.
        kind: String,
        /// What is aimed at.
        target: ValueTarget,
    },
    /// A metric from outside the cluster; what KEDA makes of its triggers.
    External {
        /// The metric's name.
        name: String,
        /// What is aimed at.
        target: ValueTarget,
    },
}

impl MetricSpec {
    /// The metric's or the resource's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Pods { name, .. }
            | Self::Resource { name, .. }
            | Self::Object { name, .. }
            | Self::External { name, .. } => name,
        }
    }

    /// The metric as Kubernetes' events and messages name it.
    pub fn description(&self) -> String {
        match self {
            Self::Pods { name, .. } => format!("pods metric {name}"),
            Self::Resource {
                name,
                target: ResourceTarget::AverageUtilization(_),
            } => format!("{name} resource utilization (percentage of request)"),
            Self::Resource { name, .. } => format!("{name} resource"),
            Self::Object { name, kind, .. } => format!("{kind} metric {name}"),
            Self::External { name, .. } => format!("external metric {name}"),
        }
    }

    /// The reason of the condition when this metric cannot be had.
    pub fn failure_reason(&self) -> &'static str {
        match self {
            Self::Pods { .. } => "FailedGetPodsMetric",
            Self::Resource { .. } => "FailedGetResourceMetric",
            Self::Object { .. } => "FailedGetObjectMetric",
            Self::External { .. } => "FailedGetExternalMetric",
        }
    }
}

/// The aim of a `Resource` metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceTarget {
    /// Percent of what the pods request.
    AverageUtilization(i32),
    /// Usage a pod (cores for `cpu`).
    AverageValue(Quantity),
}

/// The aim of an `Object` or `External` metric: KEDA's two metric types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueTarget {
    /// The whole metric should be this: the ready pods are multiplied by the ratio.
    Value(Quantity),
    /// The metric is a total to be shared: this much of it a pod.
    AverageValue(Quantity),
}

/// How far from 1 a metric's ratio may be without a change; both ends belong to the range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Downwards.
    pub scale_down: f64,
    /// Upwards.
    pub scale_up: f64,
}

impl Tolerances {
    /// The controller's default, `--horizontal-pod-autoscaler-tolerance`.
    pub const DEFAULT: f64 = 0.1;

    /// Whether a ratio is close enough to 1.
    pub fn hold(self, ratio: f64) -> bool {
        1.0 - self.scale_down <= ratio && ratio <= 1.0 + self.scale_up
    }
}

/// `spec.behavior`, with Kubernetes' defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior {
    /// Upwards.
    pub scale_up: ScalingRules,
    /// Downwards.
    pub scale_down: ScalingRules,
}

/// One direction's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingRules {
    /// Recommendations younger than this, in seconds, hold a change back.
    pub stabilization_window_seconds: i32,
    /// Which policy counts.
    pub select: SelectPolicy,
    /// How much may change in how long.
    pub policies: Vec<Policy>,
}

impl ScalingRules {
    /// The longest period of its policies, in seconds.
    pub fn longest_period_seconds(&self) -> i32 {
        self.policies
            .iter()
            .map(|policy| policy.period_seconds)
            .max()
            .unwrap_or(0)
    }
}

/// Which of a direction's policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// So much change in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What `value` counts.
    pub kind: PolicyKind,
    /// Pods, or percent.
    pub value: i32,
    /// In seconds.
    pub period_seconds: i32,
}

/// What a policy's value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Pods.
    Pods,
    /// Percent of the pods there were when the period began.
    Percent,
}
