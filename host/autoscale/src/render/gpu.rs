//! The GPU overlay: what it changes of the Deployment and the HPA.

use super::{
    hpa,
    node::{Node, list, map},
};
use crate::slo::Slo;

/// What stands at the head of the HPA's patch.
pub(super) const HPA_ABOUT: &str = "\
A GPU is busy while CPUs idle, so CPU goes. gpu_utilization is the pod's GPUs' average in percent, from dcgm-exporter
through prometheus/adapter-values-gpu.yaml.";

/// A strategic merge patch of the Deployment.
pub(super) fn deployment_patch(slo: &Slo) -> Node {
    let gpu = &slo.gpu;
    map! {
        "apiVersion" => "apps/v1",
        "kind" => "Deployment",
        "metadata" => map! {
            "name" => slo.service.name.as_str(),
            "namespace" => slo.service.namespace.as_str(),
        },
        "spec" => map! {
            // A GPU is rarely to spare: an old pod goes before a new one comes.
            "strategy" => map! {
                "type" => "RollingUpdate",
                "rollingUpdate" => map! { "maxUnavailable" => 1, "maxSurge" => 0 },
            },
            "template" => map! {
                "spec" => map! {
                    "nodeSelector" => map! { &gpu.node_label => "true" },
                    "tolerations" => list![map! {
                        "key" => &gpu.resource,
                        "operator" => "Exists",
                        "effect" => "NoSchedule",
                    }],
                    "containers" => list![map! {
                        "name" => "aegis",
                        "image" => &gpu.image,
                        // Of an extended resource, request and limit are always the same.
                        "resources" => map! {
                            "limits" => map! { &gpu.resource => gpu.per_pod },
                        },
                    }],
                },
            },
        },
    }
}

/// A JSON patch of the HPA's metrics: lists of metrics are not merged.
pub(super) fn hpa_patch(slo: &Slo) -> Node {
    list![map! {
        "op" => "replace",
        "path" => "/spec/metrics",
        "value" => list![
            hpa::p95(slo),
            hpa::pods(hpa::QUEUE_DEPTH, slo.gpu.queue_per_pod.get()),
            hpa::pods(hpa::GPU, slo.gpu.utilization_percent.percent()),
        ],
    }]
}
