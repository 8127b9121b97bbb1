//! What stands around the Deployment: namespace, service account, Service, disruption budget.

use super::{
    APP, STABLE, metadata,
    node::{Node, list, map},
    pod_labels,
};
use crate::slo::Slo;

/// Where the server listens, for callers, probes and Prometheus alike.
pub(super) const PORT: u32 = 8000;
/// What that port is called.
pub(super) const PORT_NAME: &str = "http";

/// The namespace, which admits no pod that could harm its node.
pub(super) fn namespace(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "v1",
        "kind" => "Namespace",
        "metadata" => map! {
            "name" => slo.service.namespace.as_str(),
            "labels" => map! {
                "pod-security.kubernetes.io/enforce" => "restricted",
                "pod-security.kubernetes.io/warn" => "restricted",
            },
        },
    }
}

/// An account without rights, and without a token to use them with.
pub(super) fn service_account(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "v1",
        "kind" => "ServiceAccount",
        "metadata" => metadata(slo, ""),
        "automountServiceAccountToken" => false,
    }
}

/// The Service of the pods that are scaled.
pub(super) fn service(slo: &Slo) -> Node {
    service_of(slo, "", STABLE)
}

/// A Service of the pods of one track.
pub(super) fn service_of(slo: &Slo, suffix: &str, track: &str) -> Node {
    map! {
        "apiVersion" => "v1",
        "kind" => "Service",
        "metadata" => metadata(slo, suffix),
        "spec" => map! {
            "selector" => pod_labels(slo, track),
            "ports" => list![map! {
                "name" => PORT_NAME,
                "port" => PORT,
                "targetPort" => PORT_NAME,
                "protocol" => "TCP",
            }],
        },
    }
}

/// One pod at a time may be taken away on purpose. Not `minAvailable`: at the fewest replicas that
/// would forbid draining a node at all.
pub(super) fn disruption_budget(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "policy/v1",
        "kind" => "PodDisruptionBudget",
        "metadata" => metadata(slo, ""),
        "spec" => map! {
            "maxUnavailable" => 1,
            // A pod that is not ready serves nobody: it never stands in the way of a drain.
            "unhealthyPodEvictionPolicy" => "AlwaysAllow",
            "selector" => map! { "matchLabels" => pod_labels(slo, STABLE) },
        },
    }
}

/// What selects every pod of the service, whichever track.
pub(super) fn every_pod(slo: &Slo) -> Node {
    map! { "matchLabels" => map! { APP => slo.service.name.as_str() } }
}
