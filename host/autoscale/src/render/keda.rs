//! KEDA's ScaledObject, for clusters that have KEDA and no prometheus-adapter.

use super::{
    hpa, metadata,
    node::{Node, list, map},
    promql::{Scope, in_flight, latency, number, queue_depth},
};
use crate::slo::Slo;

/// What stands at the head of the file.
pub(super) const ABOUT: &str = "\
In-flight and queue are totals of all pods with metricType AverageValue: KEDA's HPA divides them by the replicas. The
P95 is one value for all pods, so its metricType is Value: divided by the replicas it would shrink with every pod.
`ignoreNullValues: \"false\"`: when Prometheus knows nothing, replicas stay; taken for 0 they would go to the minimum.
KEDA makes an HPA of its own of this (keda-hpa-*). Never apply this beside hpa/.";

/// The ScaledObject.
pub(super) fn scaled_object(slo: &Slo) -> Node {
    let scope = Scope::stable(slo);
    let metrics = &slo.metrics;
    let p95 = latency(0.95, &scope, "", metrics.rate_window_seconds);
    map! {
        "apiVersion" => "keda.sh/v1alpha1",
        "kind" => "ScaledObject",
        "metadata" => metadata(slo, ""),
        "spec" => map! {
            "scaleTargetRef" => hpa::target(slo),
            "minReplicaCount" => slo.scaling.min_replicas,
            "maxReplicaCount" => slo.scaling.max_replicas,
            // How often KEDA itself looks; the HPA asks every 15 s of its own.
            "pollingInterval" => metrics.scrape_seconds,
            "advanced" => map! {
                "horizontalPodAutoscalerConfig" => map! { "behavior" => hpa::behavior(slo) },
            },
            "triggers" => list![
                // Without traffic there is no P95, and nothing to scale for: 0.
                trigger(slo, "p95", "Value", number(&p95), slo.scaling.p95_target_ms.seconds(), true),
                trigger(
                    slo,
                    "in-flight",
                    "AverageValue",
                    in_flight(&scope, "", metrics.gauge_window_seconds),
                    slo.scaling.in_flight_per_pod.get(),
                    false,
                ),
                trigger(
                    slo,
                    "queue-depth",
                    "AverageValue",
                    queue_depth(&scope, "", metrics.gauge_window_seconds),
                    slo.scaling.queue_per_pod.get(),
                    false,
                ),
                map! {
                    "type" => "cpu",
                    "name" => "cpu",
                    "metricType" => "Utilization",
                    "metadata" => map! { "value" => slo.scaling.cpu_percent.percent().to_string() },
                },
            ],
        },
    }
}

fn trigger(
    slo: &Slo,
    name: &str,
    metric_type: &str,
    query: String,
    threshold: f64,
    nothing_is_zero: bool,
) -> Node {
    map! {
        "type" => "prometheus",
        "name" => name,
        "metricType" => metric_type,
        "metadata" => map! {
            "serverAddress" => &slo.metrics.prometheus_url,
            "query" => query,
            "threshold" => threshold.to_string(),
            "ignoreNullValues" => nothing_is_zero.to_string(),
        },
    }
}
