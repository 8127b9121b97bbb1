//! The ServiceMonitor: what the Prometheus Operator scrapes.

use super::{
    APP, metadata_with, monitor_labels,
    node::{Node, list, map},
    objects::{PORT_NAME, every_pod},
    promql::{ENDPOINT, duration},
};
use crate::slo::Slo;

/// The ServiceMonitor of all tracks.
pub(super) fn service_monitor(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "monitoring.coreos.com/v1",
        "kind" => "ServiceMonitor",
        "metadata" => metadata_with(slo, "", monitor_labels(slo)),
        "spec" => map! {
            // All tracks are one job: rules ask for it by the service's name.
            "jobLabel" => APP,
            "selector" => every_pod(slo),
            "endpoints" => list![map! {
                "port" => PORT_NAME,
                "path" => "/metrics",
                "interval" => duration(slo.metrics.scrape_seconds),
                "scrapeTimeout" => duration(slo.metrics.scrape_seconds.min(10)),
                "relabelings" => relabelings(),
            }],
        },
    }
}

/// The Operator gives every target a label `endpoint` (the port's name). Aegis' metrics have a label
/// of that name, the route, which Prometheus would rename `exported_endpoint`: every rule that asks
/// for a route would find nothing, and say nothing. So the target's goes.
fn relabelings() -> Node {
    list![map! { "action" => "labeldrop", "regex" => ENDPOINT }]
}
