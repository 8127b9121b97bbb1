//! The HorizontalPodAutoscaler of Kubernetes 1.36, decision by decision: a manifest is read as the
//! API server reads it ([`Hpa::from_yaml`]), and a [`Controller`] decides as
//! `pkg/controller/podautoscaler` does, in the same integers. Where pods and metrics come from is
//! left to [`crate::replay`] and [`crate::simulate`].

mod controller;
mod history;
mod limit;
mod manifest;
mod pod;
mod proposal;
mod quantity;
mod spec;
mod time;

pub use controller::{Controller, Decision, Outcome, SYNC_PERIOD, Stabilization, Steps};
pub use limit::LimitReason;
pub use manifest::{
    DOWNSCALE_STABILIZATION_SECONDS, MAX_PERIOD_SECONDS, MAX_WINDOW_SECONDS, ManifestError,
};
pub use pod::{
    CPU_INITIALIZATION, INITIAL_READINESS_DELAY, Phase, Pod, Ready, ReadyCondition, Usage,
};
pub use proposal::{Input, MetricError, Proposal};
pub use quantity::{Quantity, QuantityError};
pub use spec::{
    Behavior, Hpa, MetricSpec, Policy, PolicyKind, ResourceTarget, ScalingRules, SelectPolicy,
    Tolerances, ValueTarget,
};
pub use time::Time;
