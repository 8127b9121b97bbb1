//! prometheus-adapter: how the HPA's metric names become questions to Prometheus. Written as values
//! of the adapter's Helm chart.

use aegis_telemetry::metric;

use super::{
    hpa,
    node::{Node, map},
    outside::{GPU_UTILIZATION, NAMESPACE, POD},
    promql::{ENDPOINT, PREDICT, Scope, duration, in_flight, is, latency, queue_depth},
};
use crate::slo::Slo;

/// What stands at the head of the file.
pub(super) const ABOUT: &str = "\
Values for prometheus-adapter's Helm chart. Each rule gives one value a pod, of this service only. Values are whole
thousandths, cut off: latencies below 1 ms are 0. NaN (no traffic) becomes 0.";

/// What the adapter puts the grouping labels in for.
const GROUP_BY: &str = "<<.GroupBy>>";

/// The values of the base.
pub(super) fn values(slo: &Slo) -> Node {
    chart(slo, Vec::new())
}

/// Those of the GPU overlay: one rule more.
pub(super) fn gpu_values(slo: &Slo) -> Node {
    let gpu = &slo.gpu;
    let rule = map! {
        "seriesQuery" => format!(
            "{GPU_UTILIZATION}{{{}=\"{}\",{}!=\"\"}}",
            gpu.namespace_label, slo.service.namespace, gpu.pod_label
        ),
        "resources" => resources(&gpu.namespace_label, &gpu.pod_label),
        "name" => map! { "matches" => format!("^{GPU_UTILIZATION}$"), "as" => hpa::GPU },
        "metricsQuery" => format!(
            "avg by ({GROUP_BY}) (avg_over_time({GPU_UTILIZATION}{{{}}}[{}]))",
            Scope::adapter().matchers(),
            duration(slo.metrics.rate_window_seconds)
        ),
    };
    chart(slo, vec![rule])
}

fn chart(slo: &Slo, more: Vec<Node>) -> Node {
    let scope = Scope::adapter();
    let metrics = &slo.metrics;
    let p95 = latency(0.95, &scope, GROUP_BY, metrics.rate_window_seconds);
    let predict = is(ENDPOINT, PREDICT);
    let bucket = format!("{}_bucket", metric::HTTP_REQUEST_DURATION.name);
    let mut custom = vec![
        rule(slo, &bucket, std::slice::from_ref(&predict), hpa::P95, p95),
        rule(
            slo,
            metric::HTTP_REQUESTS_IN_FLIGHT.name,
            &[predict],
            hpa::IN_FLIGHT,
            in_flight(&scope, GROUP_BY, metrics.gauge_window_seconds),
        ),
        rule(
            slo,
            metric::INFERENCE_QUEUE_DEPTH.name,
            &[],
            hpa::QUEUE_DEPTH,
            queue_depth(&scope, GROUP_BY, metrics.gauge_window_seconds),
        ),
    ];
    custom.extend(more);
    map! {
        // The port is in the address; 0 keeps the chart from adding its own.
        "prometheus" => map! { "url" => &metrics.prometheus_url, "port" => 0 },
        // A new metric is seen after this time.
        "metricsRelistInterval" => "1m",
        // One may be away without the HPA going blind.
        "replicas" => 2,
        "rules" => map! { "default" => false, "custom" => custom },
    }
}

/// One metric: the series it is found by, the labels that name the pod, its name, the question.
fn rule(slo: &Slo, series: &str, more: &[String], name: &str, query: String) -> Node {
    let mut matchers = more.to_vec();
    matchers.push(format!("{POD}!=\"\""));
    map! {
        "seriesQuery" => Scope::service(slo).of(series, &matchers),
        "resources" => resources(NAMESPACE, POD),
        "name" => map! { "matches" => format!("^{series}$"), "as" => name },
        "metricsQuery" => query,
    }
}

fn resources(namespace: &str, pod: &str) -> Node {
    map! {
        "overrides" => map! {
            namespace => map! { "resource" => "namespace" },
            pod => map! { "resource" => "pod" },
        },
    }
}
