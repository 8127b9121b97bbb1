//! What manifests are taken, with which defaults, and which are refused with which words.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use super::{check::cpu_at_80, *};
use crate::hpa::{MetricSpec, Policy, PolicyKind, Quantity, SelectPolicy, Tolerances};
use crate::{report::hpa_of, slo::Slo};

const BEFORE: &str = include_str!("../../hpa/before.yaml");

fn spec(spec: &str) -> Result<Hpa, ManifestError> {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    Hpa::from_yaml(&format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: a, labels: {{x: y}}}}\n\
         spec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: a}}\n{indented}"
    ))
}

#[test]
fn the_embedded_and_the_rendered_manifest_are_read_whole() {
    let before = Hpa::from_yaml(BEFORE).unwrap();
    assert_eq!((before.min_replicas(), before.max_replicas()), (2, 20));
    assert_eq!(before.behavior(), None);
    let after = hpa_of(&Slo::default()).unwrap();
    assert_eq!((after.min_replicas(), after.max_replicas()), (3, 20));
    assert_eq!(after.target(), "Deployment/inference");
    assert_eq!(
        after.metrics()[0],
        MetricSpec::Pods {
            name: "http_request_duration_p95".to_owned(),
            average_value: Quantity::from_milli(350)
        }
    );
    let behavior = after.behavior().unwrap();
    assert_eq!(behavior.scale_up.stabilization_window_seconds, 60);
    assert_eq!(behavior.scale_down.select, SelectPolicy::Min);
    assert_eq!(behavior.scale_down.policies.len(), 2);
}

#[test]
fn what_is_left_out_is_filled_in_as_the_api_server_does() {
    let hpa = spec("maxReplicas: 4").unwrap();
    assert_eq!(hpa.min_replicas(), 1);
    assert_eq!(hpa.metrics(), [cpu_at_80()]);
    assert_eq!(hpa.behavior(), None);
    assert_eq!(hpa.tolerances().scale_up, 0.1);
    assert_eq!(spec("maxReplicas: 4\nmetrics: []").unwrap(), hpa);
    // Neither half set is not set.
    assert_eq!(spec("maxReplicas: 4\nbehavior: {}").unwrap(), hpa);
}

#[test]
fn one_half_of_behavior_brings_both_halves_defaults() {
    let hpa = spec("maxReplicas: 4\nbehavior: {scaleUp: {tolerance: 50m}}").unwrap();
    let behavior = hpa.behavior().unwrap();
    assert_eq!(behavior.scale_up.stabilization_window_seconds, 0);
    assert_eq!(behavior.scale_up.select, SelectPolicy::Max);
    let pods = |kind, value| Policy {
        kind,
        value,
        period_seconds: 15,
    };
    assert_eq!(
        behavior.scale_up.policies,
        [pods(PolicyKind::Pods, 4), pods(PolicyKind::Percent, 100)]
    );
    assert_eq!(behavior.scale_down.stabilization_window_seconds, 300);
    assert_eq!(
        behavior.scale_down.policies,
        [pods(PolicyKind::Percent, 100)]
    );
    assert_eq!(
        hpa.tolerances(),
        Tolerances {
            scale_up: 0.05,
            scale_down: 0.1
        }
    );
}

#[test]
fn given_policies_replace_the_default_list_whole() {
    let hpa = spec(
        "maxReplicas: 4\nbehavior: {scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 1800}]}}",
    )
    .unwrap();
    assert_eq!(hpa.behavior().unwrap().scale_up.policies.len(), 1);
}

#[test]
fn what_a_cluster_adds_to_a_manifest_is_taken() {
    Hpa::from_yaml(&format!(
        "{BEFORE}status: {{currentReplicas: 3, conditions: [{{type: AbleToScale}}]}}\n"
    ))
    .unwrap();
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let told = spec("maxReplicas: 4\nminReplica: 2")
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("unknown field `minReplica`") && told.contains("line 7"),
        "{told}"
    );
    for at_depth in [
        "behavior: {scaleUp: {stabilizationWindow: 3}}",
        "behavior: {scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 1, x: 1}]}}",
        "metrics: [{type: Pods, pods: {metric: {name: a}, target: {type: AverageValue, averagevalue: 1}}}]",
    ] {
        let told = spec(&format!("maxReplicas: 4\n{at_depth}"))
            .unwrap_err()
            .to_string();
        assert!(told.contains("unknown field"), "{told}");
    }
}

