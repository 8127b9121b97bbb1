//! What pods have to do, and how many there are for it.

use aegis_telemetry::{MetricSpec, metric};

use super::panel::{Panel, lines};
use crate::{
    render::{
        outside::{
            DEPLOYMENT_READY, DEPLOYMENT_REPLICAS, DEPLOYMENT_SPEC_REPLICAS, HPA_DESIRED, NAMESPACE,
        },
        promql::{self, LE, Scope, by, duration},
        rules::{read, recording::names},
    },
    slo::Slo,
};

/// What is in flight, what waits, and what a run of a graph is made of.
pub(super) fn by_pod(slo: &Slo) -> Vec<Panel> {
    let scope = Scope::service(slo);
    let window = slo.metrics.rate_window_seconds;
    let graph_quantile = |spec: &MetricSpec, quantile: f64| {
        let buckets = scope.of(&format!("{}_bucket", spec.name), &[]);
        format!(
            "histogram_quantile({quantile}, {})",
            promql::rate(&buckets, &by(&["model", "graph", LE]), window)
        )
    };
    let batch = &metric::INFERENCE_BATCH_SIZE;
    let part = |part: &str| {
        let series = scope.of(&format!("{}_{part}", batch.name), &[]);
        promql::rate(&series, &by(&["model", "graph"]), window)
    };
    vec![
        Panel {
            bound: Some(slo.scaling.in_flight_per_pod.get()),
            ..lines(
                "Requests in flight by pod",
                "short",
                vec![(read(&names::in_flight("pod"), slo), "{{pod}}")],
            )
        },
        Panel {
            bound: Some(slo.scaling.queue_per_pod.get()),
            ..lines(
                "Requests waiting by pod",
                "short",
                vec![(read(&names::queue_depth("pod"), slo), "{{pod}}")],
            )
        },
        lines(
            "Batch size, on average",
            "short",
            vec![(
                format!("{} / {}", part("sum"), part("count")),
                "{{model}} {{graph}}",
            )],
        ),
        lines(
            "A run of a graph, P95",
            "s",
            vec![
                (
                    graph_quantile(&metric::INFERENCE_QUEUE, 0.95),
                    "waited {{model}} {{graph}}",
                ),
                (
                    graph_quantile(&metric::INFERENCE_COMPUTE, 0.95),
                    "computed {{model}} {{graph}}",
                ),
            ],
        ),
    ]
}

/// Replicas, beside what the load asks for.
pub(super) fn scaling(slo: &Slo) -> Vec<Panel> {
    let (name, namespace) = (&slo.service.name, &slo.service.namespace);
    let deployment =
        |metric: &str| format!("{metric}{{{NAMESPACE}=\"{namespace}\",deployment=\"{name}\"}}");
    let desired = format!(
        "{HPA_DESIRED}{{{NAMESPACE}=\"{namespace}\",horizontalpodautoscaler=~\"(keda-hpa-)?{name}\"}}"
    );
    let per_pod = |total: String, target: f64| format!("ceil({total} / {target})");
    let total = read(&names::in_flight("service"), slo);
    vec![
        Panel {
            bound: Some(slo.scaling.max_replicas.into()),
            about: "What the autoscaler wants, what the Deployment should have, and what is ready."
                .to_owned(),
            ..lines(
                "Replicas against the target",
                "short",
                vec![
                    (desired, "wanted"),
                    (deployment(DEPLOYMENT_SPEC_REPLICAS), "should be"),
                    (deployment(DEPLOYMENT_READY), "ready"),
                    (
                        per_pod(total, slo.scaling.in_flight_per_pod.get()),
                        "asked for by in-flight",
                    ),
                ],
            )
        },
        lines(
            "Scaling events in five minutes",
            "short",
            vec![(
                format!(
                    "changes({}[{}])",
                    deployment(DEPLOYMENT_REPLICAS),
                    duration(300)
                ),
                "changes",
            )],
        ),
    ]
}
