//! The canary overlays: a second Deployment of another image, and a router that gives it a share of
//! requests. Aegis' own split, by a model's version, needs management, which is off here.

use super::{
    CANARY,
    deployment::deployment,
    metadata,
    node::{Node, list, map},
    objects::{PORT, service_of},
};
use crate::slo::Slo;

/// What stands at the head of the workload's file.
pub(super) const ABOUT: &str = "\
The image on trial. Its pods are of another track than those that are scaled, so the autoscaler neither counts nor
changes them.";

const SUFFIX: &str = "-canary";

/// The Deployment and the Service on trial.
pub(super) fn workload(slo: &Slo) -> [Node; 2] {
    let canary = &slo.canary;
    [
        deployment(slo, SUFFIX, CANARY, &canary.image, Some(canary.replicas)),
        service_of(slo, SUFFIX, CANARY),
    ]
}

/// Gateway API: one route, two backends with weights.
pub(super) fn http_route(slo: &Slo) -> Node {
    let canary = &slo.canary;
    let weight = canary.weight_percent.percent();
    let backend = |suffix: &str, weight: f64| {
        map! {
            "name" => format!("{}{suffix}", slo.service.name),
            "port" => PORT,
            "weight" => weight,
        }
    };
    map! {
        "apiVersion" => "gateway.networking.k8s.io/v1",
        "kind" => "HTTPRoute",
        "metadata" => metadata(slo, ""),
        "spec" => map! {
            "parentRefs" => list![map! {
                "name" => canary.gateway.as_str(),
                "namespace" => canary.gateway_namespace.as_str(),
            }],
            "hostnames" => list![&canary.host],
            "rules" => list![map! {
                "matches" => list![map! {
                    "path" => map! { "type" => "PathPrefix", "value" => "/" },
                }],
                "backendRefs" => list![backend("", 100.0 - weight), backend(SUFFIX, weight)],
            }],
        },
    }
}

/// ingress-nginx: an Ingress, and one beside it that takes a share of its requests.
pub(super) fn ingresses(slo: &Slo) -> [Node; 2] {
    // The server's own bound (max_body_mib) is 16 MiB; nginx' is 1 MiB unless it is told.
    let body = (
        "nginx.ingress.kubernetes.io/proxy-body-size",
        "16m".to_owned(),
    );
    let weight = slo.canary.weight_percent.percent().to_string();
    [
        ingress(slo, "", std::slice::from_ref(&body)),
        ingress(
            slo,
            SUFFIX,
            &[
                ("nginx.ingress.kubernetes.io/canary", "true".to_owned()),
                ("nginx.ingress.kubernetes.io/canary-weight", weight),
                body,
            ],
        ),
    ]
}

fn ingress(slo: &Slo, suffix: &str, annotations: &[(&str, String)]) -> Node {
    let canary = &slo.canary;
    let annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Node::from(value)));
    let metadata =
        metadata(slo, suffix).with("annotations", Some(Node::Map(annotations.collect())));
    map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "Ingress",
        "metadata" => metadata,
        "spec" => map! {
            "ingressClassName" => canary.ingress_class.as_str(),
            "rules" => list![map! {
                "host" => &canary.host,
                "http" => map! {
                    "paths" => list![map! {
                        "path" => "/",
                        "pathType" => "Prefix",
                        "backend" => map! {
                            "service" => map! {
                                "name" => format!("{}{suffix}", slo.service.name),
                                "port" => map! { "number" => PORT },
                            },
                        },
                    }],
                },
            }],
        },
    }
}
