//! The kustomizations: a base without an autoscaler, a folder for each autoscaler on it, the GPU
//! variant, and canaries, which are applied beside any of them.

use super::node::{Node, list, map};
use crate::slo::Slo;

/// Path, comment and content of each. A folder that holds another cannot be its base, so the base is
/// beside those that build on it.
pub(super) fn files(slo: &Slo) -> Vec<(&'static str, &'static str, Node)> {
    let name = slo.service.name.as_str();
    vec![
        (
            "kustomization.yaml",
            "The service, scaled by an HPA: kubectl apply -k k8s",
            kustomization(list!["hpa"]),
        ),
        (
            "base/kustomization.yaml",
            "What every variant has. It has no autoscaler: hpa/ and keda/ add one, each its own.",
            kustomization(list![
                "inference-namespace.yaml",
                "inference-serviceaccount.yaml",
                "inference-deployment-slo.yaml",
                "inference-service.yaml",
                "inference-pdb.yaml",
                "inference-networkpolicy.yaml",
                "inference-servicemonitor.yaml",
                "inference-slo-rules.yaml",
                "../dashboard",
            ]),
        ),
        (
            "dashboard/kustomization.yaml",
            "Grafana's sidecar takes dashboards from ConfigMaps with this label.",
            dashboard(slo),
        ),
        (
            "hpa/kustomization.yaml",
            "The service, scaled by an HPA through prometheus-adapter.",
            kustomization(list!["../base", "inference-slo-hpa.yaml"]),
        ),
        (
            "keda/kustomization.yaml",
            "The service, scaled by KEDA.",
            kustomization(list!["../base", "inference-keda-scaler.yaml"]),
        ),
        (
            "overlays/gpu/kustomization.yaml",
            "The service on nodes with GPUs, scaled on queue depth and GPU utilisation.",
            kustomization(list!["../../hpa"]).with(
                "patches",
                Some(list![
                    map! { "path" => "deployment.yaml" },
                    map! { "path" => "hpa.yaml", "target" => target("HorizontalPodAutoscaler", name) },
                ]),
            ),
        ),
        (
            "canary/kustomization.yaml",
            "A second Deployment beside the service, which nothing calls yet: the canary overlays do.",
            kustomization(list!["inference-canary.yaml"]),
        ),
        (
            "overlays/canary-gateway/kustomization.yaml",
            "Beside the service, whatever scales it: a canary behind a Gateway (Gateway API).",
            kustomization(list!["../../canary", "httproute.yaml", "networkpolicy.yaml"]),
        ),
        (
            "overlays/canary-nginx/kustomization.yaml",
            "Beside the service, whatever scales it: a canary behind ingress-nginx.",
            kustomization(list!["../../canary", "ingress.yaml"]),
        ),
    ]
}

fn kustomization(resources: Node) -> Node {
    map! {
        "apiVersion" => "kustomize.config.k8s.io/v1beta1",
        "kind" => "Kustomization",
        "resources" => resources,
    }
}

fn dashboard(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "kustomize.config.k8s.io/v1beta1",
        "kind" => "Kustomization",
        "configMapGenerator" => list![map! {
            "name" => format!("{}-dashboard", slo.service.name),
            "namespace" => slo.service.namespace.as_str(),
            "files" => list!["inference-slo.json"],
            "options" => map! {
                "disableNameSuffixHash" => true,
                "labels" => map! { "grafana_dashboard" => "1" },
            },
        }],
    }
}

fn target(kind: &str, name: &str) -> Node {
    map! { "kind" => kind, "name" => name }
}