#[test]
fn what_kubernetes_refuses_is_refused_with_the_field_and_the_reason() {
    let pods = |target: &str| {
        format!(
            "maxReplicas: 4\nmetrics: [{{type: Pods, pods: {{metric: {{name: a}}, target: {target}}}}}]"
        )
    };
    let external = |target: &str| {
        format!(
            "maxReplicas: 4\nmetrics: [{{type: External, external: {{metric: {{name: a}}, target: {target}}}}}]"
        )
    };
    let cpu = |target: &str| {
        format!(
            "maxReplicas: 4\nmetrics: [{{type: Resource, resource: {{name: cpu, target: {target}}}}}]"
        )
    };
    let up = |rules: &str| format!("maxReplicas: 4\nbehavior: {{scaleUp: {rules}}}");
    let policy = |policy: &str| up(&format!("{{policies: [{policy}]}}"));
    for (manifest, field, words) in [
        ("maxReplicas: 0".to_owned(), "spec.maxReplicas", "below minReplicas, 1"),
        ("maxReplicas: 2\nminReplicas: 3".to_owned(), "spec.maxReplicas", "2 is below minReplicas, 3"),
        ("maxReplicas: 2\nminReplicas: 0".to_owned(), "spec.minReplicas", "HPAScaleToZero"),
        (up("{stabilizationWindowSeconds: 3601}"), "spec.behavior.scaleUp.stabilizationWindowSeconds", "3601 is not within 0 and 3600"),
        (up("{stabilizationWindowSeconds: -1}"), "spec.behavior.scaleUp.stabilizationWindowSeconds", "-1 is not within"),
        (up("{selectPolicy: Most}"), "spec.behavior.scaleUp.selectPolicy", "none of Max, Min and Disabled"),
        (up("{policies: []}"), "spec.behavior.scaleUp.policies", "empty"),
        (up("{tolerance: -1m}"), "spec.behavior.scaleUp.tolerance", "below zero"),
        (policy("{type: Nodes, value: 1, periodSeconds: 1}"), "spec.behavior.scaleUp.policies[0].type", "neither Pods nor Percent"),
        (policy("{type: Pods, value: 0, periodSeconds: 1}"), "spec.behavior.scaleUp.policies[0].value", "not above zero"),
        (policy("{type: Pods, value: 1, periodSeconds: 0}"), "spec.behavior.scaleUp.policies[0].periodSeconds", "0 is not within 1 and 1800"),
        (policy("{type: Pods, value: 1, periodSeconds: 1801}"), "spec.behavior.scaleUp.policies[0].periodSeconds", "1801"),
        (pods("{type: AverageValue}"), "spec.metrics[0].pods.target.averageValue", "missing"),
        (pods("{type: AverageValue, averageValue: 0}"), "spec.metrics[0].pods.target.averageValue", "not above zero"),
        (pods("{type: Average, averageValue: 1}"), "spec.metrics[0].pods.target.type", "none of Utilization"),
        (external("{type: Value}"), "spec.metrics[0].external.target.averageValue", "either it or value"),
        (external("{type: Value, value: 1, averageValue: 1}"), "spec.metrics[0].external.target.value", "beside averageValue"),
        (cpu("{type: Utilization}"), "spec.metrics[0].resource.target.averageUtilization", "either it or averageValue"),
        (cpu("{type: Utilization, averageUtilization: 0}"), "spec.metrics[0].resource.target.averageUtilization", "below 1 %"),
        (cpu("{type: Utilization, averageUtilization: 1, averageValue: 1}"), "spec.metrics[0].resource.target.averageValue", "beside averageUtilization"),
        ("maxReplicas: 2\nmetrics: [{type: Pod}]".to_owned(), "spec.metrics[0].type", "there are Pods, Resource"),
        ("maxReplicas: 2\nmetrics: [{type: Pods}]".to_owned(), "spec.metrics[0].pods", "missing"),
        ("maxReplicas: 2\nmetrics: [{type: Pods, resource: {name: cpu, target: {type: Utilization}}}]".to_owned(), "spec.metrics[0].resource", "`pods` only"),
        ("maxReplicas: 2\nmetrics: [{type: ContainerResource, containerResource: {}}]".to_owned(), "spec.metrics[0].containerResource", "type Resource"),
    ] {
        match spec(&manifest).unwrap_err() {
            ManifestError::Field { field: at, reason } => {
                assert_eq!(at, field, "{manifest}: {reason}");
                assert!(reason.contains(words), "{manifest}: {reason}");
            }
            error @ ManifestError::Yaml(_) => panic!("{manifest}: {error}"),
        }
    }
}

#[test]
fn another_kind_or_version_is_refused_by_name() {
    let told = |from: &str, to: &str| {
        Hpa::from_yaml(&BEFORE.replace(from, to))
            .unwrap_err()
            .to_string()
    };
    assert!(told("autoscaling/v2\n", "autoscaling/v1\n").contains("must be autoscaling/v2"));
    assert!(told("HorizontalPodAutoscaler", "ScaledObject").contains("`ScaledObject`"));
    assert!(told("maxReplicas: 20", "maxReplicas: many").contains("line 13"));
}
