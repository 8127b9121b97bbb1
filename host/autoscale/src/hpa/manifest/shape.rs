//! The keys of a manifest, as they are written. Nothing is checked here but that there are no others.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hpa::quantity::Quantity;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    /// What `kubectl get -o yaml` adds; nothing here depends on it.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "taken, so that a manifest from a cluster can be read"
    )]
    pub(super) status: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) scale_target_ref: ObjectReference,
    pub(super) min_replicas: Option<i32>,
    pub(super) max_replicas: i32,
    #[serde(default)]
    pub(super) metrics: Option<Vec<Metric>>,
    pub(super) behavior: Option<RawBehavior>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ObjectReference {
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "an HPA has it; the simulator scales whatever it names"
    )]
    pub(super) api_version: Option<String>,
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Metric {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) pods: Option<PodsSource>,
    pub(super) resource: Option<ResourceSource>,
    pub(super) object: Option<ObjectSource>,
    pub(super) external: Option<ExternalSource>,
    pub(super) container_resource: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PodsSource {
    pub(super) metric: Identifier,
    pub(super) target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ResourceSource {
    pub(super) name: String,
    pub(super) target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ObjectSource {
    pub(super) described_object: ObjectReference,
    pub(super) metric: Identifier,
    pub(super) target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ExternalSource {
    pub(super) metric: Identifier,
    pub(super) target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Identifier {
    pub(super) name: String,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "which series a name means is the recording's business"
    )]
    pub(super) selector: Option<Selector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Selector {
    #[serde(default)]
    #[expect(dead_code, reason = "read so that misspelt keys beside it are refused")]
    pub(super) match_labels: BTreeMap<String, String>,
    #[serde(default)]
    #[expect(dead_code, reason = "read so that misspelt keys beside it are refused")]
    pub(super) match_expressions: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Target {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: Option<Quantity>,
    pub(super) average_value: Option<Quantity>,
    pub(super) average_utilization: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawBehavior {
    pub(super) scale_up: Option<RawRules>,
    pub(super) scale_down: Option<RawRules>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawRules {
    pub(super) stabilization_window_seconds: Option<i32>,
    pub(super) select_policy: Option<String>,
    pub(super) policies: Option<Vec<RawPolicy>>,
    pub(super) tolerance: Option<Quantity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawPolicy {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: i32,
    pub(super) period_seconds: i32,
}
