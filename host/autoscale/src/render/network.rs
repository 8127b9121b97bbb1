//! The NetworkPolicy: callers and Prometheus in, nothing out.

use super::{
    metadata,
    node::{Node, list, map},
    objects::{PORT_NAME, every_pod},
};
use crate::slo::Slo;

/// For the canary behind a Gateway: its proxies may call too. Policies add up.
pub(super) fn gateway_policy(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "NetworkPolicy",
        "metadata" => metadata(slo, "-gateway"),
        "spec" => map! {
            "podSelector" => every_pod(slo),
            "policyTypes" => list!["Ingress"],
            "ingress" => list![map! {
                "from" => list![namespace(slo.canary.gateway_namespace.as_str())],
                "ports" => list![map! { "port" => PORT_NAME, "protocol" => "TCP" }],
            }],
        },
    }
}

/// The policy of all tracks. The server asks nobody anything: handlers have no network, and models
/// come with the image.
pub(super) fn policy(slo: &Slo) -> Node {
    let mut from = vec![map! { "podSelector" => map! {} }];
    let network = &slo.network;
    let namespaces = network
        .caller_namespaces
        .iter()
        .chain([&network.monitoring_namespace]);
    from.extend(namespaces.map(|name| namespace(name.as_str())));
    map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "NetworkPolicy",
        "metadata" => metadata(slo, ""),
        "spec" => map! {
            "podSelector" => every_pod(slo),
            "policyTypes" => list!["Ingress", "Egress"],
            "ingress" => list![map! {
                "from" => from,
                "ports" => list![map! { "port" => PORT_NAME, "protocol" => "TCP" }],
            }],
            "egress" => list![],
        },
    }
}

/// Every pod of a namespace.
fn namespace(name: &str) -> Node {
    map! {
        "namespaceSelector" => map! {
            "matchLabels" => map! { "kubernetes.io/metadata.name" => name },
        },
    }
}
