//! The HorizontalPodAutoscaler, and the parts of it that KEDA's takes over word for word.

use super::{
    metadata,
    node::{Node, list, map},
    quantity,
};
use crate::slo::{Behavior, Percent, Select, Slo};

/// What stands at the head of the file.
pub(super) const ABOUT: &str = "\
Replicas are the most that any of the metrics asks for. Values are thousandths: `350m` of http_request_duration_p95 is
0.350 seconds. Never apply this beside keda/: two autoscalers on one Deployment stop each other.";

/// The names under which prometheus-adapter offers metrics to the HPA.
pub(crate) const P95: &str = "http_request_duration_p95";
/// See [`P95`].
pub(crate) const IN_FLIGHT: &str = aegis_telemetry::metric::HTTP_REQUESTS_IN_FLIGHT.name;
/// See [`P95`].
pub(crate) const QUEUE_DEPTH: &str = aegis_telemetry::metric::INFERENCE_QUEUE_DEPTH.name;
/// See [`P95`].
pub(crate) const GPU: &str = "gpu_utilization";

/// What the autoscaler scales.
pub(super) fn target(slo: &Slo) -> Node {
    map! { "apiVersion" => "apps/v1", "kind" => "Deployment", "name" => slo.service.name.as_str() }
}

/// The HPA of the service.
pub(super) fn hpa(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "autoscaling/v2",
        "kind" => "HorizontalPodAutoscaler",
        "metadata" => metadata(slo, ""),
        "spec" => map! {
            "scaleTargetRef" => target(slo),
            "minReplicas" => slo.scaling.min_replicas,
            "maxReplicas" => slo.scaling.max_replicas,
            "metrics" => list![
                p95(slo),
                pods(IN_FLIGHT, slo.scaling.in_flight_per_pod.get()),
                pods(QUEUE_DEPTH, slo.scaling.queue_per_pod.get()),
                cpu(slo.scaling.cpu_percent),
            ],
            "behavior" => behavior(slo),
        },
    }
}

/// The P95 of each pod, in seconds.
pub(super) fn p95(slo: &Slo) -> Node {
    pods(P95, slo.scaling.p95_target_ms.seconds())
}

/// A value of each pod, whose average is to be `target`.
pub(super) fn pods(name: &str, target: f64) -> Node {
    map! {
        "type" => "Pods",
        "pods" => map! {
            "metric" => map! { "name" => name },
            "target" => map! { "type" => "AverageValue", "averageValue" => quantity(target) },
        },
    }
}

fn cpu(target: Percent) -> Node {
    map! {
        "type" => "Resource",
        "resource" => map! {
            "name" => "cpu",
            "target" => map! {
                "type" => "Utilization",
                "averageUtilization" => target.percent().round(),
            },
        },
    }
}

/// How fast replicas come and go.
pub(super) fn behavior(slo: &Slo) -> Node {
    map! {
        "scaleUp" => direction(&slo.scaling.up),
        "scaleDown" => direction(&slo.scaling.down),
    }
}

fn direction(behavior: &Behavior) -> Node {
    let select = match behavior.select {
        Select::Max => "Max",
        Select::Min => "Min",
        Select::Disabled => "Disabled",
    };
    let policies = behavior.policies.iter().map(|policy| {
        // `check.rs` has seen to it that there is one of them.
        let (kind, value) = match (policy.pods, policy.percent) {
            (Some(pods), _) => ("Pods", pods),
            (None, percent) => ("Percent", percent.unwrap_or_default()),
        };
        map! { "type" => kind, "value" => value, "periodSeconds" => policy.period_seconds }
    });
    map! {
        "stabilizationWindowSeconds" => behavior.stabilization_seconds,
        "selectPolicy" => select,
        "policies" => policies.collect::<Vec<_>>(),
    }
}
